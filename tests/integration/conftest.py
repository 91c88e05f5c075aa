"""The command line, run in this process as a shell would run it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from mcp_server import cli, settings
from tests.conftest import temporary_home


class Said(NamedTuple):
    """What a command ended with and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, read as one JSON value."""
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output, read as a JSON value a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Said]


@pytest.fixture
def tasktrail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function: ``tasktrail("history", "ann", DATABASE_URL=...)``."""

    def run(*arguments: str, **environment: str) -> Said:
        with monkeypatch.context() as patch:
            for name in settings.NAMES.values():
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["tasktrail", *arguments])
            with pytest.raises(SystemExit) as end:
                cli.main()
        code = end.value.code
        return Said(code if isinstance(code, int) else 1 if code else 0, *capsys.readouterr())

    return run


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty TASKTRAIL_HOME for an embedded Postgres of this test's own."""
    with temporary_home() as folder:
        yield folder

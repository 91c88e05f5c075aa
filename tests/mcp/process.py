"""``tasktrail serve`` as its users start it: a process with an environment."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.mcp.serving import PATIENCE, SECRET, until

TASKTRAIL = str(Path(sys.executable).with_name("tasktrail"))


def environment(conninfo: str | None, **others: str) -> dict[str, str]:
    """Return an environment with nothing of ours in it but this."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ours = {"TASKTRAIL_LOG": "json", "TASKTRAIL_ALLOW_UNSAFE_DATABASE": "1"}
    if conninfo is not None:
        ours |= {"DATABASE_URL": conninfo, "BETTER_AUTH_SECRET": SECRET}
    return {**kept, **ours, **others}


class Serve:
    """A running ``tasktrail serve``; ``lines`` is what it has written to standard error."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def events(self) -> list[dict[str, object]]:
        """What it has logged."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def url(self) -> str:
        """Wait until it serves over HTTP, and return its MCP address."""

        def found() -> list[str]:
            assert self.process.poll() is None, "".join(self.lines)
            return [str(one["url"]) for one in self.events if "url" in one]

        until(found)
        return found()[0]

    def end(self, number: int) -> int:
        """Send a signal, wait, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Wait for its end and its last words."""
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()


@contextmanager
def serve(*arguments: str, env: dict[str, str]) -> Iterator[Serve]:
    """Run ``tasktrail serve`` with ``arguments``."""
    process = subprocess.Popen(
        [TASKTRAIL, "serve", *arguments],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers can be ended with it
    )
    running = Serve(process)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        running.close()

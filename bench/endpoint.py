"""``tasktrail serve`` as a process of its own, over a benchmark's Postgres."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.server import Server, process_seconds
from mcp_server.issue import issue

SECRET = "a secret of the benchmark, of more than 32 bytes"  # noqa: S105 - of no other use


class Endpoint(NamedTuple):
    """Where it serves, and its process: the parent of the workers if there are several."""

    url: str
    process: int

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all its processes so far; None without /proc."""
        return process_seconds(self.process)


def token(user: str) -> str:
    """Return a bearer token for ``user``."""
    return issue(SECRET.encode(), user, None, 86_400, None, None)


@contextmanager
def serving(postgres: Server, workers: int = 1) -> Iterator[Endpoint]:
    """Serve over ``postgres`` until the end; without a limit on calls, its log in a file."""
    command = [str(Path(sys.executable).with_name("tasktrail")), "serve", "--port", "0"]
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "DATABASE_URL": postgres.app,
        "BETTER_AUTH_SECRET": SECRET,
        "TASKTRAIL_RATE_LIMIT": "0",
        "TASKTRAIL_LOG": "json",
    }
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--workers", str(workers)], env=env, stderr=log)
        try:
            yield Endpoint(_address(process, Path(log.name)), process.pid)
        finally:
            process.terminate()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until it says where it serves."""
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and "url" in (event := json.loads(line)):
                return str(event["url"])
    raise RuntimeError(log.read_text())

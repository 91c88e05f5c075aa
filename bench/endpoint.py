"""``tasktrail serve`` as a process of its own, over a benchmark's Postgres."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.server import Server, process_seconds
from mcp_server.auth.issue import issue

SECRET = "a secret of the benchmark, of more than 32 bytes"  # noqa: S105 - of no other use
PATIENCE = 60.0
TASKTRAIL = str(Path(sys.executable).with_name("tasktrail"))


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


def environment(postgres: Server) -> dict[str, str]:
    """Return what a server over ``postgres`` needs: no limit on calls, a log for programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "DATABASE_URL": postgres.app,
        "BETTER_AUTH_SECRET": SECRET,
        "TASKTRAIL_RATE_LIMIT": "0",
        "TASKTRAIL_LOG": "json",
    }


@contextmanager
def serving(postgres: Server, workers: int = 1) -> Iterator[Endpoint]:
    """Serve over ``postgres`` until the end."""
    command = [TASKTRAIL, "serve", "--port", "0", "--workers", str(workers)]
    with announced(command, environment(postgres), r'"url": "([^"]+)"') as endpoint:
        yield endpoint


@contextmanager
def announced(command: list[str], env: dict[str, str], address: str) -> Iterator[Endpoint]:
    """Run a server until the end; ``address`` is the pattern by which its log tells where it is.

    Raises: RuntimeError, if it ends or says nothing for a minute.
    """
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield Endpoint(_wait_for(address, process, Path(log.name)), process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(address, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the server is not there:\n{log.read_text()}")

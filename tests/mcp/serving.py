"""The real app behind a real socket, in a thread of its own."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from mcp_server.auth.issue import issue
from mcp_server.http import create_app
from mcp_server.settings import Settings

SECRET = "a secret of thirty-two bytes or so, for tests"
PATIENCE = 20.0  # seconds, on a busy machine


def configured(conninfo: str, **others: Any) -> Settings:
    """Return settings for a test's database: one without fsync, which has to be allowed."""
    given = {
        "DATABASE_URL": conninfo,
        "BETTER_AUTH_SECRET": SECRET,
        "TASKTRAIL_HOME": Path("/nowhere"),
    }
    return Settings.model_validate(
        {**given, "TASKTRAIL_ALLOW_UNSAFE_DATABASE": "1", "TASKTRAIL_RATE_LIMIT": "0", **others}
    )


def token(user: str, scopes: list[str] | None = None, client_id: str | None = None) -> str:
    """Return a token as ``tasktrail token`` makes it."""
    return issue(SECRET.encode(), user, scopes, 3600, None, None, client_id)


@contextmanager
def serving(settings: Settings, app: ASGIApp | None = None) -> Iterator[str]:
    """Serve what ``tasktrail serve`` does, or ``app``; yield its address, without a path."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app or create_app(settings), http="httptools", access_log=False, log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start: see its log"
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
    assert not thread.is_alive(), "the server does not stop"


def until(true: Any) -> None:
    """Wait until ``true()``. Raises: TimeoutError."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s in vain")
        time.sleep(0.01)

"""The server without its lock, for the conformance suite, which cannot send a token: each request
gets one on its way in. ``uvicorn interop.open_door:app``; only ever on loopback."""

import os

from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.http import create_app
from mcp_server.settings import read

_BEARER = f"Bearer {os.environ['TOKEN']}".encode()


class OpenDoor:
    """ASGI middleware that authorises every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", _BEARER)]}
        await self._app(scope, receive, send)


app = OpenDoor(create_app(read()))

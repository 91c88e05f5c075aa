"""The server's app with the garbage collector as Python has it (COLLECTOR=default), or as we leave
it after start-up: for ``bench users``, which compares the two. ``uvicorn bench.collector:app``."""

import gc
import os

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server import logs
from mcp_server.http import create_app
from mcp_server.settings import read


class DefaultCollector:
    """ASGI middleware that undoes what start-up did to the collector."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def started(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                gc.unfreeze()
                gc.set_threshold(700, 10, 10)
            await send(message)

        await self._app(scope, receive, started if scope["type"] == "lifespan" else send)


_SETTINGS = read()
logs.configure(_SETTINGS.log)
app: ASGIApp = create_app(_SETTINGS)
if os.environ["COLLECTOR"] == "default":
    app = DefaultCollector(app)

"""MCP over HTTP: an app of its own for ``tasktrail serve``, or mounted in another one.

    from mcp_server.http import mount
    mount(app)

puts the same endpoint at ``/mcp`` of a FastAPI or Starlette app, lifespan included.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import structlog
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from events.errors import Refused
from mcp_server import metrics, migrate, running, selfcheck
from mcp_server import settings as environment
from mcp_server.auth.issue import development_secret
from mcp_server.auth.verifier import verifier
from mcp_server.database import Database
from mcp_server.limiter import Limiter
from mcp_server.middleware.admission import Admission
from mcp_server.middleware.body import MAX_BODY
from mcp_server.middleware.envelope import Envelope
from mcp_server.middleware.guard import Guard
from mcp_server.middleware.resource import Resource
from mcp_server.server import TasktrailServer
from mcp_server.settings import Settings
from mcp_server.tools import catalogue

READY_SECONDS = 2
"""So long a probe waits for the database: they give up soon."""

log = structlog.get_logger()


class Endpoint:
    """The MCP endpoint as an ASGI app; it answers while ``lifespan`` lasts."""

    def __init__(self, settings: Settings, path: str, bound_to: str | None) -> None:
        """``bound_to``: the address that the process listens on, None in another app."""
        self.settings = settings
        self.database: Database | None = None
        self.resource = Resource(settings, path)
        self._mcp: ASGIApp | None = None
        secret = None if settings.authenticates else development_secret(settings.home)
        self._guard = Guard(
            Envelope(self._forward),
            verifier(settings, secret),
            Admission(settings, bound_to),
            self.resource,
            _scopes_to_step_up_for(settings),
            Limiter(settings.address_rate_limit),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._mcp is None:
            raise RuntimeError(
                "The app's lifespan has not been entered: run it, do not only call it."
            )
        # RFC 9110 5.5: blanks around a value are no part of it; httptools leaves those at the end.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await self._mcp(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold the database and the SDK's session manager."""
        async with running.database(self.settings) as database:
            server = TasktrailServer(database, self.settings)
            server.streamable_http_app(
                json_response=True,
                stateless_http=True,
                max_request_body_size=MAX_BODY,
                # The guard has checked Host and Origin already.
                transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            )
            async with server.session_manager.run():
                self.database, self._mcp = database, server.session_manager.handle_request
                _calm_the_collector()
                try:
                    yield
                finally:
                    self.database = self._mcp = None


def _scopes_to_step_up_for(settings: Settings) -> dict[str, str]:
    """Return which tool needs which scope: for the 403 that makes an OAuth client ask for more.

    Without an issuer there is nobody to ask, and the tool's own error serves the model better.
    """
    if settings.issuer is None:
        return {}
    names: dict[str, str] = {name: tool.scope for name, tool in catalogue.TOOLS.items()}
    return names | {alias: names[name] for alias, name in catalogue.ALIASES.items()}


def _calm_the_collector() -> None:
    """What start-up made stays: with 1,000 users the collector's walks over it made the tail."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def create_app(settings: Settings, bound_to: str = "127.0.0.1") -> Starlette:
    """Return the app that ``tasktrail serve`` runs: ``/mcp``, health, readiness and metrics."""
    endpoint = Endpoint(settings, "/mcp", bound_to)

    async def ready(_: Request) -> Response:
        problem = await _why_not_ready(endpoint)
        body = {"status": "unavailable", "problem": problem} if problem else {"status": "ok"}
        return JSONResponse(body, status_code=503 if problem else 200)

    return Starlette(
        routes=[
            *_endpoint_routes(endpoint),
            *endpoint.resource.routes(),
            Route("/healthz", lambda _: JSONResponse({"status": "ok"})),
            Route("/readyz", ready),
            Route("/metrics", _metrics),
        ],
        lifespan=lambda _: endpoint.lifespan(),
    )


def mount(app: Starlette, path: str = "/mcp", settings: Settings | None = None) -> None:
    """Put the MCP endpoint at ``path`` of ``app`` (FastAPI or Starlette), before its own routes.

    ``app``'s lifespan goes on as it is, inside ours. Call it before the app starts.

    Raises:
        SettingsError: as ``mcp_server.settings.read`` says.
    """
    endpoint = Endpoint(settings or environment.read(), path.rstrip("/"), None)
    app.router.routes[:0] = [*_endpoint_routes(endpoint), *endpoint.resource.routes()]
    own: Any = app.router.lifespan_context

    @asynccontextmanager
    async def both(host: Starlette) -> AsyncIterator[Any]:
        inner: AbstractAsyncContextManager[Any] = own(host)
        async with endpoint.lifespan(), inner as state:
            yield state

    app.router.lifespan_context = both


def _endpoint_routes(endpoint: Endpoint) -> list[Route]:
    """The path with and without a slash: a redirect would lose the body of some clients."""
    path = endpoint.resource.path
    return [Route(path, endpoint), Route(f"{path}/", endpoint)]


async def _why_not_ready(endpoint: Endpoint) -> str | None:
    if endpoint.database is None:
        return "The server is starting or stopping."
    try:
        async with asyncio.timeout(READY_SECONDS):
            revision = await endpoint.database.read(selfcheck.migrated_to)
    except TimeoutError:
        return f"The database has not answered for {READY_SECONDS} seconds."
    except Refused as refusal:
        return refusal.message
    if revision is None or revision < migrate.newest():  # a newer one lets older servers go on
        return f"The schema is at revision {revision}; run: tasktrail migrate"
    return None


def _metrics(_: Request) -> Response:
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

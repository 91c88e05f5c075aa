"""This server as an OAuth 2.1 protected resource: its metadata (RFC 9728) and its challenges.

Both name the issuer only when one is configured: a client that sees metadata begins an OAuth flow,
even when it was given a token. The audience is the resource's name when it is a URL; otherwise it
is the address that was called.
"""

from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Scope

from mcp_server.auth.identity import SCOPES
from mcp_server.settings import Settings

FIRST_SCOPES = "tasks:read tasks:write"  # what a client asks for first; history when it is needed
_WELL_KNOWN = "/.well-known/oauth-protected-resource"


class Resource:
    """The MCP endpoint at ``path`` of the app that it is in."""

    def __init__(self, settings: Settings, path: str = "/mcp") -> None:
        self.path = path
        self._issuer = settings.issuer
        self._url = settings.audience if _is_url(settings.audience) else None
        self._publishes_keys = settings.jwks_url is not None

    @property
    def source_of_tokens(self) -> str:
        """The sentence that says where to get a token."""
        if self._issuer is not None:
            return f"Tokens for this server come from {self._issuer}"
        if self._publishes_keys:
            return "Whoever runs this server knows where its tokens come from."
        return "Whoever runs this server makes one with: tasktrail token --user U"

    def challenge(self, scope: Scope, /, **parameters: str) -> str:
        """Return ``WWW-Authenticate`` for a request. Values hold no quotes and are ASCII."""
        if self._issuer is not None:
            parameters["resource_metadata"] = self._base(scope, self.path) + self._well_known
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())

    def routes(self) -> list[Route]:
        """Return the route of the metadata, none without an issuer."""
        if self._issuer is None:
            return []
        return [Route(self._well_known, self._answer, methods=["GET", "OPTIONS"])]

    @property
    def _well_known(self) -> str:
        return _WELL_KNOWN + self.path

    async def _answer(self, request: Request) -> JSONResponse:
        # Public, and read by clients that run in browsers.
        return JSONResponse(
            self._document(request.scope),
            headers={"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"},
        )

    def _document(self, scope: Scope) -> dict[str, Any]:
        return {
            "resource": self._url or self._base(scope, self._well_known) + self.path,
            "resource_name": "Tasktrail",
            "authorization_servers": [self._issuer],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
        }

    def _base(self, scope: Scope, path: str) -> str:
        """Return where the app is for whoever made the request at ``path`` of it."""
        if self._url is not None and self._url.endswith(self.path):
            return self._url.removesuffix(self.path)
        prefix = scope["path"].rstrip("/").removesuffix(path)
        if self._url is not None:
            called = urlsplit(self._url)
            return f"{called.scheme}://{called.netloc}{prefix}"
        host = Headers(scope=scope).get("host", "localhost")
        return f"{scope['scheme']}://{host}{prefix}"


def _is_url(text: str | None) -> bool:
    url = urlsplit(text or "")
    return url.scheme in ("http", "https") and bool(url.netloc)

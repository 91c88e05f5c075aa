"""What a request has to pass before the MCP endpoint sees it. Pure ASGI, microseconds a call.

    Host 421 -> Origin 403 -> method 405 -> address's rate 429 -> declared length 413
    -> token 401 -> real length 413 -> scope 403 -> the endpoint; the identity is in the ASGI scope

The scope's 403 makes a client ask its user for more rights; the tool itself checks again, and that
check is the wall.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_network
from typing import NamedTuple

import orjson
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.auth.identity import BadToken, Identity
from mcp_server.auth.jwks import PAUSE_SECONDS, KeysUnavailable
from mcp_server.auth.verifier import Verifier
from mcp_server.limiter import Limiter
from mcp_server.metrics import REFUSALS
from mcp_server.middleware.admission import Admission
from mcp_server.middleware.answers import (
    METHODS,
    HttpRefusal,
    allow,
    readable_by,
    refuse,
    whole_seconds,
)
from mcp_server.middleware.body import MAX_BODY, read, replay, too_long
from mcp_server.middleware.resource import FIRST_SCOPES, Resource

IDENTITY = "tasktrail.identity"  # the key in the ASGI scope

log = structlog.get_logger()


class _Head(NamedTuple):
    """The headers that matter here; what is absent is empty, what is there twice is not trusted."""

    host: str = ""
    origin: str = ""
    authorization: str = ""
    content_length: str = ""
    access_control_request_headers: str = ""


_NAMES = {name.replace("_", "-").encode(): name for name in _Head._fields}


class Guard:
    """ASGI middleware around the MCP endpoint; ``tool_scopes``: tool -> the scope that it needs."""

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier,
        admission: Admission,
        resource: Resource,
        tool_scopes: Mapping[str, str],
        addresses: Limiter | None = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._admission = admission
        self._resource = resource
        self._tool_scopes = tool_scopes
        self._all_scopes = frozenset(tool_scopes.values())
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = _head(scope)
        try:
            self._admit(head)
            if head.origin:
                send = readable_by(head.origin, send)
            if scope["method"] == "OPTIONS":
                await allow(send, head.access_control_request_headers)
                return
            self._admit_call(scope, head)
            identity = await self._identify(scope, head)
            body = await read(receive)
            if body is None:
                return
            self._check_scope(scope, identity, body)
        except HttpRefusal as refusal:
            log.info("request_refused", status=refusal.status, error=refusal.error)
            REFUSALS.labels(refusal.status, refusal.error).inc()
            await refuse(send, refusal)
            return
        scope[IDENTITY] = identity
        await self._app(scope, replay(body, receive), send)

    def _admit(self, head: _Head) -> None:
        if not self._admission.host(head.host):
            raise HttpRefusal(
                421,
                "misdirected_request",
                "This Host is not answered here; its operator can add it to"
                " TASKTRAIL_ALLOWED_HOSTS.",
            )
        if head.origin and not self._admission.origin(head.origin, head.host):
            raise HttpRefusal(
                403,
                "origin_not_allowed",
                "This Origin is not answered here; the operator can add it to"
                " TASKTRAIL_ALLOWED_ORIGINS.",
            )

    def _admit_call(self, scope: Scope, head: _Head) -> None:
        if scope["method"] != "POST":
            raise HttpRefusal(
                405, "method_not_allowed", "MCP is spoken with POST alone here.", allow=METHODS
            )
        wait = self._addresses.take(_address(scope)) if self._addresses else None
        if wait is not None:
            raise HttpRefusal(
                429,
                "rate_limited",
                "Too many calls from this address."
                f" The next one is possible in {whole_seconds(wait)} seconds.",
                wait,
            )
        if head.content_length.isdecimal() and int(head.content_length[:20]) > MAX_BODY:
            raise too_long()

    async def _identify(self, scope: Scope, head: _Head) -> Identity:
        scheme, _, token = head.authorization.partition(" ")
        if scheme.lower() != "bearer":
            challenge = self._resource.challenge(scope, scope=FIRST_SCOPES)
            raise self._refused(
                401, "unauthorized", "Send a token: Authorization: Bearer <token>.", challenge
            )
        try:
            return await self._verifier.identify(token.strip(" "))
        except BadToken as bad:
            challenge = self._resource.challenge(
                scope, error="invalid_token", error_description=bad.reason, scope=FIRST_SCOPES
            )
            text = f"{bad.reason} Get a new one."
            raise self._refused(401, "invalid_token", text, challenge) from None
        except KeysUnavailable:
            raise HttpRefusal(
                503,
                "unavailable",
                "The keys that tokens are checked with cannot be fetched."
                f" Try again in {whole_seconds(PAUSE_SECONDS)} seconds.",
                PAUSE_SECONDS,
            ) from None

    def _check_scope(self, scope: Scope, identity: Identity, body: bytes) -> None:
        if identity.scopes >= self._all_scopes:
            return
        needed = self._tool_scopes.get(_called_tool(body))
        if needed is None or needed in identity.scopes:
            return
        text = f"This tool needs the scope {needed}."
        challenge = self._resource.challenge(
            scope, error="insufficient_scope", error_description=text, scope=needed
        )
        text += " Get a token that has it."
        raise self._refused(403, "insufficient_scope", text, challenge)

    def _refused(self, status: int, error: str, text: str, challenge: str) -> HttpRefusal:
        text = f"{text} {self._resource.source_of_tokens}"
        return HttpRefusal(status, error, text, www_authenticate=challenge)


def _head(scope: Scope) -> _Head:
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = _NAMES.get(raw)
        if name is not None:
            # Given twice, it is made what is never right, rather than one reader's choice.
            found[name] = value.decode("latin-1") if name not in found else "\0"
    return _Head(**found)


def _address(scope: Scope) -> str:
    """Return what counts as one caller: an IPv4 address, or the 64 bits of an IPv6 network."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        address = IPv6Address(host)
    except ValueError:  # IPv4, or whatever name a proxy gives its caller
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), 64), strict=False))


def _called_tool(body: bytes) -> str:
    """Return which tool the request calls, '' if none: what is malformed is the endpoint's."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(request, dict) or request.get("method") != "tools/call":
        return ""
    parameters = request.get("params")
    name = parameters.get("name") if isinstance(parameters, dict) else None
    return name if isinstance(name, str) else ""

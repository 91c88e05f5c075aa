"""What a request has to pass before the MCP endpoint sees it. Pure ASGI, microseconds a call.

    Host 421 -> Origin 403 -> method 405 -> address's rate 429 -> declared length 413
    -> token 401 -> real length 413 -> scope 403 -> the endpoint; the identity is in the ASGI scope

The scope's 403 makes a client ask its user for more rights; the tool itself checks again, and that
check is the wall.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_network
from math import ceil
from typing import Any, NamedTuple

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.admission import Admission
from mcp_server.auth import Verifier
from mcp_server.identity import BadToken, Identity
from mcp_server.jwks import PAUSE_SECONDS, KeysUnavailable
from mcp_server.limiter import Limiter
from mcp_server.resource import FIRST_SCOPES, Resource

IDENTITY = "tasktrail.identity"  # the key in the ASGI scope
MAX_BODY = 1024 * 1024
METHODS = "POST, OPTIONS"
_EXPOSED = "WWW-Authenticate, Retry-After, Mcp-Session-Id"

log = structlog.get_logger()


class _Refusal(Exception):
    """The answer instead of the endpoint's: an HTTP status and an OAuth-like error."""

    def __init__(self, status: int, error: str, text: str, **headers: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.text = text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Head(NamedTuple):
    """The headers that matter here; what is absent is empty, what is there twice is not trusted."""

    host: str = ""
    origin: str = ""
    authorization: str = ""
    content_length: str = ""
    access_control_request_headers: str = ""


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
                send = _readable_by(head.origin, send)
            if scope["method"] == "OPTIONS":
                await _answer(send, 204, b"", _preflight(head))
                return
            self._admit_call(scope, head)
            identity = await self._identify(scope, head)
            body = await _read(receive)
            if body is None:
                return
            self._check_scope(scope, identity, body)
        except _Refusal as refusal:
            log.info("request_refused", status=refusal.status, error=refusal.error)
            await _refuse(send, refusal)
            return
        scope[IDENTITY] = identity
        await self._app(scope, _replay(body, receive), send)

    def _admit(self, head: _Head) -> None:
        if not self._admission.host(head.host):
            raise _Refusal(
                421,
                "misdirected_request",
                "This Host is not answered here; its operator can add it to"
                " TASKTRAIL_ALLOWED_HOSTS.",
            )
        if head.origin and not self._admission.origin(head.origin, head.host):
            raise _Refusal(
                403,
                "origin_not_allowed",
                "This Origin is not answered here; the operator can add it to"
                " TASKTRAIL_ALLOWED_ORIGINS.",
            )

    def _admit_call(self, scope: Scope, head: _Head) -> None:
        if scope["method"] != "POST":
            raise _Refusal(
                405, "method_not_allowed", "MCP is spoken with POST alone here.", allow=METHODS
            )
        wait = self._addresses.take(_address(scope)) if self._addresses else None
        if wait is not None:
            raise _Refusal(
                429, "rate_limited", "Too many calls from this address.", retry_after=_whole(wait)
            )
        if head.content_length.isdecimal() and int(head.content_length[:20]) > MAX_BODY:
            raise _too_long()

    async def _identify(self, scope: Scope, head: _Head) -> Identity:
        scheme, _, token = head.authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise self._unauthorised(scope, "Send a token: Authorization: Bearer <token>.")
        try:
            return await self._verifier.identify(token.strip(" "))
        except BadToken as bad:
            raise self._unauthorised(scope, bad.reason, error="invalid_token") from None
        except KeysUnavailable:
            raise _Refusal(
                503,
                "unavailable",
                "The keys that tokens are checked with cannot be fetched. Try again.",
                retry_after=_whole(PAUSE_SECONDS),
            ) from None

    def _unauthorised(self, scope: Scope, text: str, **error: str) -> _Refusal:
        described = {**error, "error_description": text} if error else {}
        challenge = self._resource.challenge(scope, **described, scope=FIRST_SCOPES)
        code = error.get("error", "unauthorized")
        return _Refusal(401, code, text, www_authenticate=challenge)

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
        raise _Refusal(403, "insufficient_scope", text, www_authenticate=challenge)


def _head(scope: Scope) -> _Head:
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = _NAMES.get(raw)
        if name is not None:
            # Given twice, it is made what is never right, rather than one reader's choice.
            found[name] = value.decode("latin-1") if name not in found else "\0"
    return _Head(**found)


_NAMES = {name.replace("_", "-").encode(): name for name in _Head._fields}


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


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body, None if the client has gone. Raises: _Refusal 413."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= MAX_BODY:
        return body
    parts = bytearray(body)
    while message.get("more_body", False) and len(parts) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts += message.get("body", b"")
    if len(parts) > MAX_BODY:
        raise _too_long()
    return bytes(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives ``body`` once and then what the client does next."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _preflight(head: _Head) -> dict[str, str]:
    return {
        "allow": METHODS,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": head.access_control_request_headers or "authorization",
        "access-control-max-age": "600",
    }


def _readable_by(origin: str, send: Send) -> Send:
    """Return a send that lets a page from ``origin`` read the answer."""
    headers = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", _EXPOSED.encode()),
        (b"vary", b"Origin"),
    ]

    async def readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return readable


def _too_long() -> _Refusal:
    return _Refusal(413, "request_too_large", "A request may have at most 1 MiB.")


def _whole(seconds: float) -> str:
    return str(max(1, ceil(seconds)))


async def _refuse(send: Send, refusal: _Refusal) -> None:
    body = orjson.dumps({"error": refusal.error, "error_description": refusal.text})
    headers = {"content-type": "application/json", **refusal.headers}
    await _answer(send, refusal.status, body, headers)


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, Any]) -> None:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    if status != 204:
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})

"""Who calls, and because of what: from the verified token and what the application sends along.

Provenance comes in request headers or in the request's ``_meta``, never from the model.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Literal

from mcp.server.context import ServerRequestContext

from mcp_server.auth.identity import SCOPES, Identity
from mcp_server.handle import Context
from mcp_server.middleware.guard import IDENTITY

current: ContextVar[tuple[Context, frozenset[str]]] = ContextVar("caller")
"""The caller of the request under way, and the scopes that the token grants."""

_CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_ID = -1
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\U0001ffff]|[\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def of(request: ServerRequestContext[Any, Any], principal: str) -> tuple[Context, frozenset[str]]:
    """Return who makes ``request``: the token's subject; without HTTP, ``principal``."""
    http = request.request
    headers: Mapping[str, str] = http.headers if http is not None else {}
    meta: Mapping[str, Any] = request.meta or {}
    if http is None:
        identity = Identity(principal, None, frozenset(SCOPES), 0)
    else:
        identity = http.scope[IDENTITY]
    name, version = _claimed_client(request, meta, headers)
    transport: Literal["http", "stdio"] = "stdio" if http is None else "http"
    context = Context(
        user_id=identity.user_id,
        transport=transport,
        client_id=identity.client_id,
        client_name=name,
        client_version=version,
        conversation_id=_cause("conversation", meta, headers),
        message_id=_cause("message", meta, headers),
        trace_id=_trace_id(meta.get("traceparent") or headers.get("traceparent")),
    )
    return context, identity.scopes


def _claimed_client(
    request: ServerRequestContext[Any, Any], meta: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[str | None, str | None]:
    info = meta.get(_CLIENT_INFO)
    if isinstance(info, Mapping):
        return _claim(info.get("name"), 64), _claim(info.get("version"), 32)
    params = request.session.client_params
    if params is not None and params.client_info.name:
        return _claim(params.client_info.name, 64), _claim(params.client_info.version, 32)
    name, _, version = headers.get("user-agent", "").partition("/")
    return _claim(name, 64), _claim(version.split(" ")[0], 32)


def _claim(value: Any, most: int) -> str | None:
    """Return a claimed name cut and cleaned: it is kept for ever, and shown to people."""
    if not isinstance(value, str):
        return None
    return _UNPRINTABLE.sub("", value)[:most].strip() or None


def _cause(kind: Literal["conversation", "message"], meta: Any, headers: Any) -> int | None:
    """Return the id that the application sent; -1, which nothing has, if it is no id at all."""
    value = meta.get(f"tasktrail/{kind}_id")
    if value is None:
        value = headers.get(f"tasktrail-{kind}-id")
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) <= 16):
        return _NO_ID
    return int(text) or _NO_ID


def _trace_id(traceparent: Any) -> str | None:
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return found[1] if found else None

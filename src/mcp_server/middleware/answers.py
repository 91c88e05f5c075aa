"""Answers that the MCP endpoint does not give itself, and who may read the ones it gives (CORS).

A refusal's body is a JSON-RPC error, whatever the status: of any other body the SDK's client tells
its user no more than that there was an error. It has no id, because most are given before anybody
has read the request's (Streamable HTTP allows that).
"""

from math import ceil
from typing import Any

import orjson
from starlette.types import Message, Send

METHODS = "POST, OPTIONS"
_EXPOSED = "WWW-Authenticate, Retry-After, Mcp-Session-Id"


_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
_SERVER_S_AFFAIR = (429, 503)


class HttpRefusal(Exception):
    """The answer instead of the endpoint's: an HTTP status, a code for programs, and a text that
    says what is wrong and what to do next. ``wait``: seconds until it is worth trying again."""

    def __init__(
        self, status: int, error: str, text: str, wait: float | None = None, **headers: str
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.text = text
        self.data: dict[str, Any] = {"code": error}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if wait is not None:
            self.data["retry_after_seconds"] = whole_seconds(wait)
            self.headers["retry-after"] = str(whole_seconds(wait))


def whole_seconds(seconds: float) -> int:
    """Return ``seconds`` for Retry-After."""
    return max(1, ceil(seconds))


async def refuse(send: Send, refusal: HttpRefusal) -> None:
    """Send ``refusal``."""
    code = _INTERNAL_ERROR if refusal.status in _SERVER_S_AFFAIR else _INVALID_REQUEST
    error = {"code": code, "message": refusal.text, "data": refusal.data}
    await _answer_rpc(send, refusal.status, error, None, refusal.headers)


async def refuse_rpc(send: Send, code: int, text: str, id_: int | str | None) -> None:
    """Send a JSON-RPC error about the request ``id_``, None if nobody can know it."""
    await _answer_rpc(send, 400, {"code": code, "message": text}, id_, {})


async def _answer_rpc(
    send: Send, status: int, error: dict[str, Any], id_: int | str | None, headers: dict[str, str]
) -> None:
    body = orjson.dumps({"jsonrpc": "2.0", "id": id_, "error": error})
    await _answer(send, status, body, {"content-type": "application/json", **headers})


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    if status != 204:
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def allow(send: Send, asked_headers: str) -> None:
    """Answer a browser that asks (OPTIONS) whether a page may call, with ``asked_headers``."""
    headers = {
        "allow": METHODS,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": asked_headers or "authorization",
        "access-control-max-age": "600",
    }
    await _answer(send, 204, b"", headers)


def readable_by(origin: str, send: Send) -> Send:
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

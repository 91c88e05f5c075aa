"""Answers that the MCP endpoint does not give itself, and who may read the ones it gives (CORS)."""

from math import ceil

import orjson
from starlette.types import Message, Send

METHODS = "POST, OPTIONS"
_EXPOSED = "WWW-Authenticate, Retry-After, Mcp-Session-Id"


class HttpRefusal(Exception):
    """The answer instead of the endpoint's: an HTTP status and an OAuth-like error."""

    def __init__(self, status: int, error: str, text: str, **headers: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.text = text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def whole_seconds(seconds: float) -> str:
    """Return ``seconds`` for Retry-After."""
    return str(max(1, ceil(seconds)))


async def refuse(send: Send, refusal: HttpRefusal) -> None:
    """Send ``refusal``."""
    body = orjson.dumps({"error": refusal.error, "error_description": refusal.text})
    headers = {"content-type": "application/json", **refusal.headers}
    await _answer(send, refusal.status, body, headers)


async def refuse_rpc(send: Send, code: int, text: str, id_: int | str | None) -> None:
    """Send a JSON-RPC error about the request ``id_``, None if nobody can know it."""
    problem = {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": text}}
    await _answer(send, 400, orjson.dumps(problem), {"content-type": "application/json"})


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

"""What a request's body has to be before the SDK reads it: one JSON-RPC request or notification.

The SDK has a parser for each era of the protocol. They differ in what they let through (lone
surrogates, NaN, a thousand brackets, an id that is null), and one of them answers in the words of
its validator, input included. Here both eras get the same rules and the same short answers.

The SDK chooses the parser by a header. A body that says that it is of another revision would be
read by the wrong one.
"""

from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.middleware.answers import refuse_rpc
from mcp_server.middleware.body import replay

MAX_DEPTH = 64
"""Of objects and lists in each other: ours need at most 20, a message's metadata included."""

PARSE_ERROR, INVALID_REQUEST, HEADER_MISMATCH = -32700, -32600, -32020
_REVISION = "io.modelcontextprotocol/protocolVersion"


class NotARequest(Exception):
    """The body is not what JSON-RPC and MCP ask for. ``code`` is JSON-RPC's; it quotes nothing."""

    def __init__(self, code: int, text: str, id_: int | str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.id = id_


class Envelope:
    """ASGI middleware inside the guard, which gives it the body whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: bytes = (await receive()).get("body", b"")
        try:
            named = [value for name, value in scope["headers"] if name == b"mcp-protocol-version"]
            check_revision(check(body), named)
        except NotARequest as problem:
            await refuse_rpc(send, problem.code, problem.text, problem.id)
        else:
            await self._app(scope, replay(body, receive), send)


def check(body: bytes) -> dict[str, Any]:
    """Return the request. Raises: NotARequest."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotARequest(PARSE_ERROR, "The body is not JSON in UTF-8 (RFC 8259).") from None
    if not isinstance(request, dict):
        raise _invalid("must be one JSON-RPC object; there are no batches")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(MAX_DEPTH, request):
        raise _invalid(f"must not be nested deeper than {MAX_DEPTH}")
    if request.get("jsonrpc") != "2.0":
        raise _invalid('must say "jsonrpc": "2.0"')
    if not isinstance(request.get("method"), str):
        raise _invalid("must name its method")
    if type(request.get("id", 0)) not in (int, str):  # a bool is an int too
        raise _invalid("must have an integer or a string as its id, or none to get no answer")
    if not isinstance(request.get("params", {}), dict):
        raise _invalid("must have an object as its params")
    return request


def check_revision(request: dict[str, Any], headers: list[bytes]) -> None:
    """Raises: NotARequest, if the body and the header (however often it is there) name different
    revisions."""
    meta = request.get("params", {}).get("_meta")
    said = meta.get(_REVISION) if isinstance(meta, dict) else None
    named = {header.strip(b" \t") for header in headers}
    if len(named) > 1 or (isinstance(said, str) and named != {said.encode()}):
        text = "MCP-Protocol-Version and the request's _meta name more than one revision."
        raise NotARequest(HEADER_MISMATCH, text, request.get("id"))


def _invalid(problem: str) -> NotARequest:
    return NotARequest(INVALID_REQUEST, f"The request {problem}.")


def _deeper_than(depth: int, value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True

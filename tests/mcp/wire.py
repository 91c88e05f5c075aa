"""HTTP as bytes: sends exactly what a test says, and returns exactly what came back.

A client library would refuse to send half of what a stranger sends. A wire is one kept connection;
requests of any user may go over it, one after another.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.mcp.serving import token

MODERN, LEGACY = "2026-07-28", "2025-11-25"
PATIENCE = 30.0
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """Status, headers (names in lower case, the last of a name counts) and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


class CutOff(ConnectionError):
    """The server ended the connection without an answer."""


class Wire:
    """A connection to ``address`` (http://host:port) that is made anew when the server closes."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
            self._reader = self._writer = None

    async def send(self, raw: bytes, *, then_stop: bool = False) -> Answer:
        """Send bytes and return the answer; ``then_stop``: send no more after them.

        Raises: CutOff, TimeoutError.
        """
        for fresh in (False, True):
            kept = self._writer is not None
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._exchange(raw, then_stop)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                await self.close()
                if fresh or not kept:
                    raise CutOff(repr(error)) from error
        raise AssertionError("it has returned or raised")

    async def _exchange(self, raw: bytes, then_stop: bool) -> Answer:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(raw)
        if then_stop:
            self._writer.write_eof()
        await self._writer.drain()
        answer = await _read(self._reader, head_only=raw.startswith(b"HEAD "))
        if then_stop or answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer


async def _read(reader: asyncio.StreamReader, *, head_only: bool) -> Answer:
    status, headers = await _read_head(reader)
    while status == 100:  # it only says that the body may come
        status, headers = await _read_head(reader)
    if head_only or status in (204, 304):
        return Answer(status, headers, b"")
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.read()
    return Answer(status, headers, body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    status = int((await reader.readuntil(b"\r\n")).split(b" ", 2)[1])
    headers: dict[str, str] = {}
    while (line := (await reader.readuntil(b"\r\n")).strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def http(
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    method: bytes = b"POST",
    path: bytes = b"/mcp",
) -> bytes:
    """Return a request as bytes; the body's length is said unless ``headers`` say one."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    if b"host" not in names:
        given.insert(0, (b"Host", b"127.0.0.1"))
    if not {b"content-length", b"transfer-encoding"} & names:
        given.append((b"Content-Length", str(len(body)).encode()))
    lines = [method + b" " + path + b" HTTP/1.1", *(name + b": " + value for name, value in given)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def headers(token: str, era: str, method: str = "", name: str = "") -> Headers:
    """Return the headers of a well-behaved client of that era."""
    found = [
        (b"Authorization", f"Bearer {token}".encode()),
        (b"Content-Type", b"application/json"),
        (b"Accept", b"application/json, text/event-stream"),
        (b"MCP-Protocol-Version", era.encode()),
    ]
    if era == MODERN:
        found += [(b"Mcp-Method", method.encode())] if method else []
        found += [(b"Mcp-Name", name.encode("latin-1"))] if name else []
    return found


def rpc(
    era: str, method: str, params: dict[str, Any], meta: dict[str, Any] | None = None, id_: Any = 1
) -> dict[str, Any]:
    """Return a JSON-RPC request as a client of that era makes it."""
    every = {**(_META if era == MODERN else {}), **(meta or {})}
    if every:
        params = {**params, "_meta": every}
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


def request(
    token: str,
    era: str,
    method: str,
    params: dict[str, Any],
    meta: dict[str, Any] | None = None,
    more: Iterable[tuple[bytes, bytes]] = (),
    path: str = "/mcp",
) -> bytes:
    """Return a whole request: what a well-behaved client would send, and ``more`` headers."""
    name = str(params.get("name") or params.get("uri") or "")
    body = json.dumps(rpc(era, method, params, meta)).encode()
    return http(body, [*headers(token, era, method, name), *more], path=path.encode())


def tool_call(token: str, era: str, tool: str, arguments: Any, **others: Any) -> bytes:
    """Return a whole request that calls a tool."""
    return request(token, era, "tools/call", {"name": tool, "arguments": arguments}, **others)


class User:
    """Calls tools over a connection of their own."""

    def __init__(self, address: str, name: str) -> None:
        self._wire = Wire(address)
        self._token = token(name)

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the structured answer, an error's too."""
        raw = tool_call(self._token, MODERN, tool, arguments)
        answer = await self._wire.send(raw)
        assert answer.status == 200
        structured: dict[str, Any] = answer.json()["result"]["structuredContent"]
        return structured

    async def timed(self, tool: str, **arguments: Any) -> float:
        """Return how many seconds a call took that has to succeed."""
        begun = time.perf_counter()
        assert "code" not in await self(tool, **arguments)
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the connection."""
        await self._wire.close()

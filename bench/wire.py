"""MCP by hand over one kept connection: a client that costs little; the server is measured."""

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.endpoint import token
from events.ledger import Json

MODERN, LEGACY = "2026-07-28", "2025-11-25"
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_TOKENS: dict[str, str] = {}


class Failed(Exception):
    """A call that had to succeed did not."""


class Wire:
    """One connection in one era; calls of any user may go over it, one after another."""

    def __init__(self, url: str, era: str) -> None:
        self._url = urlsplit(url)
        self._era = era
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, user: str, tool: str, arguments: Json) -> Json:
        """Call a tool and return its structured answer. Raises: Failed."""
        request = self._request(user, tool, arguments)
        try:
            reader, head = await self._send(request)
        except (ConnectionError, asyncio.IncompleteReadError):  # it was idle for too long
            self.close()
            reader, head = await self._send(request)
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b"{}"
        result: Any = orjson.loads(body).get("result")
        if result is None or result.get("isError"):
            raise Failed(f"{tool}: {head.decode()}{body.decode()}")
        answer: Json = result["structuredContent"]
        return answer

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._url.hostname, self._url.port)
        reader, writer = self._streams
        writer.write(request)
        return reader, await reader.readuntil(b"\r\n\r\n")

    def _request(self, user: str, tool: str, arguments: Json) -> bytes:
        bearer = _TOKENS.get(user) or _TOKENS.setdefault(user, token(user))
        params: Json = {"name": tool, "arguments": arguments}
        modern = ""
        if self._era == MODERN:
            params["_meta"] = _META
            modern = f"Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        body = orjson.dumps(request)
        head = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"Authorization: Bearer {bearer}\r\nContent-Type: application/json\r\n"
            "Accept: application/json, text/event-stream\r\n"
            f"MCP-Protocol-Version: {self._era}\r\n{modern}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

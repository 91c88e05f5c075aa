"""An issuer's key endpoint on loopback, for the tests: real HTTP."""

import asyncio
import json
from typing import Any


class Issuer:
    """An issuer's key endpoint. What it answers can be changed at any time."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.headers = ""
        self.document: Any = {"keys": []}
        self.delay = 0.0
        self.asked: list[str] = []
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[Any]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/auth/jwks"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(request.split(b" ")[1].decode())
            await asyncio.sleep(self.delay)
            writer.write(self._answer())
            await writer.drain()
        except ConnectionError:
            pass  # the client has had enough
        finally:
            self._busy.discard(task)
            writer.close()

    def _answer(self) -> bytes:
        text = self.document if isinstance(self.document, str) else json.dumps(self.document)
        body = text.encode()
        head = f"HTTP/1.1 {self.status}\r\n{self.headers}Content-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + body

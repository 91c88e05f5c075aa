"""A network that fails at the worst moment: a TCP proxy between the server and its database.

A fault strikes once, at the first packet from the server's side that has the marker in it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Fault(Enum):
    """What happens to the request that has the marker in it."""

    none = "nothing"
    lost = "it is never sent on, and the connection breaks"
    unanswered = "it is sent on and carried out, and the connection breaks before the answer"
    half_answered = "the connection breaks in the middle of the answer"
    silent = "it is sent on and carried out, and no answer comes, ever"
    swallowed = "it disappears, and nothing comes, ever"


@dataclass
class Proxy:
    """Listens on ``port``; ``marker`` and ``fault`` may be changed at any time."""

    upstream: tuple[str, int]
    fault: Fault = Fault.none
    marker: bytes = b""
    port: int = 0
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def strike(self, fault: Fault, marker: str) -> None:
        """Let ``fault`` happen to the next request that has ``marker`` in it."""
        self.fault, self.marker = fault, marker.encode()
        self.struck.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, port = self.upstream
        connect = (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        try:
            up_reader, up_writer = await connect
            try:
                await _Carrier(self, reader, writer, up_reader, up_writer).carry()
            finally:
                up_writer.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """Break every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Carrier:
    """Carries the bytes of one connection, both ways, until one side ends or the fault strikes."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._server = (up_reader, up_writer)
        self._fault = Fault.none

    async def carry(self) -> None:
        both = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _up(self) -> None:
        reader, writer = self._client[0], self._server[1]
        while data := await reader.read(1 << 20):
            proxy = self._proxy
            if proxy.fault is not Fault.none and not proxy.struck.is_set() and proxy.marker in data:
                proxy.struck.set()
                self._fault = proxy.fault
                if self._fault is Fault.lost:
                    return
                if self._fault is Fault.swallowed:
                    await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()

    async def _down(self) -> None:
        reader, writer = self._server[0], self._client[1]
        while data := await reader.read(1 << 20):
            match self._fault:
                case Fault.unanswered:
                    return
                case Fault.silent:
                    continue
                case Fault.half_answered:
                    data = data[: len(data) // 2]
            writer.write(data)
            await writer.drain()
            if self._fault is Fault.half_answered:
                return
        if self._fault is Fault.silent:
            await asyncio.Event().wait()


@asynccontextmanager
async def proxied(conninfo: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a proxy before the database of ``conninfo``, and the conninfo that goes through it."""
    parts = conninfo_to_dict(conninfo)
    proxy = Proxy((str(parts["host"]), int(parts.get("port") or 5432)))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield (
            proxy,
            make_conninfo(conninfo, host="127.0.0.1", port=str(proxy.port), gssencmode="disable"),
        )
    finally:
        server.close()
        await proxy.close()
        with suppress(asyncio.CancelledError):
            await server.wait_closed()

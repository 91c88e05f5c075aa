"""Connections that pass from hand to hand.

psycopg_pool opens connections, replaces broken ones and closes idle ones. Going through it for each
statement of a busy server costs as much processor time as the statement itself; so while callers
are waiting, a connection goes straight from the one who has finished to the one who has waited
longest, and back to the pool only when nobody waits.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from mcp_server.connection import Connection

MAX_WAITING = 1000


class Pool:
    """At most ``size`` connections; a caller waits at most ``wait`` seconds for one."""

    def __init__(self, conninfo: str, size: int, wait: float, **settings: Any) -> None:
        self._pool = AsyncConnectionPool(
            conninfo,
            connection_class=Connection,
            min_size=1,
            max_size=size,
            timeout=wait,
            # By default the pauses between attempts double for five minutes: an absence of two
            # minutes could be followed by two more. This way the next caller tries anew.
            reconnect_timeout=wait,
            # With another encoding one user's name would be sent as another's.
            kwargs={"autocommit": True, "connect_timeout": 5, "client_encoding": "UTF8"},
            open=False,
            **settings,
        )
        self.wait = wait
        self._free = size  # so many more may be lent
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a connection: who can do without one gives it back."""
        return bool(self._waiting)

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def check(self) -> None:
        """Replace the idle connections that have died."""
        await self._pool.check()

    @asynccontextmanager
    async def connection(self, since: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection.

        ``since``: when its caller began to wait (``time.monotonic()``), now if None.

        Raises:
            psycopg_pool.PoolTimeout: none was free in time, or none could be opened.
            psycopg_pool.TooManyRequests: MAX_WAITING others wait already.
        """
        began = time.monotonic() if since is None else since
        connection = await self._take(began + self.wait)
        try:
            yield connection
        finally:
            await self._give_back(connection)

    async def _take(self, deadline: float) -> Connection:
        if self._free:
            self._free -= 1
        elif connection := await self._queue(deadline):
            return connection
        try:
            return await self._pool.getconn(deadline - time.monotonic())
        except BaseException:
            self._pass_on(None)
            raise

    async def _queue(self, deadline: float) -> Connection | None:
        """Wait for a connection, or, None, for leave to get one from the pool."""
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyRequests(f"{MAX_WAITING} callers are waiting for a connection")
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # it came at the last moment
                await self._give_back(turn.result())
            if isinstance(error, TimeoutError):
                raise PoolTimeout(f"no connection was free in {self.wait} s") from error
            raise

    async def _give_back(self, connection: Connection | None) -> None:
        if connection is not None and not _usable(connection):
            await self._put_back(connection)  # the pool replaces it
            connection = None
        if not self._pass_on(connection) and connection is not None:
            await self._put_back(connection)

    async def _put_back(self, connection: Connection) -> None:
        connection.stop_listening()
        await self._pool.putconn(connection)

    def _pass_on(self, connection: Connection | None) -> bool:
        """Give the place, and the connection, to the caller who has waited longest, if any does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        self._free += 1
        return False


def _usable(connection: Connection) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.IDLE

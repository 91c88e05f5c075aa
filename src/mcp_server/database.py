"""The connections of one process: a bounded pool, and the one place where a driver's error becomes
a refusal that an agent can act on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self, TypeVar

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from events.errors import Refused
from events.ledger import Json
from events.store import Connection, Outcome, pack
from mcp_server.groups import Failed, Groups
from mcp_server.pool import Pool
from mcp_server.writer import Writer
from projections import current
from projections.current import Found, Wanted

T = TypeVar("T")

LONG = 64 * 1024
"""Characters of a command that is written apart from those of others; a task has about 1,000."""

MANY = 50
"""Rows: who wants more reads them apart from others; nearly everybody wants one."""

CHECKED = 2.0
"""Seconds that a call waits until the idle connections have been looked at."""

_AWAY = (
    psycopg.OperationalError,  # also timeouts, deadlocks, a full disk, a shutdown
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolClosed,
    PoolTimeout,
    TooManyRequests,
)


class Database:
    """A pool that belongs to one event loop. Every statement is its own transaction."""

    def __init__(self, conninfo: str, size: int = 10, wait: float = 5.0) -> None:
        """``size``: connections at most; ``wait``: seconds that a call waits for one."""
        self._wait = wait
        self._pool = Pool(conninfo, size, wait, configure=_configure)
        self._reader = Groups(self._pool, current.read_together)
        self._writer = Writer(self._pool)
        self._writer_of_long = Writer(self._pool, at_once=1, size=1)
        self._half = max(1, size // 2)
        self._checking: asyncio.Task[None] | None = None
        self._turns: dict[str, _Room] = {}
        self._shares: dict[str, _Room] = {}

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._checking is not None:
            self._checking.cancel()
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises: Refused ``unavailable``, whatever of the database's doing goes wrong with it.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except _AWAY as error:
            raise _unavailable() from error

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what ``query`` reads; once more if the connection had died while it was idle.

        Raises: Refused ``unavailable``.
        """
        try:
            async with self._pool.connection() as connection:
                try:
                    return await query(connection)
                except psycopg.OperationalError:
                    if not connection.broken:  # it was answered: too slow, or locked
                        raise
        except _AWAY as error:
            raise _unavailable() from error
        await self._drop_dead()
        async with self.connection() as connection:
            return await query(connection)

    async def find(self, user_id: str, wanted: Wanted) -> Found:
        """Return what is ``wanted`` of one user's rows, perhaps read together with others' rows.

        Raises: Refused ``unavailable``.
        """
        try:
            try:
                if wanted.rows() <= MANY:
                    texts = await self._reader.ask(current.question(user_id, wanted))
                    return current.found(wanted, texts)
            except Failed as failed:
                if failed.alone and not failed.unknown:
                    raise failed.error from None
        except _AWAY as error:
            raise _unavailable() from error
        return await self.read(lambda connection: current.read(connection, user_id, wanted))

    async def _drop_dead(self) -> None:
        """After a server's restart every idle connection is dead: find out now, not one by one.

        On a silent network that takes long; the pool goes on with it, but nobody waits for it.
        (It would take a cancellation for an answer, and look at the next one.)

        Raises: Refused ``unavailable``.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._pool.check())
        await asyncio.wait({self._checking}, timeout=CHECKED)
        looked = self._checking.done() and not self._checking.cancelled()
        if not looked or self._checking.exception() is not None:
            raise _unavailable()

    async def commit(self, sealed: Json) -> Outcome:
        """Write one command (``events.store.seal``), perhaps together with those of other users.

        Raises: Refused ``unavailable``.
        """
        packed = pack(sealed)
        writer = self._writer_of_long if len(packed.text) > LONG else self._writer
        try:
            return await writer.commit(packed)
        except _AWAY as error:
            raise _unavailable() from error

    def turn(self, user_id: str) -> AbstractAsyncContextManager[None]:
        """Let one command of a user run at a time in this process.

        They would wait for each other at the user's lock anyway, each holding a connection that
        other users could have.

        Raises: Refused ``unavailable``, if those before it take too long.
        """
        return _Place(self._turns, user_id, 1, self._wait)

    def share(self, user_id: str) -> AbstractAsyncContextManager[None]:
        """Let the questions of one user have half of the connections at most.

        A question may read a whole ledger: many of them at once would keep everybody else waiting.

        Raises: Refused ``unavailable``, if those before it take too long.
        """
        return _Place(self._shares, user_id, self._half, self._wait)


class _Room(asyncio.Semaphore):
    """The places of one user; ``callers`` have one or wait for one."""

    callers = 0


class _Place:
    """One of the ``most`` places that a user has in ``rooms``, for the length of a call.

    Each command takes one: a generator made a context manager costs three times as much.
    """

    __slots__ = ("_most", "_room", "_rooms", "_user_id", "_wait")

    def __init__(self, rooms: dict[str, _Room], user_id: str, most: int, wait: float) -> None:
        """``wait``: seconds that a call waits for a place."""
        self._rooms = rooms
        self._user_id = user_id
        self._most = most
        self._wait = wait

    async def __aenter__(self) -> None:
        room = self._rooms.get(self._user_id)
        if room is None:
            room = self._rooms[self._user_id] = _Room(self._most)
        self._room = room
        room.callers += 1
        try:
            if room.callers <= self._most:  # there is one
                await room.acquire()
            else:
                async with asyncio.timeout(self._wait):
                    await room.acquire()
        except BaseException as error:
            self._leave()
            if isinstance(error, TimeoutError):
                raise _unavailable() from error
            raise

    async def __aexit__(self, *_: object) -> None:
        self._room.release()
        self._leave()

    def _leave(self) -> None:
        """Forget a user who has nobody here any more."""
        self._room.callers -= 1
        if not self._room.callers:
            del self._rooms[self._user_id]


_LIMITS = """
SELECT set_config('statement_timeout', '15s', false), set_config('lock_timeout', '5s', false),
    set_config('idle_in_transaction_session_timeout', '15s', false),
    set_config('enable_bitmapscan', 'off', false)
"""


async def _configure(connection: AsyncConnection[Any]) -> None:
    """Limit how long a statement may take, and how long it may wait for a lock; and let pages walk
    an index in its order. Postgres knows what the average user has, not this one: it would gather
    everything that a big user has, to sort it. (search_tasks allows its index again.)

    Not through a pooler that gives each transaction another connection: there nothing may be set
    or prepared for a session (docs/settings.md says what to set on the role instead). Such a pooler
    shows: the process id it told at the start is not that of the server's process.
    """
    set_json_loads(orjson.loads, connection)
    cursor = await connection.execute("SELECT pg_backend_pid()", prepare=False)
    row = await cursor.fetchone()
    if row is not None and row[0] != connection.info.backend_pid:
        connection.prepare_threshold = None
    else:
        await connection.execute(_LIMITS, prepare=False)


def _unavailable() -> Refused:
    return Refused(
        "unavailable",
        "The database cannot be reached right now.",
        "Try again in a moment. If it was a change, the same idempotency_key tells whether it"
        " happened; without a key, read before you repeat it.",
    )

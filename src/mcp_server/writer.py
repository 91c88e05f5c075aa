"""Commands of different users that arrive together are written together.

A busy server spends more on each transaction than on what is in it: the round trip, the commit, the
change from one process to another. So a command is sent at once if a writer is free; those that
arrive while all are busy wait, and the next that is free takes all of them: nothing waits for
company. Each still has its own outcome. A writer waits for no user's lock longer than PATIENCE, and
if a group fails as a whole, each of its commands is sent by itself, on a connection of its own:
nobody suffers for another's fault, or for another's lock.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import psycopg

from events.ledger import Json
from events.store import Outcome, commit_all
from mcp_server.pool import Connection, Pool

WRITERS = 2
"""One computes while the other waits for the disk; more share less (docs/performance.md)."""
GROUP = 32
"""Commands in one transaction at most: their users' locks are held for its length, about 10 ms."""

PATIENCE = "100ms"
"""For a user's lock: ten times as long as a group of another process holds one."""

Waiting = tuple[Json, asyncio.Future[Outcome]]


class Writer:
    """Writes sealed commands, of which no two that are under way may be of the same user."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[Waiting] = deque()
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def commit(self, sealed: Json) -> Outcome:
        """Write one command and return what it came to.

        Raises: as the pool does; psycopg.Error.
        """
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((sealed, outcome))
        if self._busy < WRITERS:
            self._busy += 1
            self._start(self._write())
        return await outcome

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        """Write groups until nobody waits. Between the last look and the end nothing is awaited."""
        try:
            while group := self._next():
                try:
                    async with self._pool.connection() as connection:
                        while group:
                            await self._write_group(connection, group)
                            group = self._next()
                except Exception as error:  # noqa: BLE001 - raised where the command came from
                    for _, outcome in group:
                        if not outcome.done():
                            outcome.set_exception(error)
        finally:
            self._busy -= 1

    def _next(self) -> list[Waiting]:
        count = min(len(self._waiting), GROUP)
        return [self._waiting.popleft() for _ in range(count)]

    async def _write_group(self, connection: Connection, group: list[Waiting]) -> None:
        try:
            outcomes = await commit_all(connection, [sealed for sealed, _ in group], PATIENCE)
        except psycopg.Error:
            if connection.broken:
                raise
            for each in group:
                self._start(self._write_alone(*each))
            return
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if not future.done():  # its caller may have been cancelled
                future.set_result(outcome)

    async def _write_alone(self, sealed: Json, future: asyncio.Future[Outcome]) -> None:
        try:
            async with self._pool.connection() as connection:
                (outcome,) = await commit_all(connection, [sealed])
        except Exception as error:  # noqa: BLE001 - raised where the command came from
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(outcome)

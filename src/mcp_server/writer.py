"""Commands of different users that arrive together are written together.

A busy server spends more on each transaction than on what is in it: the round trip, the commit, the
change from one process to another. So a command is sent at once if a writer is free; those that
arrive while all are busy wait, and the next that is free takes its share of them: nothing waits for
company. (Its share, not all: soon everybody would be in one group, the server idle while the client
computes.) Each still has its own outcome, and if a group fails as a whole, each of its commands is
sent by itself: nobody suffers for another's fault.

Nor for another's length. A command of fifty tasks with long descriptions takes seconds; it goes to
a writer of its own, alone (mcp_server.database), so long ones wait for long ones only.

Nor for another's lock. A command whose user's ledger another session holds (another process, an
erasure, a rebuild) is put aside and looked at again soon: neither a connection nor a lock waits.
"""

import asyncio
import random
from collections import deque
from typing import NamedTuple

import psycopg

from events.store import Outcome, Packed, commit
from mcp_server.pool import Connection, Pool

WRITERS = 2
"""One computes while the other waits for the disk; more share less (docs/performance.md)."""
GROUP = 32
"""Commands in one transaction at most: their users' locks are held for its length, about 10 ms."""

LOCK_SECONDS = 5.0
"""So long a command tries to get its user's lock."""


class Waiting(NamedTuple):
    """A command, where its outcome goes, and since when (the loop's time) it waits."""

    command: Packed
    outcome: asyncio.Future[Outcome]
    since: float


class Writer:
    """Writes commands, of which no two that are under way may be of the same user."""

    def __init__(self, pool: Pool, writers: int = WRITERS, group: int = GROUP) -> None:
        """``writers``: connections at most; ``group``: commands in a transaction at most."""
        self._pool = pool
        self._writers = writers
        self._group = group
        self._waiting: deque[Waiting] = deque()
        self._busy = 0
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def commit(self, command: Packed) -> Outcome:
        """Write one command and return what it came to.

        Raises: as the pool does; psycopg.Error: LockNotAvailable after LOCK_SECONDS.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self._queue(Waiting(command, outcome, loop.time()))
        return await outcome

    def _queue(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        if self._busy < self._writers:
            self._busy += 1
            task = asyncio.create_task(self._write())
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
                            await asyncio.sleep(0)  # let those who have their answer ask again
                            self._under_way -= len(group)
                            group = self._next()
                except Exception as error:  # noqa: BLE001 - raised where the command came from
                    self._under_way -= len(group)
                    for waiting in group:
                        if not waiting.outcome.done():
                            waiting.outcome.set_exception(error)
        finally:
            self._busy -= 1

    def _next(self) -> list[Waiting]:
        """Take an even share of all commands, so that all writers are at work."""
        share = -(-(len(self._waiting) + self._under_way) // self._writers)
        count = min(len(self._waiting), share, self._group)
        self._under_way += count
        return [self._waiting.popleft() for _ in range(count)]

    async def _write_group(self, connection: Connection, group: list[Waiting]) -> None:
        try:
            outcomes = await commit(connection, [waiting.command for waiting in group])
        except psycopg.Error:
            if len(group) == 1 or connection.broken:
                raise
            for each in group:
                await self._write_alone(connection, each)
            return
        for waiting, outcome in zip(group, outcomes, strict=True):
            self._deliver(waiting, outcome)

    async def _write_alone(self, connection: Connection, waiting: Waiting) -> None:
        try:
            (outcome,) = await commit(connection, [waiting.command])
        except psycopg.Error as error:
            if not waiting.outcome.done():
                waiting.outcome.set_exception(error)
        else:
            self._deliver(waiting, outcome)

    def _deliver(self, waiting: Waiting, outcome: Outcome) -> None:
        if waiting.outcome.done():  # its caller was cancelled
            return
        if outcome.status == "locked":
            self._put_aside(waiting)
        else:
            waiting.outcome.set_result(outcome)

    def _put_aside(self, waiting: Waiting) -> None:
        """Look again in a moment: the longer it has waited, the later, at most 50 ms."""
        loop = asyncio.get_running_loop()
        waited = loop.time() - waiting.since
        if waited > LOCK_SECONDS:
            problem = "another session has held the user's lock all the time"
            waiting.outcome.set_exception(psycopg.errors.LockNotAvailable(problem))
            return
        pause = random.uniform(0.5, 1) * min(0.05, 0.001 + waited / 4)  # noqa: S311 - no secret
        loop.call_later(pause, self._queue, waiting)

"""Questions to the database that arrive together are asked together.

A busy server spends more on each transaction than on what is in it: the round trip, the commit, the
change from one process to another. So a question is sent at once if there is nobody ahead of it;
those that arrive while as many groups as may be are under way wait, and the next that ends is
followed by a share of them: nothing waits for company. (A share, not all: soon everybody would be
in one group, the server idle while the client computes.)
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from events.store import Ask
from mcp_server.connection import Connection
from mcp_server.pool import Pool

Q = TypeVar("Q")
A = TypeVar("A")

AT_ONCE = 2
"""One group computes while the other waits for the disk; more share less (docs/performance.md)."""
SIZE = 32
"""Questions in one transaction at most: locks are held for its length, about 10 ms."""


class Failed(Exception):
    """A group failed as a whole with ``error``.

    ``alone``: there was nobody else in it. ``unknown``: nobody knows what was done, because the
    connection died, or the answer came and could not be read; otherwise nothing was.
    """

    def __init__(self, error: psycopg.Error, alone: bool, unknown: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.alone = alone
        self.unknown = unknown


class _Waiting(NamedTuple, Generic[Q, A]):
    """A question, where its answer goes, and when it was asked (``time.monotonic()``)."""

    question: Q
    answer: asyncio.Future[A]
    since: float


class Groups(Generic[Q, A]):
    """Asks questions, several in one call of ``answers``, which answers them in order."""

    def __init__(
        self,
        pool: Pool,
        answers: Callable[[Ask, list[Q]], Awaitable[list[A]]],
        at_once: int = AT_ONCE,
        size: int = SIZE,
    ) -> None:
        """``at_once``: groups, each with a connection, at most; ``size``: questions in a group."""
        self._pool = pool
        self._answers = answers
        self._at_once = at_once
        self._size = size
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._busy = 0
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def ask(self, question: Q) -> A:
        """Return the answer. Raises: Failed; as the pool does."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(question, answer, time.monotonic()))
        if self._busy < self._at_once:
            self._busy += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        """Ask groups until nobody waits. Between the last look and the end nothing is awaited."""
        try:
            while group := self._next():
                try:
                    # Nobody waits longer for a connection because others wait for one too.
                    async with self._pool.connection(group[0].since) as connection:
                        while group:
                            await self._ask(connection, group)
                            await asyncio.sleep(0)  # let those who have their answer ask again
                            self._under_way -= len(group)
                            group = [] if self._pool.wanted else self._next()
                except Exception as error:  # noqa: BLE001 - raised where the question came from
                    self._under_way -= len(group)
                    if isinstance(error, PoolTimeout):
                        group = self._late(group)
                    for waiting in group:
                        if not waiting.answer.done():
                            waiting.answer.set_exception(error)
        finally:
            self._busy -= 1

    def _late(self, group: list[_Waiting[Q, A]]) -> list[_Waiting[Q, A]]:
        """Return those of a group who have waited long enough; let the others wait on."""
        began = time.monotonic() - self._pool.wait
        self._waiting.extendleft(each for each in reversed(group) if each.since > began)
        return [each for each in group if each.since <= began]

    def _next(self) -> list[_Waiting[Q, A]]:
        """Take an even share of all questions, so that all who may be are at work."""
        share = -(-(len(self._waiting) + self._under_way) // self._at_once)
        count = min(len(self._waiting), share, self._size)
        group: list[_Waiting[Q, A]] = []
        while self._waiting and len(group) < count:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # its caller was cancelled: what was not sent never is
                group.append(waiting)
        self._under_way += len(group)
        return group

    async def _ask(self, connection: Connection, group: list[_Waiting[Q, A]]) -> None:
        try:
            questions = [waiting.question for waiting in group]
            answers = await self._answers(connection.ask, questions)
        except psycopg.Error as error:
            unknown = connection.broken or error.diag.sqlstate is None  # not the server's answer
            raise Failed(error, len(group) == 1, unknown) from error
        for waiting, answer in zip(group, answers, strict=True):
            if not waiting.answer.done():  # its caller was cancelled
                waiting.answer.set_result(answer)

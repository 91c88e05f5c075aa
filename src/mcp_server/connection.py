"""A connection that a busy server can afford.

Sending a statement and reading its rows takes psycopg more processor time than deciding a command
takes us. So there are two ways. ``execute`` is psycopg's, with a cursor kept for each statement.
``ask`` is for the few statements that every command sends: straight on libpq, a third of the time.

A migration may replace functions, types and columns under a statement that is under way, or that
was prepared before. Postgres refuses it then, and nothing of it was done: it is sent once more.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncCursor, generators
from psycopg.abc import Params, PQGen
from psycopg.abc import QueryNoTemplate as Query
from psycopg.abc import Transformer as Values
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from events.store import asking

MAX_KEPT = 100  # as many statements as psycopg prepares
LONGEST = 20.0  # seconds for one statement, more than the server's own timeouts allow
LOOK = 0.1  # seconds until somebody who was not told of an answer looks for it, as in psycopg

_OVERTAKEN = (
    psycopg.errors.InternalError_,  # cache lookup failed for type 16628
    psycopg.errors.UndefinedObject,  # type with OID 16628 does not exist
    psycopg.errors.FeatureNotSupported,  # cached plan must not change result type
)
"""What a statement ends with that a migration has overtaken. There are faults that last among them,
too; so no statement is sent a third time."""


class Connection(AsyncConnection[Any]):
    """An autocommit connection. Fetch the rows of a statement before it is executed again.

    While it is asked it listens to its socket, from one question to the next: to begin and to end
    that takes as long as to send one. ``stop_listening`` before anybody else has the connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[tuple[Query, bool], tuple[Query, AsyncCursor[Any]]] = {}
        self._asked: Counter[str] = Counter()
        self._prepared_here: dict[str, tuple[bytes, Values]] = {}
        self._listens_to: int | None = None
        self._heard: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    async def execute(  # type: ignore[override] # a template is executed by a cursor
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool = False,
    ) -> AsyncCursor[Any]:
        """Execute a query and return the cursor to read its results.

        Raises: psycopg.Error
        """
        try:
            return await self._execute(query, params, prepare, binary)
        except _OVERTAKEN as error:
            await self._prepare_anew(error)
            return await self._execute(query, params, prepare, binary)

    async def _execute(
        self, query: Query, params: Params | None, prepare: bool | None, binary: bool
    ) -> AsyncCursor[Any]:
        """The cursor knows how to send the statement's parameters: finding that out anew costs more
        than sending them."""
        kept = self._kept.get((query, binary))
        if kept is None:
            if len(self._kept) == MAX_KEPT:
                self._kept.clear()
            kept = self._kept[query, binary] = (query, self.cursor(binary=binary))
        # The very object of the first time: psycopg compares identities.
        statement, cursor = kept
        alarm = asyncio.get_running_loop().call_later(LONGEST, self._hang_up)
        try:
            return await cursor.execute(statement, params, prepare=prepare)
        finally:
            alarm.cancel()

    async def ask(self, statement: str, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement whose one parameter is a text, as ``store.asking`` does.

        Raises: psycopg.Error
        """
        if not self._worth_preparing(statement):
            return await asking(self)(statement, text)
        try:
            return await self._ask(statement, text)
        except _OVERTAKEN as error:
            await self._prepare_anew(error)
            return await self._ask(statement, text)

    async def _ask(self, statement: str, text: str) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(LOOK, self._look, loop.time() + LONGEST)
        try:
            name, rows = self._prepared_here.get(statement) or await self._prepare(statement)
            self.pgconn.send_query_prepared(name, [text.encode()], result_format=Format.BINARY)
            result = await self._result(ExecStatus.TUPLES_OK)
        finally:
            self._alarm.cancel()
        rows.set_pgresult(result)
        return rows.load_rows(0, result.ntuples, tuple)

    def _worth_preparing(self, statement: str) -> bool:
        """As psycopg does: not before it has been asked a few times, it is a trip of its own; and
        never through a pooler, where the threshold is None."""
        if self.prepare_threshold is None:
            return False
        self._asked[statement] += 1
        return self._asked[statement] > self.prepare_threshold

    async def _prepare(self, statement: str) -> tuple[bytes, Values]:
        """Return the name of a statement, and what makes values of its rows."""
        name = f"tasktrail_{len(self._prepared_here)}".encode()
        self.pgconn.send_prepare(name, statement.replace("%s", "$1").encode())
        await self._result(ExecStatus.COMMAND_OK)
        self._prepared_here[statement] = name, Transformer(self)
        return self._prepared_here[statement]

    async def _prepare_anew(self, error: psycopg.Error) -> None:
        """Let every statement be prepared, and so planned, as if for the first time.

        Raises: ``error``, if there is more in its transaction: that has failed as a whole.
        """
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            raise error
        if self.prepare_threshold is not None:
            self._prepared_here.clear()
            await self._execute("DEALLOCATE ALL", None, prepare=False, binary=False)

    async def _result(self, expected: ExecStatus) -> PGresult:
        """Return the result of what was sent. If this is cancelled, the pool drops the connection.

        Raises: psycopg.Error
        """
        if self.pgconn.flush():  # it is long: the rest has to wait until the server has read some
            results: list[PGresult] = await self.wait(generators.execute(self.pgconn))
        else:
            results = await self._listen()
        for result in results:  # rows are sent before their transaction is committed
            if result.status != expected:
                raise error_from_result(result)
        return results[0]

    async def _listen(self) -> list[PGresult]:
        """Wait for all of the answer: a result, and another where an error came after it."""
        results: list[PGresult] = []
        await self._not_busy()
        while result := self.pgconn.get_result():
            results.append(result)
            await self._not_busy()
        return results

    async def _not_busy(self) -> None:
        """Read from the socket until there is a result, or the end of them."""
        loop, pgconn = asyncio.get_running_loop(), self.pgconn
        while pgconn.is_busy():
            if self._listens_to is None:
                self._listens_to = pgconn.socket
                loop.add_reader(pgconn.socket, self._hear)
            self._heard = loop.create_future()
            await self._heard
            pgconn.consume_input()

    def _hear(self) -> None:
        """There is something to read; if nobody waits for it, do not be told again and again."""
        if self._heard is None or self._heard.done():
            self.stop_listening()
        else:
            self._heard.set_result(None)

    def stop_listening(self) -> None:
        """Leave the socket to others."""
        if self._listens_to is not None:
            asyncio.get_running_loop().remove_reader(self._listens_to)
            self._listens_to = None

    def wait(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """All that psycopg waits for comes through here, and it listens for itself."""
        self.stop_listening()
        return super().wait(gen, *args, **kwargs)

    def _look(self, deadline: float) -> None:
        """Look for an answer unheard, and hang up if there is none by ``deadline``.

        The loop may be deaf to a socket: libuv tells once that one has failed, and never again,
        although the server's last words may still be in it, or on their way.
        """
        loop = asyncio.get_running_loop()
        if loop.time() > deadline:
            self._hang_up()
        self.stop_listening()
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)
        self._alarm = loop.call_later(LOOK, self._look, deadline)

    def _hang_up(self) -> None:
        """End the socket: whoever waits for its answer is told that the server has gone.

        The network, a pooler or the server's machine has fallen silent; the server's own timeouts
        would have spoken before. (To cancel the statement would mean to wait for them to answer.)
        """
        same = socket.socket(fileno=self.fileno())
        with suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)
        same.detach()  # it is libpq that closes it

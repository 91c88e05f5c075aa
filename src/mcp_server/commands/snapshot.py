"""One user's whole ledger at one moment, read in pages: what exports and reports are made of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, NamedTuple

import orjson
from psycopg.types.json import set_json_loads

from events.ledger import Head, Record
from events.store import Connection, read_ledger
from mcp_server.failure import Failure
from mcp_server.reach import connect_async
from projections import history


class NoLedger(Failure):
    """Nothing was ever written for this user."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"Nothing was ever written for user {user_id!r} in this database (`tasktrail doctor`"
            " shows which it is)."
        )


class Snapshot(NamedTuple):
    """The ledger's head, and its events up to it, oldest first."""

    user_id: str
    head: Head
    connection: Connection

    def pages(self) -> AsyncIterator[list[Record]]:
        """Yield the events in pages, oldest first."""
        return read_ledger(self.connection, self.user_id, until=self.head.position)


_DEEP = 500
"""Bytes without which nothing is nested deeper than orjson writes."""


def _loads(text: str | bytes) -> Any:
    """Return what JSON says; of what orjson cannot read or write again, which only a forger put
    there, the text itself."""
    try:
        value = orjson.loads(text)
        if len(text) > _DEEP:
            orjson.dumps([[value]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text if isinstance(text, str) else bytes(text).decode()
    return value


_FREEZE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_READ_HEAD = """
SELECT l.position, l.hash FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT position, hash FROM tasktrail.ledgers WHERE user_id = u
) AS l
"""


@asynccontextmanager
async def snapshot(conninfo: str, user_id: str, *, frozen: bool = True) -> AsyncIterator[Snapshot]:
    """Yield the user's ledger as it is now; an erasure meanwhile shows only if not ``frozen``.

    Raises:
        NoLedger: there is none.
        Unreachable: the database cannot be reached.
    """
    async with (
        await connect_async(conninfo) as connection,
        connection.transaction() if frozen else nullcontext(),
    ):
        set_json_loads(_loads, connection)
        if frozen:
            await connection.execute(_FREEZE)
        row = await (await connection.execute(_READ_HEAD, (user_id,))).fetchone()
        if row is None or row[0] == 0:
            raise NoLedger(user_id)
        yield Snapshot(user_id, Head(*row), connection)


async def position_at(ledger: Snapshot, when: history.Moment | None) -> int:
    """Return the last position that counts at a moment, None being now."""
    if when is None:
        return ledger.head.position
    position = await history.position_at(ledger.connection, ledger.user_id, when)
    return min(position, ledger.head.position)

"""One user's whole ledger at one moment, read in pages: what exports and reports are made of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from psycopg import AsyncConnection

from events.ledger import Head, Record
from events.store import Connection, read_ledger
from mcp_server.failure import Failure


class NoLedger(Failure):
    """Nothing was ever written for this user."""

    exit_code = 2


class Snapshot(NamedTuple):
    """The ledger's head, and its events up to it, oldest first; ``pages`` can be read once."""

    user_id: str
    head: Head
    connection: Connection

    def pages(self) -> AsyncIterator[list[Record]]:
        """Yield the events in pages, oldest first."""
        return read_ledger(self.connection, self.user_id, until=self.head.position)


_READ_HEAD = """
SELECT l.position, l.hash FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT position, hash FROM tasktrail.ledgers WHERE user_id = u
) AS l
"""


@asynccontextmanager
async def snapshot(conninfo: str, user_id: str) -> AsyncIterator[Snapshot]:
    """Yield the user's ledger as it is now; an erasure meanwhile does not show in it.

    Raises:
        NoLedger: there is none.
        psycopg.OperationalError: the database cannot be reached.
    """
    async with (
        await AsyncConnection.connect(conninfo, autocommit=True) as connection,
        connection.transaction(),
    ):
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = await (await connection.execute(_READ_HEAD, (user_id,))).fetchone()
        if row is None or row[0] == 0:
            raise NoLedger(f"Nothing was ever written for user {user_id!r}.")
        yield Snapshot(user_id, Head(*row), connection)

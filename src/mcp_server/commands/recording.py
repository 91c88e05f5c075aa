"""The record of who looked at whose ledger: written before anything is shown.

A command that reads with an auditor's or operator's login must leave a record: if that fails, it
shows nothing. The server's own login may not write records (nor change what it did itself); then
ADMIN_DATABASE_URL is used, and without one the command says that its access is not on record.
"""

import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import psycopg
from psycopg import AsyncConnection

from events.ledger import Json, jcs, microseconds
from events.store import Connection
from mcp_server.auth.identity import RESERVED
from mcp_server.commands.snapshot import NoLedger, Snapshot, snapshot
from mcp_server.failure import Failure
from mcp_server.target import Target
from projections import past
from projections.story import Unreadable

if sys.platform != "win32":
    import pwd

EVERYBODY = f"{RESERVED}everybody"
"""Who is looked at by a command that reads all ledgers."""

LONGEST_FILTERS = 8_000


class NotRecorded(Failure):
    """The access could not be recorded, so nothing is shown."""

    exit_code = 3


class BrokenLedger(Failure):
    """An event cannot be read: it is forged, or this program is too old for it."""


class Access(NamedTuple):
    """A command, its filters as they were given, and the positions that it may show."""

    command: str
    filters: Json
    first: int | None = None
    last: int | None = None


@asynccontextmanager
async def opened(
    database: Target, user_id: str, access: Access, *, frozen: bool = True
) -> AsyncIterator[Snapshot]:
    """Yield a user's ledger to a command that, before it shows anything of it, calls ``record``.

    ``frozen``: as it is now. A long text that people read with a pager should rather not hold a
    snapshot for hours: the ledger only grows, so its head bounds it well enough.

    Raises:
        NoLedger: there is none; that this was asked is on record.
        BrokenLedger: the command met an event that cannot be read.
    """
    try:
        async with snapshot(database.reader, user_id, frozen=frozen) as ledger:
            yield ledger
    except NoLedger:
        await record(database, user_id, access)
        raise
    except Unreadable as error:
        raise BrokenLedger(f"{error} `tasktrail verify` says more.") from None


async def record(database: Target, user_id: str, access: Access) -> None:
    """Append a record, or say on standard error that this login may not.

    Raises: NotRecorded: the login may, but it did not succeed.
    """
    details = _details(access)
    for conninfo in dict.fromkeys((database.reader, database.admin)):
        try:
            async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
                await connection.execute(
                    "SELECT tasktrail.record_access(%s, %s)", (user_id, details)
                )
                return
        except psycopg.errors.InsufficientPrivilege:
            continue
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            raise NotRecorded(
                f"This access could not be recorded, so nothing is shown: {error}"
            ) from error
    sys.stderr.write(
        "tasktrail: this access is not on record: the login is neither an auditor's nor an"
        " operator's (docs/audit.md).\n"
    )


def _details(access: Access) -> str:
    details = {**access._asdict(), "os_user": _os_user(), "host": socket.gethostname()}
    if len(jcs(access.filters)) > LONGEST_FILTERS:
        details["filters"] = {"too_long": True}
    return jcs(details).decode()


def _os_user() -> str:
    """Return the account that runs this, as the system knows it: the environment could lie."""
    if sys.platform == "win32":
        import getpass

        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


async def remark_on_erasure(ledger: Snapshot, position: int) -> None:
    """Say on standard error if some of what there was up to ``position`` has been erased."""
    erased = await past.erased_through(ledger.connection, ledger.user_id)
    if erased:
        through = min(erased, position)
        sys.stderr.write(f"tasktrail: the content up to position {through} has been erased.\n")


class AccessRecord(NamedTuple):
    """A row of ``tasktrail.audit_access``."""

    user_id: str
    number: int
    login: str
    details: str
    at: datetime
    hash: bytes


_READ = """
SELECT a.user_id, a.number, a.login, a.details, a.at, a.hash FROM tasktrail.audit_access a
WHERE %(user_id)s::text IS NULL OR a.user_id = %(user_id)s
ORDER BY a.user_id, a.number
"""
_PAGE = 500


async def read_records(connection: Connection, user_id: str | None) -> AsyncIterator[AccessRecord]:
    """Yield the records about a user, or about all, user by user, oldest first."""
    async with connection.cursor(binary=True) as cursor:
        async for row in cursor.stream(_READ, {"user_id": user_id}, size=_PAGE):
            yield AccessRecord(*row)


_numbers = struct.Struct(">qq").pack


class Chain:
    """Checks the records of one user after another, oldest first."""

    def __init__(self) -> None:
        self._user_id: str | None = None
        self._number = 0
        self._hash = b""

    def add(self, record: AccessRecord) -> str | None:
        """Return what is wrong with a record, None if nothing is."""
        if record.user_id != self._user_id:
            self._user_id, self._number = record.user_id, 0
            self._hash = sha256(b"tasktrail/access/v1\0" + record.user_id.encode()).digest()
        expected = sha256(
            self._hash
            + _numbers(record.number, microseconds(record.at))
            + sha256(record.login.encode()).digest()
            + sha256(record.details.encode()).digest()
        ).digest()
        missing = record.number != self._number + 1
        self._number, self._hash = record.number, record.hash
        if missing:
            return "records before it are missing"
        return None if expected == record.hash else "it was changed, or one before it was"

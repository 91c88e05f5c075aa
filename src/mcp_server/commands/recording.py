"""The record of who looked at whose ledger, or erased it, or held it: written before that is done.

A command that reads with an auditor's or operator's login must leave a record: if that fails, it
shows nothing. The server's own login may not write records (nor change what it did itself); then
ADMIN_DATABASE_URL is used, and without one the command says that its access is not on record.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import psycopg

from events.ledger import Json, jcs
from mcp_server.auth.identity import RESERVED
from mcp_server.commands.snapshot import NoLedger, Snapshot, snapshot
from mcp_server.failure import Failure
from mcp_server.reach import connect_async
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
    except psycopg.DataError as error:  # such as a time beyond the calendar
        raise BrokenLedger(
            f"An event cannot be read: {error}. `tasktrail verify` says more."
        ) from None


async def record(
    database: Target, user_id: str, access: Access, conninfo: str | None = None
) -> None:
    """Append a record, or say on standard error that this login may not.

    ``conninfo``: who does it, by default who reads. Raises: NotRecorded: the login may, but it did
    not succeed.
    """
    details = _details(access)
    for login in dict.fromkeys((conninfo or database.reader, database.admin)):
        try:
            async with await connect_async(login) as connection:
                await connection.execute(
                    "SELECT tasktrail.record_access(%s, %s)", (user_id, details)
                )
                return
        except psycopg.errors.InsufficientPrivilege:
            continue
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            raise NotRecorded(
                f"This access could not be recorded, so nothing is shown or done: {error}"
            ) from error
    sys.stderr.write(
        "tasktrail: this access is not on record: the login is neither an auditor's nor an"
        " operator's (docs/audit.md).\n"
    )


def record_doing(database: Target, user: str, command: str, **options: str | bool | None) -> None:
    """Append a record that an operator is about to do this. Raises: NotRecorded."""
    given = {name: value for name, value in options.items() if value}
    asyncio.run(record(database, user, Access(command, given), database.admin))


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

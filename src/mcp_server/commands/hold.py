"""``tasktrail hold``: what stands against erasing a user's words, such as a case at court."""

import asyncio
import sys
from datetime import datetime
from typing import Annotated, NamedTuple

import typer

from events.ledger import Json
from events.stamp import iso
from events.store import Connection
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import OptionalUserId
from mcp_server.commands.printing import Column, print_list, printable
from mcp_server.commands.recording import record_doing
from mcp_server.commands.snapshot import NoLedger
from mcp_server.failure import Failure
from mcp_server.reach import connect_async

COLUMNS = (Column("user", 20), Column("since", 27), Column("reason"))


class NoHold(Failure):
    """There is none to release."""


class Hold(NamedTuple):
    """A hold on a user."""

    user: str
    reason: str
    since: datetime

    def told(self) -> str:
        """Return since when it is there, and why."""
        return f"since {iso(self.since)}: {printable(self.reason) or 'no reason was given'}"

    def row(self) -> Json:
        """Return it as it is listed."""
        return {"user": self.user, "reason": self.reason, "since": iso(self.since)}


def hold(
    user: OptionalUserId = None,
    reason: Annotated[str, typer.Option(help="Why they must stay.")] = "",
    release: Annotated[bool, typer.Option("--release", help="They may be erased again.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    if (user is not None) == list_:
        raise typer.BadParameter("Give a user, or --list.")
    with target.opened(settings.read()) as database:
        who = user or recording.EVERYBODY
        record_doing(database, who, "hold", reason=reason, release=release, list=list_)
        asyncio.run(_do(database.admin, user, reason, release, json))


async def _do(conninfo: str, user: str | None, reason: str, release: bool, as_json: bool) -> None:
    async with await connect_async(conninfo) as connection:
        if user is not None and release:
            released = await _release(connection, user)
            if not as_json:
                sys.stdout.write(f"{user}: released. It was held {released.told()}.\n")
                return
        elif user is not None:
            await _hold(connection, user, reason)
        holds = await find_holds(connection)
    shown = [each.row() for each in holds if user in (None, each.user)]
    print_list(COLUMNS, shown, as_json)
    if not (shown or as_json):
        sys.stderr.write("tasktrail: there is no hold.\n")


async def _hold(connection: Connection, user: str, reason: str) -> None:
    """Put a hold on a user; say so if there is one already, which stays. Raises: NoLedger."""
    query = "SELECT FROM tasktrail.ledgers WHERE user_id = %s AND position > 0"
    if (await connection.execute(query, (user,))).rowcount == 0:
        raise NoLedger(user)
    added = await connection.execute(
        "INSERT INTO tasktrail.holds (user_id, reason) VALUES (%s, %s)"
        " ON CONFLICT (user_id) DO NOTHING",
        (user, reason),
    )
    if added.rowcount == 0:
        sys.stderr.write("tasktrail: there is a hold on this user already: it stays as it is.\n")


async def _release(connection: Connection, user: str) -> Hold:
    """Return the hold that was there. Raises: NoHold."""
    query = "DELETE FROM tasktrail.holds WHERE user_id = %s RETURNING user_id, reason, held_at"
    row = await (await connection.execute(query, (user,))).fetchone()
    if row is None:
        raise NoHold(f"There is no hold on user {user!r}.")
    return Hold(*row)


async def find_holds(connection: Connection) -> list[Hold]:
    """Return all holds, by user."""
    query = "SELECT user_id, reason, held_at FROM tasktrail.holds ORDER BY user_id"
    return [Hold(*row) for row in await (await connection.execute(query)).fetchall()]

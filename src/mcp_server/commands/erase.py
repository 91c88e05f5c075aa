"""``tasktrail erase``: the right to erasure. What stands against it is in ``hold``.

docs/erasure.md says what is covered and what is not: backups, exports, and the files of the
database until their pages are written over.
"""

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Annotated

import orjson
import typer
from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from events.erasure import Erased, Erasure, erase, erasures
from events.ledger import Json
from events.stamp import iso
from events.store import Connection
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import OptionalUserId
from mcp_server.commands.hold import Hold, find_holds
from mcp_server.commands.printing import Column, counted, print_list
from mcp_server.commands.recording import record_doing
from mcp_server.commands.snapshot import NoLedger
from mcp_server.failure import Failure, why
from mcp_server.handle import Context, actor
from mcp_server.reach import connect_async

_WITH_WORDS = ("events", "tasks", "conversations", "messages", "idempotency")

ERASURE_COLUMNS = (
    Column("user", 20),
    Column("position", 8, number=True),
    Column("through", 8, number=True),
    Column("at"),
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Held(Failure):
    """A hold prevents the erasure."""


class Busy(Failure):
    """Others kept writing to the ledger."""

    exit_code = 3


class NotConfirmed(Failure):
    """Nobody said that it shall be done."""

    exit_code = 2


class BadList(Failure):
    """A file is not a list of erasures."""

    exit_code = 2


def erase_command(
    user: OptionalUserId = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why, such as the number of the request. Kept for ever.")
    ] = None,
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite", help="Then rewrite the tables (VACUUM FULL); everybody waits meanwhile."
        ),
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="List every erasure, to be kept with the backups.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="After restoring a backup: erase again what this list says (--list --json)."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    if (user is not None) + list_ + (replay is not None) != 1:
        raise typer.BadParameter("Give a user, or --list, or --replay FILE.")
    with target.opened(settings.read()) as database:
        if list_:
            record_doing(database, recording.EVERYBODY, "erase", list=True)
            _show_list(asyncio.run(_list(database.admin)), json)
        elif user is not None:
            _confirm(user, yes)
            record_doing(database, user, "erase", reason=reason)
            _show(asyncio.run(_erase(database.admin, {user: reason}, rewrite)), json)
        elif replay is not None:
            wanted = _read_list(replay)
            due = asyncio.run(_due(database.admin, wanted))
            reasons = {each.user_id: reason or each.reason for each in wanted}
            for each in due:
                record_doing(database, each, "erase", reason=reasons[each], replay=True)
            erasing = _erase(database.admin, {each: reasons[each] for each in due}, rewrite)
            _show(asyncio.run(erasing), json)
            if not (due or json):
                what = f"{counted(len(wanted), 'erasures')} listed, and none is lacking here"
                sys.stderr.write(f"tasktrail: {what}.\n")


def _confirm(user: str, yes: bool) -> None:
    """Let a person type the user's name. Raises: NotConfirmed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed("Erasing cannot be undone. Add --yes to do it.")
    print("Everything this user wrote will be gone for good.", file=sys.stderr)  # noqa: T201
    if typer.prompt("Type the user's name to erase it", err=True) != user:
        raise NotConfirmed("That is not the name: nothing was erased.")


async def _erase(
    conninfo: str, reasons: dict[str, str | None], rewrite: bool
) -> dict[str, Erasure]:
    """Erase each user, for a reason; return what it came to. Raises: NoLedger, Held, Busy."""
    done: dict[str, Erasure] = {}
    holds: dict[str, Hold] = {}
    async with await connect_async(conninfo) as connection:
        for user, reason in reasons.items():
            who = actor("erase", Context(user, "cli"))
            done[user] = await erase(connection, user, who, reason)
        if rewrite:
            await _rewrite(connection)
        holds = {each.user: each for each in await find_holds(connection)}
    for user, outcome in done.items():
        match outcome.status:
            case "nothing":
                raise NoLedger(user)
            case "held":
                why_not = holds[user].told() if user in holds else "until a moment ago"
                raise Held(
                    f"A hold is on user {user!r} {why_not}."
                    f" `tasktrail hold {quote(user)} --release` ends it."
                )
            case "moved":
                raise Busy(f"Others kept writing for user {user!r}: nothing was erased. Try again.")
    return done


async def _rewrite(connection: Connection) -> None:
    """Write the tables anew, without what nobody can see any more."""
    for table in _WITH_WORDS:
        await connection.execute(f"VACUUM FULL tasktrail.{table}")


async def _list(conninfo: str) -> list[Erased]:
    async with await connect_async(conninfo) as connection:
        return [each async for each in erasures(connection)]


class _Listed(BaseModel):
    user: str
    position: int
    through: int
    at: AwareDatetime
    reason: str | None = None  # lists from before have none


_LIST = TypeAdapter(list[_Listed])


def _read_list(file: Path) -> list[Erased]:
    """Return what ``--list --json`` wrote. Raises: BadList."""
    try:
        rows = _LIST.validate_json(file.read_bytes())
    except OSError as error:
        raise BadList(f"{file}: {why(error)}.") from None
    except ValidationError:
        raise BadList(f"{file} is not what `tasktrail erase --list --json` wrote.") from None
    return [Erased(row.user, row.position, row.through, row.at, row.reason) for row in rows]


async def _due(conninfo: str, wanted: list[Erased]) -> list[str]:
    """Return the users whose ledgers lack an erasure at least as late as one that is wanted."""
    latest: dict[str, datetime] = {}
    for each in await _list(conninfo):
        latest[each.user_id] = max(each.at, latest.get(each.user_id, each.at))
    due = {
        each.user_id
        for each in wanted
        if each.user_id not in latest or latest[each.user_id] < each.at
    }
    async with await connect_async(conninfo) as connection:
        query = "SELECT user_id FROM tasktrail.ledgers WHERE user_id = ANY(%s) AND position > 0"
        known = await (await connection.execute(query, (sorted(due),))).fetchall()
    return sorted(user for (user,) in known)


def _show(done: dict[str, Erasure], as_json: bool) -> None:
    if as_json:
        rows = [{"user": user, **outcome._asdict()} for user, outcome in done.items()]
        print(orjson.dumps(rows).decode())  # noqa: T201 - this is the command line
        return
    for user, outcome in done.items():
        if outcome.status == "erased":
            words = f"the words of {counted(outcome.events or 0, 'events')}"
            text = f"{user}: erased {words}, at {outcome.position}"
        else:
            text = f"{user}: there was nothing to erase"
        print(text)  # noqa: T201 - as above
    if done:
        note = "Backups, exports and old pages may still hold them: see docs/erasure.md."
        print(note, file=sys.stderr)  # noqa: T201 - as above


def _show_list(found: list[Erased], as_json: bool) -> None:
    rows: list[Json] = [
        {
            "user": each.user_id,
            "position": each.position,
            "through": each.through,
            "at": iso(each.at),
            "reason": each.reason,
        }
        for each in found
    ]
    print_list(ERASURE_COLUMNS, rows, as_json)
    if not (rows or as_json):
        sys.stderr.write("tasktrail: nothing was ever erased.\n")

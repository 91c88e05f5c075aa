"""``tasktrail diff``: what is different between two moments of one user's ledger."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, Any, NamedTuple

import typer

from events.audit import CONVERSATION_FIELDS, MESSAGE_FIELDS, TASK_FIELDS, differences
from events.conversation import NO_CONVERSATION, NO_MESSAGE
from events.ledger import Json
from events.task import NO_TASK
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import MOMENT, UserId, given, moment, shown_moment
from mcp_server.commands.printing import Column, JsonObject, Rows, pages, printable, shown_value
from mcp_server.commands.recording import Access, remark_on_erasure
from mcp_server.commands.snapshot import Snapshot, position_at
from projections import past
from projections.history import Moment
from projections.past import State

COLUMNS = (
    Column("thing", 12),
    Column("id", 8, number=True),
    Column("what", 19),
    Column("field", 11),
    Column("before → after"),
)


def diff(
    user: UserId,
    from_: Annotated[str, typer.Option("--from", help=f"The earlier moment: {MOMENT}.")],
    to: Annotated[
        str | None, typer.Option(help="The later moment, in the same form. Default: now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    start, end = moment(from_, "--from"), moment(to, "--to")
    filters = given({"from": shown_moment(start), "to": shown_moment(end)})
    with target.opened(settings.read()) as database:
        asyncio.run(_diff(database, user, (start, end), filters, as_json))


class Difference(NamedTuple):
    """What is different about one thing."""

    kind: str
    id: int
    what: str
    changes: dict[str, tuple[Any, Any]]


async def _diff(
    database: target.Target,
    user: str,
    moments: tuple[Moment | None, Moment | None],
    filters: Json,
    as_json: bool,
) -> None:
    looked = Access("diff", filters)
    async with recording.opened(database, user, looked) as ledger:
        start, end = [await position_at(ledger, when) for when in moments]
        if start > end:
            raise typer.BadParameter("--from is later than --to", param_hint="'--from'")
        await recording.record(database, user, looked._replace(first=start + 1, last=end))
        found = _differences(ledger, start, end)
        if as_json:
            with JsonObject(**{"user": user, "from": start, "to": end}) as written:
                written.array("changes")
                async for difference in found:
                    written.item(difference._asdict())
                written.end_array()
            return
        sys.stdout.write(f"{user} from position {start} to {end}\n")
        await remark_on_erasure(ledger, end)
        rows, differs = Rows(COLUMNS), False
        async for page in pages(found):
            rows.add(row for difference in page for row in _difference_rows(difference))
            differs = differs or bool(page)
        if not differs:
            sys.stderr.write("tasktrail: nothing is different.\n")


async def _differences(ledger: Snapshot, start: int, end: int) -> AsyncIterator[Difference]:
    kinds: tuple[past.Kind, ...] = ("task", "conversation")
    for kind in kinds:
        pairs = past.changes(ledger.connection, ledger.user_id, kind, start, end)
        async for before, after in pairs:
            for difference in _between(before, after):
                yield difference


def _between(before: State, after: State) -> Iterator[Difference]:
    for id_, task in after.tasks.items():
        yield from _difference("task", before.tasks.get(id_, NO_TASK), task, TASK_FIELDS)
    for id_, conversation in after.conversations.items():
        old = before.conversations.get(id_, NO_CONVERSATION)
        yield from _difference("conversation", old, conversation, CONVERSATION_FIELDS)
    for id_, message in after.messages.items():
        earlier = before.messages.get(id_, NO_MESSAGE)
        yield from _difference("message", earlier, message, MESSAGE_FIELDS)


def _difference(kind: str, before: Any, after: Any, fields: Iterable[str]) -> Iterator[Difference]:
    changes = differences(before, after, fields)
    if before.version == 0:
        if kind == "message":
            changes = {"role": (None, after.role), **changes}
        what = "created and deleted" if after.deleted else "created"
        yield Difference(kind, after.id, what, changes)
    elif "deleted" in changes:
        yield Difference(kind, after.id, "deleted" if after.deleted else "restored", changes)
    elif changes:
        yield Difference(kind, after.id, "changed", changes)


def _difference_rows(difference: Difference) -> Iterator[list[str]]:
    """Yield a row for each field; that it was deleted or restored has been said by then."""
    begin = [difference.kind, str(difference.id), difference.what]
    changes = {field: pair for field, pair in difference.changes.items() if field != "deleted"}
    if not changes:
        yield [*begin, "", ""]
    for field, (old, new) in changes.items():
        yield [*begin, field, printable(f"{shown_value(old)} → {shown_value(new)}")]
        begin = ["", "", ""]

"""``tasktrail history``: what happened in one user's ledger, oldest first."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import orjson
import typer

from events import audit, catalog
from events.audit import Entry
from events.ledger import Json
from events.store import Connection
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import (
    MOMENT,
    UserId,
    given,
    moment,
    one_of,
    shown,
    shown_moment,
    whole_number,
)
from mcp_server.commands.printing import Column, Rows, printable, shown_at, shown_value
from mcp_server.commands.recording import Access
from projections import history as ledger_history
from projections import story
from projections.history import Filter, Moment

COLUMNS = (
    Column("position", 8, number=True),
    Column("at", 20),
    Column("outcome", 14),
    Column("client", 16),
    Column("tool", 19),
    Column("what happened"),
)


class Outcome(StrEnum):
    """What became of a change. Refused calls leave no event: the server's log has them."""

    done = "done"
    undone = "undone"
    erased = "erased"


def history(
    user: UserId,
    since: Annotated[str | None, typer.Option(help=f"From then on: {MOMENT}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Before then: {MOMENT}.")] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Only events of this type, say TaskDeleted.")
    ] = None,
    task: Annotated[int | None, whole_number("Only this task's events.")] = None,
    conversation: Annotated[
        int | None, whole_number("Only this conversation's events, and the changes caused in it.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Only by this client: verified id or claimed name.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only by this tool.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only with a reason that contains this text.")
    ] = None,
    outcome: Annotated[
        Outcome | None, one_of(Outcome, "Only what is still in force, undone, or erased.")
    ] = None,
    last: Annotated[int | None, whole_number("Only the last so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    if event_type is not None and event_type not in catalog.TYPES:
        problem = f"{shown(event_type)} is no type of event. There are: {', '.join(catalog.TYPES)}"
        raise typer.BadParameter(problem, param_hint="'--type'")
    if task is not None and conversation is not None:
        raise typer.BadParameter("give --task or --conversation, not both", param_hint="'--task'")
    stream = ("task", task) if task is not None else None
    if conversation is not None:
        stream = ("conversation", conversation)
    filter_ = Filter(
        stream,
        conversation,
        moment(since, "--since"),
        moment(until, "--until"),
        client,
        event_type,
        tool,
        reason,
    )
    with target.opened(settings.read()) as database:
        asyncio.run(_Telling(database, user, filter_, outcome, last, as_json).tell())


class _Telling:
    def __init__(
        self,
        database: target.Target,
        user: str,
        filter_: Filter,
        outcome: Outcome | None,
        last: int | None,
        as_json: bool,
    ) -> None:
        self._database = database
        self._user = user
        self._filter = filter_
        self._outcome = outcome
        self._last = last
        self._as_json = as_json
        self._rows = Rows(COLUMNS)
        self._printed = 0
        self._undone: dict[int, int] = {}

    async def tell(self) -> None:
        """Record the access, then print."""
        looked = Access("history", self._filters())
        async with recording.opened(self._database, self._user, looked, frozen=False) as ledger:
            first, last = await span(
                ledger.connection, self._user, self._filter, ledger.head.position
            )
            await recording.record(
                self._database, self._user, looked._replace(first=first, last=last)
            )
            self._undone = await story.undone_by(
                ledger.connection, self._user, ledger.head.position
            )
            entries = self._entries(ledger.connection, first, last)
            if self._last is None:
                async for page in entries:
                    self._print(page)
            else:
                newest: deque[Entry] = deque(maxlen=self._last)
                async for page in entries:
                    newest.extend(page)
                self._print(newest)
            if self._printed == 0:
                await self._say_that_nothing_matches(ledger.connection)

    async def _say_that_nothing_matches(self, connection: Connection) -> None:
        stream = self._filter.stream
        if stream and not await ledger_history.page(
            connection, self._user, Filter(stream=stream), 1
        ):
            sys.stderr.write(f"tasktrail: there never was a {stream[0]} {stream[1]}.\n")
        else:
            sys.stderr.write("tasktrail: no event matches.\n")

    async def _entries(
        self, connection: Connection, first: int, last: int
    ) -> AsyncIterator[list[Entry]]:
        since = first if first > 1 else None
        filter_ = self._filter._replace(since=since, until=None)
        async with aclosing(story.tell(connection, self._user, filter_, last)) as pages:
            async for page in pages:
                yield [
                    entry
                    for entry in page
                    if self._outcome is None or self._outcome_of(entry) == self._outcome
                ]

    def _outcome_of(self, entry: Entry) -> Outcome:
        if entry.event is None:
            return Outcome.erased
        return Outcome.undone if entry.position in self._undone else Outcome.done

    def _print(self, entries: Collection[Entry]) -> None:
        self._printed += len(entries)
        if self._as_json:
            lines = [orjson.dumps(self._json(entry)) + b"\n" for entry in entries]
            sys.stdout.write(b"".join(lines).decode())
        else:
            self._rows.add([self._row(entry) for entry in entries])

    def _json(self, entry: Entry) -> Json:
        kind, id_ = entry.subject
        told = {**audit.as_json(entry), "subject": {"kind": kind, "id": id_}}
        told["outcome"] = self._outcome_of(entry).value
        if entry.position in self._undone:
            told["undone_by"] = self._undone[entry.position]
        actor = entry.record.actor
        told["transport"], told["trace_id"] = actor.get("transport"), actor.get("trace_id")
        return told

    def _row(self, entry: Entry) -> list[str]:
        outcome: str = self._outcome_of(entry).value
        if entry.position in self._undone:
            outcome += f" by {self._undone[entry.position]}"
        cells = (str(entry.client or "-"), str(entry.tool or "-"), _what(entry))
        return [str(entry.position), shown_at(entry.at), outcome, *map(printable, cells)]

    def _filters(self) -> Json:
        kind, id_ = self._filter.stream or ("task", None)
        filters = {
            kind: id_,
            "since": shown_moment(self._filter.since),
            "until": shown_moment(self._filter.until),
            "client": self._filter.client,
            "type": self._filter.event_type,
            "tool": self._filter.tool,
            "reason": self._filter.reason,
            "outcome": self._outcome,
            "last": self._last,
        }
        return given(filters)


async def span(connection: Connection, user_id: str, filter_: Filter, head: int) -> tuple[int, int]:
    """Return the first and the last position that a filter's times and positions allow."""
    first = 1 if filter_.since is None else await _before(connection, user_id, filter_.since) + 1
    last = head if filter_.until is None else await _before(connection, user_id, filter_.until)
    return max(first, 1), min(last, head)


async def _before(connection: Connection, user_id: str, when: Moment) -> int:
    """Return the last position before ``when``."""
    if isinstance(when, int):
        return when - 1
    try:
        return await ledger_history.position_at(
            connection, user_id, when - timedelta(microseconds=1)
        )
    except OverflowError:
        return 0


def _what(entry: Entry) -> str:
    parts = [entry.what]
    if entry.type in ("TaskUpdated", "MessageEdited"):
        pairs = entry.changes.items()
        parts += [
            f"{field}: {shown_value(old)} → {shown_value(new)}" for field, (old, new) in pairs
        ]
    elif entry.type == "MessageAdded" and "content" in entry.changes:
        parts.append(f"“{shown_value(entry.changes['content'][1])}”")
    if entry.reason:
        parts.append(f"because: {entry.reason}")
    if entry.message_id is not None:
        parts.append(f"(message {entry.message_id})")
    elif entry.conversation_id is not None:
        parts.append(f"(conversation {entry.conversation_id})")
    if entry.undoes is not None:
        parts.append(f"(undoes {entry.undoes})")
    return "  ".join(parts)

"""The tool that tells what happened."""

from collections import deque
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from events import audit, catalog
from events.audit import Entry
from events.conversation import conversation_not_found
from events.errors import Refused
from events.ledger import Json, Record
from events.store import Connection
from events.text import OneLine
from mcp_server.database import Database
from mcp_server.handle import Context
from mcp_server.tools.arguments import (
    NEXT,
    Arguments,
    Cursor,
    Id,
    Moment,
    invalid,
    is_whole,
    pack,
    says,
    unpack,
)
from mcp_server.tools.pages import take
from mcp_server.tools.quoting import on_one_line
from projections import history
from projections.history import Filter, Stream
from projections.story import begins, thing_of

ClientName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), OneLine
]
EventType = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), OneLine
]


class GetHistory(Arguments):
    tool: ClassVar = "get_history"

    task_id: Id | None = None
    conversation_id: Annotated[Id | None, says("it and what it caused")] = None
    since: Annotated[Moment | None, says("position or time, inclusive")] = None
    until: Annotated[Moment | None, says("position or time, exclusive")] = None
    client: Annotated[ClientName | None, says("id or name of an application")] = None
    event_type: Annotated[EventType | None, says("such as TaskCompleted")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[Cursor | None, says(NEXT)] = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self.task_id is not None and self.conversation_id is not None:
            raise PydanticCustomError("task_id", "give task_id or conversation_id, not both")
        return self

    async def answer(self, database: Database, context: Context) -> Json:
        if self.event_type is not None and self.event_type not in catalog.TYPES:
            raise invalid(
                "event_type", "is none that exists", f"There are: {', '.join(catalog.TYPES)}."
            )
        kind = "history"
        (below,) = unpack(self.cursor, kind, (is_whole,)) or (history.END,)
        async with database.connection() as reader:
            records = await history.page(
                reader, context.user_id, self._filter(), self.limit + 1, below
            )
            if not records and self.cursor is None:
                await self._refuse_unknown(reader, context)
            told = await _told_before(reader, context.user_id, records)
        entries = told[::-1]
        shown, more = take(entries, self.limit, audit.as_json, line)
        answer: Json = {"events": shown, "truncated": more}
        if more:
            answer["next_cursor"] = pack(kind, entries[len(shown) - 1].position)
        return answer

    def _filter(self) -> Filter:
        stream: Stream | None = None
        if self.task_id is not None:
            stream = ("task", self.task_id)
        elif self.conversation_id is not None:
            stream = ("conversation", self.conversation_id)
        return Filter(
            stream, self.conversation_id, self.since, self.until, self.client, self.event_type
        )

    async def _refuse_unknown(self, reader: Connection, context: Context) -> None:
        """Nothing was found: because of the filters, or because there is no such thing?"""
        stream = self._filter().stream
        if stream is None or await history.page(reader, context.user_id, Filter(stream), 1):
            return
        if self.task_id is not None:
            raise Refused(
                "not_found",
                f"There is no task {self.task_id}.",
                "list_tasks(deleted=true) shows deleted ones.",
            )
        raise conversation_not_found(self.conversation_id or 0)


async def _told_before(reader: Connection, user_id: str, records: list[Record]) -> list[Entry]:
    """Tell ``records``, which come newest first, oldest first: between the events before them about
    the same things, of which no more is kept than the state that they led to."""
    if not records:
        return []
    known = [record for record in records if record.body is not None and not begins(record)]
    about = dict.fromkeys(map(thing_of, known), 0)
    left = deque(reversed(records))
    told = []
    narrator = audit.Narrator()
    async for page in history.changes(reader, user_id, about, left[-1].position):
        for record in page:
            while left[0].position < record.position:
                told.append(narrator.tell(left.popleft()))
            entry = narrator.tell(record)
            if left[0].position == record.position:
                left.popleft()
                told.append(entry)
    return told + [narrator.tell(record) for record in left]


def line(event: Json) -> str:
    """Return an event as one line for a model: long values cut."""
    parts = [f"{event['position']} {event['at'][:19]}Z {event['what']}"]
    if event["type"] in ("TaskUpdated", "MessageEdited"):
        pairs = event["changes"].items()
        parts += [f"{field}: {_short(old)} → {_short(new)}" for field, (old, new) in pairs]
    by = event["client"] or event["tool"] or "somebody"
    why = f", because: {event['reason']}" if event["reason"] else ""
    caused = f", message {event['message_id']}" if event["message_id"] else ""
    undoes = f", undoes {event['undoes']}" if "undoes" in event else ""
    return f"{'  '.join(parts)}  (by {by}{caused}{why}{undoes})"


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value or "")
    text = on_one_line(text) or "(none)"
    return text if len(text) <= 80 else text[:79] + "…"

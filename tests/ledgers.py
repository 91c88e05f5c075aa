"""Ledgers made without a database, for tests that need a long one, or one of exactly some shape."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from events import audit, store
from events import conversation as conversations
from events import task as tasks
from events.catalog import LedgerErased
from events.conversation import AddMessage, CreateConversation, DeleteConversation, EditMessage
from events.draft import Draft, Entry
from events.ledger import Head, Json, Record, genesis, link, microseconds
from events.stamp import Stamp
from events.task import (
    Changes,
    CompleteTask,
    CreateTask,
    DeleteTask,
    ReopenTask,
    RestoreTask,
    UpdateTask,
)

ACTOR: Json = {
    "client_id": "assistant-web",
    "client_name": "Assistant",
    "client_version": "2.1",
    "tool": "add_task",
    "transport": "http",
    "conversation_id": None,
    "message_id": None,
    "trace_id": None,
}
BEGAN = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)


class Ledger:
    """One user's ledger in the making; ``records`` are its events, oldest first."""

    def __init__(self, user_id: str = "ada") -> None:
        self.user_id = user_id
        self.records: list[Record] = []
        self.hash = genesis(user_id)
        self.at = BEGAN
        self.state = Draft()

    @property
    def position(self) -> int:
        """The position of the last event."""
        return len(self.records)

    @property
    def head(self) -> Head:
        """The last position and its hash."""
        return Head(self.position, self.hash)

    async def pages(self) -> Any:
        """Yield the events as ``store.read_ledger`` does."""
        for start in range(0, len(self.records), store.PAGE):
            yield self.records[start : start + store.PAGE]

    def do(
        self,
        decide: Callable[[Draft], object],
        reason: str | None = None,
        wait: timedelta = timedelta(minutes=7),
        **actor: Any,
    ) -> int:
        """Append what ``decide`` adds to a draft; return the position of its last event."""
        draft = Draft(self.state.tasks, self.state.conversations, self.state.messages)
        decide(draft)
        self.at += wait
        self._append(draft.entries, {**ACTOR, **actor}, reason)
        for provisional in [key for key in draft.tasks if key < 0]:
            del draft.tasks[provisional]
        return self.position

    def _append(self, entries: list[Entry], actor: Json, reason: str | None) -> None:
        base, command_id = self.position, UUID(int=self.position + 1, version=4)
        for entry in entries:
            sealed = store.sealed(entry, str(command_id), actor, reason)
            stream_id = base - entry.stream_id if entry.stream_id < 0 else entry.stream_id
            content_hash = bytes.fromhex(sealed["content_hash"])
            position = self.position + 1
            at = microseconds(self.at)
            self.hash = link(self.hash, content_hash, position, stream_id, entry.version, at)
            self.records.append(
                Record(
                    position,
                    entry.stream_type,
                    stream_id,
                    entry.version,
                    sealed["type"],
                    sealed["schema_version"],
                    UUID(sealed["event_id"]),
                    command_id,
                    actor,
                    bytes.fromhex(sealed["commitment"]),
                    sealed["body"],
                    bytes.fromhex(sealed["salt"]),
                    content_hash,
                    self.hash,
                    self.at,
                )
            )
            self._fold(entry, stream_id, Stamp(position, entry.version, self.at))

    def _fold(self, entry: Entry, stream_id: int, stamp: Stamp) -> None:
        """Keep the state under real ids; the draft's own is provisional."""
        event, state = entry.event, self.state
        match entry.stream_type:
            case "task":
                state.tasks[stream_id] = tasks.evolve(state.task(stream_id), event, stamp)  # type: ignore[arg-type]
            case "conversation":
                state.conversations[stream_id] = conversations.evolve(
                    state.conversation(stream_id),
                    event,  # type: ignore[arg-type]
                    stamp,
                )
                id_ = conversations.message_id(event, stamp)  # type: ignore[arg-type]
                if id_ is not None:
                    state.messages[id_] = conversations.evolve_message(
                        state.message(id_),
                        event,  # type: ignore[arg-type]
                        stamp,
                        stream_id,
                    )

    def add_task(self, title: str, reason: str | None = None, **fields: Any) -> int:
        """Append a new task and return its id."""
        return self.do(
            lambda draft: draft.change_task(None, CreateTask(title=title, **fields)), reason
        )

    def erase(self) -> int:
        """Erase all words so far, as ``tasktrail erase`` does."""
        self.records = [
            record if record.type == "LedgerErased" else record._replace(body=None, salt=None)
            for record in self.records
        ]
        self.state = Draft()
        through = self.position
        entry = Entry("ledger", -1, 1, LedgerErased(through=through))
        self._append([entry], {**ACTOR, "tool": "erase", "transport": "cli"}, None)
        return self.position


def a_day_with_an_agent(user_id: str = "ada") -> Ledger:
    """A short ledger with events of nearly every type."""
    ledger = Ledger(user_id)
    ledger.do(
        lambda draft: draft.change_conversation(None, CreateConversation(title="Moving house")),
        tool="create_conversation",
    )
    asked = ledger.do(
        lambda draft: draft.change_conversation(
            1, AddMessage(role="user", content="Remind me to book a van, <b>before</b> May")
        ),
        tool="add_message",
    )
    cause: dict[str, Any] = {"conversation_id": 1, "message_id": asked}
    van = ledger.add_task("Book a van", "she asked for it", due="2026-04-30", tags=["move"])
    ledger.do(
        lambda draft: draft.change_task(
            van, UpdateTask(changes=Changes(title="Book a large van", priority="high"))
        ),
        "the small one does not take the piano",
        tool="update_task",
        **cause,
    )
    ledger.do(lambda d: d.change_task(van, CompleteTask()), tool="complete_task", **cause)
    ledger.do(lambda d: d.change_task(van, ReopenTask(undoes=5)), "undo", tool="undo")
    text = 'line one\nline "two" \u2028 \\ </script>'
    boxes = ledger.add_task("Buy 40 boxes, größere!", description=text)
    ledger.do(lambda d: d.change_task(boxes, DeleteTask()), tool="delete_task")
    ledger.do(lambda d: d.change_task(boxes, RestoreTask(undoes=8)), tool="undo")
    ledger.do(
        lambda d: d.change_message(asked, EditMessage(content="Remind me to book a van.")),
        tool="update_message",
    )
    ledger.do(lambda d: d.change_conversation(1, DeleteConversation()), tool="delete_conversation")
    return ledger


def a_long_ledger(events: int, user_id: str = "ada") -> Ledger:
    """A ledger of exactly ``events`` events on many tasks."""
    ledger = Ledger(user_id)
    for step in _steps():
        if ledger.position >= events:
            return ledger
        step(ledger)
    raise AssertionError("the steps never end")


def tell_all(records: Iterable[Record]) -> list[audit.Entry]:
    """Tell ``records``: whole streams, in order of position."""
    narrator = audit.Narrator()
    return [narrator.tell(record) for record in records]


def _steps() -> Iterator[Callable[[Ledger], object]]:
    number = 0
    while True:
        number += 1
        title = f"Task number {number}"
        priority = (None, "low", "medium", "high")[number % 4]
        yield lambda book, t=title, p=priority: book.add_task(t, priority=p, tags=["bulk"])  # type: ignore[misc]
        yield lambda book: _on_last(book, CompleteTask(), "complete_task")
        if number % 3 == 0:
            changes = Changes(title=f"{title}, revised")
            yield lambda book: _on_last(book, ReopenTask(), "complete_task")
            yield lambda book, c=changes: _on_last(book, UpdateTask(changes=c), "update_task")  # type: ignore[misc]
        if number % 10 == 0:
            yield lambda book: _on_last(book, DeleteTask(), "delete_task")


def _on_last(book: Ledger, command: Any, tool: str) -> None:
    last = next(r.stream_id for r in reversed(book.records) if r.stream_type == "task")
    book.do(lambda draft: draft.change_task(last, command), tool=tool)

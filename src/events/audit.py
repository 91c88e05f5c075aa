"""What happened, told: history with before and after. Pure.

A story is told by folding: whoever knows the state before an event and after it knows what the
event changed. So a narrator is fed whole streams, oldest event first.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from events import catalog
from events import conversation as conversations
from events import task as tasks
from events.catalog import STREAM_TYPES, Event
from events.conversation import (
    NO_CONVERSATION,
    NO_MESSAGE,
    Conversation,
    ConversationCreated,
    ConversationDeleted,
    ConversationRestored,
    Message,
    MessageAdded,
    MessageDeleted,
    MessageEdited,
    MessageRestored,
)
from events.ledger import Json, Record
from events.stamp import Stamp, iso
from events.task import (
    NO_TASK,
    Task,
    TaskCompleted,
    TaskCreated,
    TaskDeleted,
    TaskReopened,
    TaskRestored,
    TaskUpdated,
)

TASK_FIELDS = (*tasks.FIELDS, "completed", "deleted")
CONVERSATION_FIELDS = ("title", "deleted")
MESSAGE_FIELDS = ("role", "content", "metadata", "external_id", "deleted")
"""What can change in a thing, and is told."""


class Entry(NamedTuple):
    """One event, told.

    ``what`` is one line. ``changes`` is {field: (before, after)} of the one thing it is about:
    ``subject``, ("task" | "conversation" | "message", id). ``client`` is the verified id or,
    without one, the claimed name. An erased event has no changes.
    """

    position: int
    at: datetime
    type: str
    what: str
    changes: dict[str, tuple[Any, Any]]
    subject: tuple[str, int]
    client: str | None
    client_name: str | None
    client_version: str | None
    tool: str | None
    reason: str | None
    conversation_id: int | None
    message_id: int | None
    undoes: int | None
    record: Record
    event: Event | None


def read_event(record: Record) -> Event | None:
    """Return the record's event, None if it was erased. Raises: as ``catalog.decode``."""
    if record.body is None:
        return None
    return catalog.decode(record.type, record.schema_version, record.body["data"])


Told = tuple[tuple[str, int], str, dict[str, tuple[Any, Any]]]
"""The subject of an event, one line on it, and its changes."""


class Narrator:
    """Tells events one after another; it must have been told each stream from its beginning."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.conversations: dict[int, Conversation] = {}
        self.messages: dict[int, Message] = {}

    def tell(self, record: Record) -> Entry:
        """Fold one event and return what it changed."""
        event = read_event(record)
        stamp = Stamp(record.position, record.version, record.recorded_at)
        subject, what, changes = self.apply(record.stream_id, event, stamp)
        actor = record.actor
        return Entry(
            position=record.position,
            at=record.recorded_at,
            type=record.type,
            what=what,
            changes=changes,
            subject=subject,
            client=actor.get("client_id") or actor.get("client_name"),
            client_name=actor.get("client_name"),
            client_version=actor.get("client_version"),
            tool=actor.get("tool"),
            reason=(record.body or {}).get("reason"),
            conversation_id=actor.get("conversation_id"),
            message_id=actor.get("message_id"),
            undoes=getattr(event, "undoes", None),
            record=record,
            event=event,
        )

    def apply(self, stream_id: int, event: Event | None, stamp: Stamp) -> Told:
        """Fold one event (None: erased) and return its subject, the line on it, its changes."""
        if event is None:
            return ("ledger", stream_id), "erased event", {}
        match STREAM_TYPES[type(event)]:
            case "task":
                return self._tell_task(stream_id, event, stamp)
            case "conversation":
                return self._tell_conversation(stream_id, event, stamp)
        self.__init__()  # type: ignore[misc] # nothing is left of what was told
        through = getattr(event, "through", 0)
        return ("ledger", stream_id), f"erased all content up to position {through}", {}

    def _tell_task(self, id_: int, event: Any, stamp: Stamp) -> Told:
        before = self.tasks.get(id_, NO_TASK)
        after = self.tasks[id_] = tasks.evolve(before, event, stamp)
        changes = differences(before, after, TASK_FIELDS)
        return ("task", id_), f"{_task_verb(event, changes)} task {id_} “{after.title}”", changes

    def _tell_conversation(self, id_: int, event: Any, stamp: Stamp) -> Told:
        before = self.conversations.get(id_, NO_CONVERSATION)
        after = self.conversations[id_] = conversations.evolve(before, event, stamp)
        message_id = conversations.message_id(event, stamp)
        if message_id is None:
            changes = differences(before, after, CONVERSATION_FIELDS)
            title = f" “{after.title}”" if after.title else ""
            return (
                ("conversation", id_),
                f"{_VERBS[type(event)]} conversation {id_}{title}",
                changes,
            )
        old = self.messages.get(message_id, NO_MESSAGE)
        new = conversations.evolve_message(old, event, stamp, id_)
        self.messages[message_id] = new
        changes = differences(old, new, MESSAGE_FIELDS)
        if isinstance(event, MessageAdded):
            changes = {"role": (None, event.role), **changes}
        what = f"{_VERBS[type(event)]} message {message_id} of conversation {id_}"
        return ("message", message_id), what, changes


_VERBS: Mapping[type, str] = {
    TaskCreated: "created",
    TaskCompleted: "completed",
    TaskReopened: "reopened",
    TaskDeleted: "deleted",
    TaskRestored: "restored",
    ConversationCreated: "created",
    ConversationDeleted: "deleted",
    ConversationRestored: "restored",
    MessageAdded: "added",
    MessageEdited: "edited",
    MessageDeleted: "deleted",
    MessageRestored: "restored",
}


def _task_verb(event: Any, changes: dict[str, tuple[Any, Any]]) -> str:
    if isinstance(event, TaskUpdated):
        return f"changed {', '.join(changes) or 'nothing'} of"
    return _VERBS[type(event)]


def differences(before: Any, after: Any, fields: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return {field: (before, after)} of two states of one thing; before is None if it was not."""
    found = {}
    for field in fields:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            found[field] = (None if before.version == 0 else old, new)
    return found


def as_json(entry: Entry) -> Json:
    """Return an entry in the shape of ``get_history``: what is unknown is left out."""
    told: Json = {
        "position": entry.position,
        "at": iso(entry.at),
        "type": entry.type,
        "what": entry.what,
        "changes": {field: list(pair) for field, pair in entry.changes.items()},
        "client": entry.client,
        "tool": entry.tool,
        "reason": entry.reason,
        "conversation_id": entry.conversation_id,
        "message_id": entry.message_id,
    }
    if entry.client_version is not None or entry.client_name != entry.client:
        told["claims"] = {"name": entry.client_name, "version": entry.client_version}
    if entry.undoes is not None:
        told["undoes"] = entry.undoes
    return told

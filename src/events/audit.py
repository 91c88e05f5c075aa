"""What happened, told: history with before and after, and how to undo it. Pure.

A story is told by folding: whoever knows the state before an event and after it knows what the
event changed. So a narrator is fed whole streams, oldest event first.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from events import catalog
from events import conversation as conversations
from events import task as tasks
from events.catalog import STREAM_TYPES, Event
from events.conversation import (
    NO_CONVERSATION,
    NO_MESSAGE,
    Conversation,
    ConversationCommand,
    ConversationCreated,
    ConversationDeleted,
    ConversationRestored,
    DeleteConversation,
    DeleteMessage,
    EditMessage,
    Message,
    MessageAdded,
    MessageCommand,
    MessageDeleted,
    MessageEdited,
    MessageRestored,
    RestoreConversation,
    RestoreMessage,
)
from events.errors import Refused
from events.ledger import Json, Record
from events.stamp import Stamp, iso
from events.task import (
    NO_TASK,
    Changes,
    CompleteTask,
    DeleteTask,
    ReopenTask,
    RestoreTask,
    Task,
    TaskCommand,
    TaskCompleted,
    TaskCreated,
    TaskDeleted,
    TaskReopened,
    TaskRestored,
    TaskUpdated,
    UpdateTask,
)

MOST_UNDONE = 500
MOST_CONFLICTS = 500
_END = 2**63 - 1
TASK_FIELDS = (*tasks.FIELDS, "completed", "deleted")
CONVERSATION_FIELDS = ("title", "deleted")
MESSAGE_FIELDS = ("role", "content", "metadata", "external_id", "deleted")
"""What can change in a thing, and is told."""

_Subject = tuple[str, int]


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


def tell_all(records: Iterable[Record]) -> list[Entry]:
    """Tell ``records``: whole streams, in order of position."""
    narrator = Narrator()
    return [narrator.tell(record) for record in records]


def outline(entry: Entry, *, target: bool) -> Entry:
    """Return what a plan has to know of an entry: which fields changed, and, of a target that sets
    fields back when it is undone, from what."""
    if target and isinstance(entry.event, TaskUpdated | MessageEdited):
        return entry
    return entry._replace(
        changes=dict.fromkeys(entry.changes, (None, None)),
        record=entry.record._replace(body=None),
        event=entry.event and _without_words(entry.event),
    )


def _without_words(event: Any) -> Any:
    return type(event).model_construct()


class Conflict(NamedTuple):
    """A field that an undo would set back, and the position of a later change of it."""

    position: int
    field: str
    later: int


Step = tuple[tuple[str, int], TaskCommand | ConversationCommand | MessageCommand]
"""A subject, and the command that takes a change of it back."""


class Undo(NamedTuple):
    """How to undo some changes: the entries to undo, and what undoes each, in order of doing.

    Of the conflicts, MOST_CONFLICTS at most.
    """

    entries: list[Entry]
    steps: list[Step]
    conflicts: list[Conflict]


def plan_undo(story: Sequence[Entry], targets: set[int]) -> Undo:
    """Plan to undo the events at the positions ``targets``.

    ``story``: all entries about everything that has a target, and about the conversations of its
    messages, oldest first; outlines are enough. A target that is undone already is left out, and so
    are pairs within the targets that cancel each other, and, of several targets, changes of what is
    gone and does not come back. A later change of the same field, by an event that is no target and
    not itself undone, is a conflict.

    Raises:
        Refused: ``limit_exceeded``, above 500 changes; ``invalid_argument``, for what cannot be
            undone: an erasure and what it erased.
    """
    undone = _undone(story)
    left = targets - _cancelled(story, targets, undone)
    chosen = [
        entry
        for entry in story
        if entry.position in left
        and (entry.position not in undone or undone[entry.position] in targets)
    ]
    if len(chosen) > MOST_UNDONE:
        raise Refused(
            "limit_exceeded",
            f"That is {len(chosen)} changes; one undo takes at most {MOST_UNDONE}.",
            "Undo a shorter span first: begin with the newest changes.",
        )
    chosen.reverse()
    if len(targets) > 1:
        chosen = _arranged(chosen, _gone(story))
    steps = [(entry.subject, _inverse(entry)) for entry in chosen]
    conflicts = _conflicts(story, chosen, targets, undone.keys())
    return Undo(chosen, steps, list(islice(conflicts, MOST_CONFLICTS)))


def _undone(story: Sequence[Entry]) -> dict[int, int]:
    """Return the position that undoes each event whose undoing is not undone in its turn."""
    undone: dict[int, int] = {}
    for entry in reversed(story):
        if entry.undoes is not None and entry.position not in undone:
            undone[entry.undoes] = entry.position
    return undone


def _cancelled(story: Sequence[Entry], targets: set[int], undone: Mapping[int, int]) -> set[int]:
    """Return the targets that come in pairs, a change and its undoing, with nothing in between.

    Something is in between if it changed a field of theirs, and is not itself of a pair in between:
    as when B had become C, and undoing the change from A to B, by force, made it A.
    """
    by_field = _by_field(story)
    entries = {entry.position: entry for entry in story if entry.position in targets}
    pairs = [(first, last) for first, last in undone.items() if {first, last} <= targets]
    partners: dict[int, int] = {}
    for first, last in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        fields = entries[last].changes.keys() | _set_back(entries[first])
        subject = entries[first].subject
        if not any(
            not first < partners.get(entry.position, 0) < last
            for field in fields
            for entry in _between(by_field.get((subject, field), ()), first, last)
        ):
            partners |= {first: last, last: first}
    return set(partners)


_Field = tuple[_Subject, str]


def _by_field(story: Iterable[Entry]) -> dict[_Field, list[Entry]]:
    """Return the entries that changed each field of each thing."""
    found: dict[_Field, list[Entry]] = {}
    for entry in story:
        for field in entry.changes:
            found.setdefault((entry.subject, field), []).append(entry)
    return found


def _between(entries: Sequence[Entry], first: int, last: int) -> Iterator[Entry]:
    """Yield those of ``entries``, which are in order, between two positions."""
    for index in range(bisect_right(entries, first, key=_position), len(entries)):
        if entries[index].position >= last:
            return
        yield entries[index]


def _position(entry: Entry) -> int:
    return entry.position


_DELETIONS = (TaskDeleted, ConversationDeleted, MessageDeleted)
_BEGINNINGS = (
    TaskCreated,
    TaskRestored,
    ConversationCreated,
    ConversationRestored,
    MessageAdded,
    MessageRestored,
)


def _set_back(entry: Entry) -> Collection[str]:
    """Return the fields that undoing an event sets back; that of a beginning only deletes."""
    return () if isinstance(entry.event, _BEGINNINGS) else entry.changes.keys()


def _gone(story: Sequence[Entry]) -> set[_Subject]:
    """Return what is deleted at the end of ``story``."""
    gone: set[_Subject] = set()
    for entry in story:
        if isinstance(entry.event, _DELETIONS):
            gone.add(entry.subject)
        elif isinstance(entry.event, _BEGINNINGS):
            gone.discard(entry.subject)
    return gone


def _arranged(chosen: Sequence[Entry], gone: set[_Subject]) -> list[Entry]:
    """Put what comes back first and what goes last: only what is there can be changed.

    Changes of what is gone and does not come back are left out.
    """
    come_back: dict[_Subject, int] = {}
    for entry in chosen:
        if entry.subject in gone and isinstance(entry.event, _DELETIONS):
            come_back.setdefault(entry.subject, entry.position)
    lost = gone - come_back.keys()

    def is_lost(entry: Entry) -> bool:
        of_message = entry.subject[0] == "message"
        where = ("conversation", entry.record.stream_id)
        return entry.subject in lost or (of_message and where in lost)

    def turn(entry: Entry) -> int:
        if not isinstance(entry.event, _DELETIONS + _BEGINNINGS):
            return 0
        distance = 2 if entry.subject[0] == "conversation" else 1  # around its messages
        return -distance if come_back.get(entry.subject) == entry.position else distance

    return sorted((entry for entry in chosen if not is_lost(entry)), key=turn)


def _conflicts(
    story: Sequence[Entry], chosen: Sequence[Entry], targets: set[int], undone: Collection[int]
) -> Iterator[Conflict]:
    settled = targets.union(undone)
    later = _by_field(entry for entry in story if entry.position not in settled)
    for entry in chosen:
        for field in entry.changes:
            others = later.get((entry.subject, field), ())
            for other in _between(others, entry.position, _END):
                if not (other.undoes in undone and (other.undoes or 0) > entry.position):
                    yield Conflict(entry.position, field, other.position)


def _inverse(  # noqa: C901 - a table of all events
    entry: Entry,
) -> TaskCommand | ConversationCommand | MessageCommand:
    """Return the command that undoes one event."""
    position = entry.position
    match entry.event:
        case TaskCreated() | TaskRestored():
            return DeleteTask(undoes=position)
        case TaskUpdated():
            before = {field: old for field, (old, _) in entry.changes.items()}
            return UpdateTask(changes=Changes(**before), undoes=position)  # type: ignore[typeddict-item] # of an update's own fields
        case TaskCompleted():
            return ReopenTask(undoes=position)
        case TaskReopened():
            return CompleteTask(undoes=position)
        case TaskDeleted():
            return RestoreTask(undoes=position)
        case ConversationCreated() | ConversationRestored():
            return DeleteConversation(undoes=position)
        case ConversationDeleted():
            return RestoreConversation(undoes=position)
        case MessageAdded() | MessageRestored():
            return DeleteMessage(undoes=position)
        case MessageEdited():
            return EditMessage(content=entry.changes["content"][0], undoes=position)
        case MessageDeleted():
            return RestoreMessage(undoes=position)
        case _:
            raise Refused(
                "invalid_argument",
                f"Position {position} is an erasure, or was erased: it cannot be undone.",
                "Choose a later position.",
            )


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

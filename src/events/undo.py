"""How to undo what happened: a plan of the commands that take changes back, and what stands in the
way. Pure.

An undo never rewrites: it appends events that compensate, each with the position of the one that it
undoes. What happened is told by ``events.audit``.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from events.audit import Entry
from events.conversation import (
    ConversationCommand,
    ConversationCreated,
    ConversationDeleted,
    ConversationRestored,
    DeleteConversation,
    DeleteMessage,
    EditMessage,
    MessageAdded,
    MessageCommand,
    MessageDeleted,
    MessageEdited,
    MessageRestored,
    RestoreConversation,
    RestoreMessage,
)
from events.errors import Refused
from events.task import (
    Changes,
    CompleteTask,
    DeleteTask,
    ReopenTask,
    RestoreTask,
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

_Subject = tuple[str, int]


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

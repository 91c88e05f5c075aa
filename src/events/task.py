"""One task: its events, the state they fold to, and the decisions that add events.

Nothing here reads a clock, draws an id or touches the database, so a test is: past events, a
command, expected events. The state is the row that agents read (``tasktrail.tasks``): ``evolve``
is the only fold, live and in every replay.

Event class names and fields are the storage format: add a field with a default or add a new
event; never rename or repurpose one. ``undoes`` is the position of the event that this one undoes.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, assert_never

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from events.errors import Refused
from events.frozen import Frozen
from events.stamp import Stamp, iso
from events.text import OneLine, SeveralLines

Priority = Literal["low", "medium", "high"]


def _normal_due(due: str) -> str:
    """Return a date as it is, a date-time in UTC. Raises: ValueError."""
    try:
        if len(due) == 10:
            return date.fromisoformat(due).isoformat()
        moment = datetime.fromisoformat(due)
        if moment.tzinfo is not None:
            return iso(moment)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        "must be a date (2026-12-01) or a date-time with offset (2026-12-01T09:00:00+01:00)"
    )


def _unique(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), OneLine
]
Description = Annotated[str, StringConstraints(max_length=4000), SeveralLines]
Due = Annotated[str, StringConstraints(max_length=40), AfterValidator(_normal_due)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), OneLine]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(_unique)]


class TaskCreated(Frozen):
    type: Literal["TaskCreated"] = "TaskCreated"
    title: str
    description: str | None = None
    priority: Priority | None = None
    due: str | None = None
    tags: list[str] = Field(default_factory=list)


class Changes(TypedDict, total=False):
    """New values of some fields; None (no tags: an empty list) empties one."""

    title: str
    description: str | None
    priority: Priority | None
    due: str | None
    tags: list[str]


class TaskUpdated(Frozen):
    type: Literal["TaskUpdated"] = "TaskUpdated"
    changes: Changes
    undoes: int | None = None


class TaskCompleted(Frozen):
    type: Literal["TaskCompleted"] = "TaskCompleted"
    undoes: int | None = None


class TaskReopened(Frozen):
    type: Literal["TaskReopened"] = "TaskReopened"
    undoes: int | None = None


class TaskDeleted(Frozen):
    type: Literal["TaskDeleted"] = "TaskDeleted"
    undoes: int | None = None


class TaskRestored(Frozen):
    type: Literal["TaskRestored"] = "TaskRestored"
    undoes: int | None = None


TaskEvent = TaskCreated | TaskUpdated | TaskCompleted | TaskReopened | TaskDeleted | TaskRestored


class CreateTask(Frozen):
    title: Title
    description: Description | None = None
    priority: Priority | None = None
    due: Due | None = None
    tags: Tags = Field(default_factory=list)


class UpdateTask(Frozen):
    changes: Changes
    undoes: int | None = None


class CompleteTask(Frozen):
    undoes: int | None = None


class ReopenTask(Frozen):
    undoes: int | None = None


class DeleteTask(Frozen):
    undoes: int | None = None


class RestoreTask(Frozen):
    undoes: int | None = None


TaskCommand = CreateTask | UpdateTask | CompleteTask | ReopenTask | DeleteTask | RestoreTask

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Task(NamedTuple):
    """A task as agents read it; at ``version`` 0 it does not exist, and only its id may be set.

    ``due`` is a date or a date-time as text; ``due_at`` is what it sorts by: a date counts as the
    first moment of that day in UTC.
    """

    id: int = 0
    title: str = ""
    description: str | None = None
    priority: Priority | None = None
    due: str | None = None
    due_at: datetime | None = None
    tags: list[str] = []  # noqa: RUF012 - shared, and never changed in place
    completed: bool = False
    deleted: bool = False
    created_at: datetime = _LONG_AGO
    updated_at: datetime = _LONG_AGO
    completed_at: datetime | None = None
    version: int = 0
    position: int = 0


NO_TASK = Task()
_PLACES = {name: place for place, name in enumerate(Task._fields)}
_KNOWN = _PLACES["position"] + 1
FIELDS = ("title", "description", "priority", "due", "tags")


_FIRST_MOMENT = datetime(1, 1, 2, tzinfo=UTC)
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)


@lru_cache(maxsize=1000)  # many tasks are due on the same few days
def due_moment(due: str | None) -> datetime | None:
    """Return the moment that ``due`` sorts by; None if there is none or it is no date.

    The first and the last day of the calendar sort as one moment each: a database in another time
    zone would show theirs in a year that Python does not have.
    """
    if due is None:
        return None
    try:
        moment = datetime.fromisoformat(due)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment, _FIRST_MOMENT), _LAST_MOMENT)


def evolve(task: Task, event: TaskEvent, stamp: Stamp) -> Task:
    """Apply one event. It never refuses: what is in the log has happened.

    (A replay does little else, so rows are made of all fields in order: by name takes twice as
    long, and ``_replace`` three times.)
    """
    position, version, at = stamp
    match event.type:  # a string compares ten times as fast as a class matches
        case "TaskCreated":
            title, text, priority, due = event.title, event.description, event.priority, event.due
            due_at, tags = due_moment(due), event.tags
            return Task(
                *(position, title, text, priority, due, due_at, tags, False, False),
                *(at, at, None, version, position),
            )
        case "TaskUpdated":
            return _changed(task, event.changes, stamp)
        case "TaskCompleted":
            return _marked(task, True, task.deleted, at, stamp)
        case "TaskReopened":
            return _marked(task, False, task.deleted, None, stamp)
        case "TaskDeleted":
            return _marked(task, task.completed, True, task.completed_at, stamp)
        case "TaskRestored":
            return _marked(task, task.completed, False, task.completed_at, stamp)
    assert_never(event)


def _changed(task: Task, changes: Changes, stamp: Stamp) -> Task:
    """Return the task with new values of some fields."""
    row: list[Any] = [*task]
    for name, value in changes.items():
        row[_PLACES[name]] = value
    if "due" in changes:
        row[_PLACES["due_at"]] = due_moment(changes["due"])
    row[_PLACES["position"]], row[_PLACES["version"]], row[_PLACES["updated_at"]] = stamp
    return Task(*row)


def _marked(
    task: Task, completed: bool, deleted: bool, completed_at: datetime | None, stamp: Stamp
) -> Task:
    """Return the task, completed or not and deleted or not."""
    position, version, at = stamp
    created_at, later = task.created_at, task[_KNOWN:]
    return Task(
        *task[:7], completed, deleted, created_at, at, completed_at, version, position, *later
    )


def fold(history: Iterable[tuple[TaskEvent, Stamp]], task: Task = NO_TASK) -> Task:
    """Return the task after ``history``, oldest event first."""
    for event, stamp in history:
        task = evolve(task, event, stamp)
    return task


def decide(task: Task, command: TaskCommand) -> list[TaskEvent]:
    """Return the events ``command`` adds; none if what it asks for is already so.

    Raises:
        Refused: ``not_found``, when there is no such task or it is deleted.
    """
    match command:
        case CreateTask():
            return [TaskCreated.of_valid(type="TaskCreated", **vars(command))]
        case _ if task.version == 0:
            raise Refused(
                "not_found", f"There is no task {task.id}.", "list_tasks shows the ids that exist."
            )
        case DeleteTask(undoes=undoes):
            return [] if task.deleted else [TaskDeleted(undoes=undoes)]
        case RestoreTask(undoes=undoes):
            return [TaskRestored(undoes=undoes)] if task.deleted else []
        case _ if task.deleted:
            raise Refused(
                "not_found",
                f"Task {task.id} is deleted.",
                f"undo(position={task.position}) restores it.",
            )
        case UpdateTask(changes=changes, undoes=undoes):
            news = {name: value for name, value in changes.items() if getattr(task, name) != value}
            return [TaskUpdated(changes=Changes(**news), undoes=undoes)] if news else []  # type: ignore[typeddict-item] # a part of a Changes
        case CompleteTask(undoes=undoes):
            return [] if task.completed else [TaskCompleted(undoes=undoes)]
        case ReopenTask(undoes=undoes):
            return [TaskReopened(undoes=undoes)] if task.completed else []
    assert_never(command)

"""The six tools for tasks."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from events import audit
from events import task as tasks
from events.draft import Draft
from events.errors import Refused
from events.ledger import Json
from events.stamp import iso
from events.store import Connection
from events.task import (
    CompleteTask as Complete,
)
from events.task import (
    CreateTask,
    Description,
    Due,
    Priority,
    ReopenTask,
    Tag,
    Tags,
    Task,
    Title,
    due_moment,
)
from events.task import (
    DeleteTask as Delete,
)
from events.task import (
    UpdateTask as Update,
)
from events.text import OneLine
from mcp_server.database import Database
from mcp_server.handle import Context
from mcp_server.tools import past
from mcp_server.tools.arguments import (
    DATE,
    NEXT,
    THEN,
    Arguments,
    Change,
    Cursor,
    Id,
    Moment,
    Version,
    invalid,
    is_whole,
    pack,
    says,
    unpack,
)
from mcp_server.tools.pages import take
from projections import history
from projections import tasks as rows
from projections.current import Wanted
from projections.history import Thing
from projections.tasks import Filter, Sort

LATEST_CHANGES = 5


class NewTask(BaseModel):
    """One task of a bulk."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: Title
    description: Description | None = None
    priority: Priority | None = None
    due: Due | None = None
    tags: Tags = []


class AddTask(Change):
    tool: ClassVar = "add_task"

    title: Title | None = None
    description: Description | None = None
    priority: Priority | None = None
    due: Annotated[Due | None, says(DATE)] = None
    tags: Tags = Field(default_factory=list)
    tasks: Annotated[
        Annotated[list[NewTask], Field(min_length=1, max_length=50)] | None,
        says("several, instead of one"),
    ] = None

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if self.tasks is None:
            if self.title is None:
                raise PydanticCustomError("title", "title is required (or tasks, for several)")
        elif self.model_fields_set.intersection(tasks.FIELDS):
            raise PydanticCustomError(
                "tasks", "tasks cannot be combined with a single task's fields"
            )
        return self

    def wanted(self) -> Wanted:
        return Wanted()

    def decide(self, draft: Draft) -> Json:
        if self.tasks is not None:
            return _together([_add(draft, new) for new in self.tasks])
        return _add(draft, self)


def _add(draft: Draft, new: NewTask | AddTask) -> Json:
    create = CreateTask.of_valid(
        title=new.title,
        description=new.description,
        priority=new.priority,
        due=new.due,
        tags=new.tags,
    )
    task = draft.change_task(None, create)
    draft.similar_to.append(task.title)
    return {**_changed(task, "created"), "similar": task.title}


def _changed(task: Task, status: str) -> Json:
    return {
        "task_id": task.id,
        "status": status,
        "title": task.title,
        "version": task.version,
        "position": task.position,
    }


def _together(results: list[Json]) -> Json:
    """The answer of a bulk: all or nothing, one command, one last position."""
    answer: Json = {"tasks": results, "position": _last([result["position"] for result in results])}
    if all(result.get("unchanged") for result in results):
        answer["unchanged"] = True
    return answer


def _last(positions: list[int]) -> int:
    """The latest position: provisional ones (negative) come after real ones, -2 after -1."""
    provisional = [position for position in positions if position < 0]
    return min(provisional) if provisional else max(positions)


ExpectedVersion = Annotated[Version | None, says("refused if it has another one now")]
Ids = Annotated[list[Id], Field(min_length=1, max_length=50)]


def _as_list(ids: int | list[int], expected_version: int | None) -> list[int]:
    """Return the ids. Raises: Refused, for what a list cannot be combined with."""
    if isinstance(ids, int):
        return [ids]
    if expected_version is not None:
        raise invalid("expected_version", "goes with one task, not with a list")
    if len(set(ids)) < len(ids):
        raise invalid("task_id", "names a task twice")
    return ids


class UpdateTask(Change):
    tool: ClassVar = "update_task"

    task_id: Id
    title: Title | None = None
    description: Description | None = None
    priority: Priority | None = None
    due: Annotated[Due | None, says(DATE)] = None
    tags: Annotated[Tags | None, says("replace all")] = None
    clear: Annotated[
        list[Literal["description", "priority", "due", "tags"]],
        Field(max_length=4),
        says("fields to empty"),
    ] = Field(default_factory=list)
    expected_version: ExpectedVersion = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if any(getattr(self, name) is not None for name in self.clear):
            raise PydanticCustomError("clear", "clear names a field that is also given a value")
        if not self._changes():
            raise PydanticCustomError("title", "give at least one field to change, or clear")
        return self

    def _changes(self) -> tasks.Changes:
        given = {name: getattr(self, name) for name in tasks.FIELDS}
        changes: Any = {name: value for name, value in given.items() if value is not None}
        changes |= {name: [] if name == "tags" else None for name in self.clear}
        return tasks.Changes(**changes)  # type: ignore[typeddict-item] # a part of a Changes

    def wanted(self) -> Wanted:
        return Wanted(task_ids=(self.task_id,))

    def decide(self, draft: Draft) -> Json:
        before = draft.task(self.task_id)
        draft.expect_version(before.version, self.expected_version)
        after = draft.change_task(self.task_id, Update(changes=self._changes()))
        changed = [name for name in tasks.FIELDS if getattr(before, name) != getattr(after, name)]
        answer = {**_changed(after, "updated"), "changed": changed}
        return answer if changed else {**answer, "unchanged": True}


class CompleteTask(Change):
    tool: ClassVar = "complete_task"

    task_id: Id | Ids
    completed: bool = True
    expected_version: ExpectedVersion = None

    def wanted(self) -> Wanted:
        return Wanted(task_ids=tuple(_as_list(self.task_id, self.expected_version)))

    def decide(self, draft: Draft) -> Json:
        command = Complete() if self.completed else ReopenTask()
        status = "completed" if self.completed else "pending"
        return _change_each(draft, self.task_id, self.expected_version, command, status)


class DeleteTask(Change):
    tool: ClassVar = "delete_task"

    task_id: Id | Ids
    expected_version: ExpectedVersion = None

    def wanted(self) -> Wanted:
        return Wanted(task_ids=tuple(_as_list(self.task_id, self.expected_version)))

    def decide(self, draft: Draft) -> Json:
        answer = _change_each(draft, self.task_id, self.expected_version, Delete(), "deleted")
        for result in answer.get("tasks", [answer]):
            result["hint"] = "undo with this position restores it"
        return answer


def _change_each(
    draft: Draft,
    ids: int | list[int],
    expected_version: int | None,
    command: Complete | ReopenTask | Delete,
    status: str,
) -> Json:
    results = []
    for id_ in _as_list(ids, expected_version):
        before = draft.task(id_)
        draft.expect_version(before.version, expected_version)
        after = draft.change_task(id_, command)
        result = _changed(after, status)
        results.append({**result, "unchanged": True} if after == before else result)
    return results[0] if isinstance(ids, int) else _together(results)


def item(task: Task) -> Json:
    """Return a task as a list shows it; fields that are empty are left out, tags never."""
    shown: Json = {"id": task.id, "title": task.title, "completed": task.completed}
    if task.priority is not None:
        shown["priority"] = task.priority
    if task.due is not None:
        shown["due"] = task.due
    return {**shown, "tags": task.tags}


def whole(task: Task) -> Json:
    """Return a task with everything there is to know about it."""
    return {
        **item(task),
        "description": task.description,
        "version": task.version,
        "position": task.position,
        "created_at": iso(task.created_at),
        "updated_at": iso(task.updated_at),
        "completed_at": iso(task.completed_at) if task.completed_at else None,
        "deleted": task.deleted,
    }


Query = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), OneLine]


class ListTasks(Arguments):
    tool: ClassVar = "list_tasks"

    status: Literal["all", "pending", "completed"] = "all"
    query: Annotated[Query | None, says("beginnings of words, all must be there")] = None
    priority: Priority | None = None
    tag: Tag | None = None
    due_before: Annotated[Due | None, says(DATE)] = None
    due_after: Annotated[Due | None, says(DATE)] = None
    sort: Annotated[
        Literal["created", "updated", "due", "priority"] | None,
        says("default: created; with query, matches in the title first"),
    ] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[Cursor | None, says(NEXT)] = None
    deleted: Annotated[bool, says("only deleted ones")] = False
    as_of: Annotated[Moment | None, says(THEN)] = None

    async def answer(self, database: Database, context: Context) -> Json:
        filter_, sort = self._filter(), self._sort()
        kind = f"tasks/{sort}"
        after = unpack(self.cursor, kind, _KEYS[sort])
        if self.as_of is None:
            found = await database.read(
                lambda reader: rows.list_tasks(
                    reader, context.user_id, filter_, sort, self.limit + 1, after
                )
            )
        else:
            async with database.connection() as reader:
                then = await past.tasks_at(
                    reader, context.user_id, self.as_of, described=bool(filter_.query)
                )
                found = await past.page_of(reader, then, filter_, sort, self.limit + 1, after)
        shown, more = take(found, self.limit, lambda pair: item(pair[0]), line)
        answer: Json = {"tasks": shown, "truncated": more}
        if more:
            answer["next_cursor"] = pack(kind, *found[len(shown) - 1][1])
        return answer

    def _sort(self) -> Sort:
        return self.sort or ("relevance" if self.query else "created")

    def _filter(self) -> Filter:
        return Filter(
            status=self.status,
            deleted=self.deleted,
            priority=self.priority,
            tag=self.tag,
            due_before=due_moment(self.due_before),
            due_from=_after(self.due_after),
            query=self.query or None,
        )


def _is_due_key(value: Any) -> bool:
    try:
        return value == "infinity" or datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_KEYS: dict[Sort, tuple[Callable[[Any], bool], ...]] = {
    "created": (is_whole,),
    "updated": (is_whole,),
    "due": (_is_due_key, is_whole),
    "priority": (lambda value: is_whole(value) and value <= 3, is_whole),
    "relevance": (lambda value: isinstance(value, bool), is_whole),
}


def _after(due: str | None) -> datetime | None:
    """Return the first moment after ``due``: after a date, the day has to be over."""
    if due is None:
        return None
    try:
        if len(due) == 10:
            next_day = date.fromisoformat(due) + timedelta(days=1)
            return datetime.combine(next_day, time.min, UTC)
        moment = due_moment(due)
        return moment + timedelta(microseconds=1) if moment else None
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


class GetTask(Arguments):
    tool: ClassVar = "get_task"

    task_id: Id
    as_of: Annotated[Moment | None, says(THEN)] = None

    async def answer(self, database: Database, context: Context) -> Json:
        until = history.END
        async with database.connection() as reader:
            if self.as_of is not None:
                until = await history.position_at(reader, context.user_id, self.as_of)
            task = await task_at(reader, context.user_id, self.task_id, until)
        if task is None:
            raise Refused(
                "not_found",
                f"There is no task {self.task_id}.",
                "list_tasks shows the ids that exist.",
            )
        return task


async def task_at(reader: Connection, user_id: str, id_: int, until: int) -> Json | None:
    """Return a task as it was at position ``until``, deleted or not, with its latest changes."""
    narrator = audit.Narrator()
    latest: deque[audit.Entry] = deque(maxlen=LATEST_CHANGES)
    async for page in history.changes(reader, user_id, {Thing("task", id_): 0}, until):
        latest.extend(narrator.tell(record) for record in page)
    task = narrator.tasks.get(id_)
    if task is None:
        return None
    return {**whole(task), "history": [audit.as_json(entry) for entry in reversed(latest)]}


def line(task: Json) -> str:
    """Return a listed task as one line for a model."""
    parts = [f"{task['id']} [{'x' if task['completed'] else ' '}] {task['title']}"]
    if "due" in task:
        parts.append(f"due {task['due']}")
    if "priority" in task:
        parts.append(task["priority"])
    parts += [f"#{tag}" for tag in task["tags"]]
    return "  ".join(parts)

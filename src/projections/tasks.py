"""The read table of tasks: one task, and pages of many in each order.

A page continues after a key, not after a number of rows, and each order has its index, led by user
and status: so a page costs the same for a user with 100 tasks and for one with 100,000. "All" open
and completed tasks are two such walks, merged.
"""

import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from events.store import Connection
from events.task import Priority, Task

Sort = Literal["created", "updated", "due", "priority", "relevance"]
Status = Literal["all", "pending", "completed"]
Key = tuple[Any, ...]

_COLUMNS = ", ".join(f"t.{name}" for name in Task._fields)


class Filter(NamedTuple):
    """Which tasks: ``words`` are lower-case prefixes that must all occur, in any order.

    ``due_before`` and ``due_from`` bound the moment of the due date: before the one, not before the
    other.
    """

    status: Status = "all"
    deleted: bool = False
    priority: Priority | None = None
    tag: str | None = None
    due_before: datetime | None = None
    due_from: datetime | None = None
    words: tuple[str, ...] = ()


class _Order(NamedTuple):
    """How a sort walks its index, and where it goes on."""

    order: str
    after: str


_ORDERS: dict[Sort, _Order] = {
    "created": _Order("t.id DESC", "t.id < %(after_0)s"),
    "updated": _Order("t.position DESC", "t.position < %(after_0)s"),
    "due": _Order(
        "t.due_order, t.id",
        "(t.due_order, t.id) > (%(after_0)s::timestamptz, %(after_1)s)",
    ),
    "priority": _Order(
        "t.urgency DESC, t.id DESC",
        "(t.urgency, t.id) < (%(after_0)s::smallint, %(after_1)s)",
    ),
    "relevance": _Order(
        "t.in_title DESC, t.id DESC",
        "(t.in_title, t.id) < (%(after_0)s, %(after_1)s)",
    ),
}
_URGENCY = {"high": 3, "medium": 2, "low": 1, None: 0}

_CONDITIONS = {
    "priority": "t.priority = %(priority)s",
    "tag": "%(tag)s = ANY(t.tags)",
    "due_before": "t.due_order < %(due_before)s",
    "due_from": "t.due_at >= %(due_from)s",
}


def _statuses(filter_: Filter) -> tuple[int, ...]:
    if filter_.deleted:
        return (2,)
    return {"all": (0, 1), "pending": (0,), "completed": (1,)}[filter_.status]


def _statement(filter_: Filter, sort: Sort, continues: bool) -> str:
    """Put constant pieces together: no value is ever in the text."""
    order = _ORDERS[sort]
    conditions = [sql for name, sql in _CONDITIONS.items() if getattr(filter_, name) is not None]
    if filter_.deleted and filter_.status != "all":
        conditions.append("t.completed" if filter_.status == "completed" else "NOT t.completed")
    if continues:
        conditions.append(order.after)
    source, extra = "tasktrail.tasks t", ""
    if filter_.words:
        source = """(
            SELECT t.*, s.in_title FROM tasktrail.search_tasks(u, %(query)s) AS s
            JOIN tasktrail.tasks t ON t.user_id = u AND t.id = s.id) AS t"""
        extra = ", t.in_title"
    where = "".join(f" AND {condition}" for condition in conditions)
    walks = " UNION ALL ".join(
        f"(SELECT {_COLUMNS}, t.due_order, t.urgency{extra} FROM {source}"
        f" WHERE t.user_id = u AND t.status = {status}{where}"
        f" ORDER BY {order.order} LIMIT %(limit)s)"
        for status in _statuses(filter_)
    )
    return (
        f"SELECT {_COLUMNS}{extra} FROM tasktrail.as_user(%(user_id)s) AS u,"
        f" LATERAL ({walks}) AS t ORDER BY {order.order} LIMIT %(limit)s"
    )


async def list_tasks(
    connection: Connection,
    user_id: str,
    filter_: Filter,
    sort: Sort,
    limit: int,
    after: Key | None = None,
) -> list[tuple[Task, Key]]:
    """Return at most ``limit`` tasks in order, each with the key to continue after it."""
    parameters: dict[str, Any] = {**filter_._asdict(), "user_id": user_id, "limit": limit}
    parameters["query"] = " & ".join(f"'{word}':*" for word in filter_.words)
    for number, value in enumerate(after or ()):
        parameters[f"after_{number}"] = value
    cursor = await connection.execute(
        _statement(filter_, sort, after is not None), parameters, binary=True
    )
    width = len(Task._fields)
    rows = await cursor.fetchall()
    return [
        (task, sort_key(task, sort, row[-1]))
        for row, task in ((row, Task(*row[:width])) for row in rows)
    ]


def sort_key(task: Task, sort: Sort, in_title: bool = False) -> Key:
    """Return where ``task`` stands in the order of ``sort``."""
    match sort:
        case "created":
            return (task.id,)
        case "updated":
            return (task.position,)
        case "due":
            due = task.due_at.astimezone(UTC).isoformat() if task.due_at else "infinity"
            return (due, task.id)
        case "priority":
            return (_URGENCY[task.priority], task.id)
        case "relevance":
            return (in_title, task.id)


_WORD = re.compile(r"\w+")


def words(query: str) -> tuple[str, ...]:
    """Return the words of a query, each a prefix to look for: at most 12, lower case."""
    return tuple(word.lower() for word in _WORD.findall(query)[:12])


def in_title(task: Task, prefixes: tuple[str, ...]) -> bool:
    """Whether every prefix begins a word of the title."""
    return _all_in(prefixes, task.title)


def matches(task: Task, filter_: Filter) -> bool:
    """Whether ``task`` is one of those that ``filter_`` names: as the statements decide it."""
    text = " ".join((task.title, *task.tags, task.description or ""))
    due = task.due_at
    return (
        task.deleted == filter_.deleted
        and (filter_.status == "all" or task.completed == (filter_.status == "completed"))
        and filter_.priority in (None, task.priority)
        and (filter_.tag is None or filter_.tag in task.tags)
        and (filter_.due_before is None or (due is not None and due < filter_.due_before))
        and (filter_.due_from is None or (due is not None and due >= filter_.due_from))
        and _all_in(filter_.words, text)
    )


def _all_in(prefixes: tuple[str, ...], text: str) -> bool:
    found = [word.lower() for word in _WORD.findall(text)]
    return all(any(word.startswith(prefix) for word in found) for prefix in prefixes)


_GET = f"""
SELECT t.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.tasks t WHERE t.user_id = u AND t.id = %s
) AS t
"""


async def get_task(connection: Connection, user_id: str, id_: int) -> Task | None:
    """Return one task, deleted or not; None if there is none."""
    cursor = await connection.execute(_GET, (user_id, id_), binary=True)
    row = await cursor.fetchone()
    return Task(*row) if row else None

"""The read table of tasks: pages of them, in each order.

A page continues after a key, not after a number of rows, and each order has its index, led by user
and status: so a page costs the same for a user with 100 tasks and for one with 100,000. "All" open
and completed tasks are two such walks, merged. A tag is looked for in the first tasks of the order
and, if too few of them have it, through the index of words.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import orjson

from events.store import Connection
from events.task import Priority, Task

Sort = Literal["created", "updated", "due", "priority", "relevance"]
Status = Literal["all", "pending", "completed"]
Key = tuple[Any, ...]

_COLUMNS = ", ".join(f"t.{name}" for name in Task._fields)


class Filter(NamedTuple):
    """Which tasks: the words of ``query`` must all begin a word of theirs, in any order.

    ``due_before`` and ``due_from`` bound the moment of the due date: before the one, not before the
    other.
    """

    status: Status = "all"
    deleted: bool = False
    priority: Priority | None = None
    tag: str | None = None
    due_before: datetime | None = None
    due_from: datetime | None = None
    query: str | None = None


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

NEAR = 400
"""So many tasks are looked at for a tag before its words are looked up."""

# In terms of indexed columns, where there are such.
_CONDITIONS = {
    "priority": "t.urgency = %(urgency)s",
    "tag": "%(tag)s = ANY(t.tags)",
    "due_before": "t.due_order < %(due_before)s",
    "due_from": "t.due_order >= %(due_from)s AND t.due_order < 'infinity'",
}


_FOUND = """(
    SELECT t.*, s.in_title FROM tasktrail.search_tasks(u, %(query)s) AS s
    JOIN tasktrail.tasks t ON t.user_id = u AND t.id = s.id) AS t"""


def _statuses(filter_: Filter) -> tuple[int, ...]:
    if filter_.deleted:
        return (2,)
    return {"all": (0, 1), "pending": (0,), "completed": (1,)}[filter_.status]


def _statement(filter_: Filter, sort: Sort, continues: bool) -> str:
    """Put constant pieces together: no value is ever in the text."""
    order = _ORDERS[sort].order
    source, extra = "tasktrail.tasks t", ""
    statuses = [f"= {status}" for status in _statuses(filter_)]
    if filter_.query:
        source, extra = _FOUND, ", t.in_title"
        statuses = [f"IN {_statuses(filter_)}".replace(",)", ")")]
    where = "".join(f" AND {condition}" for condition in _conditions(filter_, sort, continues))
    walks = " UNION ALL ".join(
        f"(SELECT {_COLUMNS}, t.due_order, t.urgency{extra} FROM {source}"
        f" WHERE t.user_id = u AND t.status {status}{where}"
        f" ORDER BY {order} LIMIT %(limit)s)"
        for status in statuses
    )
    return (
        f"SELECT {_COLUMNS}{extra} FROM tasktrail.as_user(%(user_id)s) AS u,"
        f" LATERAL ({walks}) AS t ORDER BY {order} LIMIT %(limit)s"
    )


def _conditions(filter_: Filter, sort: Sort, continues: bool) -> list[str]:
    conditions = [sql for name, sql in _CONDITIONS.items() if getattr(filter_, name) is not None]
    if filter_.deleted and filter_.status != "all":
        conditions.append("t.completed" if filter_.status == "completed" else "NOT t.completed")
    if continues:
        conditions.append(_ORDERS[sort].after)
    return conditions


def question(
    user_id: str, filter_: Filter, sort: Sort, limit: int, after: Key | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the statement that ``list_tasks`` runs, and its parameters."""
    parameters: dict[str, Any] = {**filter_._asdict(), "user_id": user_id, "limit": limit}
    parameters["urgency"] = _URGENCY[filter_.priority]
    for number, value in enumerate(after or ()):
        parameters[f"after_{number}"] = value
    return _statement(filter_, sort, after is not None), parameters


async def list_tasks(
    connection: Connection,
    user_id: str,
    filter_: Filter,
    sort: Sort,
    limit: int,
    after: Key | None = None,
) -> list[tuple[Task, Key]]:
    """Return at most ``limit`` tasks in order, each with the key to continue after it."""
    if filter_.tag is not None and not filter_.query and _WORD.search(filter_.tag):
        near = await _tagged_near(connection, user_id, filter_, sort, limit, after)
        if len(near) == limit:
            return near
        # What has the tag has its words; the tag itself is still a condition.
        filter_ = filter_._replace(query=filter_.tag)
    cursor = await connection.execute(*question(user_id, filter_, sort, limit, after), binary=True)
    return _keyed(await cursor.fetchall(), sort)


_WORD = re.compile("[A-Za-z0-9]")
"""Postgres is sure to see a word in it."""


async def _tagged_near(
    connection: Connection,
    user_id: str,
    filter_: Filter,
    sort: Sort,
    limit: int,
    after: Key | None,
) -> list[tuple[Task, Key]]:
    """Return at most ``limit`` tasks with the tag of the first NEAR that ``filter_`` names else."""
    all_tags = filter_._replace(tag=None)
    first, parameters = question(user_id, all_tags, sort, NEAR, after)
    statement = f"SELECT t.* FROM ({first}) AS t WHERE {_CONDITIONS['tag']}"
    parameters["tag"] = filter_.tag
    cursor = await connection.execute(statement, parameters, binary=True)
    return _keyed((await cursor.fetchall())[:limit], sort)


def _keyed(found: Sequence[Sequence[Any]], sort: Sort) -> list[tuple[Task, Key]]:
    width = len(Task._fields)
    return [
        (task, sort_key(task, sort, row[-1]))
        for row, task in ((row, Task(*row[:width])) for row in found)
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


def matches(task: Task, filter_: Filter) -> bool:
    """Whether ``task`` is one of those that ``filter_`` names but for its ``query``: as the
    statements decide it."""
    due = task.due_at
    return (
        task.deleted == filter_.deleted
        and (filter_.status == "all" or task.completed == (filter_.status == "completed"))
        and filter_.priority in (None, task.priority)
        and (filter_.tag is None or filter_.tag in task.tags)
        and (filter_.due_before is None or (due is not None and due < filter_.due_before))
        and (filter_.due_from is None or (due is not None and due >= filter_.due_from))
    )


_SEARCH = "SELECT s.id, s.in_title FROM tasktrail.search_these(%s, %s) AS s"


async def search(connection: Connection, tasks: Sequence[Task], query: str) -> dict[int, bool]:
    """Return which of ``tasks`` ``query`` finds, and whether in the title, by id.

    Postgres decides it, as it does for rows: nobody else knows so well what a word is.
    """
    texts = [
        {"id": task.id, "title": task.title, "tags": task.tags, "description": task.description}
        for task in tasks
    ]
    parameters = (orjson.dumps(texts).decode(), query)
    cursor = await connection.execute(_SEARCH, parameters, binary=True)
    return dict(await cursor.fetchall())

"""Questions to the ledger itself: pages of what happened, and what became of single things."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from events.ledger import Record
from events.stamp import Stamp
from events.store import Connection

_COLUMNS = ", ".join(f"e.{name}" for name in Record._fields)
END = 2**63 - 1
PAGE = 250
"""Events per read of something long: little enough that other calls need not wait."""
Stream = tuple[str, int]
Moment = int | datetime


class Filter(NamedTuple):
    """Which events. ``since`` is inclusive, ``until`` exclusive: positions or times.

    ``caused_in``: events that a conversation caused; with ``stream`` too, either is enough.
    ``client``: a verified id or a claimed name. ``reason``: words that occur in it, in any case.
    """

    stream: Stream | None = None
    caused_in: int | None = None
    since: Moment | None = None
    until: Moment | None = None
    client: str | None = None
    event_type: str | None = None
    tool: str | None = None
    reason: str | None = None


EVERYTHING = Filter()

_STREAM = "(e.stream_type = %(stream_type)s AND e.stream_id = %(stream_id)s)"
_CAUSED = "(e.actor->>'conversation_id')::bigint = %(caused_in)s"
_CONDITIONS = {
    "client": "%(client)s IN (e.actor->>'client_id', e.actor->>'client_name')",
    "event_type": "e.type = %(event_type)s",
    "tool": "e.actor->>'tool' = %(tool)s",
    "reason": "strpos(lower(e.body->>'reason'), lower(%(reason)s)) > 0",
}
_BOUNDS = {
    ("since", int): "e.position >= %(since)s",
    ("since", datetime): "e.recorded_at >= %(since)s",
    ("until", int): "e.position < %(until)s",
    ("until", datetime): "e.recorded_at < %(until)s",
}


def _where(filter_: Filter) -> str:
    """Put constant pieces together: no value is ever in the text."""
    conditions = [sql for name, sql in _CONDITIONS.items() if getattr(filter_, name) is not None]
    for name in ("since", "until"):
        value = getattr(filter_, name)
        if value is not None:
            conditions.append(_BOUNDS[name, type(value)])
    if filter_.stream and filter_.caused_in:
        conditions.append(f"({_STREAM} OR {_CAUSED})")
    elif filter_.stream:
        conditions.append(_STREAM)
    elif filter_.caused_in:
        conditions.append(_CAUSED)
    return "".join(f" AND {condition}" for condition in conditions)


async def page(
    connection: Connection, user_id: str, filter_: Filter, limit: int, below: int = END
) -> list[Record]:
    """Return at most ``limit`` events before position ``below``, newest first."""
    cursor = await connection.execute(*of_page(user_id, filter_, limit, below), binary=True)
    return [Record(*row) for row in await cursor.fetchall()]


def of_page(
    user_id: str, filter_: Filter, limit: int, below: int = END
) -> tuple[str, dict[str, Any]]:
    """Return the statement that ``page`` runs, and its parameters."""
    one_stream = filter_.stream is not None and filter_.caused_in is None
    order = "e.version" if one_stream else "e.position"  # each has an index; the order is the same
    statement = f"""
        SELECT e.* FROM tasktrail.as_user(%(user_id)s) AS u, LATERAL (
            SELECT {_COLUMNS} FROM tasktrail.events e
            WHERE e.user_id = u AND e.position < %(below)s{_where(filter_)}
            ORDER BY {order} DESC LIMIT %(limit)s
        ) AS e ORDER BY e.position DESC"""
    return statement, {**_parameters(user_id, filter_), "below": below, "limit": limit}


def _parameters(user_id: str, filter_: Filter) -> dict[str, Any]:
    return {
        **filter_._asdict(),
        "user_id": user_id,
        "stream_type": filter_.stream and filter_.stream[0],
        "stream_id": filter_.stream and filter_.stream[1],
    }


def walk(
    connection: Connection, user_id: str, filter_: Filter, until: int
) -> AsyncGenerator[list[Record], None]:
    """Yield the events up to position ``until`` that ``filter_`` names, oldest first, in pages."""
    statement = f"""
        SELECT e.* FROM tasktrail.as_user(%(user_id)s) AS u, LATERAL (
            SELECT {_COLUMNS} FROM tasktrail.events e
            WHERE e.user_id = u AND e.position > %(after)s AND e.position <= %(last)s
            {_where(filter_)}
            ORDER BY e.position LIMIT {PAGE}
        ) AS e ORDER BY e.position"""
    return _pages(connection, statement, {**_parameters(user_id, filter_), "last": until})


async def _pages(
    connection: Connection, statement: str, parameters: Mapping[str, Any]
) -> AsyncGenerator[list[Record], None]:
    """Yield what ``statement`` finds, oldest first: PAGE events at most, ``after`` a position."""
    after = 0
    while True:
        cursor = await connection.execute(statement, {**parameters, "after": after}, binary=True)
        found = [Record(*row) for row in await cursor.fetchall()]
        if found:
            yield found
        if len(found) < PAGE:
            return
        after = found[-1].position


class Thing(NamedTuple):
    """A task, a conversation, or a message with its conversation."""

    stream_type: str
    stream_id: int
    message_id: int | None = None


# A walk for each stream, and in order of its index: without statistics, or with those of many small
# users, Postgres would rather read a whole ledger and join.
_CHANGES = f"""
SELECT e.* FROM tasktrail.as_user(%(user_id)s) AS u, LATERAL (
    SELECT e.* FROM (
        SELECT stream_type, stream_id, min(known) AS known, bool_or(message_id IS NULL) AS itself,
            array_agg(message_id) AS messages, array_agg(message_id::text) AS named
        FROM unnest(
            %(types)s::text[], %(ids)s::bigint[], %(messages)s::bigint[], %(known)s::bigint[]
        ) AS s(stream_type, stream_id, message_id, known)
        GROUP BY stream_type, stream_id
    ) AS s, LATERAL (
        SELECT {_COLUMNS} FROM tasktrail.events e
        WHERE e.user_id = u AND e.stream_type = s.stream_type AND e.stream_id = s.stream_id
        AND e.position > greatest(s.known, %(after)s) AND e.position <= %(last)s
        AND CASE -- in this order: a body is long, and most are not looked into
            WHEN s.stream_type <> 'conversation' THEN true
            WHEN e.type LIKE 'Conversation%%' THEN s.itself
            WHEN e.type = 'MessageAdded' OR e.body IS NULL THEN e.position = ANY (s.messages)
            ELSE e.body->'data'->>'message_id' = ANY (s.named)
        END
        ORDER BY e.version LIMIT %(page)s
    ) AS e ORDER BY e.position LIMIT %(page)s
) AS e ORDER BY e.position
"""


def of_changes(user_id: str, things: Mapping[Thing, int], until: int) -> tuple[str, dict[str, Any]]:
    """Return the statement that ``changes`` runs, and its parameters but ``after``."""
    return _CHANGES, {
        "user_id": user_id,
        "types": [thing.stream_type for thing in things],
        "ids": [thing.stream_id for thing in things],
        "messages": [thing.message_id for thing in things],
        "known": list(things.values()),
        "last": until,
        "page": PAGE,
    }


async def changes(
    connection: Connection, user_id: str, things: Mapping[Thing, int], until: int = END
) -> AsyncIterator[list[Record]]:
    """Yield the events about some things up to position ``until``, oldest first, in pages.

    Each thing comes with the position up to which its events are known: they are left out, but for
    those about a message in whose conversation less is known of another.
    """
    if things:
        async for found in _pages(connection, *of_changes(user_id, things, until)):
            yield found


_VERSIONS = """
SELECT v.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT s.stream_type, s.stream_id, max(e.version)
    FROM unnest(%s::text[], %s::bigint[]) AS s(stream_type, stream_id)
    JOIN tasktrail.events e
    ON e.user_id = u AND e.stream_type = s.stream_type AND e.stream_id = s.stream_id
    GROUP BY s.stream_type, s.stream_id
) AS v
"""


async def versions(
    connection: Connection, user_id: str, which: Collection[Stream]
) -> dict[Stream, int]:
    """Return the current version of each of some streams."""
    columns = [[type_ for type_, _ in which], [id_ for _, id_ in which]]
    cursor = await connection.execute(_VERSIONS, (user_id, *columns), binary=True)
    return {(type_, id_): version for type_, id_, version in await cursor.fetchall()}


_TASK_EVENTS = """
SELECT e.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT e.type, e.schema_version, e.body->'data', e.stream_id,
           e.position, e.version, e.recorded_at
    FROM tasktrail.events e
    WHERE e.user_id = u AND e.position > %s AND e.position <= %s
    AND e.stream_type IN ('task', 'ledger') AND e.body IS NOT NULL
    ORDER BY e.position LIMIT %s
) AS e ORDER BY e.position
"""

TaskEvent = tuple[str, int, dict[str, Any], int, Stamp]
"""Type, schema version, data, task, and when: as ``Replay.add_data`` takes it."""


async def task_events(
    connection: Connection, user_id: str, until: int
) -> AsyncIterator[list[TaskEvent]]:
    """Yield what replays all tasks up to position ``until``, oldest first, in pages."""
    after = 0
    while True:
        cursor = await connection.execute(_TASK_EVENTS, (user_id, after, until, PAGE), binary=True)
        found = await cursor.fetchall()
        if found:
            yield [(*row[:4], Stamp(*row[4:])) for row in found]
        if len(found) < PAGE:
            return
        after = found[-1][4]


_POSITION_AT = """
SELECT e.position FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT e.position FROM tasktrail.events e
    WHERE e.user_id = u AND e.recorded_at <= %s ORDER BY e.position DESC LIMIT 1
) AS e
"""


async def position_at(connection: Connection, user_id: str, moment: Moment) -> int:
    """Return the last position that counts at ``moment``, 0 if there was nothing yet."""
    if isinstance(moment, int):
        return moment
    cursor = await connection.execute(_POSITION_AT, (user_id, moment), binary=True)
    row = await cursor.fetchone()
    return row[0] if row else 0

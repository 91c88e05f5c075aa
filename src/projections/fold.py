"""The events of a span folded, user by user, as long as they can be believed.

A ledger with a hole, or with an event that cannot be read, says nothing about what its rows should
be: its fold ends at the first fault, and nobody may mend rows by it. (``tasktrail verify`` says
more about such a ledger.)
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from events.catalog import UnknownEvent
from events.replay import Replay
from events.stamp import Stamp
from projections.finding import Finding
from projections.snapshot import Snapshot, ticks

Event = tuple[Any, ...]
"""User, position, stream, version, type, schema version, data as JSON text, time (``ticks``)."""


class Fold(NamedTuple):
    """So many of one user's events folded: all, or those before the ``fault``."""

    replay: Replay
    events: int
    fault: Finding | None


def fold_span(snapshot: Snapshot, heads: dict[str, int]) -> dict[str, Fold]:
    """Fold the events of the span, by user. ``heads`` are the positions of the ledgers."""
    whole = snapshot.span.whole
    erased_through = 0 if whole else _erased_through(snapshot)
    folds: dict[str, Fold] = {}
    for user_id, events in groupby(_read_events(snapshot), itemgetter(0)):
        replay = Replay(erased_through)
        if whole:
            folds[user_id] = _fold_ledger(user_id, events, replay, heads.get(user_id))
        else:
            folds[user_id] = _fold_streams(user_id, events, replay)
    return folds


def _read_events(snapshot: Snapshot) -> Iterator[Event]:
    """Yield the events: a user's in the order of their positions; stream by stream where the span
    is a part of one user."""
    whole = snapshot.span.whole
    order = "e.user_id, e.position" if whole else "e.stream_type, e.stream_id, e.version"
    return snapshot.rows(
        f"""
        SELECT e.user_id, e.position, e.stream_id, e.version, e.type, e.schema_version,
               CASE WHEN e.body IS NOT NULL THEN coalesce((e.body->'data')::text, 'null') END,
               {ticks("e.recorded_at")}
        FROM tasktrail.events e
        WHERE {snapshot.span.streams("e", "stream_id")} ORDER BY {order}
        """
    )


def _erased_through(snapshot: Snapshot) -> int:
    """In a part of a user's streams the erasure that covers it may be missing, or come late."""
    rows = snapshot.rows(
        f"""
        SELECT coalesce(max((e.body->'data'->>'through')::bigint), 0) FROM tasktrail.events e
        WHERE {snapshot.span.users("e")} AND e.stream_type = 'ledger'
        """
    )
    return int(next(rows)[0])


def _fold_ledger(user_id: str, events: Iterable[Event], replay: Replay, head: int | None) -> Fold:
    """Fold all of a user's events."""
    last = without_body = 0
    for _, position, stream_id, version, type_, schema_version, data, at in events:
        if position != last + 1:
            what = f"comes after {last}: events are missing"
            return Fold(replay, last, unreadable(user_id, position, what))
        last = position
        if data is None:
            without_body = position
            continue
        try:
            stamp = Stamp(position, version, at)
            replay.add_data(type_, schema_version, orjson.loads(data), stream_id, stamp)
        except (UnknownEvent, ValidationError) as error:
            return Fold(replay, last, unreadable(user_id, position, why(error)))
    if without_body > replay.erased_through:
        what = "has no body, and no erasure covers it"
        return Fold(replay, last, unreadable(user_id, without_body, what))
    if last != head:
        what = f"is the last event, but the head is at {head}"
        return Fold(replay, last, unreadable(user_id, last, what))
    return Fold(replay, last, None)


def _fold_streams(user_id: str, events: Iterable[Event], replay: Replay) -> Fold:
    """Fold some of a user's streams, one after another."""
    count = last_stream = last = 0
    for _, position, stream_id, version, type_, schema_version, data, at in events:
        if version != (last + 1 if stream_id == last_stream else 1):
            what = "does not follow the event before it in its stream: events are missing"
            return Fold(replay, count, unreadable(user_id, position, what))
        count, last_stream, last = count + 1, stream_id, version
        if data is None and position > replay.erased_through:
            what = "has no body, and no erasure covers it"
            return Fold(replay, count, unreadable(user_id, position, what))
        if data is None:
            continue
        try:
            stamp = Stamp(position, version, at)
            replay.add_data(type_, schema_version, orjson.loads(data), stream_id, stamp)
        except (UnknownEvent, ValidationError) as error:
            return Fold(replay, count, unreadable(user_id, position, why(error)))
    return Fold(replay, count, None)


def unreadable(user_id: str, position: int, what: str) -> Finding:
    """Return what is told about a ledger that cannot be believed."""
    return Finding(user_id, "events", position, "unreadable", None, what)


def why(error: UnknownEvent | ValidationError) -> str:
    """Return why an event cannot be read, without its data: that is somebody's."""
    if isinstance(error, UnknownEvent):
        return f"cannot be read: there is no {error}"
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    listed = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in problems)
    return f"cannot be read: {listed}"

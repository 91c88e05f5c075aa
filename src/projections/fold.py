"""Events read in bulk and folded, as long as they can be believed.

A ledger with a hole, or with an event that cannot be read, says nothing about what its rows should
be: its fold stops at the first fault, and nobody may mend rows by it. (``tasktrail verify`` says
more about such a ledger.)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
from psycopg import Connection
from pydantic import ValidationError

from events.catalog import UnknownEvent
from events.replay import Replay
from events.stamp import Stamp
from projections.spans import Span

Event = tuple[str, int, int, int, str, int, bytes | None, Any]
"""User, position, stream, version, type, schema version, data as JSON, time."""

_TYPES = ("text", "int8", "int8", "int8", "text", "int4", "bytea", "timestamptz")


def read_events(connection: Connection[Any], span: Span) -> Iterator[Event]:
    """Yield the events of ``span``, user by user in the order of their positions; stream by stream
    where it is a part of one user's."""
    parts = span.user_id is not None
    order = "e.stream_type, e.stream_id, e.version" if parts else "e.user_id, e.position"
    query = f"""
        COPY (
            SELECT e.user_id, e.position, e.stream_id, e.version, e.type, e.schema_version,
                   CASE WHEN e.body IS NOT NULL THEN coalesce(e.body->'data', 'null')::json END,
                   e.recorded_at
            FROM tasktrail.events e
            WHERE {span.where("e", "stream_id")} ORDER BY {order}
        ) TO STDOUT (FORMAT BINARY)
        """
    with connection.cursor().copy(query, span.parameters()) as copy:
        copy.set_types(_TYPES)
        yield from copy.rows()


class Fault(NamedTuple):
    """Why a ledger cannot be believed, and at which position."""

    position: int
    what: str


class Fold:
    """One user's events, or a part of their streams, folded up to the first fault."""

    def __init__(self, replay: Replay, whole: bool) -> None:
        """``whole``: all the user's events will come, in the order of their positions."""
        self.replay = replay
        self.events = 0
        self.fault: Fault | None = None
        self._whole = whole
        self._position = 0
        self._without_body = 0

    def add(self, event: Event) -> None:
        """Apply one event."""
        self.events += 1
        if self.fault is not None:
            return
        _, position, stream_id, version, type_, schema_version, data, at = event
        if self._whole and position != self._position + 1:
            self._stop(self._position + 1, "is missing")
        self._position = position
        if data is None:
            self._without_body = position
            return
        try:
            stamp = Stamp(position, version, at)
            self.replay.add_data(type_, schema_version, orjson.loads(data), stream_id, stamp)
        except (UnknownEvent, ValidationError) as error:
            self._stop(position, f"cannot be read: {_why(error)}")

    def end(self, head: int | None) -> None:
        """There are no more events; ``head`` is the ledger's position, None if it has none."""
        if self.fault is None and self._without_body > self.replay.erased_through:
            self._stop(self._without_body, "has no body, and no erasure covers it")
        if self.fault is None and self._whole and head != self._position:
            self._stop(self._position, f"is the last one, but the head is at {head}")

    def _stop(self, position: int, what: str) -> None:
        self.fault = Fault(position, what)


def _why(error: UnknownEvent | ValidationError) -> str:
    """The reason without the data: that is somebody's."""
    if isinstance(error, UnknownEvent):
        return f"there is no {error}"
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in problems)

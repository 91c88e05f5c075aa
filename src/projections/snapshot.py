"""Bulk reads of one span in one snapshot."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, cast

from psycopg import Connection, Cursor, IsolationLevel, capabilities
from psycopg.adapt import Loader
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

from events.stamp import iso
from events.store import moment
from projections.read_tables import ReadTable
from projections.spans import Span

_CHUNK = 100 if capabilities.has_stream_chunked() else 1
"""Rows that are fetched and decoded at once: three times as fast as COPY, row by row, is. So few,
because several chunks fit into a socket's buffer: the server goes on while we work."""

_SETTINGS = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true), set_config('client_encoding', 'UTF8', true)
"""
"""A span is read in the order of an index. Left to itself Postgres prefers to read the whole table
for each span, and to sort it on disk. Hashes are of UTF-8, whatever the environment asks for."""


def ticks(column: LiteralString) -> LiteralString:
    """Return the expression for a time as Postgres keeps and sends it, a whole number of
    microseconds since 2000: read with ``_RAW_TIMES`` it costs a fifth of a ``datetime``, any time
    can be held, and in a binary COPY it can be sent back."""
    return f"{column} AT TIME ZONE 'UTC'"


def told(at: int) -> str:
    """Return ``ticks`` for people."""
    try:
        return iso(_2000 + timedelta(microseconds=at))
    except OverflowError:
        return "a time beyond the calendar"


def exactly(at: int) -> str:
    """Return ``ticks`` so that no two are alike."""
    return {_LATEST: "infinity", _EARLIEST: "-infinity"}.get(at, f"{at:+} µs from 2000")


_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_RAW_TIMES: dict[str, type[Loader]] = {"timestamp": Int8BinaryLoader}
_RAW_TEXT: dict[str, type[Loader]] = {"text": ByteaBinaryLoader}


def bulk_cursor(
    connection: Connection[Any], loaders: dict[str, type[Loader]] = _RAW_TIMES
) -> Cursor[tuple[Any, ...]]:
    """Return a cursor that reads what is ``ticks`` as such."""
    cursor = connection.cursor(binary=True)
    for type_, loader in loaders.items():
        cursor.adapters.register_loader(type_, loader)
    return cursor


class Snapshot:
    """What the database holds of one span, at one moment."""

    def __init__(self, connection: Connection[Any], span: Span) -> None:
        self._connection = connection
        self._last: Generator[tuple[Any, ...], None, None] | None = None
        self.span = span

    def rows(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of ``query``, whose conditions are those of the span. One at a time, and
        what is ``ticks`` as such."""
        return self._rows(query, _RAW_TIMES)

    def raw_rows(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Yield ``rows`` with text as bytes in UTF-8."""
        return self._rows(query, _RAW_TEXT | _RAW_TIMES)

    def _rows(
        self, query: LiteralString, loaders: dict[str, type[Loader]]
    ) -> Iterator[tuple[Any, ...]]:
        cursor = bulk_cursor(self._connection, loaders)
        stream = cursor.stream(query, self.span.parameters(), size=_CHUNK)
        self._last = cast("Generator[tuple[Any, ...], None, None]", stream)
        return self._last

    def close(self) -> None:
        """Stop reading: until then the connection can do nothing else, not even roll back."""
        if self._last is not None:
            self._last.close()

    def read_table(self, table: ReadTable, words: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield user, fields (its ``times`` in ``ticks``) and ``stale`` of the rows of ``table``,
        in no order; with ``words``, also ``stale_words``."""
        stale = f"coalesce({table.stale}, {table.stale_words})" if words else table.stale
        columns: list[LiteralString] = []
        for field, type_ in zip(table.fields, table.types, strict=True):
            column: LiteralString = f"t.{field}"
            if type_ == "timestamptz":
                column = ticks(column) if field in table.times else moment(column)
            columns.append(column)
        where = self.span.streams("t", table.stream)
        query: LiteralString = f"""
            SELECT t.user_id, {", ".join(columns)}, {stale} FROM tasktrail.{table.name} t
            WHERE {where}
            """
        return self.rows(query)


@contextmanager
def snapshot(connection: Connection[Any], span: Span) -> Iterator[Snapshot]:
    """Read ``span`` in a transaction of its own. ``connection`` is in autocommit mode."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction():
            connection.execute(_SETTINGS)
            if span.user_id is not None:  # for a login that may see one user at a time
                connection.execute(
                    "SELECT set_config('tasktrail.user_id', %s, true)", (span.user_id,)
                )
            seen = Snapshot(connection, span)
            try:
                yield seen
            finally:
                seen.close()
    finally:
        connection.isolation_level = None
        connection.read_only = None

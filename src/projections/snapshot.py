"""Bulk reads of one span in one snapshot."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, cast

from psycopg import Connection, Cursor, IsolationLevel, capabilities
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

from projections.read_tables import ReadTable
from projections.spans import Span

_CHUNK = 100 if capabilities.has_stream_chunked() else 1
"""Rows that are fetched and decoded at once: three times as fast as COPY, row by row, is. So few,
because several chunks fit into a socket's buffer: the server goes on while we work."""

_INDEXES_ONLY = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true)
"""
"""A span is read in the order of an index. Left to itself Postgres prefers to read the whole table
for each span, and to sort it on disk."""


_EARLIEST, _LATEST = "0001-01-01 00:00:00.000001+00", "9999-12-31 23:59:59.999999+00"


def moment(column: LiteralString) -> LiteralString:
    """Return the expression for a time: one that Python cannot hold, such as infinity, becomes the
    earliest one, which no event has."""
    beyond = f"{column} NOT BETWEEN '{_EARLIEST}' AND '{_LATEST}'"
    return f"CASE WHEN {beyond} THEN '{_EARLIEST}' ELSE {column} END"


class Snapshot:
    """What the database holds of one span, at one moment."""

    def __init__(self, connection: Connection[Any], span: Span) -> None:
        self._connection = connection
        self._last: Generator[tuple[Any, ...], None, None] | None = None
        self.span = span

    def rows(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of ``query``, whose conditions are those of the span. One at a time."""
        return self._rows(query, self._connection.cursor(binary=True))

    def raw_rows(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """``rows`` for who only wants to know whether they are right: text as bytes in UTF-8, and
        a ``timestamp`` as it is sent, in microseconds since 2000. That costs half as much."""
        cursor = self._connection.cursor(binary=True)
        cursor.adapters.register_loader("text", ByteaBinaryLoader)
        cursor.adapters.register_loader("timestamp", Int8BinaryLoader)
        return self._rows(query, cursor)

    def _rows(self, query: LiteralString, cursor: Cursor[Any]) -> Iterator[tuple[Any, ...]]:
        stream = cursor.stream(query, self.span.parameters(), size=_CHUNK)
        self._last = cast("Generator[tuple[Any, ...], None, None]", stream)
        return self._last

    def close(self) -> None:
        """Stop reading: until then the connection can do nothing else, not even roll back."""
        if self._last is not None:
            self._last.close()

    def read_table(self, table: ReadTable, words: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield user, fields and ``stale`` of the rows of ``table``, in no order; with ``words``,
        also ``stale_words``."""
        stale = f"coalesce({table.stale}, {table.stale_words})" if words else table.stale
        columns = ", ".join(
            moment(f"t.{field}") if type_ == "timestamptz" else f"t.{field}"
            for field, type_ in zip(table.fields, table.types, strict=True)
        )
        where = self.span.streams("t", table.stream)
        return self.rows(
            f"""
            SELECT t.user_id, {columns}, {stale} FROM tasktrail.{table.name} t WHERE {where}
            """
        )


@contextmanager
def snapshot(connection: Connection[Any], span: Span) -> Iterator[Snapshot]:
    """Read ``span`` in a transaction of its own. ``connection`` is in autocommit mode."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction():
            connection.execute(_INDEXES_ONLY)
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

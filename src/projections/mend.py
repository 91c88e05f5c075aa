"""Put wrong rows right, under the locks of their users.

One transaction for each batch of users:

    copy the right rows, as of the scan, into temporary tables
    lock the users' ledgers; of those that have moved on since, catch up (``_catch_up``)
    delete what should not be there; write what should be

Between two batches of the same user whoever waits for the lock gets a chance: writers do not queue
for it, they look again now and then (mcp_server.writer).

Catching up: to a row that is wrong the events since are applied before it is written. A row that
was right has been kept right by whoever appended them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection
from pydantic import ValidationError

from events.catalog import UnknownEvent
from events.replay import Replay
from events.stamp import Stamp
from projections.compare import Wrong
from projections.finding import Finding
from projections.fold import unreadable, why
from projections.read_tables import READ_TABLES, ReadTable, Row
from projections.snapshot import bulk_cursor, ticks

ROWS = 1000
"""So many rows are put right at once: a writer who meets it waits for so long. A user with more
wrong rows than that gets them right in several steps."""

_TURNS = 7_461_736_276  # an arbitrary number: the seed of the advisory locks of ``_turn``


class Drift(NamedTuple):
    """What is wrong with one user's rows, as of the ledger's position ``seen``."""

    user_id: str
    seen: int
    rows: list[Wrong]


class Mended(NamedTuple):
    """So many ``rows`` were put right. The ``findings`` are new events that cannot be read: their
    users' rows were left as they are."""

    rows: int
    findings: list[Finding]


def mend(connection: Connection[Any], drifts: Iterable[Drift], shared: bool = False) -> Mended:
    """Put right what is wrong. ``connection`` is in autocommit mode.

    ``shared``: there is one user, parts of whom others may be putting right at the same time.
    """
    batches = list(_batches(drifts))
    if not batches:
        return Mended(0, [])
    for table in READ_TABLES:
        _create_right(connection, table)
    if not shared:
        return _mend(connection, batches)
    with _turn(connection, batches[0][0].user_id):
        mended = _mend(connection, batches)
        connection.execute(f"SELECT pg_sleep_for('{_LONGEST_BREATH}')")
        return mended


def _mend(connection: Connection[Any], batches: list[list[Drift]]) -> Mended:
    rows = 0
    findings: list[Finding] = []
    last, free_at = None, None
    for batch in batches:
        again, last = batch[0].user_id == last, batch[-1].user_id
        with connection.transaction():
            if batch is not batches[-1]:  # whose commit makes those before it durable too
                connection.execute("SET LOCAL synchronous_commit = off")
            mended, free_at = _Mending(connection, batch).run(free_at if again else None)
        rows += mended.rows
        findings += mended.findings
    return Mended(rows, findings)


_LONGEST_BREATH = "60 ms"
_BREATH = f"least(interval '4 ms' + (clock_timestamp() - %s) / 4, interval '{_LONGEST_BREATH}')"
"""So long a lock, held since that moment, is left alone: a little longer than whoever found it
taken waits before looking again."""


@contextmanager
def _turn(connection: Connection[Any], user_id: str) -> Iterator[None]:
    """Keep others who mend the same user out, between the batches too: if two took the user's lock
    in turns, a writer would hardly ever find it free."""
    turn = (user_id, _TURNS)
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, %s))", turn)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, %s))", turn)


def _create_right(connection: Connection[Any], table: ReadTable) -> None:
    """Create the temporary table for rows of ``table``: it stays, empty between transactions."""
    connection.execute(
        f"""
        CREATE TEMP TABLE IF NOT EXISTS right_{table.name} ON COMMIT DELETE ROWS AS
        SELECT user_id, {", ".join(table.fields)} FROM tasktrail.{table.name} WITH NO DATA
        """
    )


def _batches(drifts: Iterable[Drift]) -> Iterator[list[Drift]]:
    batch: list[Drift] = []
    rows = 0
    for drift in drifts:
        for start in range(0, len(drift.rows), ROWS):
            part = drift._replace(rows=drift.rows[start : start + ROWS])
            if rows + len(part.rows) > ROWS and batch:
                yield batch
                batch, rows = [], 0
            batch.append(part)
            rows += len(part.rows)
    if batch:
        yield batch


class _Mending:
    """One batch, in the transaction that is open on ``connection``."""

    def __init__(self, connection: Connection[Any], drifts: list[Drift]) -> None:
        self._connection = connection
        self._drifts = {drift.user_id: drift for drift in drifts}
        self._moved: dict[str, Replay] = {}  # of users who have moved on: their wrong rows now
        self._findings: list[Finding] = []
        self._locked_at: datetime | None = None

    def run(self, not_before: datetime | None) -> tuple[Mended, datetime]:
        """Put them right; also return until when their locks should be left alone afterwards.

        ``not_before``: lock nobody sooner. All by the server's clock.
        """
        for table in READ_TABLES:
            self._copy(table, self._rows(table, self._drifts))
        if not_before is not None:
            self._connection.execute("SELECT pg_sleep_until(%s)", (not_before,))
        self._catch_up(self._lock())
        for table in READ_TABLES:
            self._delete(table)
            self._write(table)
        breath = f"SELECT clock_timestamp() + {_BREATH}"
        free_at: datetime = self._connection.execute(breath, (self._locked_at,)).fetchall()[0][0]
        return Mended(sum(len(d.rows) for d in self._drifts.values()), self._findings), free_at

    def _rows(self, table: ReadTable, users: Iterable[str]) -> list[tuple[Any, ...]]:
        """Return the rows of ``table`` that have to be written."""
        return [
            (user_id, *right)
            for user_id in users
            for wrong in self._drifts[user_id].rows
            if wrong.table is table and (right := self._right(wrong)) is not None
        ]

    def _right(self, wrong: Wrong) -> Row | None:
        """Return the row as it should be now; None if it should not be there."""
        replay = self._moved.get(wrong.user_id)
        return wrong.right if replay is None else wrong.table.of(replay).get(wrong.id)

    def _copy(self, table: ReadTable, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        statement = f"COPY right_{table.name} FROM STDIN (FORMAT BINARY)"
        with self._connection.cursor().copy(statement) as copy:
            copy.set_types(["text", *_as_sent(table)])
            for row in rows:
                copy.write_row(row)

    def _lock(self) -> list[str]:
        """Lock these users' ledgers until the transaction ends; return who has moved on."""
        heads = self._connection.execute(
            """
            SELECT u, coalesce(tasktrail.lock_ledger(u), 0), clock_timestamp()
            FROM unnest(%s::text[]) AS u
            """,
            (sorted(self._drifts),),
        ).fetchall()
        self._locked_at = heads[0][2]
        return [user_id for user_id, head, _ in heads if head != self._drifts[user_id].seen]

    def _catch_up(self, moved: list[str]) -> None:
        if not moved:
            return
        for user_id in moved:
            self._apply_news(user_id)
        for table in READ_TABLES:
            self._connection.execute(
                f"DELETE FROM right_{table.name} WHERE user_id = ANY (%s)", (moved,)
            )
            self._copy(table, self._rows(table, [u for u in moved if u in self._drifts]))

    def _apply_news(self, user_id: str) -> None:
        """Apply the events since the scan to the rows that are wrong.

        Others of the user's rows are none of this replay's, so events about them change nothing
        here; a thing that was created since is not among the wrong rows.
        """
        news = bulk_cursor(self._connection).execute(
            f"""
            SELECT e.position, e.type, e.schema_version, e.body->'data', e.stream_id,
                   e.version, {ticks("e.recorded_at")}
            FROM tasktrail.events e
            WHERE e.user_id = %s AND e.position > %s AND e.body IS NOT NULL ORDER BY e.position
            """,
            (user_id, self._drifts[user_id].seen),
        )
        replay = self._moved[user_id] = _as_seen(self._drifts[user_id])
        for position, type_, schema_version, data, stream_id, version, at in news:
            try:
                stamp = Stamp(position, version, at)
                replay.add_data(type_, schema_version, data, stream_id, stamp)
            except (UnknownEvent, ValidationError) as error:
                self._findings.append(unreadable(user_id, position, why(error)))
                del self._drifts[user_id]
                return

    def _delete(self, table: ReadTable) -> None:
        """Delete rows that should not be there, where and as they were seen.

        In another stream such a row is another span's: it has been put right already, or will be.
        """
        keys = [
            (user_id, row.id, getattr(row.live, table.stream), row.live.version, row.live.position)
            for user_id, drift in self._drifts.items()
            for row in drift.rows
            if row.table is table and row.live is not None and self._right(row) is None
        ]
        if keys:
            self._connection.execute(
                f"""
                DELETE FROM tasktrail.{table.name} t
                USING unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
                    AS k(user_id, id, stream, version, position)
                WHERE t.user_id = k.user_id AND t.id = k.id AND t.{table.stream} = k.stream
                AND t.version = k.version AND t.position = k.position
                """,
                [list(column) for column in zip(*keys, strict=True)],
            )

    def _write(self, table: ReadTable) -> None:
        columns = ", ".join(("user_id", *table.fields))
        settings = ", ".join(f"{f} = EXCLUDED.{f}" for f in table.fields if f != "id")
        self._connection.execute(
            f"""
            INSERT INTO tasktrail.{table.name} ({columns}) SELECT {columns} FROM right_{table.name}
            ON CONFLICT (user_id, id) DO UPDATE SET {settings}
            """
        )


def _as_sent(table: ReadTable) -> list[str]:
    """Return the types of the fields: a time goes back as the integer that it came as."""
    pairs = zip(table.fields, table.types, strict=True)
    return ["int8" if field in table.times else type_ for field, type_ in pairs]


def _as_seen(drift: Drift) -> Replay:
    """Return a replay that knows just the rows that are wrong, as they should have been."""
    replay = Replay()
    for wrong in drift.rows:
        if wrong.right is not None:
            wrong.table.of(replay)[wrong.id] = wrong.right
    return replay

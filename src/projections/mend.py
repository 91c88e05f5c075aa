"""Put wrong rows right, under the locks of their users and in one transaction.

Between the scan and the lock the user may have gone on. So what was appended since is applied to
the rows first (``_catch_up``). Rows that were right have been kept right by whoever appended.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from psycopg import Connection

from events.replay import Replay
from events.stamp import Stamp
from projections.compare import Wrong
from projections.read_tables import READ_TABLES, ReadTable, Row

ROWS = 2000
"""So many rows are put right in one transaction: a writer who meets it waits for so long."""


class Drift(NamedTuple):
    """What is wrong with one user's rows, as of the ledger's position ``seen``."""

    user_id: str
    seen: int
    rows: list[Wrong]


def mend(connection: Connection[Any], drifts: Iterable[Drift]) -> int:
    """Put right what is wrong; return the number of rows. ``connection`` is in autocommit mode.

    A user's rows change in one transaction, unless more than ``ROWS`` of them are wrong.
    """
    mended = 0
    for batch in _batches(drifts):
        with connection.transaction():
            mended += _mend(connection, batch)
    return mended


def _batches(drifts: Iterable[Drift]) -> Iterable[list[Drift]]:
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


def _mend(connection: Connection[Any], drifts: list[Drift]) -> int:
    lock(connection, [drift.user_id for drift in drifts])
    replays = {drift.user_id: _as_seen(drift.rows) for drift in drifts}
    _catch_up(connection, {drift.user_id: drift.seen for drift in drifts}, replays)
    for table in READ_TABLES:
        right: list[tuple[str, Row]] = []
        extra: list[Wrong] = []
        for drift in drifts:
            rows = table.of(replays[drift.user_id])
            for wrong in drift.rows:
                if wrong.table is table:
                    if wrong.id in rows:
                        right.append((drift.user_id, rows[wrong.id]))
                    else:
                        extra.append(wrong)
        _delete(connection, table, extra)
        _write(connection, table, right)
    return sum(len(drift.rows) for drift in drifts)


def lock(connection: Connection[Any], user_ids: list[str]) -> None:
    """Lock these users' ledgers against appends until the transaction ends."""
    connection.execute(
        "SELECT tasktrail.lock_ledger(u) FROM unnest(%s::text[]) AS u", (sorted(user_ids),)
    )


def _as_seen(rows: list[Wrong]) -> Replay:
    """A replay that knows just the rows that are wrong, as they should have been at the scan."""
    replay = Replay()
    for wrong in rows:
        if wrong.right is not None:
            wrong.table.of(replay)[wrong.id] = wrong.right
    return replay


def _catch_up(
    connection: Connection[Any], seen: dict[str, int], replays: dict[str, Replay]
) -> None:
    cursor = connection.execute(
        """
        SELECT e.user_id, e.type, e.schema_version, e.body->'data', e.stream_id,
               e.position, e.version, e.recorded_at
        FROM unnest(%s::text[], %s::bigint[]) AS s(user_id, seen)
        JOIN tasktrail.events e ON e.user_id = s.user_id AND e.position > s.seen
        WHERE e.body IS NOT NULL ORDER BY e.user_id, e.position
        """,
        (list(seen), list(seen.values())),
    )
    for user_id, type_, schema_version, data, stream_id, *stamp in cursor:
        replays[user_id].add_data(type_, schema_version, data, stream_id, Stamp(*stamp))


def _delete(connection: Connection[Any], table: ReadTable, extra: list[Wrong]) -> None:
    """Delete rows that should not be there, where they were seen.

    In another stream such a row is another span's: it has been put right already, or will be.
    """
    if extra:
        keys = [(row.user_id, row.id, getattr(row.live, table.stream, row.id)) for row in extra]
        connection.execute(
            f"""
            DELETE FROM tasktrail.{table.name} t
            USING unnest(%s::text[], %s::bigint[], %s::bigint[]) AS k(user_id, id, stream)
            WHERE t.user_id = k.user_id AND t.id = k.id AND t.{table.stream} = k.stream
            """,
            [list(column) for column in zip(*keys, strict=True)],
        )


def _write(connection: Connection[Any], table: ReadTable, rows: list[tuple[str, Row]]) -> None:
    if rows:
        columns = ", ".join(("user_id", *table.fields))
        settings = ", ".join(f"{f} = EXCLUDED.{f}" for f in table.fields if f != "id")
        connection.execute(
            f"""
            INSERT INTO tasktrail.{table.name} ({columns})
            SELECT {columns} FROM jsonb_populate_recordset(NULL::tasktrail.{table.name}, %s)
            ON CONFLICT (user_id, id) DO UPDATE SET {settings}
            """,
            (orjson.dumps([{"user_id": u, **row._asdict()} for u, row in rows]).decode(),),
        )

"""Compare the read tables with what the ledger folds to, in one snapshot and without any lock.

An event and the rows it folds to are committed together, so in every snapshot they must agree:
whatever differs is wrong, and not merely late.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from psycopg import Connection, IsolationLevel

from events.replay import Replay
from projections.fold import Fold, read_events
from projections.read_tables import READ_TABLES, ReadTable, Row
from projections.spans import Span

Kind = Literal["missing", "extra", "different", "unreadable"]


class Difference(NamedTuple):
    """One thing that is not as the ledger says: ``field`` of row ``id`` of ``table``.

    ``unreadable`` is the event at position ``id`` of ``events``: the user's rows cannot be judged.
    """

    user_id: str
    table: str
    id: int
    kind: Kind
    field: str | None
    what: str


class Wrong(NamedTuple):
    """A row that is not as the ledger says: as it is (``live`` None: it is missing) and as it
    should be (``right`` None: it should not be there)."""

    table: ReadTable
    id: int
    live: Row | None
    right: Row | None


class Drift(NamedTuple):
    """What is wrong with one user's rows, as of the ledger's position ``seen``."""

    user_id: str
    seen: int
    rows: list[Wrong]


class Scan(NamedTuple):
    """What there was in a span: so many events folded to so many rows; and all that is wrong."""

    users: int
    events: int
    rows: int
    differences: list[Difference]
    drifts: list[Drift]


def scan(connection: Connection[Any], span: Span) -> Scan:
    """Compare what is in ``span``. ``connection`` must be in autocommit mode."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction():
            return _Scanner(connection, span).run()
    finally:
        connection.isolation_level = None
        connection.read_only = None


class _Scanner:
    def __init__(self, connection: Connection[Any], span: Span) -> None:
        self._connection = connection
        self._span = span
        self._heads = self._read_heads()
        self._folds: dict[str, Fold] = {}
        self._wrong: dict[str, list[Wrong]] = {}
        self._differences: list[Difference] = []

    def run(self) -> Scan:
        self._fold()
        replays = {u: fold.replay for u, fold in self._folds.items() if fold.fault is None}
        for table in READ_TABLES:
            self._compare(table, replays)
        return Scan(
            len(self._heads),
            sum(fold.events for fold in self._folds.values()),
            sum(len(table.of(replay)) for table in READ_TABLES for replay in replays.values()),
            self._differences,
            [Drift(u, self._heads.get(u, 0), wrong) for u, wrong in self._wrong.items()],
        )

    def _read_heads(self) -> dict[str, int]:
        span = self._span
        where = span.where("l", "position") if span.user_id is None else "l.user_id = %(user_id)s"
        cursor = self._connection.execute(
            f"SELECT l.user_id, l.position FROM tasktrail.ledgers l WHERE {where}",
            span.parameters(),
        )
        return dict(cursor.fetchall())

    def _fold(self) -> None:
        whole = self._span.user_id is None
        erased_through = 0 if whole else self._erased_through()
        for user_id, events in groupby(read_events(self._connection, self._span), itemgetter(0)):
            fold = self._folds[user_id] = Fold(Replay(erased_through), whole)
            for event in events:
                fold.add(event)
            fold.end(self._heads.get(user_id))
            if fold.fault is not None:
                self._differences.append(
                    Difference(
                        user_id,
                        "events",
                        fold.fault.position,
                        "unreadable",
                        None,
                        fold.fault.what,
                    )
                )

    def _erased_through(self) -> int:
        """In a part of a user's streams the erasure that covers it may be missing or come late."""
        cursor = self._connection.execute(
            """
            SELECT coalesce(max((e.body->'data'->>'through')::bigint), 0) FROM tasktrail.events e
            WHERE e.user_id = %s AND e.stream_type = 'ledger'
            """,
            (self._span.user_id,),
        )
        through: int = cursor.fetchall()[0][0]
        return through

    def _compare(self, table: ReadTable, replays: dict[str, Replay]) -> None:
        missing = {user_id: dict(table.of(replay)) for user_id, replay in replays.items()}
        for user_id, *fields in self._live_rows(table):
            live = table.row(*fields)
            right = missing.get(user_id, {}).pop(live.id, None)
            if right != live:
                self._differ(user_id, table, live, right)
        for user_id, rows in missing.items():
            for row in rows.values():
                self._differ(user_id, table, None, row)

    def _live_rows(self, table: ReadTable) -> Iterator[tuple[Any, ...]]:
        columns = ", ".join(f"t.{field}" for field in table.fields)
        where = self._span.where("t", table.stream)
        query = f"""
            COPY (SELECT t.user_id, {columns} FROM tasktrail.{table.name} t WHERE {where})
            TO STDOUT (FORMAT BINARY)
            """
        with self._connection.cursor().copy(query, self._span.parameters()) as copy:
            copy.set_types(["text", *table.types])
            yield from copy.rows()

    def _differ(self, user_id: str, table: ReadTable, live: Row | None, right: Row | None) -> None:
        if user_id in self._folds and self._folds[user_id].fault is not None:
            return
        row: Row = right if live is None else live
        id_ = row.id
        self._wrong.setdefault(user_id, []).append(Wrong(table, id_, live, right))
        for kind, field, what in _differences(live, right):
            self._differences.append(Difference(user_id, table.name, id_, kind, field, what))


def _differences(live: Row | None, right: Row | None) -> Iterator[tuple[Kind, str | None, str]]:
    if live is None:
        yield "missing", None, "is missing"
    elif right is None:
        yield "extra", None, "is there, and the ledger knows nothing of it"
    else:
        for field, is_, should in zip(right._fields, live, right, strict=True):
            if is_ != should:
                yield "different", field, "differs from the ledger" + _shown(is_, should)


def _shown(is_: Any, should: Any) -> str:
    """Both values, where neither is anybody's text."""
    if isinstance(is_, str | list) or isinstance(should, str | list):
        return ""
    return f": {is_} instead of {should}"

"""Verify a span at a glance: whether all is right, quickly, and no word on what is wrong.

As ``projections.exact`` in everything else: one snapshot, every event, every read row.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from events.intact import Doubt, End, follow
from events.ledger import Head
from events.replay import Replay
from projections.finding import Report
from projections.read_tables import READ_TABLES, ReadTable
from projections.snapshot import Snapshot, ticks

_NOTHING = End(Head(0, b""), 0)


def everything(seen: Snapshot, words: bool) -> Report:
    """Return the report on chains, events and read rows, if nothing is wrong. Raises: Doubt."""
    replays: dict[str, Replay] = {}
    users, events = _follow(seen, replays)
    rows = sum(_compare(seen, table, replays, words) for table in READ_TABLES)
    return Report(users, events, rows, 0, [])


def chains(seen: Snapshot) -> None:
    """Raises: Doubt, if something may be wrong with a chain."""
    _follow(seen, None)


def _follow(seen: Snapshot, replays: dict[str, Replay] | None) -> tuple[int, int]:
    """Return how many ledgers and events there are. Raises: Doubt."""
    ledgers = _read_ledgers(seen)
    users = len(ledgers)
    events = 0
    for user, its in groupby(_read_events(seen), itemgetter(0)):
        user_id = user.decode()
        replay = None
        if replays is not None:
            replay = replays[user_id] = Replay()
        end = follow(user_id, its, replay)
        if end != ledgers.pop(user_id, _NOTHING):
            raise Doubt
        events += end.head.position
    if ledgers:  # of those without events the slow way says whether that is right
        raise Doubt
    return users, events


def _read_ledgers(seen: Snapshot) -> dict[str, End]:
    rows = seen.raw_rows(
        f"""
        SELECT l.user_id, l.position, l.hash, {ticks("l.last_recorded_at")}
        FROM tasktrail.ledgers l WHERE {seen.span.users("l")}
        """
    )
    return {user.decode(): End(Head(position, hash_), at) for user, position, hash_, at in rows}


def _read_events(seen: Snapshot) -> Iterator[tuple[Any, ...]]:
    """Yield the columns that ``follow`` takes. The ids are ``ledger.header_ids``."""
    return seen.raw_rows(
        f"""
        SELECT e.user_id, e.position, concat_ws(' ', e.stream_type, e.type, e.schema_version),
               e.stream_id, e.version, e.command_id || '","commitment":"'
               || encode(e.commitment, 'hex') || '","event_id":"' || e.event_id, e.actor::text,
               e.body::text, e.salt, e.content_hash, e.hash,
               {ticks("e.recorded_at")}
        FROM tasktrail.events e
        WHERE {seen.span.users("e")} ORDER BY e.user_id, e.position
        """
    )


def _compare(seen: Snapshot, table: ReadTable, replays: dict[str, Replay], words: bool) -> int:
    """Return how many rows there are, if all are as the replays say: these are used up. Raises:
    Doubt."""
    expected = {user_id: table.of(replay) for user_id, replay in replays.items()}
    count = sum(map(len, expected.values()))
    last = len(table.fields) + 1
    for row in seen.read_table(table, words):
        its = expected.get(row[0])
        if its is None or its.pop(row[1], None) != row[1:last] or row[last] is not None:
            raise Doubt
    if any(expected.values()):
        raise Doubt
    return count

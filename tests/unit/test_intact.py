"""The quick check of a ledger against the exact one, on honest ledgers and on forged ones."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from events import intact
from events.catalog import TYPES, UnknownEvent
from events.intact import Columns, Doubt, End, Watch, follow
from events.ledger import (
    Head,
    NotOurs,
    Record,
    commit_to,
    genesis,
    hash_content,
    header_ids,
    link,
    microseconds,
    verify,
)
from events.replay import Replay
from events.stamp import NOT_YET
from tests.ledgers import Ledger, a_day_with_an_agent, a_long_ledger

USER = "ada"
_2000 = microseconds(datetime(2000, 1, 1, tzinfo=UTC))


def erased() -> Ledger:
    """Erased twice; then the user went on."""
    ledger = a_day_with_an_agent()
    ledger.erase()
    ledger.add_task("Paint the fence")
    ledger.erase()
    ledger.add_task("Sell the boat")
    return ledger


@cache
def honest() -> list[list[Record]]:
    return [a_day_with_an_agent().records, a_long_ledger(30).records, erased().records]


def columns(record: Record) -> Columns:
    """Return the event as the database sends it."""
    kind = f"{record.stream_type} {record.type} {record.schema_version}"
    return (
        USER,
        record.position,
        kind.encode(),
        record.stream_id,
        record.version,
        header_ids(
            str(record.command_id).encode(), record.commitment, str(record.event_id).encode()
        ),
        orjson.dumps(record.actor),
        None if record.body is None else orjson.dumps(record.body),
        record.salt,
        record.content_hash,
        record.hash,
        ticks(record.recorded_at),
    )


def ticks(at: datetime) -> int:
    return microseconds(at) - _2000


def in_ticks(replay: Replay) -> dict[int, Any]:
    """Return the rows of an exact replay as the quick one has them."""
    rows = rows_of(replay)
    return {
        id_: tuple(
            ticks(value) if isinstance(value, datetime) and name != "due_at" else value
            for name, value in zip(row._fields, row, strict=True)
        )
        for id_, row in rows.items()
    }


def rows_of(replay: Replay) -> dict[int, Any]:
    return {**replay.tasks, **replay.conversations, **replay.messages}


def head_of(records: Sequence[Record]) -> Head:
    return Head(records[-1].position, records[-1].hash) if records else Head(0, genesis(USER))


def quickly(records: Sequence[Record], replay: Replay | None, at_once: int = 100) -> bool:
    """Return whether the quick check passes them, when it takes so many at once."""
    try:
        with patch.object(intact, "AT_ONCE", at_once):
            end = follow(USER, map(columns, records), replay)
    except Doubt:
        return False
    at = ticks(records[-1].recorded_at) if records else end.at
    return end == End(head_of(records), at)


def in_passing(records: Sequence[Record], at_once: int = 100) -> bool:
    """Return whether the quick check passes them when it sees them a page at a time."""
    watch = Watch(USER)
    with patch.object(intact, "AT_ONCE", at_once):
        for start in range(0, len(records), 5):
            watch.see(list(records[start : start + 5]))
    return watch.holds(head_of(records))


def exactly(records: Sequence[Record], replay: Replay | None) -> bool:
    """Return whether the exact check, and the replay if there is one, find nothing."""
    if list(verify(USER, records, head_of(records))):
        return False
    try:
        for record in records if replay else ():
            replay.add(record)  # type: ignore[union-attr] # there is one
    except (UnknownEvent, ValidationError):
        return False
    return True


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
@pytest.mark.parametrize("records", honest(), ids=["lived", "long", "erased"])
def test_honest_ledgers_pass_and_fold_to_the_same_rows(records: list[Record], at_once: int) -> None:
    quick, exact = Replay(), Replay()
    assert quickly(records, quick, at_once)
    assert quickly(records, None, at_once)
    assert in_passing(records, at_once)
    assert exactly(records, exact)
    assert rows_of(quick) == in_ticks(exact)


def test_an_empty_ledger_ends_where_it_begins() -> None:
    assert follow(USER, [], Replay()).head == Head(0, genesis(USER))
    assert in_passing([])


def test_a_ledger_seen_in_passing_has_to_end_at_its_head() -> None:
    records = a_day_with_an_agent().records
    watch = Watch(USER)
    watch.see(records[:-1])
    assert not watch.holds(head_of(records))
    watch.see(records[-1:])
    assert watch.holds(head_of(records))


# --- forgeries: one value is changed, and then hidden by computing hashes anew --------------------

BODIES: list[Any] = [
    None,
    [],
    [1],
    "text",
    0,
    {},
    {"data": None, "reason": None},
    {"data": {}, "reason": None},
    {"data": {}, "reason": 1.5},
    {"data": {}, "reason": 2**53},
    {"data": {}},
    {"reason": None},
    {"data": {"undoes": 1.0}, "reason": None},
    {"data": {"undoes": True}, "reason": None},
    {"data": {"title": "x", "more": [0.5]}, "reason": None},
    {"data": {"changes": {"title": 7}}, "reason": None},
    {"data": {"changes": {"colour": 1.5}}, "reason": None},
    *({"data": {"through": n}, "reason": None} for n in (0, 1, 5, 11, 2**53 - 1, -1, True, 2.0)),
    {"data": {"title": "x"}, "reason": "another", "more": 1},
]
NUMBERS = st.integers(-1, 32) | st.sampled_from([2**62, -(2**62), 2**63 - 1])
BYTES = st.sampled_from([b"", bytes(16), bytes(17), bytes(32), bytes(31)])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "position": NUMBERS,
    "stream_type": st.sampled_from(["task", "conversation", "ledger", "", "task x", 'a"b']),
    "stream_id": NUMBERS,
    "version": NUMBERS,
    "type": st.sampled_from([*TYPES, "TaskCreated 1", "TaskTagged", ""]),
    "schema_version": st.integers(-1, 3),
    "event_id": st.uuids(),
    "command_id": st.uuids(),
    "actor": st.sampled_from([{}, [], None, {"tool": 1.5}, {"tool": "other"}]),
    "commitment": BYTES,
    "body": st.sampled_from(BODIES),
    "salt": BYTES | st.none(),
    "content_hash": BYTES,
    "hash": BYTES,
    "recorded_at": st.sampled_from(
        [
            datetime.min.replace(tzinfo=UTC),
            datetime(1969, 12, 31, tzinfo=UTC),
            datetime(2026, 3, 2, 8, 30, tzinfo=UTC),
            NOT_YET,
        ]
    ),
}


def recommitted(record: Record) -> Record:
    if record.body is None or record.salt is None:
        return record
    try:
        return record._replace(commitment=commit_to(record.body, record.salt))
    except NotOurs:
        return record


def resealed(record: Record) -> Record:
    try:
        content_hash = hash_content(
            str(record.event_id),
            str(record.command_id),
            record.type,
            record.schema_version,
            record.stream_type,
            record.actor,
            record.commitment,
        )
    except NotOurs:
        return record
    return record._replace(content_hash=content_hash)


def relinked(records: Sequence[Record]) -> list[Record]:
    """Return the records in a new chain."""
    chain: list[Record] = []
    for record in records:
        previous = chain[-1].hash if chain else genesis(USER)
        place = record.position, record.stream_id, record.version
        at = microseconds(record.recorded_at)
        chain.append(record._replace(hash=link(previous, record.content_hash, *place, at)))
    return chain


def reordered(records: list[Record], data: st.DataObject) -> list[Record]:
    """Return them without one, with one twice, with two swapped, or cut off."""
    first, second = (data.draw(st.integers(0, len(records) - 1)) for _ in range(2))
    swapped = list(records)
    swapped[first], swapped[second] = records[second], records[first]
    return data.draw(
        st.sampled_from(
            [
                records[:first] + records[first + 1 :],
                [*records[:first], records[second], *records[first:]],
                swapped,
                records[: first + 1],
            ]
        )
    )


def test_a_commitment_that_only_begins_rightly_is_doubted() -> None:
    """All hashes over it are recomputed."""
    first, *rest = honest()[0]
    assert quickly(relinked([resealed(first), *rest]), Replay())
    longer = first._replace(commitment=first.commitment + b"\0")
    records = relinked([resealed(longer), *rest])
    assert not exactly(records, Replay())
    assert not quickly(records, Replay())


@pytest.mark.parametrize("at", [ticks(NOT_YET) + 1, 18_000 * 31_556_952_000_000, 2**62])
def test_times_beyond_the_calendar_are_doubted(at: int) -> None:
    """The exact check cannot even hold one."""
    first = honest()[0][0]
    (user, position, *middle, content, _, _) = columns(first)
    for time, passes in ((ticks(first.recorded_at), True), (ticks(NOT_YET), True), (at, False)):
        place = position, first.stream_id, first.version, time + _2000
        linked = link(genesis(USER), content, *place)
        event = (user, position, *middle, content, linked, time)
        try:
            assert passes == (follow(USER, [event], None).at == time)
        except Doubt:
            assert not passes


HIDDEN: list[Callable[[Record], Record]] = [
    lambda record: record,
    recommitted,
    resealed,
    lambda record: resealed(recommitted(record)),
]


@given(st.data())
def test_the_quick_check_never_passes_what_the_exact_one_objects_to(data: st.DataObject) -> None:
    records = list(data.draw(st.sampled_from(honest())))
    for _ in range(data.draw(st.integers(0, 2))):
        index = data.draw(st.integers(0, len(records) - 1))
        field = data.draw(st.sampled_from(list(VALUES)))
        forged = records[index]._replace(**{field: data.draw(VALUES[field])})
        records[index] = data.draw(st.sampled_from(HIDDEN))(forged)
    if data.draw(st.booleans()):
        records = reordered(records, data)
    if data.draw(st.booleans()):
        records = relinked(records)
    quick, exact = Replay(), Replay()
    at_once = data.draw(st.sampled_from([1, 3, 8, 100]))
    passed = quickly(records, quick, at_once)
    assert exactly(records, exact) or not passed
    assert exactly(records, None) or not quickly(records, None, at_once)
    assert exactly(records, None) or not in_passing(records, at_once)
    if passed:
        assert rows_of(quick) == in_ticks(exact)

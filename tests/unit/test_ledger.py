"""The hash chain of a whole ledger, and everything that a forger might change."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import catalog
from events.catalog import Event, LedgerErased
from events.ledger import (
    Finding,
    Head,
    Json,
    NotOurs,
    Record,
    commit_to,
    genesis,
    hash_content,
    link,
    microseconds,
    verify,
)
from events.task import TaskCompleted, TaskCreated, TaskUpdated
from tests.ledgers import ACTOR
from tests.strategies import TEXT, events

USER = "user-1"
BEGAN = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)

Place = tuple[str, int]  # stream type and id
TASK: Place = ("task", 1)


class Ledger:
    """A ledger in the making, as an honest server writes it."""

    def __init__(self, user_id: str = USER) -> None:
        self.user_id = user_id
        self.records: list[Record] = []
        self.versions: dict[Place, int] = {}

    @property
    def head(self) -> Head:
        last = self.records[-1].hash if self.records else genesis(self.user_id)
        return Head(len(self.records), last)

    def append(self, event: Event, stream: Place | None = None) -> None:
        position = len(self.records) + 1
        stream_type, stream_id = stream or (catalog.STREAM_TYPES[type(event)], position)
        version = self.versions.get((stream_type, stream_id), 0) + 1
        self.versions[stream_type, stream_id] = version
        body = {"data": catalog.encode(event), "reason": None if position % 2 else "she asked"}
        salt = position.to_bytes(16, "big")
        record = Record(
            position,
            stream_type,
            stream_id,
            version,
            event.type,
            1,
            UUID(int=position, version=4),
            UUID(int=1000 + position, version=4),
            ACTOR,
            commit_to(body, salt),
            body,
            salt,
            b"",
            b"",
            BEGAN + timedelta(microseconds=position // 2),  # two events may have one time
        )
        self.records.append(relinked(resealed(record), self.head.hash))

    def erase(self) -> None:
        self.records = [
            record if record.type == "LedgerErased" else record._replace(body=None, salt=None)
            for record in self.records
        ]
        self.append(LedgerErased(through=len(self.records)))

    def findings(self, head: Head | None = None) -> list[Finding]:
        return list(verify(self.user_id, self.records, head or self.head))


def resealed(record: Record) -> Record:
    """Return the record with the content hash that it should have."""
    return record._replace(
        content_hash=hash_content(
            str(record.event_id),
            str(record.command_id),
            record.type,
            record.schema_version,
            record.stream_type,
            record.actor,
            record.commitment,
        )
    )


def relinked(record: Record, previous: bytes) -> Record:
    """Return the record with the hash that it should have after ``previous``."""
    return record._replace(
        hash=link(
            previous,
            record.content_hash,
            record.position,
            record.stream_id,
            record.version,
            microseconds(record.recorded_at),
        )
    )


def a_ledger() -> Ledger:
    """Two tasks; all of it erased once; and then one more task."""
    book = Ledger()
    book.append(TaskCreated(title="Buy milk", tags=["home"]))
    book.append(TaskUpdated(changes={"title": "Buy oat milk", "due": "2026-12-01"}), TASK)
    book.append(TaskCreated(title="Call the plumber"))
    book.erase()
    book.append(TaskCreated(title="Paint the fence"))
    book.append(TaskCompleted(), ("task", 5))
    return book


def a_ledger_with_all_its_words() -> Ledger:
    book = Ledger()
    book.append(TaskCreated(title="Buy milk", tags=["home"]))
    book.append(TaskUpdated(changes={"title": "Buy oat milk", "due": "2026-12-01"}), TASK)
    book.append(TaskCompleted(), TASK)
    return book


def test_an_honest_ledger_has_no_findings() -> None:
    assert a_ledger().findings() == []
    assert a_ledger_with_all_its_words().findings() == []
    assert Ledger().findings() == []


@given(user_id=TEXT, happened=st.lists(events() | st.just("erase"), max_size=12))
def test_no_false_alarm(user_id: str, happened: list[Event | str]) -> None:
    book = Ledger(user_id)
    for event in happened:
        if isinstance(event, str | LedgerErased):
            book.erase()
        else:
            book.append(event)
    assert book.findings() == []


def flipped(value: bytes) -> list[bytes]:
    """Return values that differ from ``value`` as little, and as much, as they can."""
    first, last = bytes([value[0] ^ 1]) + value[1:], value[:-1] + bytes([value[-1] ^ 128])
    return [first, last, value[:-1], value + b"\0", b"", bytes(len(value))]


def other_bodies(body: Json | None) -> list[Any]:
    if body is None:
        return [{"data": {"title": "Buy milk"}, "reason": None}]
    return [
        {**body, "reason": "another"},
        {**body, "data": {**body["data"], "title": "Sell milk"}},
        {**body, "data": {**body["data"], "undoes": 1}},
        {**body, "data": {}} if body["data"] else {**body, "data": {"undoes": 1}},
        {**body, "more": None},
        {"data": body["data"]},
        {**body, "reason": float("nan")},
        {**body, "reason": 10**400},
        {**body, "reason": "\ud800"},
        json.loads('{"a":' * 300 + "1" + "}" * 300),
        {},
        {"data": None},
        [],
        "text",
        0,
        None,
    ]


def other_actors() -> list[Any]:
    changed = [{**ACTOR, field: "another"} for field in ACTOR]
    without = [{k: v for k, v in ACTOR.items() if k != field} for field in ACTOR]
    odd: list[Any] = [{**ACTOR, "message_id": 6.0}, {**ACTOR, "message_id": float("inf")}]
    return [*changed, *without, *odd, {**ACTOR, "more": None}, {}, None, []]


# field -> other values than that of a record. A new column without an entry here fails.
TAMPERED: dict[str, Callable[[Record], list[Any]]] = {
    "position": lambda r: [r.position + 1, r.position - 1, 0, -r.position, 2**63 - 1],
    "stream_type": lambda _: ["conversation", "Task", ""],
    "stream_id": lambda r: [r.stream_id + 1, 0, -1, 2**63 - 1],
    "version": lambda r: [r.version + 1, r.version - 1, -(2**63)],
    "type": lambda _: ["TaskDeleted", "taskcreated", "TaskCreated ", ""],
    "schema_version": lambda _: [0, 2],
    "event_id": lambda r: [r.command_id, UUID(int=0)],
    "command_id": lambda r: [r.event_id, UUID(int=0)],
    "actor": lambda _: other_actors(),
    "commitment": lambda r: flipped(r.commitment),
    "body": lambda r: other_bodies(r.body),
    "salt": lambda r: [bytes(16)] if r.salt is None else [*flipped(r.salt), None],
    "content_hash": lambda r: flipped(r.content_hash),
    "hash": lambda r: flipped(r.hash),
    "recorded_at": lambda r: [
        r.recorded_at + timedelta(microseconds=1),
        r.recorded_at - timedelta(microseconds=1),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
}


@pytest.mark.parametrize("make", [a_ledger, a_ledger_with_all_its_words])
@pytest.mark.parametrize("field", Record._fields)
def test_a_changed_value_is_found_where_it_is(field: str, make: Callable[[], Ledger]) -> None:
    for n, honest in enumerate(make().records):
        for value in TAMPERED[field](honest):
            if value == getattr(honest, field):
                continue
            book = make()
            head = book.head
            book.records[n] = honest._replace(**{field: value})
            at = {finding.position for finding in book.findings(head)}
            assert at & {n + 1, book.records[n].position}, f"{field} of event {n + 1}: {value!r}"


@pytest.mark.parametrize(
    "field", ["position", "stream_id", "version", "recorded_at", "stream_type", "type", "actor"]
)
def test_a_change_with_its_own_hashes_made_anew_is_found_at_the_next_event(field: str) -> None:
    for n, honest in enumerate(a_ledger().records):
        for value in TAMPERED[field](honest):
            if value == getattr(honest, field):
                continue
            book = a_ledger()
            head = book.head
            try:
                forged = resealed(honest._replace(**{field: value}))
            except NotOurs:
                continue
            book.records[n] = relinked(forged, book.records[n - 1].hash if n else genesis(USER))
            assert book.findings(head), f"{field} of event {n + 1}: {value!r}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("position", 9), ("version", 1), ("version", 3), ("recorded_at", BEGAN - timedelta(days=1))],
)
def test_what_no_ledger_can_say_is_found_though_every_hash_is_right(field: str, value: Any) -> None:
    """Somebody who owns the database made all hashes anew, the head's too."""
    book = a_ledger_with_all_its_words()
    book.records[1] = book.records[1]._replace(**{field: value})
    previous = genesis(USER)
    for n, record in enumerate(book.records):
        book.records[n] = relinked(resealed(record), previous)
        previous = book.records[n].hash
    assert field in {finding.field for finding in book.findings()}
    assert not {"hash", "content_hash", "head"} & {finding.field for finding in book.findings()}


@pytest.mark.parametrize("n", range(6))
def test_a_missing_event_is_found(n: int) -> None:
    book = a_ledger()
    head = book.head
    del book.records[n]
    assert book.findings(head)


@pytest.mark.parametrize("n", range(6))
def test_events_missing_at_the_end_are_found_by_the_head(n: int) -> None:
    book = a_ledger()
    head = book.head
    del book.records[n:]
    assert Finding(6, "head", f"the head is at 6, the last event at {n}") in book.findings(head)


@pytest.mark.parametrize("n", range(7))
def test_an_added_event_is_found(n: int) -> None:
    book, other = a_ledger(), a_ledger()
    head = book.head
    forged = other.records[n - 1]._replace(position=n + 1, event_id=UUID(int=7))
    previous = book.records[n - 1].hash if n else genesis(USER)
    book.records.insert(n, relinked(resealed(forged), previous))
    assert book.findings(head)


@pytest.mark.parametrize("n", range(6))
def test_an_event_twice_is_found(n: int) -> None:
    book = a_ledger()
    head = book.head
    book.records.insert(n, book.records[n])
    assert book.findings(head)


@pytest.mark.parametrize("n", range(5))
def test_events_in_another_order_are_found(n: int) -> None:
    book = a_ledger()
    head = book.head
    first, second = book.records[n : n + 2]
    book.records[n : n + 2] = [second, first]
    assert book.findings(head)
    book.records[n : n + 2] = [
        second._replace(position=first.position),
        first._replace(position=second.position),
    ]
    assert book.findings(head)


def test_another_users_ledger_is_not_mine() -> None:
    mine, other = a_ledger(), Ledger("user-2")
    findings = list(verify(other.user_id, mine.records, mine.head))
    assert [(finding.position, finding.field) for finding in findings] == [(1, "hash")]


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (Head(6, bytes(32)), "the head's hash is not the last event's"),
        (Head(5, a_ledger().head.hash), "the head is at 5, the last event at 6"),
        (Head(7, a_ledger().head.hash), "the head is at 7, the last event at 6"),
        (Head(0, genesis(USER)), "the head is at 0, the last event at 6"),
    ],
)
def test_a_head_that_says_something_else_is_found(head: Head, what: str) -> None:
    assert a_ledger().findings(head) == [Finding(head.position, "head", what)]


def test_a_break_is_reported_once_and_the_check_goes_on() -> None:
    book = a_ledger_with_all_its_words()
    head = book.head
    book.records[0] = book.records[0]._replace(hash=bytes(32))
    book.records[2] = book.records[2]._replace(body={"data": {"undoes": 1}, "reason": None})
    assert [(f.position, f.field) for f in book.findings(head)] == [
        (1, "hash"),
        (2, "hash"),
        (3, "body"),
    ]


# --- erasure ------------------------------------------------------------------------------------


def erased_by_hand(book: Ledger, *positions: int) -> Ledger:
    for position in positions:
        record = book.records[position - 1]
        book.records[position - 1] = record._replace(body=None, salt=None)
    return book


def test_a_missing_body_that_no_erasure_covers_is_found() -> None:
    book = erased_by_hand(a_ledger_with_all_its_words(), 2)
    assert book.findings() == [Finding(2, "body", "is missing, and no later erasure covers it")]


def test_an_erasure_does_not_cover_what_comes_after_it() -> None:
    book = erased_by_hand(a_ledger(), 5)
    assert book.findings() == [Finding(5, "body", "is missing, and no later erasure covers it")]


def test_an_erasure_covers_only_as_far_as_it_says() -> None:
    book = a_ledger_with_all_its_words()
    book.append(LedgerErased(through=2))
    erased_by_hand(book, 1, 2, 3)
    assert [(f.position, f.field) for f in book.findings()] == [(3, "body")]


@pytest.mark.parametrize("through", [4, 5, 2**53 - 1])
def test_an_erasure_cannot_cover_itself_or_the_future(through: int) -> None:
    book = a_ledger_with_all_its_words()
    book.append(LedgerErased(through=through))
    erased_by_hand(book, 1)
    assert [(f.position, f.field) for f in book.findings()] == [(1, "body"), (4, "body")]


def test_the_record_of_an_erasure_is_itself_never_erased() -> None:
    book = a_ledger()
    book.erase()
    assert book.findings() == []
    erased_by_hand(book, 4)
    assert [(f.position, f.field) for f in book.findings()] == [(4, "body")]


@pytest.mark.parametrize("gone", ["body", "salt"])
def test_body_and_salt_go_together_or_not_at_all(gone: str) -> None:
    book = a_ledger_with_all_its_words()
    record = book.records[1]
    book.records[1] = record._replace(body=None) if gone == "body" else record._replace(salt=None)
    book.append(LedgerErased(through=3))
    assert [(f.position, f.field) for f in book.findings()] == [(2, "body")]


@given(data=st.data(), happened=st.lists(events(), min_size=1, max_size=8))
def test_a_null_body_is_legal_only_where_a_later_erasure_covers_it(
    data: st.DataObject, happened: list[Event]
) -> None:
    book = Ledger()
    for event in happened:
        if isinstance(event, LedgerErased):
            book.erase()
        else:
            book.append(event)
    position = data.draw(st.integers(1, len(book.records)))
    record = book.records[position - 1]
    covered = record.body is None or position < max(
        (r.position for r in book.records if r.type == "LedgerErased"), default=0
    )
    erased_by_hand(book, position)
    legal = covered and record.type != "LedgerErased"
    assert (book.findings() == []) == legal


def test_every_column_is_tampered_with_above() -> None:
    assert set(TAMPERED) == set(Record._fields)

"""A replay: given a ledger, the rows that it folds to."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from events.catalog import STREAM_TYPES, TYPES, UnknownEvent
from events.ledger import Record
from events.replay import Replay

START = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=0)
TITLE = {"title": "Buy milk"}


def record(position: int, stream_id: int, version: int, type_: str, data: Any = None) -> Record:
    """An event as the ledger keeps it; ``data`` None: erased."""
    body = None if data is None else {"data": data, "reason": None}
    at = START + timedelta(seconds=position)
    stream_type = STREAM_TYPES[TYPES[type_]] if type_ in TYPES else "task"
    return Record(
        position,
        stream_type,
        stream_id,
        version,
        type_,
        1,
        ID,
        ID,
        {},
        b"",
        body,
        b"",
        b"",
        b"",
        at,
    )


def replayed(*records: Record) -> Replay:
    replay = Replay()
    for each in records:
        replay.add(each)
    return replay


def test_a_task_is_there_with_the_id_of_the_event_that_created_it() -> None:
    replay = replayed(
        record(1, 1, 1, "TaskCreated", TITLE),
        record(2, 1, 2, "TaskCompleted", {}),
        record(3, 3, 1, "TaskCreated", {"title": "Call Ann"}),
    )
    assert {id_: (t.title, t.completed) for id_, t in replay.tasks.items()} == {
        1: ("Buy milk", True),
        3: ("Call Ann", False),
    }


def test_what_happens_after_a_deletion_does_not_bring_a_task_back() -> None:
    replay = replayed(
        record(1, 1, 1, "TaskCreated", TITLE),
        record(2, 1, 2, "TaskDeleted", {}),
        record(3, 1, 3, "TaskUpdated", {"changes": {"title": "x"}}),
    )
    assert replay.tasks[1].deleted


def test_messages_are_counted_in_their_conversation_and_known_by_their_own_id() -> None:
    replay = replayed(
        record(1, 1, 1, "ConversationCreated", {}),
        record(2, 1, 2, "MessageAdded", {"role": "user", "content": "one"}),
        record(3, 1, 3, "MessageAdded", {"role": "user", "content": "two"}),
        record(4, 1, 4, "MessageEdited", {"message_id": 2, "content": "uno"}),
        record(5, 1, 5, "MessageDeleted", {"message_id": 3}),
    )
    assert replay.conversations[1].message_count == 1
    assert replay.messages[2].content == "uno"
    assert replay.messages[3].deleted


def test_what_an_erasure_covers_disappears_and_the_ledger_goes_on() -> None:
    replay = replayed(
        record(1, 1, 1, "TaskCreated"),
        record(2, 2, 1, "ConversationCreated"),
        record(3, 2, 2, "MessageAdded"),
        record(4, 4, 1, "LedgerErased", {"through": 3}),
        record(5, 5, 1, "TaskCreated", TITLE),
    )
    assert list(replay.tasks) == [5]
    assert not replay.conversations
    assert not replay.messages


def test_an_erasure_takes_what_it_covers_even_where_the_bodies_are_still_there() -> None:
    replay = replayed(
        record(1, 1, 1, "TaskCreated", TITLE),
        record(2, 2, 1, "ConversationCreated", {}),
        record(3, 2, 2, "MessageAdded", {"role": "user", "content": "one"}),
        record(4, 4, 1, "LedgerErased", {"through": 3}),
        record(5, 1, 2, "TaskCompleted", {}),
        record(6, 2, 3, "MessageEdited", {"message_id": 3, "content": "two"}),
    )
    assert (replay.tasks, replay.conversations, replay.messages) == ({}, {}, {})


def test_streams_may_come_one_after_another_when_the_erasure_is_known_beforehand() -> None:
    replay = Replay(erased_through=2)
    replay.add(record(1, 1, 1, "ConversationCreated", {}))
    replay.add(record(2, 2, 1, "TaskCreated", TITLE))
    replay.add(record(4, 4, 1, "TaskCreated", TITLE))
    assert (list(replay.tasks), replay.conversations) == ([4], {})


def test_rows_that_are_known_are_caught_up() -> None:
    known = replayed(record(1, 1, 1, "TaskCreated", TITLE)).tasks[1]
    replay = Replay()
    replay.tasks[1] = known
    replay.add(record(2, 1, 2, "TaskCompleted", {}))
    replay.add(record(3, 9, 2, "TaskCompleted", {}))
    assert replay.tasks == {1: replay.tasks[1]}
    assert replay.tasks[1].completed


def test_an_event_of_an_unknown_type_is_not_passed_over() -> None:
    with pytest.raises(UnknownEvent):
        replayed(record(1, 1, 1, "TaskPainted", {}))

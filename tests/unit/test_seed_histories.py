"""Made-up histories: real ledgers, and the same ones each time."""

import pytest

from events.ledger import Head, verify
from events.replay import Replay
from mcp_server.commands.seed_histories import events_of_users, history


def test_the_same_seed_and_user_live_the_same_life() -> None:
    assert list(history(1, "ann", 200)) == list(history(1, "ann", 200))
    assert list(history(1, "ann", 20)) != list(history(2, "ann", 20))
    assert list(history(1, "ann", 20)) != list(history(1, "bob", 20))


def test_a_history_is_a_ledger_that_verifies() -> None:
    records = list(history(1, "ann", 2000))
    assert list(verify("ann", records, Head(2000, records[-1].hash))) == []


def test_a_history_folds_to_tasks_conversations_and_messages_in_every_state() -> None:
    replay = Replay()
    for record in history(1, "ann", 3000):
        replay.add(record)
    assert {(t.completed, t.deleted) for t in replay.tasks.values()} >= {
        (False, False),
        (True, False),
        (False, True),
    }
    assert {c.deleted for c in replay.conversations.values()} == {False, True}
    assert any(message.edited_at for message in replay.messages.values())
    assert replay.messages.keys().isdisjoint(replay.tasks)


def test_time_in_a_history_only_goes_forward() -> None:
    times = [record.recorded_at for record in history(1, "ann", 500)]
    assert times == sorted(times)
    assert times[-1].year == 2025


@pytest.mark.parametrize(
    ("events", "users"), [(1, 1), (10, 10), (11, 10), (100, 7), (1_000_000, 10_000)]
)
def test_the_events_are_shared_out_to_the_last(events: int, users: int) -> None:
    counts = events_of_users(events, users)
    assert (sum(counts), len(counts), min(counts) >= 1) == (events, users, True)


def test_some_are_busy_and_some_were_here_once() -> None:
    counts = events_of_users(1_000_000, 10_000)
    assert max(counts) > 100_000
    assert counts.count(1) == 2000

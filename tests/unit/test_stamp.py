"""Settling: what was provisional in an answer becomes what the commit found out."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from events.stamp import NOT_YET, Settlement, iso, settle

AT = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
REAL = Settlement(base=16, at=AT, similar={"Buy milk": [9, 3]})


@pytest.mark.parametrize(
    ("provisional", "real"),
    [
        pytest.param({"task_id": -1}, {"task_id": 17}, id="the first event's position"),
        pytest.param(
            {"task_id": -1, "position": -3}, {"task_id": 17, "position": 19}, id="a later"
        ),
        pytest.param(
            {"task_id": 4, "version": 2}, {"task_id": 4, "version": 2}, id="what is known"
        ),
        pytest.param({"position": 0}, {"position": 0}, id="zero"),
        pytest.param({"created_at": iso(NOT_YET)}, {"created_at": iso(AT)}, id="the time"),
        pytest.param({"completed_at": None}, {"completed_at": None}, id="no time"),
        pytest.param({"title": iso(NOT_YET)}, {"title": iso(NOT_YET)}, id="a title like a time"),
        pytest.param({"similar": "Buy milk"}, {"similar": [9, 3]}, id="tasks of the same title"),
        pytest.param({"similar": "Buy bread"}, {"similar": []}, id="a title that nobody has"),
        pytest.param(
            {"tasks": [{"id": -1}, {"id": -2, "tags": ["-1"], "completed": False}]},
            {"tasks": [{"id": 17}, {"id": 18, "tags": ["-1"], "completed": False}]},
            id="inside lists and objects",
        ),
        pytest.param({"events": [-1, 5, -2]}, {"events": [17, 5, 18]}, id="a list of positions"),
        pytest.param({"unchanged": True}, {"unchanged": True}, id="a truth"),
    ],
)
def test_settles(provisional: Any, real: Any) -> None:
    assert settle(provisional, REAL) == real


def test_what_is_settled_stays_as_it_is() -> None:
    once = settle({"task_id": -1, "created_at": iso(NOT_YET), "tags": ["a"]}, REAL)
    assert settle(once, Settlement(99, AT + timedelta(days=1), {})) == once


def test_the_provisional_answer_is_left_alone() -> None:
    provisional = {"tasks": [{"id": -1}]}
    settle(provisional, REAL)
    assert provisional == {"tasks": [{"id": -1}]}


def test_times_are_written_in_utc() -> None:
    assert iso(AT) == "2026-11-20T12:00:00.250000Z"
    assert iso(AT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == iso(AT)

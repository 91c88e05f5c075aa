"""Decisions about one task: given past events, when a command comes, then new events."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from events.errors import Refused
from events.stamp import Stamp
from events.task import (
    NO_TASK,
    Changes,
    CompleteTask,
    CreateTask,
    DeleteTask,
    ReopenTask,
    RestoreTask,
    Task,
    TaskCommand,
    TaskCompleted,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskReopened,
    TaskRestored,
    TaskUpdated,
    UpdateTask,
    decide,
    due_moment,
    evolve,
    fold,
)
from tests.strategies import task_commands, task_events

CREATED = TaskCreated(title="Book the venue", priority="low", due="2026-12-01", tags=["home"])
COMPLETED = TaskCompleted()
REOPENED = TaskReopened()
DELETED = TaskDeleted()
RESTORED = TaskRestored()
RENAMED = TaskUpdated(changes={"title": "Book a hall"})
CREATE = CreateTask(title="Book the venue")
RENAME = UpdateTask(changes={"title": "Book a hall"})
COMPLETE = CompleteTask()
REOPEN = ReopenTask()
DELETE = DeleteTask()
RESTORE = RestoreTask()


def at(version: int) -> datetime:
    return datetime(2026, 11, 20, 12, tzinfo=UTC) + timedelta(minutes=version)


def task(history: Iterable[TaskEvent], id_: int = 17) -> Task:
    """Return the task that a stream folds to: its first event at position 17, minutes apart."""
    stamps = (Stamp(id_ + n, n + 1, at(n + 1)) for n in range(10_000))
    return fold(zip(history, stamps, strict=False))


def update(**changes: Any) -> UpdateTask:
    return UpdateTask(changes=changes)  # type: ignore[arg-type] # pydantic checks it


def updated(**changes: Any) -> TaskUpdated:
    return TaskUpdated(changes=changes)  # type: ignore[arg-type] # pydantic checks it


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        pytest.param(
            [], CREATE, [TaskCreated(title="Book the venue")], id="creating records the title"
        ),
        pytest.param(
            [],
            CreateTask(title="A", description="B", priority="high", due="2026-12-01", tags=["c"]),
            [
                TaskCreated(
                    title="A", description="B", priority="high", due="2026-12-01", tags=["c"]
                )
            ],
            id="creating records every field",
        ),
        pytest.param([CREATED], RENAME, [RENAMED], id="a title can be changed"),
        pytest.param([CREATED, RENAMED], RENAME, [], id="changing it to what it is adds nothing"),
        pytest.param(
            [CREATED],
            update(title="Book the venue", priority="high", tags=["home"]),
            [updated(priority="high")],
            id="only what differs is recorded",
        ),
        pytest.param(
            [CREATED],
            update(due=None, priority=None, tags=[]),
            [updated(due=None, priority=None, tags=[])],
            id="fields can be emptied",
        ),
        pytest.param(
            [CREATED], update(description=None), [], id="emptying what is empty adds nothing"
        ),
        pytest.param([CREATED], update(), [], id="no changes add nothing"),
        pytest.param([CREATED, COMPLETED], RENAME, [RENAMED], id="a completed task can change"),
        pytest.param([CREATED], COMPLETE, [COMPLETED], id="an open task can be completed"),
        pytest.param([CREATED, COMPLETED], COMPLETE, [], id="completing twice adds nothing"),
        pytest.param([CREATED, COMPLETED], REOPEN, [REOPENED], id="a completed task can reopen"),
        pytest.param([CREATED], REOPEN, [], id="reopening an open task adds nothing"),
        pytest.param([CREATED, COMPLETED, REOPENED], COMPLETE, [COMPLETED], id="complete again"),
        pytest.param([CREATED], DELETE, [DELETED], id="an open task can be deleted"),
        pytest.param([CREATED, COMPLETED], DELETE, [DELETED], id="a completed one too"),
        pytest.param([CREATED, DELETED], DELETE, [], id="deleting twice adds nothing"),
        pytest.param([CREATED, DELETED], RESTORE, [RESTORED], id="a deleted task can be restored"),
        pytest.param([CREATED], RESTORE, [], id="restoring a task that is there adds nothing"),
        pytest.param(
            [CREATED, COMPLETED, DELETED, RESTORED], COMPLETE, [], id="it comes back completed"
        ),
    ],
)
def test_accepted(given_: list[TaskEvent], when: TaskCommand, then: list[TaskEvent]) -> None:
    assert decide(task(given_), when) == then


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        ([CREATED], UpdateTask(changes={"title": "B"}, undoes=4), {"title": "B"}),
        ([CREATED], CompleteTask(undoes=4), None),
        ([CREATED, COMPLETED], ReopenTask(undoes=4), None),
        ([CREATED], DeleteTask(undoes=4), None),
        ([CREATED, DELETED], RestoreTask(undoes=4), None),
    ],
)
def test_an_undo_records_what_it_undoes(
    given_: list[TaskEvent], when: TaskCommand, then: Changes | None
) -> None:
    (event,) = decide(task(given_), when)
    assert not isinstance(event, TaskCreated)
    assert event.undoes == 4
    assert not isinstance(event, TaskUpdated) or event.changes == then


@pytest.mark.parametrize("when", [RENAME, COMPLETE, REOPEN, DELETE, RESTORE, update()])
def test_refused_for_a_task_that_never_existed(when: TaskCommand) -> None:
    with pytest.raises(Refused) as refusal:
        decide(NO_TASK._replace(id=99), when)
    assert refusal.value.code == "not_found"
    assert "99" in refusal.value.message
    assert "list_tasks" in refusal.value.hint


@pytest.mark.parametrize("when", [RENAME, COMPLETE, REOPEN, update()])
def test_refused_for_a_deleted_task_with_the_way_to_restore_it(when: TaskCommand) -> None:
    with pytest.raises(Refused) as refusal:
        decide(task([CREATED, DELETED]), when)
    assert refusal.value.code == "not_found"
    assert "undo(position=18)" in refusal.value.hint


def test_a_refusal_never_quotes_what_was_stored() -> None:
    with pytest.raises(Refused) as refusal:
        decide(task([CREATED, DELETED]), RENAME)
    said = f"{refusal.value.message} {refusal.value.hint} {refusal.value.details}"
    assert "venue" not in said
    assert "hall" not in said


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(
            [CREATED],
            Task(
                id=17,
                title="Book the venue",
                priority="low",
                due="2026-12-01",
                due_at=datetime(2026, 12, 1, tzinfo=UTC),
                tags=["home"],
                created_at=at(1),
                updated_at=at(1),
                version=1,
                position=17,
            ),
            id="its id is the position of its creation",
        ),
        pytest.param(
            [CREATED, updated(due="2026-12-01T08:00:00Z", title="B", tags=[])],
            task([CREATED])._replace(
                title="B",
                due="2026-12-01T08:00:00Z",
                due_at=datetime(2026, 12, 1, 8, tzinfo=UTC),
                tags=[],
                updated_at=at(2),
                version=2,
                position=18,
            ),
            id="an update replaces what it names",
        ),
        pytest.param(
            [CREATED, updated(due=None)],
            task([CREATED])._replace(
                due=None, due_at=None, updated_at=at(2), version=2, position=18
            ),
            id="an emptied due date sorts nowhere",
        ),
        pytest.param(
            [CREATED, COMPLETED],
            task([CREATED])._replace(
                completed=True, completed_at=at(2), updated_at=at(2), version=2, position=18
            ),
            id="completion has a time",
        ),
        pytest.param(
            [CREATED, COMPLETED, REOPENED],
            task([CREATED])._replace(updated_at=at(3), version=3, position=19),
            id="reopening forgets it",
        ),
        pytest.param(
            [CREATED, COMPLETED, DELETED, RESTORED],
            task([CREATED, COMPLETED])._replace(updated_at=at(4), version=4, position=20),
            id="a restored task is as it was",
        ),
    ],
)
def test_folds(history: list[TaskEvent], expected: Task) -> None:
    assert task(history) == expected


def test_a_deleted_task_keeps_its_fields() -> None:
    gone = task([CREATED, DELETED])
    assert gone.deleted
    assert gone.title == "Book the venue"


@given(history=st.lists(task_events(), max_size=8))
def test_any_history_folds(history: list[TaskEvent]) -> None:
    """What is in the log has happened, sensible or not: each event is counted."""
    state = task(history)
    if history:
        assert (state.version, state.position) == (len(history), 16 + len(history))


@given(commands=st.lists(task_commands(), max_size=8))
def test_a_wish_that_came_true_adds_nothing_again(commands: list[TaskCommand]) -> None:
    """On every state that decisions lead to, a command is refused or, once done, already so."""
    state, codes = NO_TASK, set()
    for command in commands:
        try:
            events = decide(state, command)
        except Refused as refusal:
            codes.add(refusal.code)
            continue
        for event in events:
            state = evolve(state, event, Stamp(state.position + 1, state.version + 1, at(1)))
        if not isinstance(command, CreateTask):
            assert decide(state, command) == []
    assert codes <= {"not_found"}


@pytest.mark.parametrize(
    ("due", "stored"),
    [
        ("2026-12-01", "2026-12-01"),
        ("2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
        ("2026-12-01 09:00+00:00", "2026-12-01T09:00:00Z"),
        ("2026-12-01T09:00:00.250Z", "2026-12-01T09:00:00.250000Z"),
        ("2024-02-29", "2024-02-29"),
        ("2026-W49-2", "2026-12-01"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_a_due_time_is_kept_in_utc_and_a_date_as_it_is(due: str, stored: str) -> None:
    assert CreateTask(title="A", due=due).due == stored
    assert CreateTask(title="A", due=stored).due == stored
    moment = due_moment(stored)
    assert moment is not None
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    ("due", "moment"),
    [
        ("0001-01-01", datetime(1, 1, 2, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("no date", None),
        (None, None),
    ],
)
def test_what_a_due_date_sorts_by(due: str | None, moment: datetime | None) -> None:
    assert due_moment(due) == moment


@pytest.mark.parametrize(
    "due",
    [
        "",
        "tomorrow",
        "2026-13-01",
        "2026-02-29",
        "2026-12-01T09:00:00",  # whose morning?
        "20261201",
        "0001-01-01T00:00:00+05:00",  # before the first year, in UTC
        "9999-12-31T23:00:00-05:00",
        "10000-01-01",
        "infinity",
        "2026-12-01\x00",
        "2026-12-01T09:00:00.000000+00:00" + " " * 20,
    ],
)
def test_what_is_no_date_is_refused(due: str) -> None:
    with pytest.raises(ValidationError):
        CreateTask(title="A", due=due)


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "a" * 200},
        {"title": "  kept without its edges  "},
        {"description": "a" * 4000},
        {"description": "lines\nand\ttabs\r\n"},
        {"tags": [str(n) for n in range(20)]},
        {"tags": ["a" * 50]},
        {"priority": "high"},
    ],
)
def test_a_task_within_the_limits(fields: dict[str, Any]) -> None:
    command = CreateTask(**{"title": "A", **fields})
    assert command.title == fields.get("title", "A").strip()


@pytest.mark.parametrize(
    "fields",
    [
        {"title": ""},
        {"title": " \u3000\t\n "},
        {"title": "a" * 201},
        {"title": "two\nlines"},
        {"title": None},
        {"title": 7},
        {"description": "a" * 4001},
        {"description": "a\x00b"},
        {"tags": [str(n) for n in range(21)]},
        {"tags": ["a" * 51]},
        {"tags": [" "]},
        {"tags": "home"},
        {"priority": "urgent"},
        {"priority": "HIGH"},
        {"done": True},
        {"type": "TaskCreated"},
    ],
)
def test_a_task_outside_the_limits(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CreateTask(**{"title": "A", **fields})


def test_a_repeated_tag_counts_once() -> None:
    assert CreateTask(title="A", tags=["b", "a", " b "]).tags == ["b", "a"]


def test_an_update_names_only_fields_that_there_are() -> None:
    with pytest.raises(ValidationError, match="completed"):
        UpdateTask(changes={"completed": True})  # type: ignore[typeddict-unknown-key]

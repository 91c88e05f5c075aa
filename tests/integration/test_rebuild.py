"""Rebuilding the read tables: what is wrong is found and put right, online."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import Connection

from events.stamp import iso
from projections import spans
from projections.mend import _turn, mend
from projections.rebuild import scan
from projections.spans import Span, plan
from tests.conftest import Database
from tests.integration.history import User, connect
from tests.integration.rebuilding import rebuild


@pytest.fixture
async def ann(database: Database) -> AsyncIterator[User]:
    async with await connect(database.app) as connection:
        yield User(connection, "ann")


@pytest.fixture
async def bob(database: Database) -> AsyncIterator[User]:
    async with await connect(database.app) as connection:
        yield User(connection, "bob")


class Totals(NamedTuple):
    users: int
    events: int
    rows: int
    mended: int


def check(operator: Connection[Any], user: str | None = None) -> list[str]:
    """Return the differences as lines."""
    return run(operator, fix=False, user=user)[0]


def run(
    operator: Connection[Any],
    fix: bool = True,
    user: str | None = None,
    lock_timeout: str = "20s",
) -> tuple[list[str], Totals]:
    """Rebuild; return what was different, and totals."""
    reports = rebuild(operator, plan(operator, user)[1], fix, lock_timeout=lock_timeout)
    lines = [
        f"{f.user_id} {f.table} {f.id} {f.kind}" + (f" {f.field}" if f.field else "")
        for report in reports
        for f in report.findings
    ]
    totals = (sum(report[i] for report in reports) for i in range(4))  # type: ignore[misc]
    return sorted(lines), Totals(*totals)


async def lived(user: User) -> None:
    """A little of everything: tasks 1, 2 and 3, conversation 4 with messages 5 and 6."""
    await user.add_task("Buy milk", tags=["home"], due="2026-12-01")
    await user.add_task("Call Ann", priority="high")
    await user.add_task("Sell the boat")
    conversation = await user.create_conversation("Plans")
    message = await user.add_message(conversation, "Hello", metadata='{"x":1.5}')
    await user.add_message(conversation, "Bye")
    await user.complete_task(1)
    await user.update_task(2, title="Call Anna", due="2026-12-01T09:00:00Z")
    await user.delete_task(3)
    await user.edit_message(message, "Hi")


async def test_what_the_live_path_wrote_is_what_the_ledger_folds_to(
    operator: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    await bob.delete_conversation(4)
    lines, totals = run(operator)
    assert lines == []
    assert totals == Totals(users=2, events=21, rows=12, mended=0)


async def test_each_kind_of_difference_is_named_and_put_right(
    operator: Connection[Any], admin: Connection[Any], ann: User
) -> None:
    await lived(ann)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x', version = 9 WHERE id = 1")
    admin.execute("DELETE FROM tasktrail.tasks WHERE id = 2")
    admin.execute("UPDATE tasktrail.conversations SET message_count = 7")
    admin.execute(
        """
        INSERT INTO tasktrail.messages
        SELECT 'zoe', 99, 4, role, content, metadata, NULL, false, created_at, NULL, 1, 99
        FROM tasktrail.messages WHERE id = 5
        """
    )
    expected = [
        "ann conversations 4 different message_count",
        "ann tasks 1 different title",
        "ann tasks 1 different version",
        "ann tasks 2 missing",
        "zoe messages 99 extra",
    ]
    assert check(operator) == expected
    lines, totals = run(operator)
    assert (lines, totals.mended) == (expected, 4)
    assert check(operator) == []


async def test_one_user_is_rebuilt_and_nobody_else(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x'")
    run(operator, user="ann")
    assert check(operator, "ann") == []
    assert {line.split()[0] for line in check(operator)} == {"bob"}


async def test_one_user_is_rebuilt_under_the_lock_of_that_user_only(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x'")
    with admin.transaction():
        admin.execute("SELECT tasktrail.lock_ledger('bob')")
        run(operator, user="ann")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            run(operator, user="bob", lock_timeout="50ms")
    assert {line.split()[0] for line in check(operator)} == {"bob"}


async def test_only_wrong_rows_are_written(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x' WHERE user_id = 'ann' AND id = 2")
    written = "SELECT user_id, id, xmin::text, ctid::text FROM tasktrail.tasks"
    before = set(admin.execute(written))
    run(operator)
    assert [row[:2] for row in before - set(admin.execute(written))] == [("ann", 2)]
    assert check(operator) == []


async def test_dropped_rows_all_come_back(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    tasks = "SELECT t::text FROM tasktrail.tasks t ORDER BY t.user_id, t.id"
    before = admin.execute(tasks).fetchall()
    operator.execute("TRUNCATE tasktrail.tasks, tasktrail.conversations, tasktrail.messages")
    assert run(operator)[1].mended == 12
    assert admin.execute(tasks).fetchall() == before
    assert check(operator) == []


async def test_a_wrong_time_is_told_as_one(
    operator: Connection[Any], admin: Connection[Any], ann: User
) -> None:
    await lived(ann)
    created_at = "SELECT created_at FROM tasktrail.tasks WHERE id = 1"
    right = admin.execute(created_at).fetchall()[0][0]
    doctor = "UPDATE tasktrail.tasks SET created_at = %s, completed_at = NULL WHERE id = 1"
    admin.execute(doctor, ["2020-02-03 04:05:06.789+00"])
    (created,) = (f for f in scan(operator, EVERYTHING)[0].findings if f.field == "created_at")
    assert created.what.endswith(f": 2020-02-03T04:05:06.789000Z, not {iso(right)}")
    admin.execute(doctor, ["infinity"])
    (created,) = (f for f in scan(operator, EVERYTHING)[0].findings if f.field == "created_at")
    assert f": a time beyond the calendar, not {iso(right)}" in created.what
    run(operator)
    assert admin.execute(created_at).fetchall() == [(right,)]


EVERYTHING = Span(0)


FORGE = """
UPDATE tasktrail.events SET body = jsonb_set(body, '{data,title}', '"forged"')
WHERE user_id = 'ann' AND position = 1
"""


@pytest.mark.parametrize("cut", [False, True])
async def test_rows_are_not_mended_by_a_forged_event(
    operator: Connection[Any],
    admin: Connection[Any],
    ann: User,
    bob: User,
    monkeypatch: pytest.MonkeyPatch,
    cut: bool,
) -> None:
    """The row may be the last honest copy of what the event said."""
    await lived(ann)
    await lived(bob)
    if cut:
        monkeypatch.setattr(spans, "BIG", 2)
    titles = "SELECT user_id, id, title FROM tasktrail.tasks ORDER BY user_id, id"
    honest = admin.execute(titles).fetchall()
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        admin.execute(FORGE)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x' WHERE user_id = 'bob'")
    for fix in (False, True):
        lines, totals = run(operator, fix)
        assert [line for line in lines if line.startswith("ann")] == ["ann events 1 tampered body"]
        assert {line.split()[1] for line in lines if line.startswith("bob")} == {"tasks"}
    assert totals.mended == len([row for row in honest if row[0] == "bob"])
    assert admin.execute(titles).fetchall() == honest


async def test_what_is_appended_between_scan_and_lock_is_not_lost(
    operator: Connection[Any],
    admin: Connection[Any],
    ann: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The classic race; the second half shows what happens without the protection."""
    await lived(ann)

    async def race() -> list[str]:
        admin.execute("UPDATE tasktrail.tasks SET title = 'x' WHERE id = 2")
        _, drifts = scan(operator, EVERYTHING)
        await ann.update_task(2, due=None, description=str(await ann.add_task()))
        mend(operator, drifts)
        return check(operator)

    assert await race() == []
    monkeypatch.setattr("projections.mend._Mending._catch_up", lambda *_: None)
    assert "ann tasks 2 different description" in await race()


async def test_an_append_waits_until_the_rows_of_its_user_are_right(
    database: Database, operator: Connection[Any], ann: User, bob: User
) -> None:
    """Without the lock an append between catching up and committing would be lost."""
    await lived(ann)
    async with await connect(database.app) as connection:
        with operator.transaction():
            operator.execute("SELECT tasktrail.lock_ledger('ann')")
            waiting = asyncio.create_task(User(connection, "ann").add_task())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await bob.add_task()
        await waiting


async def test_many_rows_of_one_user_are_put_right_in_steps(
    operator: Connection[Any], admin: Connection[Any], ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived(ann)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x'")
    monkeypatch.setattr("projections.mend.ROWS", 1)
    assert run(operator)[1].mended == 3
    steps = admin.execute("SELECT count(DISTINCT xmin::text) FROM tasktrail.tasks").fetchall()
    assert steps == [(3,)]
    assert check(operator) == []


async def test_of_two_who_mend_parts_of_one_user_the_second_waits(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    """In turns they would leave a writer of hers no moment."""
    await lived(ann)
    await lived(bob)
    admin.execute("UPDATE tasktrail.tasks SET title = 'x'")
    ann_s, bob_s = scan(operator, EVERYTHING)[1]
    operator.execute("SET lock_timeout = '50ms'")
    with _turn(admin, "ann"):
        with pytest.raises(psycopg.errors.LockNotAvailable):
            mend(operator, [ann_s], shared=True)
        assert mend(operator, [bob_s], shared=True).rows == 3
    assert mend(operator, [ann_s], shared=True).rows == 3
    assert check(operator) == []


async def test_a_ledger_that_cannot_be_read_leaves_the_rows_as_they_are(
    operator: Connection[Any], admin: Connection[Any], ann: User, bob: User
) -> None:
    await lived(ann)
    await lived(bob)
    admin.execute("ALTER TABLE tasktrail.events DISABLE TRIGGER USER")
    admin.execute("UPDATE tasktrail.tasks SET title = 'x'")
    admin.execute(
        "UPDATE tasktrail.events SET type = 'TaskEaten' WHERE position = 2 AND user_id = 'ann'"
    )
    lines, totals = run(operator)
    assert [line for line in lines if line.startswith("ann")] == ["ann events 2 unreadable"]
    assert totals.mended == 3
    assert check(operator) == ["ann events 2 unreadable"]


@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param("DELETE FROM tasktrail.events WHERE position = 2", id="a hole"),
        pytest.param("DELETE FROM tasktrail.events WHERE position = 10", id="a cut tail"),
        pytest.param("UPDATE tasktrail.events SET body = NULL WHERE position = 1", id="no body"),
        pytest.param("UPDATE tasktrail.events SET body = '{}' WHERE position = 1", id="no data"),
        pytest.param("UPDATE tasktrail.events SET body = '[7]' WHERE position = 1", id="a list"),
    ],
)
async def test_a_ledger_that_cannot_be_believed_takes_no_rows_away(
    operator: Connection[Any], admin: Connection[Any], ann: User, forgery: str
) -> None:
    await lived(ann)
    admin.execute("ALTER TABLE tasktrail.events DISABLE TRIGGER USER")
    admin.execute(forgery)
    lines, totals = run(operator)
    assert [line.split()[1:4:2] for line in lines] == [["events", "unreadable"]]
    assert totals.mended == 0


async def test_whatever_ends_a_scan_early_leaves_a_connection_that_can_be_used(
    operator: Connection[Any], ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived(ann)
    with monkeypatch.context() as patch:
        patch.setattr("projections.snapshot._CHUNK", 1)
        patch.setattr("projections.fold.Stamp", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            scan(operator, EVERYTHING)
    assert check(operator) == []


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def test_what_is_derived_from_a_row_is_made_anew_when_asked_for(
    operator: Connection[Any], admin: Connection[Any], ann: User
) -> None:
    await lived(ann)
    derived = "SELECT title_key, search, status FROM tasktrail.tasks ORDER BY id"
    before = admin.execute(derived).fetchall()
    admin.execute("ALTER TABLE tasktrail.tasks DISABLE TRIGGER derive")
    admin.execute("UPDATE tasktrail.tasks SET search = '' WHERE id = 2")
    admin.execute("UPDATE tasktrail.tasks SET status = 2 WHERE id = 1")
    admin.execute("UPDATE tasktrail.tasks SET title_key = '' WHERE id = 3")
    admin.execute("ALTER TABLE tasktrail.tasks ENABLE TRIGGER derive")
    told = ["ann tasks 1 different status", "ann tasks 3 different title_key"]
    assert sorted(run(operator)[0]) == told
    assert [report.mended for report in rebuild(operator, [EVERYTHING], rewrite=True)] == [6]
    assert admin.execute(derived).fetchall() == before
    assert check(operator) == []

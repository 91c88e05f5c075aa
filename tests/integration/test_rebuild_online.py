"""A rebuild while people read and write, and one that is killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from mcp_server.commands.jobs import connected, each, span_by_span
from mcp_server.commands.rebuild import _ONE_AT_A_TIME
from mcp_server.commands.seed import fill, user_name
from projections import spans
from projections.rebuild import MENDERS, rebuild, scan
from projections.spans import Span, of_all, plan
from tests.conftest import THOROUGH, Database
from tests.integration.command_line import Run
from tests.integration.history import User, connect

USERS = 60


@pytest.fixture
def doctored(database: Database, admin: Connection[Any]) -> None:
    """A busy database in which every title is wrong."""
    with psycopg.connect(database.admin) as connection:
        fill(connection, events=6000, users=USERS, seed=1, done=lambda _: None)
    admin.execute("UPDATE tasktrail.tasks SET title = 'wrong'")


WRONG_AND_ALL = """
    SELECT t.user_id, count(*) FILTER (WHERE t.title = 'wrong'), count(*)
    FROM tasktrail.tasks t GROUP BY t.user_id
    """


def halves(connection: Connection[Any]) -> list[str]:
    """Return the users of whom some tasks are wrong and some are right, at one moment."""
    rows = connection.execute(WRONG_AND_ALL).fetchall()
    return [user for user, wrong, tasks in rows if 0 < wrong < tasks]


def wrong(connection: Connection[Any]) -> int:
    return sum(row[1] for row in connection.execute(WRONG_AND_ALL))


@pytest.mark.usefixtures("doctored")
async def test_readers_see_all_of_the_old_or_all_of_the_new_and_never_less(
    database: Database, admin: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "EVENTS", 200)
    before = {user: tasks for user, _, tasks in admin.execute(WRONG_AND_ALL)}

    def rebuilt() -> None:
        connect = partial(connected, database.operator)
        with connect() as connection:
            assert list(rebuild(connect, of_all(connection), fix=True))

    rebuilding = asyncio.create_task(asyncio.to_thread(rebuilt))
    looks = 0
    while not rebuilding.done():
        rows = admin.execute(WRONG_AND_ALL).fetchall()
        assert {user: tasks for user, _, tasks in rows} == before
        assert [user for user, wrong, tasks in rows if 0 < wrong < tasks] == []
        looks += 1
        await asyncio.sleep(0)
    await rebuilding
    assert looks > 1
    assert wrong(admin) == 0


@pytest.mark.usefixtures("doctored")
async def test_nothing_that_is_written_meanwhile_is_lost(
    database: Database, operator: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "EVENTS", 200)
    monkeypatch.setattr(spans, "BIG", 500)

    async def write(number: int, until: asyncio.Event) -> int:
        added = 0
        async with await connect(database.app) as connection:
            user = User(connection, user_name(1, number))
            while not until.is_set():
                await user.complete_task(await user.add_task("Added meanwhile"))
                added += 1
        return added

    done = asyncio.Event()
    writing = [asyncio.create_task(write(number, done)) for number in range(1, 6)]

    def rebuilt() -> None:
        connect = partial(connected, database.operator)
        with connect() as connection:
            assert list(rebuild(connect, of_all(connection), fix=True))

    await asyncio.to_thread(rebuilt)
    done.set()
    assert sum(await asyncio.gather(*writing)) > 5
    assert findings(operator) == []


def start(database: Database, jobs: int) -> "subprocess.Popen[str]":
    """Start ``rebuild-projections`` in a process group of its own."""
    program = "from mcp_server.cli import rebuild_main; rebuild_main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "--jobs", str(jobs)],
        env={**os.environ, "DATABASE_URL": database.operator},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def findings(connection: Connection[Any]) -> list[Any]:
    return [f for span in of_all(connection) for f in scan(connection, span)[0].findings]


@pytest.mark.usefixtures("doctored")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_rebuild_leaves_every_row_as_it_was_or_as_it_should_be(
    database: Database, admin: Connection[Any], tasktrail: Run, jobs: int
) -> None:
    all_wrong, before = wrong(admin), tables(admin)
    with psycopg.connect(database.admin) as other:  # so that it cannot end before it is killed
        other.execute("SELECT tasktrail.lock_ledger(%s)", [user_name(1, USERS)])
        process = start(database, jobs)
        wait_until(lambda: waits_for_a_lock(admin))
        process.kill()
        process.communicate()
    wait_until(lambda: not operators(admin))
    assert halves(admin) == []
    assert 0 < wrong(admin) <= all_wrong
    assert tables(admin) == before
    said = tasktrail("rebuild-projections", DATABASE_URL=database.operator)
    assert said.code == 0
    assert wrong(admin) == 0


@pytest.mark.usefixtures("doctored")
@pytest.mark.parametrize("jobs", [1, 2])
def test_whenever_it_is_killed_the_next_one_makes_all_right(
    database: Database, admin: Connection[Any], tasktrail: Run, jobs: int
) -> None:
    before = tables(admin)
    moments = Random(jobs)
    for _ in range(40 if THOROUGH else 2):
        admin.execute("UPDATE tasktrail.tasks SET title = 'wrong'")
        all_wrong = wrong(admin)
        process = start(database, jobs)
        wait_until(lambda: operators(admin))
        time.sleep(moments.random() * 0.5)
        process.kill()
        process.communicate()
        wait_until(lambda: not operators(admin))
        assert halves(admin) == []
        assert wrong(admin) <= all_wrong
        assert tables(admin) == before
    assert tasktrail("rebuild-projections", DATABASE_URL=database.operator).code == 0
    assert wrong(admin) == 0


@pytest.mark.usefixtures("doctored")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_it_without_a_word(
    database: Database, admin: Connection[Any], jobs: int
) -> None:
    with psycopg.connect(database.admin) as other:  # so that it cannot end before
        other.execute("SELECT tasktrail.lock_ledger(%s)", [user_name(1, USERS)])
        process = start(database, jobs)
        wait_until(lambda: waits_for_a_lock(admin))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    wait_until(lambda: not operators(admin))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits_for_a_lock(admin: Connection[Any]) -> bool:
    query = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
    return admin.execute(query).rowcount > 0


def operators(admin: Connection[Any]) -> int:
    query = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'tasktrail_test_operator'
        """
    return admin.execute(query).rowcount


def tables(admin: Connection[Any]) -> set[str]:
    """Return all tables, temporary ones included."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r'"
    return {name for (name,) in admin.execute(query)}


@pytest.mark.usefixtures("doctored")
def test_of_two_rebuilds_at_once_the_second_says_so_and_does_nothing(
    database: Database, admin: Connection[Any], tasktrail: Run
) -> None:
    before = wrong(admin)
    admin.execute("SELECT pg_advisory_lock(%s)", [_ONE_AT_A_TIME])
    said = tasktrail("rebuild-projections", DATABASE_URL=database.operator)
    assert said.code == 3
    assert "Another rebuild" in said.err
    assert wrong(admin) == before
    said = tasktrail("rebuild-projections", "--check", DATABASE_URL=database.operator)
    assert said.code == 1  # looking is always allowed
    admin.execute("SELECT pg_advisory_unlock(%s)", [_ONE_AT_A_TIME])
    assert tasktrail("rebuild-projections", DATABASE_URL=database.operator).code == 0


@pytest.mark.usefixtures("doctored")
def test_several_processes_do_the_same_as_one(
    database: Database, operator: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "EVENTS", 500)
    _, work = plan(operator, None)
    expected = findings(operator)
    found = [
        finding
        for report in each(database.operator, partial(rebuild, fix=True), work, 2, MENDERS + 1)
        for finding in report.findings
    ]
    assert sorted(found) == sorted(expected)
    assert findings(operator) == []


def test_what_fails_in_a_worker_fails_in_the_command(database: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        list(each(database.auditor, partial(span_by_span, _forbidden), [Span(0), Span(0)], 2))


def _forbidden(connection: Connection[Any], _: Span) -> None:
    connection.execute("DELETE FROM tasktrail.tasks")

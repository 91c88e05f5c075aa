"""What a command has said when it breaks off midway: as JSON one whole document, or nothing."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from mcp_server.commands.progress import WorkProgress
from mcp_server.commands.seed import fill
from projections import spans
from tests.conftest import Database
from tests.integration.command_line import Run

USER = "demo-1-00001"


@pytest.fixture
def admin(database: Database) -> Iterator[Connection[Any]]:
    """A superuser, on a database with ten users, each of whom has a wrong row."""
    with psycopg.connect(database.admin) as connection:
        fill(connection, events=300, users=10, seed=1, done=lambda _: None)
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("UPDATE tasktrail.tasks SET version = 99")
        connection.execute("SET session_replication_role = replica")
        yield connection


@pytest.fixture
def going_away(admin: Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The database ends all sessions as soon as the first of several spans is done."""

    def advance(_: WorkProgress, _events: int) -> None:
        admin.execute(
            "SELECT pg_terminate_backend(a.pid, 10000) FROM pg_stat_activity a"
            " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
        )

    monkeypatch.setattr(WorkProgress, "advance", advance)
    monkeypatch.setattr(spans, "EVENTS", 1)


@pytest.mark.usefixtures("going_away")
@pytest.mark.parametrize("command", [["verify"], ["rebuild-projections", "--check"]])
def test_a_check_during_which_the_database_goes_away_prints_no_half_of_a_document(
    database: Database, tasktrail: Run, command: list[str]
) -> None:
    url = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    said = tasktrail(*command, "--json", "--jobs", "1", **url)
    assert (said.code, said.out) == (3, "")
    assert "has gone away" in said.err
    said = tasktrail(*command, "--jobs", "1", **url)
    assert said.code == 3
    assert f"{USER} tasks " in said.out, "what was found by then is told as it comes"
    assert "Nothing is wrong" not in said.out


@pytest.mark.parametrize("command", [["replay"], ["diff", "--from", "0"]])
def test_a_past_with_an_event_that_cannot_be_read_is_no_half_of_a_document(
    database: Database, tasktrail: Run, admin: Connection[Any], command: list[str]
) -> None:
    admin.execute(
        "UPDATE tasktrail.events SET body = '[1]' WHERE user_id = %s AND position ="
        " (SELECT max(position) FROM tasktrail.events WHERE user_id = %s)",
        [USER, USER],
    )
    said = tasktrail(command[0], USER, *command[1:], "--json", DATABASE_URL=database.auditor)
    assert (said.code, said.out) == (1, "")
    assert "cannot be read" in said.err

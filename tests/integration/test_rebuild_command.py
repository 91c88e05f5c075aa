"""``rebuild-projections`` on the command line: what it says, and what it ends with."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from mcp_server.commands import progress
from mcp_server.commands.seed import fill
from tests.conftest import Database
from tests.integration.command_line import Run, Said

FIRST = "demo-1-00001"


@pytest.fixture
def admin(database: Database) -> Iterator[Connection[Any]]:
    """A superuser, on a database with ten users of whom one has a wrong row."""
    with psycopg.connect(database.admin) as connection:
        fill(connection, events=300, users=10, seed=1, done=lambda _: None)
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute(
            """
            UPDATE tasktrail.tasks SET title = 'secret', version = 99 WHERE (user_id, id) =
                (SELECT t.user_id, min(t.id) FROM tasktrail.tasks t
                 WHERE t.user_id = %s GROUP BY 1)
            """,
            [FIRST],
        )
        yield connection


@pytest.fixture
def rebuild(database: Database, tasktrail: Run) -> Run:
    """Run it as the operator."""

    def run(*arguments: str) -> Said:
        url = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
        return tasktrail("rebuild-projections", *arguments, **url)

    return run


@pytest.mark.usefixtures("admin")
def test_a_check_has_a_line_for_each_difference_and_mends_nothing(rebuild: Run) -> None:
    for _ in range(2):
        said = rebuild("--check")
        title, version, verdict, summary = said.out.splitlines()
        assert said.code == 1
        assert title.startswith(f"{FIRST} tasks ")
        assert title.endswith(" title: is not as in the ledger")
        assert " version: is not as in the ledger: 99, not " in version
        assert verdict == "2 findings: see above."
        assert summary.startswith("10 users, 300 events, ")
        assert ", 0 mended in " in summary
        assert "secret" not in said.out


@pytest.mark.usefixtures("admin")
def test_a_check_that_is_to_write_every_row_is_a_usage_error(rebuild: Run) -> None:
    said = rebuild("--check", "--rewrite")
    assert (said.code, said.out) == (2, "")
    assert rebuild("--check").code == 1


@pytest.mark.usefixtures("admin")
def test_as_json_it_is_one_object(rebuild: Run) -> None:
    said = rebuild("--check", "--json")
    assert said.code == 1
    first, second = said.json["findings"]
    assert (first["user_id"], first["table"], first["kind"]) == (FIRST, "tasks", "different")
    assert (first["field"], second["field"]) == ("title", "version")
    assert (said.json["users"], said.json["events"], said.json["mended"]) == (10, 300, 0)
    said = rebuild("--json")
    assert (said.code, said.json["findings"], said.json["mended"]) == (0, [], 1)


@pytest.mark.usefixtures("admin")
def test_fix_says_what_it_mends(rebuild: Run) -> None:
    said = rebuild("--check", "--fix")
    assert said.code == 0
    assert len(said.out.splitlines()) == 4
    assert ", 1 mended in " in said.out
    said = rebuild("--check")
    verdict, summary = said.out.splitlines()
    assert (said.code, verdict) == (0, "Nothing is wrong. Each row is as its ledger says.")
    assert ", 0 mended in " in summary


@pytest.mark.usefixtures("admin")
def test_a_rebuild_that_is_no_check_gives_no_verdict(rebuild: Run) -> None:
    said = rebuild()
    assert (said.code, len(said.out.splitlines())) == (0, 1)


@pytest.mark.usefixtures("admin")
def test_one_user_alone(rebuild: Run) -> None:
    assert rebuild("--user", "demo-1-00002", "--check").code == 0
    assert rebuild("--user", FIRST, "--check").code == 1
    said = rebuild("--user", "nobody")
    assert (said.code, said.out) == (2, "")
    assert "'nobody'" in said.err


def test_a_ledger_that_cannot_be_believed_is_told_even_when_it_says_nothing_else(
    rebuild: Run, admin: Connection[Any]
) -> None:
    admin.execute("ALTER TABLE tasktrail.events DISABLE TRIGGER ALL")
    admin.execute("DELETE FROM tasktrail.events WHERE user_id = 'demo-1-00002' AND position = 2")
    said = rebuild()
    assert said.code == 1
    assert "demo-1-00002 events 3: comes after 1: events are missing" in said.out.splitlines()


@pytest.mark.parametrize("options", [[], ["--check", "--fix"], ["--rewrite"], ["--user", FIRST]])
def test_rows_left_alone_because_the_chain_does_not_hold_are_no_success(
    rebuild: Run, admin: Connection[Any], options: list[str]
) -> None:
    admin.execute("SET session_replication_role = replica")
    admin.execute(
        "UPDATE tasktrail.events SET body = jsonb_set(body, '{reason}', '\"forged\"')"
        " WHERE user_id = %s AND position = 2",
        [FIRST],
    )
    said = rebuild(*options)
    assert f"{FIRST} events 2 body: does not match its commitment" in said.out.splitlines()
    assert said.code == 1
    assert rebuild("--user", "demo-1-00002").code == 0


@pytest.mark.usefixtures("admin")
def test_a_login_that_sees_one_user_at_a_time_is_told_so(
    database: Database, tasktrail: Run
) -> None:
    said = tasktrail("rebuild-projections", "--check", DATABASE_URL=database.app)
    assert (said.code, said.out) == (3, "")
    assert "ADMIN_DATABASE_URL" in said.err


@pytest.mark.usefixtures("admin")
def test_progress_is_lines_where_there_is_no_terminal(
    rebuild: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0)
    said = rebuild("--check")
    assert said.err.startswith("comparing: 300 of 300 events, ")
    assert said.err.endswith(" s left\n")


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param(
            "default_transaction_read_only=on", "in a read-only transaction", id="a standby"
        ),
        pytest.param("lock_timeout=100ms", "due to lock timeout", id="a lock that is never free"),
    ],
)
def test_what_the_database_cannot_do_is_one_clear_line(
    database: Database, tasktrail: Run, admin: Connection[Any], setting: str, said: str, jobs: str
) -> None:
    url = make_conninfo(database.operator, options=f"-c {setting}")
    with admin.transaction():
        admin.execute("SELECT tasktrail.lock_ledger(%s)", [FIRST])
        ended = tasktrail("rebuild-projections", "--jobs", jobs, DATABASE_URL=url)
    assert (ended.code, ended.out) == (3, "")
    (line,) = ended.err.splitlines()
    assert said in line
    assert "reached" not in line

"""``tasktrail migrate``: the schema is brought up to date, or it is said who has to do what."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from mcp_server import migrate
from tests.conftest import PASSWORD, Server
from tests.integration.command_line import Run


@pytest.fixture
def login(server: Server, empty: str) -> Iterator[str]:
    """A login of this test's own that may do nothing in particular."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    identifier = sql.Identifier(name)
    password = sql.Literal(PASSWORD)
    server.run(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, password))
    yield name
    with psycopg.connect(server.conninfo(empty), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(identifier))
    server.run(sql.SQL("DROP ROLE {}").format(identifier))


def test_an_empty_database_gets_the_schema_and_repeating_it_does_nothing(
    server: Server, empty: str, tasktrail: Run
) -> None:
    first = tasktrail("migrate", DATABASE_URL=server.conninfo(empty))
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"Made the schema: it is at revision {migrate.newest()}.\n")
    second = tasktrail("migrate", "--json", DATABASE_URL=server.conninfo(empty))
    assert second.json == {"before": migrate.newest(), "after": migrate.newest()}


def test_nothing_stays_set_for_the_session(
    server: Server, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a pooler the session goes on to somebody else."""
    left: list[Any] = []

    class Watched(psycopg.Connection[Any]):
        def close(self) -> None:
            if not self.closed:
                left.append(self.execute("SELECT current_user = session_user").fetchone())
            super().close()

    monkeypatch.setattr(psycopg, "connect", Watched.connect)
    assert migrate.upgrade(server.conninfo(empty)).before is None
    assert set(left) == {(True,)}


def test_the_admin_url_is_the_one_that_is_used(server: Server, empty: str, tasktrail: Run) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    said = tasktrail("migrate", DATABASE_URL=nowhere, ADMIN_DATABASE_URL=server.conninfo(empty))
    assert said.code == 0


def test_a_login_that_may_not_do_it_is_told_what_an_administrator_has_to_run(
    server: Server, empty: str, login: str, tasktrail: Run
) -> None:
    url = server.conninfo(empty, login)
    refused = tasktrail("migrate", DATABASE_URL=url)
    assert refused.code == 3
    statements = refused.err.partition(":\n")[2]
    assert f'GRANT CREATE ON DATABASE "{empty}" TO "{login}"' in statements
    with psycopg.connect(server.conninfo(empty), autocommit=True) as administrator:
        administrator.execute(statements)
    assert tasktrail("migrate", DATABASE_URL=url).code == 0


def test_a_login_that_may_make_roles_and_bypasses_row_level_security_can_migrate(
    server: Server, empty: str, login: str, tasktrail: Run
) -> None:
    """As Neon's default owner: it may grant the roles it makes, but not act as them."""
    identifier = sql.Identifier(login)
    server.run(sql.SQL("ALTER ROLE {} CREATEROLE BYPASSRLS").format(identifier))
    with psycopg.connect(server.conninfo()) as connection:
        modern = connection.info.server_version >= 160_000
    option = "ADMIN TRUE, INHERIT FALSE, SET FALSE" if modern else "ADMIN OPTION"
    grant = sql.SQL(f"GRANT tasktrail_owner, tasktrail_operator TO {{}} WITH {option}")
    server.run(grant.format(identifier))
    server.run(
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
            sql.Identifier(empty), sql.Identifier(login)
        )
    )
    try:
        said = tasktrail("migrate", DATABASE_URL=server.conninfo(empty, login))
        assert (said.code, said.err) == (0, "")
    finally:
        server.run(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(empty)))


def test_a_database_of_a_newer_tasktrail_is_left_alone(
    server: Server, empty: str, tasktrail: Run
) -> None:
    migrate.upgrade(server.conninfo(empty))
    with psycopg.connect(server.conninfo(empty), autocommit=True) as connection:
        connection.execute("UPDATE tasktrail.alembic_version SET version_num = '9999'")
    said = tasktrail("migrate", DATABASE_URL=server.conninfo(empty))
    assert said.code == 3
    assert "9999" in said.err


def test_the_embedded_database_is_migrated_too(tasktrail: Run, home: Path) -> None:
    said = tasktrail("migrate", "--json", TASKTRAIL_HOME=str(home))
    assert said.json == {"before": None, "after": migrate.newest()}


def test_a_database_that_is_away_ends_with_3(tasktrail: Run) -> None:
    said = tasktrail("migrate", DATABASE_URL="postgresql://x:pa55word@127.0.0.1:1/x")
    assert said.code == 3
    assert "pa55word" not in said.err

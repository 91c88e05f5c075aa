"""The database's own wall: what the server's login gets by SQL that the server never sends.

test_roles.py says what each role may do to each table; here it is tried to get at another user.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from events import store
from events.draft import Draft
from events.ledger import Json
from events.task import CreateTask
from mcp_server import handle
from mcp_server.handle import Context
from mcp_server.tools.conversations import AddMessage
from mcp_server.tools.tasks import AddTask
from tests.conftest import Database
from tests.integration.agents import TABLES, Agent, Inspector

Connection = psycopg.Connection[tuple[Any, ...]]
NOBODY = handle.actor("test", Context("nobody", "cli"))
VICTIM, MALLORY = "victim", "mallory"


@pytest.fixture
def login(database: Database) -> Iterator[Connection]:
    """The server's login, as whoever could run SQL as the server would use it."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
async def two_users(pool: Any) -> None:
    """The victim and Mallory, each with a task, a conversation, a message and a key."""
    for user in (VICTIM, MALLORY):
        agent = Agent(pool, user)
        await agent(AddTask(title=f"secret of {user}", tags=["secret"], idempotency_key="k"))
        await agent(AddMessage(role="user", content=f"secret of {user}"))


# --- statements that forget to say whose rows they want ----------------------------------------

CARELESS = (
    "SELECT t.user_id FROM tasktrail.{table} t",
    "SELECT t.user_id FROM tasktrail.{table} t WHERE t.user_id = 'victim' OR true",
    "SELECT t.user_id FROM tasktrail.{table} t WHERE t.user_id <> 'mallory'",
    "SELECT max(t.user_id) FROM tasktrail.{table} t HAVING max(t.user_id) IS NOT NULL",
    "SELECT a.user_id FROM tasktrail.{table} a LEFT JOIN tasktrail.{table} b ON true",
    "WITH x AS MATERIALIZED (SELECT * FROM tasktrail.{table}) SELECT x.user_id FROM x",
    "SELECT (SELECT min(s.user_id) FROM tasktrail.{table} s) FROM generate_series(1, 1)",
)


@pytest.mark.parametrize("statement", CARELESS)
def test_a_statement_without_a_user_sees_the_one_that_is_set(
    login: Connection, statement: str
) -> None:
    for table in TABLES:
        with login.transaction():
            login.execute("SELECT tasktrail.as_user('mallory')")
            rows = login.execute(statement.format(table=table).encode()).fetchall()
            assert {row[0] for row in rows} <= {MALLORY, None}


@pytest.mark.parametrize("user", ["", "nobody", "VICTIM", "victim ", "victim\t", "%", "vict%", "*"])
def test_a_user_who_is_nobody_sees_nothing(login: Connection, user: str) -> None:
    for table in TABLES:
        with login.transaction():
            login.execute("SELECT set_config('tasktrail.user_id', %s, true)", [user])
            assert login.execute(f"SELECT 1 FROM tasktrail.{table}".encode()).fetchall() == []


def test_the_planners_statistics_tell_nothing(database: Database, login: Connection) -> None:
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute("ANALYZE")
    seen = login.execute("SELECT tablename FROM pg_stats WHERE schemaname = 'tasktrail'").fetchall()
    assert {table for (table,) in seen} <= {"alembic_version", "checkpoints"}


def test_explain_and_errors_tell_nothing(login: Connection) -> None:
    """A row that a policy hides is not looked at by a condition of ours, so that none can tell."""
    leaky = "SELECT 1 FROM tasktrail.tasks t WHERE (t.title || 'x')::int > 0"
    with login.transaction():
        login.execute("SELECT tasktrail.as_user('nobody')")
        assert login.execute(leaky.encode()).fetchall() == []
    with login.transaction():
        login.execute("SELECT tasktrail.as_user('nobody')")
        told = login.execute("EXPLAIN ANALYZE SELECT * FROM tasktrail.tasks").fetchall()
    assert "secret" not in str(told)


# --- functions that see more than who calls them ------------------------------------------------


def found(login: Connection, user: str, asked_for: str) -> list[Any]:
    """Search for "secret" as ``user`` in the tasks of somebody."""
    return login.execute(
        "SELECT s.id FROM tasktrail.as_user(%s) AS u, LATERAL"
        " (SELECT * FROM tasktrail.search_tasks(%s, 'secret') WHERE u IS NOT NULL) AS s",
        (user, asked_for),
    ).fetchall()


def test_a_search_finds_only_what_is_the_users_own(login: Connection) -> None:
    assert len(found(login, MALLORY, MALLORY)) == 1
    assert found(login, MALLORY, VICTIM) == []
    assert found(login, "", VICTIM) == []
    assert found(login, "", "") == []
    unset = "SELECT s.id FROM tasktrail.search_tasks('victim', 'secret') AS s"
    assert login.execute(unset.encode()).fetchall() == []


@pytest.mark.parametrize("query", ["secret", "secret | victim", "u*", "' | '", ":*", "!nothing"])
def test_a_search_with_operators_finds_no_more(login: Connection, query: str) -> None:
    with login.transaction():
        login.execute("SELECT tasktrail.as_user('nobody')")
        assert (
            login.execute(
                "SELECT s.id FROM tasktrail.search_tasks('nobody', %s) AS s", [query]
            ).fetchall()
            == []
        )


def sealed(user: str, **rows: Any) -> Json:
    """Return one command as the server makes it, but for some ``rows``."""
    draft = Draft()
    draft.change_task(None, CreateTask(title="x"))
    return {**store.seal(user, draft, NOBODY), **rows}


def commit(login: Connection, command: Json) -> Any:
    statement = store._COMMIT.replace("%s", "%(commands)s").encode()
    return login.execute(statement, {"commands": orjson.dumps([command]).decode()}).fetchone()


def test_rows_that_name_another_user_are_written_as_the_callers_own(
    login: Connection, inspector: Inspector
) -> None:
    before = [row for rows in inspector.everything().values() for row in rows]
    command = sealed(MALLORY)
    for kind in ("events", "tasks"):
        for row in command[kind]:
            row["user_id"] = VICTIM
    assert commit(login, command)[1] == "committed"
    after = [row for rows in inspector.everything().values() for row in rows]
    of = {row["user_id"] for row in after if row not in before}
    assert of == {MALLORY}
    victims = [row for row in before if row["user_id"] == VICTIM]
    assert [row for row in after if row["user_id"] == VICTIM] == victims


@pytest.mark.parametrize(
    "forged",
    [
        {"stream_type": "ledger", "type": "LedgerErased"},
        {"type": "LedgerErased"},
        {"stream_type": "ledger"},
    ],
)
def test_the_server_cannot_say_that_a_ledger_was_erased(
    login: Connection, inspector: Inspector, forged: Json
) -> None:
    before = inspector.everything()
    command = sealed(MALLORY)
    command["events"][0] |= {**forged, "body": {"data": {"through": 1}, "reason": None}}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        commit(login, command)
    assert inspector.everything() == before


def test_a_command_of_nobody_is_not_written(login: Connection, inspector: Inspector) -> None:
    before = inspector.everything()
    for nobody in ("", None):
        with pytest.raises(InsufficientPrivilege, match="row-level security"):
            commit(login, sealed(MALLORY, user_id=nobody))
    assert inspector.everything() == before


# --- one connection, many users ------------------------------------------------------------------


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan", "force_custom_plan"])
def test_a_plan_that_is_kept_answers_each_user_with_their_own(
    login: Connection, plans: str
) -> None:
    """Also where it was made for another: policies are looked at when it runs, not when planned."""
    login.execute(f"SET plan_cache_mode = {plans}".encode())
    questions = [
        "SELECT x.user_id FROM tasktrail.as_user(%s) AS u, LATERAL"
        f" (SELECT user_id FROM tasktrail.{table} WHERE user_id = u OR true) AS x"
        for table in TABLES
    ]
    for turn in range(20):
        user = (MALLORY, VICTIM, "nobody")[turn % 3]
        for question in questions:
            rows = login.execute(question.encode(), [user], prepare=True).fetchall()
            assert {row[0] for row in rows} == ({user} - {"nobody"})


def test_functions_that_keep_plans_write_for_each_user_their_own(
    login: Connection, inspector: Inspector
) -> None:
    login.execute("SET plan_cache_mode = force_generic_plan")
    for turn in range(24):
        assert commit(login, sealed((MALLORY, VICTIM)[turn % 2]))[2] == 3 + turn // 2
    for user in (MALLORY, VICTIM):
        assert inspector.findings(user) == []
        assert len(inspector.tasks(user)) == 13

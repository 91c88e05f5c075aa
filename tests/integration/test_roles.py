"""Who may do what in the database: the last line, below any mistake in the server."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from mcp_server.database import Database as Pool
from mcp_server.tools.conversations import AddMessage
from mcp_server.tools.tasks import AddTask
from tests.conftest import LOGINS, Database
from tests.integration import agents
from tests.integration.agents import Agent, Inspector

Connection = psycopg.Connection[tuple[Any, ...]]
ADDED_TO_BY_THE_OPERATOR = ("holds", "checkpoint_heads")
TABLES = (*agents.TABLES, *ADDED_TO_BY_THE_OPERATOR)
WITHOUT_A_USER = ("alembic_version", "checkpoints")
NOT_THE_SERVERS = ("audit_access", "checkpoint_access")  # test_access.py: who may do what to it
READ_TABLES = ("tasks", "conversations", "messages")
VERBS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
GROUPS = ("tasktrail_owner", "tasktrail_app", "tasktrail_operator", "tasktrail_auditor")
ALL_TABLES = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'tasktrail'::regnamespace"


@pytest.fixture
async def two_users(pool: Pool, inspector: Inspector) -> None:
    """user-1 and user-2, each with a row in every table."""
    for user_id in ("user-1", "user-2"):
        agent = Agent(pool, user_id)
        await agent(AddTask(title=f"Of {user_id}", idempotency_key="k"))
        await agent(AddMessage(role="user", content=f"Of {user_id}"))
        inspector.run("INSERT INTO tasktrail.holds (user_id, reason) VALUES (%s, '')", user_id)
        inspector.run("INSERT INTO tasktrail.checkpoint_heads VALUES (%s, 1, 1, '')", user_id)


@pytest.fixture
def login(database: Database, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A connection of the login that the test is parametrized with: app, operator or auditor."""
    conninfo = getattr(database, request.param)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


def as_login(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("login", names, indirect=True)


def attempt(connection: psycopg.Connection[Any], verb: str, table: str) -> int:
    """Do ``verb`` to every row of ``table``; return how many there were."""
    name = sql.Identifier("tasktrail", table)
    statements = {
        "INSERT": "INSERT INTO {} SELECT * FROM {} WHERE false",
        "UPDATE": "UPDATE {} SET user_id = 'user-3'"
        if table != "checkpoints"
        else "UPDATE {} SET note = ''",
        "DELETE": "DELETE FROM {}",
        "TRUNCATE": "TRUNCATE {}",
    }
    return connection.execute(sql.SQL(statements[verb]).format(name, name)).rowcount


def privileges(inspector: Inspector, role: str) -> dict[str, set[str]]:
    """Return what ``role`` may do to each table of the schema; a table without any is left out."""
    rows = inspector.rows(
        f"""
        SELECT relname, privilege
        FROM ({ALL_TABLES} AND relkind IN ('r', 'p', 'v', 'm', 'f')) AS t,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                'TRIGGER']) AS privilege
        WHERE has_table_privilege(%s, oid, privilege)
        """,
        role,
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["relname"], set()).add(row["privilege"])
    return found


# --- the server's login -------------------------------------------------------------------------


@as_login("app", "auditor")
@pytest.mark.usefixtures("two_users")
def test_the_server_and_the_auditor_write_no_table(login: Connection) -> None:
    login.execute("SELECT set_config('tasktrail.user_id', 'user-1', false)")
    for table, verb in product(TABLES, VERBS):
        with pytest.raises(InsufficientPrivilege):
            attempt(login, verb, table)


@pytest.mark.parametrize("name", ["tasktrail_server", "tasktrail_test_auditor"])
def test_they_may_only_read(inspector: Inspector, name: str) -> None:
    found = privileges(inspector, name)
    assert set(found) >= set(TABLES)
    assert {verb for table in TABLES for verb in found[table]} == {"SELECT"}


@as_login("app")
@pytest.mark.usefixtures("two_users")
@pytest.mark.parametrize("user_id", [None, "", "user-3", "user-1 ", "%"])
def test_without_a_user_nothing_is_seen(login: Connection, user_id: str | None) -> None:
    if user_id is not None:
        login.execute("SELECT set_config('tasktrail.user_id', %s, false)", [user_id])
    for table, where in product(TABLES, ("true", "user_id = 'user-1'", "user_id LIKE '%'")):
        name = sql.Identifier("tasktrail", table)
        query = sql.SQL("SELECT * FROM {} WHERE {}").format(name, sql.SQL(where))
        assert login.execute(query).fetchall() == []


@as_login("app")
@pytest.mark.usefixtures("two_users")
def test_with_a_user_only_theirs_is_seen(login: Connection) -> None:
    """Even by a query that forgets to say whose rows it wants."""
    for table, user_id in product(TABLES, ("user-1", "user-2")):
        query = sql.SQL(
            "SELECT t.user_id FROM tasktrail.as_user(%s) AS u, LATERAL "
            "(SELECT * FROM tasktrail.{} WHERE user_id = u OR true) AS t"
        ).format(sql.Identifier(table))
        assert {row[0] for row in login.execute(query, [user_id])} == {user_id}


@as_login("app")
@pytest.mark.usefixtures("two_users")
def test_the_user_of_one_statement_is_forgotten_in_the_next(login: psycopg.Connection) -> None:
    login.execute("SELECT * FROM tasktrail.as_user('user-1')")
    assert login.execute("SELECT * FROM tasktrail.tasks").fetchall() == []


AGAINST_THE_RULES = (
    "CREATE TABLE tasktrail.mine ()",
    "CREATE FUNCTION tasktrail.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "ALTER TABLE tasktrail.events DISABLE TRIGGER ALL",
    "ALTER TABLE tasktrail.events NO FORCE ROW LEVEL SECURITY",
    "DROP TABLE tasktrail.events",
    "DROP TRIGGER append_only ON tasktrail.events",
    "CREATE POLICY mine ON tasktrail.events USING (true)",
    "SET ROLE tasktrail_owner",
    "SET session_replication_role = replica",
    "COPY tasktrail.events TO PROGRAM 'cat'",
    "INSERT INTO tasktrail.alembic_version VALUES ('0000')",
    "SET SESSION AUTHORIZATION tasktrail_owner",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER SYSTEM SET fsync = off",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "SELECT lo_export(1, '/tmp/mine')",
    "SELECT tasktrail.protect('tasktrail.events')",
)


@as_login("app", "operator", "auditor")
def test_no_login_changes_the_rules(login: Connection) -> None:
    for statement in AGAINST_THE_RULES:
        with pytest.raises(InsufficientPrivilege):
            login.execute(statement)


@as_login("app")
def test_the_server_cannot_look_past_row_level_security(login: Connection) -> None:
    login.execute("SET row_security = off")
    with pytest.raises(InsufficientPrivilege):
        login.execute("SELECT * FROM tasktrail.tasks")


def test_the_server_does_not_see_who_looked(inspector: Inspector) -> None:
    assert not privileges(inspector, "tasktrail_server").keys() & set(NOT_THE_SERVERS)
    found = privileges(inspector, "tasktrail_test_auditor")
    assert {verb for table in NOT_THE_SERVERS for verb in found[table]} == {"SELECT"}


# --- the operator and the auditor ---------------------------------------------------------------


@as_login("operator")
@pytest.mark.usefixtures("two_users")
def test_the_operator_cannot_write_the_ledger(login: Connection) -> None:
    for table, verb in product(set(agents.TABLES) - set(READ_TABLES), VERBS):
        with pytest.raises(InsufficientPrivilege):
            attempt(login, verb, table)


@as_login("operator")
@pytest.mark.usefixtures("two_users")
def test_what_the_operator_added_stays(login: Connection) -> None:
    """But a hold, which ends one day."""
    for table, verb in product((*ADDED_TO_BY_THE_OPERATOR, "checkpoints"), VERBS):
        if verb != "INSERT" and (table, verb) != ("holds", "DELETE"):
            with pytest.raises(InsufficientPrivilege):
                attempt(login, verb, table)


@as_login("operator")
@pytest.mark.usefixtures("two_users")
def test_the_operator_may_write_every_users_read_rows(login: Connection) -> None:
    """The trigger that derives what queries need runs with the operator's own rights."""
    for table in READ_TABLES:
        name = sql.Identifier("tasktrail", table)
        login.execute(sql.SQL("CREATE TEMP TABLE kept AS SELECT * FROM {}").format(name))
        assert attempt(login, "DELETE", table) == 2
        assert login.execute(sql.SQL("INSERT INTO {} TABLE kept").format(name)).rowcount == 2
        login.execute("DROP TABLE kept")


@as_login("operator", "auditor")
@pytest.mark.usefixtures("two_users")
def test_operator_and_auditor_see_every_user(login: Connection) -> None:
    for table in TABLES:
        query = sql.SQL("SELECT user_id FROM {}").format(sql.Identifier("tasktrail", table))
        assert {row[0] for row in login.execute(query)} == {"user-1", "user-2"}


# --- the owner ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_users")
def test_not_even_the_owner_or_a_superuser_changes_an_event(inspector: Inspector) -> None:
    before = inspector.everything()
    inspector.run("SELECT set_config('tasktrail.user_id', 'user-1', false)")
    for role, verb in product(("none", "tasktrail_owner"), ("UPDATE", "DELETE", "TRUNCATE")):
        inspector.run(f"SET ROLE {role}")
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            attempt(inspector.connection, verb, "events")
    inspector.run("RESET ROLE")
    assert inspector.everything() == before


@pytest.mark.usefixtures("two_users")
def test_the_owner_is_bound_by_row_level_security_too(inspector: Inspector) -> None:
    inspector.run("SET ROLE tasktrail_owner")
    for table in TABLES:
        assert inspector.rows(f"SELECT * FROM tasktrail.{table}") == []
    inspector.run("SELECT set_config('tasktrail.user_id', 'user-2', false)")
    for table in TABLES:
        seen = inspector.rows(f"SELECT DISTINCT user_id FROM tasktrail.{table}")
        assert seen == [{"user_id": "user-2"}]


# --- rules that a new table or function has to keep ------------------------------------------


def names(inspector: Inspector, query: str, *values: Any) -> set[str]:
    return {row["name"] for row in inspector.rows(query, *values)}


def test_the_tables_of_these_tests_are_all_there_are(inspector: Inspector) -> None:
    """So that whoever adds a table adds it to TABLES, and its rows to these tests."""
    tables = names(inspector, f"SELECT relname AS name FROM ({ALL_TABLES} AND relkind = 'r') AS t")
    assert tables == {*TABLES, *WITHOUT_A_USER, *NOT_THE_SERVERS}


def test_row_level_security_is_forced_on_every_table_with_a_user(inspector: Inspector) -> None:
    unprotected = names(
        inspector,
        """
        SELECT c.relname AS name FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'tasktrail'::regnamespace
        AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant'))
        """,
    )
    assert unprotected == set()


def test_no_policy_lets_the_server_see_more(inspector: Inspector) -> None:
    """Policies are joined by OR: one that is for everybody and says true would undo the others."""
    policies = inspector.rows(
        "SELECT policyname, roles::text[], qual FROM pg_policies WHERE schemaname = 'tasktrail'"
    )
    for policy in policies:
        if "public" in policy["roles"] or "tasktrail_app" in policy["roles"]:
            assert policy["policyname"] == "tenant"
            assert "tasktrail.user_id" in policy["qual"]


def test_every_key_starts_with_the_user(inspector: Inspector) -> None:
    """A unique key without the user would tell one user what another has."""
    others = """
        SELECT i.indexrelid::regclass::text AS name FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'tasktrail'::regnamespace
        WHERE c.relname NOT IN ('alembic_version', 'checkpoints')
        AND pg_get_indexdef(i.indexrelid, 1, true) NOT IN ('user_id', '(ARRAY[user_id])')
    """
    assert names(inspector, others) == set()


def test_nothing_needs_a_sequence_or_a_foreign_key(inspector: Inspector) -> None:
    """So that the tables can be distributed by user."""
    assert (
        names(inspector, f"SELECT relname AS name FROM ({ALL_TABLES} AND relkind = 'S') t") == set()
    )
    identities = """
        SELECT attname AS name FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE c.relnamespace = 'tasktrail'::regnamespace AND attidentity <> ''
    """
    assert names(inspector, identities) == set()
    foreign = """
        SELECT conname AS name FROM pg_constraint
        WHERE connamespace = 'tasktrail'::regnamespace AND contype = 'f'
    """
    assert names(inspector, foreign) == set()


def test_a_view_would_have_its_readers_rights(inspector: Inspector) -> None:
    views = f"""
        SELECT c.relname AS name FROM pg_class c WHERE c.oid IN (SELECT oid FROM ({ALL_TABLES}) t)
        AND (relkind = 'm' OR relkind = 'v'
            AND NOT coalesce('security_invoker=true' = ANY(c.reloptions), false))
    """
    assert names(inspector, views) == set()


def test_no_function_is_for_everybody(inspector: Inspector) -> None:
    for_everybody = """
        SELECT p.oid::regprocedure::text AS name FROM pg_proc p,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS acl
        WHERE p.pronamespace = 'tasktrail'::regnamespace AND acl.grantee = 0
    """
    assert names(inspector, for_everybody) == set()


def test_a_function_with_its_owners_rights_has_a_fixed_search_path(inspector: Inspector) -> None:
    loose = """
        SELECT p.proname AS name FROM pg_proc p
        WHERE p.pronamespace = 'tasktrail'::regnamespace AND p.prosecdef
        AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY(p.proconfig), false)
    """
    assert names(inspector, loose) == set()


def callable_by(inspector: Inspector, role: str) -> set[str]:
    return names(
        inspector,
        """
        SELECT p.proname AS name FROM pg_proc p
        WHERE p.pronamespace = 'tasktrail'::regnamespace
        AND has_function_privilege(%s, p.oid, 'EXECUTE')
        """,
        role,
    )


def test_who_may_call_what(inspector: Inspector) -> None:
    assert callable_by(inspector, "tasktrail_server") == {
        "as_user",
        "checkpoint_leaves",
        "commit_commands",
        "search_tasks",
        "search_these",
    }
    assert "commit_commands" not in callable_by(inspector, "tasktrail_test_operator")
    assert callable_by(inspector, "tasktrail_test_auditor") == {
        "as_user",
        "checkpoint_leaves",
        "record_access",
        "searchable",
        "words",
        "words_apart",
    }


def test_everything_belongs_to_the_owner(inspector: Inspector) -> None:
    """Only these run as the operator, whom the policies let see all: each file says why."""
    others = """
        SELECT relname AS name FROM pg_class
        WHERE relnamespace = 'tasktrail'::regnamespace AND relowner <> 'tasktrail_owner'::regrole
        UNION ALL
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'tasktrail'::regnamespace AND proowner <> 'tasktrail_owner'::regrole
    """
    assert names(inspector, others) == {"search_tasks", "checkpoint_leaves"}


def test_the_groups_have_no_powers_of_their_own(inspector: Inspector) -> None:
    rows = inspector.rows(
        """
        SELECT rolname, rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb
            OR rolreplication AS powerful
        FROM pg_roles WHERE rolname = ANY(%s)
        """,
        list(GROUPS),
    )
    assert {row["rolname"]: row["powerful"] for row in rows} == dict.fromkeys(GROUPS, False)


def test_no_login_is_a_member_of_the_owner(inspector: Inspector) -> None:
    for login in LOGINS:
        (row,) = inspector.rows("SELECT pg_has_role(%s, 'tasktrail_owner', 'MEMBER') AS is", login)
        assert row["is"] is False


def test_the_schema_is_not_for_everybody(inspector: Inspector) -> None:
    for_everybody = """
        SELECT acl.privilege_type AS name FROM pg_namespace,
            aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl
        WHERE nspname = 'tasktrail' AND acl.grantee = 0
    """
    assert names(inspector, for_everybody) == set()

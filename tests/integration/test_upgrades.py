"""A database of an older revision is upgraded with what is in it, and becomes like a new one."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from mcp_server import migrate
from mcp_server.database import Database as Pool
from mcp_server.tools.tasks import AddTask
from projections import tasks
from projections.spans import Span
from projections.tasks import Filter
from projections.verify import verify
from tests.conftest import LOGINS, Database, Server
from tests.integration.agents import Agent
from tests.integration.history import User, connect
from tests.integration.rebuilding import rebuild

GOLDEN = Path(__file__).parents[1] / "golden"
EVERYTHING = Span(0)

SCHEMA = """
SELECT 'function', pg_get_functiondef(p.oid), p.proowner::regrole::text,
    ARRAY(SELECT a::text FROM unnest(p.proacl) AS a ORDER BY a::text)
FROM pg_proc p WHERE p.pronamespace = 'tasktrail'::regnamespace
UNION ALL
SELECT 'trigger', pg_get_triggerdef(t.oid), NULL, NULL FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'tasktrail'::regnamespace
UNION ALL
SELECT 'index', pg_get_indexdef(i.indexrelid), NULL, NULL FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'tasktrail'::regnamespace
UNION ALL
SELECT c.relkind::text, c.relname || '.' || a.attname || ' ' || a.atttypid::regtype,
    c.relowner::regrole::text,
    ARRAY(SELECT a::text FROM unnest(c.relacl) AS a ORDER BY a::text)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'tasktrail'::regnamespace
"""


@pytest.fixture
def old(server: Server, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database as revision 0001 was when it was the newest."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, folder)
    for later in (folder / "versions").glob("000[2-9]_*.py"):
        later.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "FOLDER", folder)
        assert migrate.upgrade(server.conninfo(empty)).after == "0001"
    with psycopg.connect(server.conninfo(empty)) as connection:
        connection.execute("SET LOCAL ROLE tasktrail_owner")
        connection.execute((GOLDEN / "revision_0001.sql").read_text())
    app, operator, auditor = (server.conninfo(empty, login) for login in LOGINS)
    return Database(empty, server.conninfo(empty), app, operator, auditor)


def schema(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        return {str(row) for row in connection.execute(SCHEMA)}


def found(connection: Connection[Any], words: bool) -> list[str]:
    return [finding.line() for finding in verify(connection, EVERYTHING, words).findings]


def test_an_upgraded_schema_is_a_new_one(old: Database, database: Database) -> None:
    assert schema(old.admin) != schema(database.admin)
    upgrade = migrate.upgrade(old.admin)
    assert (upgrade.before, upgrade.after) == ("0001", migrate.newest())
    assert schema(old.admin) == schema(database.admin)


async def test_a_command_that_a_migration_overtakes_is_written_all_the_same(
    database: Database,
) -> None:
    """It has begun with functions and a type that are no more when it needs the next of them."""
    async with Pool(database.app) as pool:
        with psycopg.connect(database.admin) as other:
            other.execute("LOCK TABLE tasktrail.events IN SHARE MODE")  # no inserts
            under_way = asyncio.create_task(Agent(pool, "ann")(AddTask(title="Buy milk")))
            await until_somebody_waits(database)
            remake_the_functions(database)
        assert (await under_way)["position"] == 1
        assert (await Agent(pool, "ann")(AddTask(title="More milk")))["position"] == 2


async def until_somebody_waits(database: Database) -> None:
    with psycopg.connect(database.admin, autocommit=True) as connection:
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(20):
            while connection.execute(waits).fetchone() is None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


def remake_the_functions(database: Database) -> None:
    """Do what revision 0002 does, without the part that waits for commands under way."""
    names = ("accepted", "write_tasks", "write_conversations", "write_messages", "commit_commands")
    with psycopg.connect(database.admin) as connection:
        connection.execute("SET LOCAL ROLE tasktrail_owner")
        connection.execute("DROP FUNCTION tasktrail.commit_commands")
        connection.execute("DROP TYPE tasktrail.accepted CASCADE")
        for name in names:
            connection.execute((migrate.FOLDER / "sql" / f"{name}.sql").read_bytes())


async def test_who_lived_under_the_old_revision_goes_on_under_the_new_one(old: Database) -> None:
    """This program writes to both: so a server may be older, or newer, than the schema."""
    async with await connect(old.app) as connection:
        ann, bob = User(connection, "ann"), User(connection, "bob")
        await ann.add_task("Buy milk")
        await bob.add_task("Buy milk, too")
        migrate.upgrade(old.admin)
        await ann.complete_task(1)
        await ann.add_task("More milk")
        milk = Filter(query="milk")
        shown = await tasks.list_tasks(connection, "ann", milk, "relevance", limit=9)
        assert [(task.id, task.completed) for task, _ in shown] == [(3, False), (1, True)]
    with psycopg.connect(old.operator, autocommit=True) as operator:
        assert found(operator, words=False) == []
        assert [line.split()[:4] for line in found(operator, words=True)] == [
            ["bob", "tasks", "1", "search:"]
        ]
        rebuild(operator, [EVERYTHING], rewrite=True)
        assert found(operator, words=True) == []

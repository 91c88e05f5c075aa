"""A backslash means the same, also where somebody has switched standard_conforming_strings off.

Then it begins an escape; and Postgres reads a function's body when the function is called, as the
caller's strings are.
"""

import asyncio

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mcp_server import migrate
from mcp_server.tools.tasks import AddTask
from tests.conftest import Database, Server
from tests.integration.agents import Agent
from tests.integration.command_line import Run
from tests.integration.test_upgrades import schema

TEXTS = ("寿司を買う", "ไปตลาด", "“Café” – v2.0", r"a\1b", "plain")  # noqa: RUF001 - a dash
CHECKPOINT = """
INSERT INTO tasktrail.checkpoints (number, note, key) VALUES (1, '', '');
INSERT INTO tasktrail.checkpoint_heads (user_id, number, position, hash)
SELECT user_id, 1, position, hash FROM tasktrail.ledgers;
"""


def switch_off(database: str, server: Server) -> None:
    server.run(
        sql.SQL("ALTER DATABASE {} SET standard_conforming_strings = off").format(
            sql.Identifier(database)
        )
    )


@pytest.fixture
def odd(database: Database, server: Server, agent: Agent) -> Database:  # noqa: ARG001 - as it is
    switch_off(database.name, server)
    return database


def test_a_schema_made_there_is_the_same(empty: str, server: Server, database: Database) -> None:
    switch_off(empty, server)
    migrate.upgrade(server.conninfo(empty))
    shown = make_conninfo(server.conninfo(empty), options="-c standard_conforming_strings=on")
    assert schema(shown) == schema(database.admin)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT tasktrail.words(t, true) FROM unnest(%s::text[]) AS t",
        "SELECT tasktrail.searchable(t, '{}', NULL)::text FROM unnest(%s::text[]) AS t",
        "SELECT tasktrail.question(t)::text FROM unnest(%s::text[]) AS t",
        "SELECT tasktrail.checkpoint_leaves(1) FROM unnest(%s::text[])",
    ],
)
async def test_functions_return_the_same(agent: Agent, odd: Database, statement: str) -> None:
    await agent(AddTask(title="Buy milk"))
    answers = []
    for value in ("on", "off"):
        with psycopg.connect(odd.admin) as connection:
            connection.execute(CHECKPOINT)
            connection.execute(f"SET standard_conforming_strings = {value}".encode())
            answers.append(connection.execute(statement, [list(TEXTS)]).fetchall())
            connection.rollback()
    assert answers[0] == answers[1]
    assert len(answers[0]) == len(TEXTS)


UNSAID = r"""
SELECT p.proname FROM pg_proc p
WHERE p.pronamespace = 'tasktrail'::regnamespace
AND strpos(regexp_replace(p.prosrc, $$E'[^']*'$$, '', 'g'), chr(92)) > 0
AND 'standard_conforming_strings=on' <> ALL (coalesce(p.proconfig, '{}'))
"""


def test_every_function_with_a_backslash_says_how_to_read_it(database: Database) -> None:
    with psycopg.connect(database.admin) as connection:
        assert connection.execute(UNSAID).fetchall() == []
        connection.execute("ALTER FUNCTION tasktrail.words RESET standard_conforming_strings")
        assert connection.execute(UNSAID).fetchall() == [("words",)]


async def test_the_record_of_who_looked_holds(agent: Agent, odd: Database, tasktrail: Run) -> None:
    await agent(AddTask(title="Buy milk"))
    for command in (["history", "user-1"], ["verify"]):
        said = await asyncio.to_thread(tasktrail, *command, DATABASE_URL=odd.operator)
        assert (said.code, "access" in said.out) == (0, False), said.out + said.err

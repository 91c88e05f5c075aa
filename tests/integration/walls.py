"""The walls between users, and how a test takes one away to see that the others hold.

Beside the token there are two: every statement names the user, and row-level security shows it
nothing else. ``search_tasks`` stands aside: it runs as a role whom the policies let see all, so it
has its own test (test_walls.py), and nothing is taken from it here.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.integration.agents import TABLES

COMMIT = Path(__file__).parents[2] / "migrations" / "sql" / "commit_commands.sql"
# `u` is still named, so that the user is set before a row is looked at, but any row will do.
_IN_A_READ = re.compile(r"\b((?:\w+\.)?user_id) = u\b")
_IN_THE_COMMIT = re.compile(r"\b\w\.user_id = (v_user|u\.user_id)\b")


def admin(database: Database) -> psycopg.Connection[Any]:
    """Connect as a superuser, whom no policy binds."""
    return psycopg.connect(database.admin, autocommit=True)


def empty(database: Database) -> None:
    """Forget every user."""
    with admin(database) as connection:
        # Without the trigger that forbids it.
        connection.execute("SET session_replication_role = replica")
        tables = ", ".join(f"tasktrail.{table}" for table in TABLES)
        connection.execute(f"TRUNCATE {tables}".encode())


def owners(database: Database) -> dict[str, int]:
    """Return how many events each user has."""
    with admin(database) as connection:
        rows = connection.execute("SELECT user_id, count(*) FROM tasktrail.events GROUP BY user_id")
        return dict(rows.fetchall())


def remove_row_level_security(database: Database) -> None:
    """Let whoever may read a table read all of it."""
    with admin(database) as connection:
        for table in TABLES:
            connection.execute(
                f"ALTER TABLE tasktrail.{table} DISABLE ROW LEVEL SECURITY,"
                " NO FORCE ROW LEVEL SECURITY".encode()
            )


def watch_statements(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that fills with every statement that this process sends."""
    execute: Callable[..., Any] = psycopg.AsyncCursor.execute
    sent: set[str] = set()

    async def watched(self: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        sent.add(str(query))
        return await execute(self, query, *arguments, **named)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", watched)
    return sent


def careless(statement: str) -> list[str]:
    """Return the tables that a statement reads without saying whose rows it wants."""
    used = re.findall(rf"\btasktrail\.({'|'.join(TABLES)})\b(?:\s+(?:AS\s+)?(\w+))?", statement)
    return [table for table, alias in used if f"{alias}.user_id = u" not in statement]


def remove_users_from_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take `user_id = u` out of every statement that this process sends."""
    execute: Callable[..., Any] = psycopg.AsyncCursor.execute

    async def careless(self: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        return await execute(self, _without_user(query), *arguments, **named)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", careless)


@cache
def _without_user(query: str) -> str:
    return _IN_A_READ.sub(r"(\1 = u OR u IS NOT NULL)", query)


def remove_users_from_commit(database: Database) -> None:
    """Take `user_id = ...` out of commit_commands."""
    careless, places = _IN_THE_COMMIT.subn(r"\1 IS NOT NULL", COMMIT.read_text())
    assert places > 4, "the function does not look as this test thinks"
    careless = careless.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    with admin(database) as connection:
        connection.execute("SET ROLE tasktrail_owner")
        connection.execute(careless.encode())

"""``tasktrail seed``: a database as if people had lived in it."""

from typing import Any

import psycopg
import pytest
from psycopg import Connection

from mcp_server.commands.seed import UsersExist, fill
from tests.conftest import Database


def seeded(conninfo: str, seed: int = 1, events: int = 500, users: int = 20) -> None:
    with psycopg.connect(conninfo) as connection:
        fill(connection, events, users, seed, lambda _: None)


def dump(connection: Connection[Any]) -> list[Any]:
    tables = ("ledgers", "events", "tasks", "conversations", "messages")
    return [
        connection.execute(f"SELECT t::text FROM tasktrail.{table} t ORDER BY 1").fetchall()
        for table in tables
    ]


def test_the_same_seed_makes_the_same_database(database: Database) -> None:
    with psycopg.connect(database.admin, autocommit=True) as connection:
        seeded(database.admin)
        first = dump(connection)
        connection.execute("ALTER TABLE tasktrail.events DISABLE TRIGGER USER")
        for table in ("ledgers", "events", "tasks", "conversations", "messages"):
            connection.execute(f"TRUNCATE tasktrail.{table}")
        seeded(database.admin)
        assert dump(connection) == first
        assert [len(rows) > 0 for rows in first] == [True] * 5


def test_users_that_exist_are_not_touched(database: Database) -> None:
    seeded(database.admin, seed=1)
    with psycopg.connect(database.admin, autocommit=True) as connection:
        before = dump(connection)
        with pytest.raises(UsersExist, match="demo-1-00001"):
            seeded(database.admin, seed=1, events=900, users=30)
        assert dump(connection) == before
        seeded(database.admin, seed=2)
        assert connection.execute("SELECT count(*) FROM tasktrail.events").fetchall() == [(1000,)]

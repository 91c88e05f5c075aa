"""Agents at work on a real database: what tests of the write path share."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from events.conversation import Conversation, Message
from events.ledger import Finding, Head, Json, Record, verify
from events.task import Task
from mcp_server.database import Database as Pool
from mcp_server.handle import Command, Context, handle
from tests.conftest import Database

TABLES = ("ledgers", "events", "idempotency", "tasks", "conversations", "messages")
COLUMNS = ", ".join(Record._fields)


class Agent:
    """One user's agent: calls a tool through ``handle`` and returns its answer."""

    def __init__(self, pool: Pool, user_id: str = "user-1", **context: Any) -> None:
        self.pool = pool
        self.context = Context(user_id, "http", **context)

    async def __call__(self, command: Command) -> Json:
        return await handle(self.pool, command, self.context)


class Inspector:
    """Looks at a database as its superuser, whom no policy binds, one statement at a time."""

    def __init__(self, database: Database) -> None:
        self.connection = psycopg.connect(database.admin, autocommit=True, row_factory=dict_row)
        self.run("SET timezone = 'UTC'")

    def close(self) -> None:
        self.connection.close()

    def rows(self, statement: str, *values: Any) -> list[Json]:
        """Return what a query finds."""
        return self.connection.execute(statement, values).fetchall()

    def run(self, statement: str, *values: Any) -> None:
        """Execute a statement."""
        self.connection.execute(statement, values)

    def events(self, user_id: str = "user-1") -> list[Record]:
        """Return a user's whole ledger, oldest event first."""
        statement = f"SELECT {COLUMNS} FROM tasktrail.events WHERE user_id = %s ORDER BY position"
        return [Record(**row) for row in self.rows(statement, user_id)]

    def head(self, user_id: str = "user-1") -> Head:
        """Return the head of a user's ledger."""
        statement = "SELECT position, hash FROM tasktrail.ledgers WHERE user_id = %s"
        (row,) = self.rows(statement, user_id)
        return Head(**row)

    def findings(self, user_id: str = "user-1") -> list[Finding]:
        """Return what is wrong with a user's ledger."""
        return list(verify(user_id, self.events(user_id), self.head(user_id)))

    def tasks(self, user_id: str = "user-1") -> dict[int, Task]:
        """Return a user's rows of the read table, by id."""
        return {row["id"]: Task(**row) for row in self._table("tasks", Task._fields, user_id)}

    def conversations(self, user_id: str = "user-1") -> dict[int, Conversation]:
        """Return a user's rows of the read table, by id."""
        rows = self._table("conversations", Conversation._fields, user_id)
        return {row["id"]: Conversation(**row) for row in rows}

    def messages(self, user_id: str = "user-1") -> dict[int, Message]:
        """Return a user's rows of the read table, by id."""
        rows = self._table("messages", Message._fields, user_id)
        return {row["id"]: Message(**row) for row in rows}

    def _table(self, name: str, columns: tuple[str, ...], user_id: str) -> list[Json]:
        statement = f"SELECT {', '.join(columns)} FROM tasktrail.{name} WHERE user_id = %s"
        return self.rows(f"{statement} ORDER BY id", user_id)

    def everything(self) -> dict[str, list[Json]]:
        """Return all rows of all tables as (user_id, text), to compare before and after."""
        return {
            name: self.rows(f"SELECT t.user_id, t::text FROM tasktrail.{name} AS t ORDER BY 2")
            for name in TABLES
        }

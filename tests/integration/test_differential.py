"""Whatever happens to users: the live rows, a rebuild and a naive second fold are the same."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.rows import dict_row

from events.conversation import DeleteMessage, RestoreConversation, RestoreMessage
from events.errors import Refused
from events.ledger import Record
from events.task import DeleteTask, ReopenTask, RestoreTask
from projections import spans
from projections.read_tables import READ_TABLES
from projections.rebuild import scan
from projections.spans import Span
from tests.conftest import Database
from tests.integration.history import User, connect
from tests.integration.rebuilding import rebuild
from tests.naive_fold import Rows, fold
from tests.strategies import DUE, PRIORITY, TAGS, TEXT, TITLE, changes

NUMBERS = count(1)
Step = Callable[[User], Awaitable[Any]]

id_ = st.integers(1, 12)
content = TEXT.filter(lambda text: bool(text.strip()))
fields = st.fixed_dictionaries(
    {}, optional={"description": TEXT, "priority": PRIORITY, "due": DUE, "tags": TAGS}
)


def step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """Draw a call of one of User's methods."""
    return st.tuples(*arguments).map(lambda drawn: lambda user: getattr(user, name)(*drawn))


steps = st.one_of(
    st.builds(lambda title, more: lambda user: user.add_task(title, **more), TITLE, fields),
    st.builds(lambda id_, new: lambda user: user.update_task(id_, **new), id_, changes()),
    step("complete_task", id_),
    step("change_task", id_, st.sampled_from([ReopenTask(), DeleteTask(), RestoreTask()])),
    step("create_conversation", st.none() | TITLE),
    step("add_message", id_, content),
    step("edit_message", id_, content),
    step("change_message", id_, st.sampled_from([DeleteMessage(), RestoreMessage()])),
    step("delete_conversation", id_),
    step("change_conversation", id_, st.just(RestoreConversation())),
    step("erase"),
)


@pytest.fixture
async def app(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database.app) as connection:
        yield connection


@pytest.fixture
async def eraser(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database.operator) as connection:
        yield connection


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(steps, min_size=1, max_size=40))
async def test_live_rows_a_rebuild_and_a_naive_fold_agree(
    operator: Connection[Any],
    app: psycopg.AsyncConnection[Any],
    eraser: psycopg.AsyncConnection[Any],
    history: list[Step],
) -> None:
    user = User(app, f"user-{next(NUMBERS)}", eraser)
    for happening in history:
        with suppress(Refused):  # a task that is not there, or deleted
            await happening(user)
    live = read_tables(operator, user.user_id)
    for table, rows in zip(READ_TABLES, fold(events(operator, user.user_id)), strict=True):
        naive = {id_: {name: row[name] for name in table.fields} for id_, row in rows.items()}
        assert live[table.name] == naive
    whole = Span(0, user_id=user.user_id)
    assert scan(operator, whole)[0].findings == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "BIG", 3)
        for part in spans.of_user(user.user_id, len(history)):
            assert scan(operator, part)[0].findings == []
    for table in READ_TABLES:
        operator.execute(f"DELETE FROM tasktrail.{table.name}")
    rebuild(operator, [whole])
    assert read_tables(operator, user.user_id) == live


def events(connection: Connection[Any], user_id: str) -> list[Record]:
    """Return a user's ledger."""
    columns = ", ".join(Record._fields)
    query = f"SELECT {columns} FROM tasktrail.events WHERE user_id = %s ORDER BY position"
    return [Record(*row) for row in connection.execute(query, [user_id])]


def read_tables(connection: Connection[Any], user_id: str) -> dict[str, Rows]:
    """Return a user's rows of the read tables."""
    tables: dict[str, Rows] = {}
    for table in READ_TABLES:
        cursor = connection.cursor(row_factory=dict_row)
        query = f"SELECT {', '.join(table.fields)} FROM tasktrail.{table.name} WHERE user_id = %s"
        tables[table.name] = {row["id"]: row for row in cursor.execute(query, [user_id])}
    return tables

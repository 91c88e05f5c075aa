"""How Postgres answers, for a user with many tasks among many users: with an index, always."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from events import store
from events.draft import Draft
from mcp_server.database import _LIMITS
from mcp_server.handle import Context, actor
from mcp_server.tools.tasks import AddTask
from projections import current, history, tasks
from projections.current import Wanted
from projections.tasks import Filter, Sort
from tests.conftest import Server, copy_of

BIG, SMALL = "user-1", "user-2"
_ROWS = """
INSERT INTO tasktrail.tasks (
    user_id, id, title, description, priority, due, due_at, tags, completed, deleted,
    created_at, updated_at, version, position)
SELECT user_id, n, 'Buy ' || (ARRAY['milk', 'bread', 'paint'])[1 + n % 3] || ' number ' || n, NULL,
    (ARRAY['low', 'high'])[n % 5], NULL, CASE WHEN n % 4 = 0 THEN now() + n * interval '1 hour' END,
    ARRAY['home'], n % 10 = 0, false, now(), now(), 1, n
FROM (
    SELECT 'user-1' AS user_id, n FROM generate_series(1, 5000) AS n
    UNION ALL
    SELECT 'user-' || u, n FROM generate_series(2, 5000) AS u, generate_series(1, 2) AS n
) AS x
"""

_EVENTS = """
INSERT INTO tasktrail.events (
    user_id, position, stream_type, stream_id, version, type, schema_version, event_id, command_id,
    actor, commitment, body, content_hash, hash, recorded_at)
SELECT user_id, id, 'task', id, 1, 'TaskCreated', 1, gen_random_uuid(), gen_random_uuid(),
    '{}', '', '{}', '', '', now()
FROM tasktrail.tasks
"""

_LEDGERS = """
INSERT INTO tasktrail.ledgers (user_id, position, hash, last_recorded_at)
SELECT user_id, max(id), '', now() FROM tasktrail.tasks GROUP BY user_id
"""


@pytest.fixture(scope="module", params=["analysed", "not analysed"])
def explained(
    server: Server, template: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., str]]:
    """Run a statement as the server does, and return what EXPLAIN says of it and of the statements
    within it; with statistics, and without, as after a burst of writes."""
    with (
        copy_of(server, template) as database,
        psycopg.connect(database.admin, autocommit=True) as connection,
    ):
        connection.execute(_ROWS)
        connection.execute(_EVENTS)
        connection.execute(_LEDGERS)
        if request.param == "analysed":
            connection.execute("VACUUM (ANALYZE) tasktrail.tasks, tasktrail.events")
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        for setting in (
            *("LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0"),
            *("SET auto_explain.log_nested_statements = on", "SET client_min_messages = log"),
            *(_LIMITS, "SET SESSION AUTHORIZATION tasktrail_server"),
        ):
            connection.execute(setting)

        def explained(statement: str, parameters: Any) -> str:
            told.clear()
            connection.execute(statement, parameters)
            return "\n".join(told)

        yield explained


@pytest.fixture
def plan(explained: Callable[..., str]) -> Callable[..., str]:
    """Explain the statement of ``list_tasks``."""

    def plan(user: str, filter_: Filter, sort: Sort) -> str:
        return explained(*tasks.question(user, filter_, sort, 20))

    return plan


# Until autovacuum comes by, nobody knows how rare a word is, and tasks are read instead.
@pytest.mark.parametrize("explained", ["analysed"], indirect=True)
@pytest.mark.parametrize("query", ["number 4711", "num 47", "milk 48"])
def test_full_text_search_of_many_tasks_uses_its_index(
    plan: Callable[..., str], query: str
) -> None:
    assert "tasks_search" in plan(BIG, Filter(query=query), "relevance")


@pytest.mark.parametrize("user", [BIG, SMALL])
@pytest.mark.parametrize(
    ("sort", "index"),
    [
        ("created", "tasks_created"),
        ("updated", "tasks_updated"),
        ("due", "tasks_due"),
        ("priority", "tasks_urgency"),
    ],
)
def test_each_order_walks_its_own_index(
    plan: Callable[..., str], user: str, sort: Sort, index: str
) -> None:
    found = plan(user, Filter(status="pending"), sort)
    assert f"{index} on tasks" in found
    assert "Seq Scan on tasks" not in found


STREAM_INDEX = "events_user_id_stream_type_stream_id_version_key on events"


@pytest.mark.parametrize("user", [BIG, SMALL])
def test_the_events_of_some_streams_are_found_without_reading_the_ledger(
    explained: Callable[..., str], user: str
) -> None:
    which = {history.Thing("task", id_): 0 for id_ in range(1, 31)}
    statement, parameters = history.of_changes(user, which, history.END)
    found = explained(statement, {**parameters, "after": 0})
    assert f"Index Scan using {STREAM_INDEX}" in found
    assert "events_pkey" not in found


@pytest.mark.parametrize("user", [BIG, SMALL])
def test_the_history_of_one_task_is_found_without_reading_the_ledger(
    explained: Callable[..., str], user: str
) -> None:
    found = explained(*history.of_page(user, history.Filter(("task", 17)), 51))
    assert STREAM_INDEX in found
    assert "events_pkey" not in found


@pytest.mark.parametrize("user", [BIG, SMALL])
def test_the_newest_history_is_found_without_reading_the_ledger(
    explained: Callable[..., str], user: str
) -> None:
    found = explained(*history.of_page(user, history.Filter(), 201))
    assert "Index Scan Backward using events_pkey on events" in found


@pytest.mark.parametrize("sort", ["created", "priority"])
def test_a_priority_is_found_without_reading_all_tasks(
    plan: Callable[..., str], sort: Sort
) -> None:
    assert "urgency = '1'" in plan(BIG, Filter(status="pending", priority="low"), sort)


@pytest.mark.parametrize("user", [BIG, SMALL])
def test_tasks_like_a_new_one_are_found_without_reading_all_open_ones(
    explained: Callable[..., str], user: str
) -> None:
    for _ in range(7):  # the first five are planned anew
        draft = Draft({}, {}, {})
        AddTask(title="Buy milk number 17").decide(draft)
        command = store.pack(store.seal(user, draft, actor("add_task", Context(user, "http"))))
        found = explained(store._COMMIT, (f"[{command.text}]",))
    assert "tasks_similar on tasks" in found
    assert "tasks_created on tasks" not in found


@pytest.mark.parametrize("size", [1, 20])
def test_the_rows_that_some_decisions_need_are_found_without_reading_others(
    explained: Callable[..., str], size: int
) -> None:
    wanted = Wanted("k", (17,), (18,), (19,), (18, "x-1"), 18, 19)
    question = current.question(BIG, wanted)
    for _ in range(7):  # the first five are planned anew
        found = explained(
            current._statement(question.parts), (f"[{','.join([question.text] * size)}]",)
        )
    for table in ("idempotency", "tasks", "conversations", "messages"):
        assert f"{table}_pkey on {table}" in found
    assert "Seq Scan" not in found
    assert not re.search("using (tasks|conversations)_(?!pkey)", found)

"""How Postgres answers, for a user with many tasks among many users: with an index, always."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from projections import tasks
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
    SELECT 'user-' || u, n FROM generate_series(2, 100) AS u, generate_series(1, 50) AS n
) AS x
"""


@pytest.fixture(scope="module")
def plan(server: Server, template: str) -> Iterator[Callable[..., str]]:
    """Run the statement of ``list_tasks`` as the server does, and return what EXPLAIN says of it
    and of the statements within it."""
    with (
        copy_of(server, template) as database,
        psycopg.connect(database.admin, autocommit=True) as connection,
    ):
        connection.execute(_ROWS)
        connection.execute("VACUUM (ANALYZE) tasktrail.tasks")
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        for setting in (
            *("LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0"),
            *("SET auto_explain.log_nested_statements = on", "SET client_min_messages = log"),
            "SET SESSION AUTHORIZATION tasktrail_server",
        ):
            connection.execute(setting)

        def plan(user: str, filter_: Filter, sort: Sort) -> str:
            told.clear()
            connection.execute(*tasks.question(user, filter_, sort, 20))
            return "\n".join(told)

        yield plan


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

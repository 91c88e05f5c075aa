"""The database away, or something of ours broken: what an agent is told, and what holds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Database
from tests.mcp.agent import MODERN, Agent
from tests.mcp.proxy import Proxy, between
from tests.mcp.serving import configured, serving, until

pytestmark = pytest.mark.parametrize("era", [MODERN])


@pytest.fixture
def proxy(shared_database: Database) -> Iterator[Proxy]:
    """The wire to the database."""
    with between(shared_database.app) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: Proxy) -> Iterator[str]:
    """A server behind ``proxy``."""
    with serving(configured(proxy.conninfo)) as url:
        yield url


def test_a_database_that_is_away_is_told_and_comes_back(
    connect: Callable[..., Agent], url: str, proxy: Proxy
) -> None:
    agent = connect(url=f"{url}/mcp")
    agent("add_task", title="before")
    proxy.cut()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("add_task", {"title": "x"}),
        ("complete_task", {"task_id": 1}),
        ("list_tasks", {}),
        ("get_task", {"task_id": 1}),
        ("get_history", {}),
        ("undo", {"position": 1}),
        ("list_conversations", {}),
    ]
    with ThreadPoolExecutor(len(calls)) as threads:  # each waits some seconds for a connection
        ends = list(threads.map(lambda call: agent.do("call_tool", *call), calls))
        ready, health = (httpx2.get(f"{url}/{name}") for name in ("readyz", "healthz"))
    assert [end.structured_content["code"] for end in ends] == ["unavailable"] * len(calls)
    assert all("again" in end.structured_content["hint"] for end in ends)
    assert (ready.status_code, health.status_code) == (503, 200)
    proxy.mend()
    until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
    assert [task["title"] for task in agent("list_tasks")["tasks"]] == ["before"]


def test_a_lost_answer_is_found_again_by_its_key(
    connect: Callable[..., Agent], url: str, proxy: Proxy
) -> None:
    agent = connect(url=f"{url}/mcp")
    agent("add_task", title="first")
    wish = {"title": "happened?", "idempotency_key": "k"}
    # The first trip looks the key up in no row; the commit is the one that is lost.
    proxy.lose_next_answer()
    assert agent.refused("add_task", **wish)["code"] == "unavailable"
    assert proxy.lost.is_set()
    proxy.mend()
    until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
    assert agent("add_task", **wish)["replayed"] is True
    assert [task["title"] for task in agent("list_tasks")["tasks"]] == ["happened?", "first"]


def test_what_did_not_happen_happens_when_the_key_comes_again(
    connect: Callable[..., Agent], url: str, proxy: Proxy
) -> None:
    agent = connect(url=f"{url}/mcp")
    wish = {"title": "once", "idempotency_key": "k"}
    proxy.cut()
    assert agent.refused("add_task", **wish)["code"] == "unavailable"
    proxy.mend()
    until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
    assert "replayed" not in agent("add_task", **wish)
    assert len(agent("list_tasks")["tasks"]) == 1


def test_a_fault_of_ours_shows_a_correlation_id_and_nothing_else(
    connect: Callable[..., Agent], database: Database
) -> None:
    with serving(configured(database.app)) as url:
        agent = connect(url=f"{url}/mcp")
        with psycopg.connect(database.admin, autocommit=True) as connection:
            connection.execute("ALTER FUNCTION tasktrail.commit_commands RENAME TO broken")
            connection.execute("ALTER TABLE tasktrail.tasks RENAME COLUMN title TO broken")
        for tool in ("add_task", "list_tasks"):
            arguments = {"title": "CANARY"} if tool == "add_task" else {}
            problem = agent.refused(tool, **arguments)
            assert len(problem["correlation_id"]) == 32
            assert problem["correlation_id"] in agent.said
            for secret in ("CANARY", "tasktrail.", "SELECT", "broken", "Traceback", "psycopg"):
                assert secret not in agent.said

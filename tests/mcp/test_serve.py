"""``tasktrail serve`` as a process: over HTTP, with several workers, over stdio, and over both."""

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psycopg
import pytest
from anyio.from_thread import BlockingPortal
from mcp import StdioServerParameters

from tests.conftest import Database, temporary_home
from tests.mcp.agent import LEGACY, MODERN, Agent, over_http, over_stdio
from tests.mcp.process import TASKTRAIL, Serve, environment, serve
from tests.mcp.raw import Wire
from tests.mcp.serving import PATIENCE, token, until


@pytest.fixture(scope="module")
def running(shared_database: Database) -> Iterator[Serve]:
    """One process with two workers."""
    env = environment(shared_database.app)
    with serve("--port", "0", "--workers", "2", env=env) as running:
        yield running


def test_two_workers_answer_as_one(running: Serve, connect: Callable[..., Agent]) -> None:
    url = running.url()
    agents = [connect(url=url) for _ in range(6)]
    for number, agent in enumerate(agents):
        assert agent("add_task", title=f"task {number}")["task_id"] == number + 1
        assert len(agents[0]("list_tasks")["tasks"]) == number + 1


def test_the_metrics_of_all_workers_are_added_up(running: Serve, user: str) -> None:
    url = running.url()
    for _ in range(20):
        Wire(url, MODERN, token(user)).call("get_task", task_id=404)

    def counted() -> float:
        name = 'tasktrail_tool_calls_total{outcome="not_found",tool="get_task"} '
        text = httpx2.get(url.replace("/mcp", "/metrics")).text
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if name in line)

    assert [counted() for _ in range(6)] == [20] * 6


def test_the_log_has_a_line_for_each_call_and_no_text_of_users(running: Serve, user: str) -> None:
    wire = Wire(running.url(), MODERN, token(user))
    wire.call("add_task", title="CANARY", description="CANARY", reason="CANARY")
    wire.call("add_message", role="user", content="CANARY")
    wire.call("list_tasks", query="CANARY")
    wire.call("add_task", title="CANARY" * 50)

    def told() -> list[dict[str, Any]]:
        return [one for one in running.events if one.get("user") == user]

    until(lambda: len(told()) == 4)
    assert [(one["tool"], one["outcome"], one["position"]) for one in told()] == [
        ("add_task", "ok", 1),
        ("add_message", "ok", 3),
        ("list_tasks", "ok", None),
        ("add_task", "invalid_argument", None),
    ]
    assert all(one["duration_ms"] > 0 for one in told())
    assert "CANARY" not in "".join(running.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_as_soon_as_it_says_that_it_serves_ends_it_with_0(
    shared_database: Database, workers: str
) -> None:
    env = environment(shared_database.app)
    with serve("--port", "0", "--workers", workers, env=env) as running:
        running.url()
        assert running.end(signal.SIGTERM) == 0
        assert last_words(running)["workers"] == int(workers)


def last_words(running: Serve) -> dict[str, Any]:
    """Return the line that it logs when all has ended."""
    until(lambda: running.events[-1]["event"] == "stopped")
    return running.events[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_under_way_is_answered_before_the_end(
    shared_database: Database, user: str, number: int
) -> None:
    answers: list[Any] = []
    with serve("--port", "0", env=environment(shared_database.app)) as running:
        wire = Wire(running.url(), MODERN, token(user))
        wire.call("add_task", title="first")
        with psycopg.connect(shared_database.admin) as connection:
            connection.execute("LOCK TABLE tasktrail.events IN SHARE MODE")  # no inserts
            call = threading.Thread(
                target=lambda: answers.append(wire.call("add_task", title="second"))
            )
            call.start()
            until(lambda: _waits(shared_database))
            running.process.send_signal(number)
            time.sleep(0.3)
            assert running.process.poll() is None
        call.join(PATIENCE)
        assert running.process.wait(PATIENCE) == 0
        assert last_words(running)["under_way"] == 1
    assert answers[0]["task_id"] == 2


def _waits(database: Database) -> bool:
    with psycopg.connect(database.admin) as connection:
        rows = connection.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(rows.fetchall())


def test_an_address_for_others_needs_authentication() -> None:
    with temporary_home() as home:
        env = environment(None, TASKTRAIL_HOME=str(home))
        done = subprocess.run(
            [TASKTRAIL, "serve", "--host", "::", "--port", "0"],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 2
    assert "BETTER_AUTH_SECRET" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_first_start_brings_its_own_postgres_and_a_token_that_works() -> None:
    with temporary_home() as home:
        env = environment(None, TASKTRAIL_HOME=str(home))
        for expected in (1, 2):  # the second start finds what the first one left
            with serve("--port", "0", env=env) as running:
                url = running.url()
                shown = "".join(running.lines)
                command = re.search(r'--header "Authorization: Bearer ([^"]+)"', shown)
                assert command is not None
                assert url in shown
                wire = Wire(url, MODERN, command[1])
                assert wire.call("add_task", title="x")["task_id"] == expected
                assert running.end(signal.SIGTERM) == 0


# stdio


@pytest.fixture
def stdio(shared_database: Database, user: str) -> StdioServerParameters:
    """How a client starts the server for itself."""
    return StdioServerParameters(
        command=TASKTRAIL,
        args=["serve", "--transport", "stdio", "--user", user],
        env=environment(shared_database.app),
    )


def test_every_tool_works_over_stdio(
    stdio: StdioServerParameters, portal: BlockingPortal, era: str
) -> None:
    with over_stdio(portal, stdio, era) as agent:
        assert agent.protocol == era
        assert len(agent.tools) == 14
        agent("add_task", tasks=[{"title": "a"}, {"title": "b"}])
        agent("update_task", task_id=1, title="c")
        agent("complete_task", task_id=1)
        agent("delete_task", task_id=2)
        assert agent("get_task", task_id="1")["completed"] is True
        agent("create_conversation", title="chat")
        message = agent("add_message", conversation_id=6, role="user", content="hello")
        agent("update_message", message_id=message["message_id"], content="hello!")
        agent.meta = {"tasktrail/message_id": message["message_id"]}
        assert agent("undo", position=5)["undone"]
        agent.meta = {}
        (latest,) = agent("get_history", limit=1)["events"]
        assert (latest["conversation_id"], latest["message_id"]) == (6, 7)
        assert latest["client"] == "Test-Agent"
        assert agent("get_conversation_history", conversation_id=6)["messages"]
        agent("delete_conversation", conversation_id=6)
        assert agent("list_conversations")["total_count"] == 0
        assert len(agent("list_tasks")["tasks"]) == 2
        assert agent.refused("get_task", task_id=99)["code"] == "not_found"
        assert agent.refused("list_tasks", user_id="somebody")["code"] == "user_mismatch"


def test_stdio_ends_with_its_input_and_says_nothing_but_json(
    shared_database: Database, user: str
) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        },
    }
    done = subprocess.run(
        [TASKTRAIL, "serve", "--transport", "stdio", "--user", user],
        input=json.dumps(hello) + "\n",
        env=environment(shared_database.app),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"


def test_a_user_that_cannot_be_is_refused_at_the_start(shared_database: Database) -> None:
    done = subprocess.run(
        [TASKTRAIL, "serve", "--transport", "stdio", "--user", "tasktrail:system"],
        env=environment(shared_database.app),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2


# Design A: stdio on a background thread beside an HTTP app


def test_design_a_serves_stdio_beside_http_from_one_process(
    shared_database: Database, portal: BlockingPortal, user: str
) -> None:
    command = StdioServerParameters(
        command=TASKTRAIL,
        args=["serve", "--transport", "http+stdio", "--port", "0", "--user", user],
        env={**environment(shared_database.app)},
    )
    with serve(*command.args[1:], env=command.env or {}) as running:
        url = running.url()
        stdin, stdout = running.process.stdin, running.process.stdout
        assert stdin is not None
        assert stdout is not None
        for request in _legacy_requests():
            stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answers = [json.loads(stdout.readline()) for _ in range(2)]
        assert answers[1]["result"]["structuredContent"]["task_id"] == 1
        with over_http(portal, url, LEGACY, token(user)) as agent:
            assert [task["title"] for task in agent("list_tasks")["tasks"]] == ["over stdio"]
            stdin.close()  # the client on stdio goes; the app stays
            until(lambda: running.events[-1]["event"] == "stopped")
            assert running.events[-1]["transport"] == "stdio"
            assert agent("add_task", title="over HTTP")["task_id"] == 2
        assert running.end(signal.SIGTERM) == 0
        assert last_words(running)["transport"] == "http"


def test_a_call_that_is_cancelled_is_logged_and_counted_as_that(
    shared_database: Database, user: str
) -> None:
    cancel = {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 2, "reason": "the user has changed her mind"},
    }
    arguments = ("--transport", "http+stdio", "--port", "0", "--user", user)
    with serve(*arguments, env=environment(shared_database.app)) as running:
        url, stdin = running.url(), running.process.stdin
        assert stdin is not None

        def send(*requests: dict[str, Any]) -> None:
            stdin.writelines(json.dumps(request) + "\n" for request in requests)
            stdin.flush()

        with psycopg.connect(shared_database.admin) as connection:
            connection.execute("LOCK TABLE tasktrail.events IN SHARE MODE")  # no inserts
            send(*_legacy_requests())
            until(lambda: _waits(shared_database))
            send(cancel)
            until(lambda: [one for one in running.events if one["event"] == "tool_call"])
        (told,) = [one for one in running.events if one["event"] == "tool_call"]
        assert (told["tool"], told["user"], told["outcome"]) == ("add_task", user, "cancelled")
        counted = httpx2.get(url.replace("/mcp", "/metrics")).text
        assert 'tasktrail_tool_calls_total{outcome="cancelled",tool="add_task"} 1.0' in counted


def _legacy_requests() -> list[dict[str, Any]]:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "design-a", "version": "1"},
    }
    call = {"name": "add_task", "arguments": {"title": "over stdio"}}
    return [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]

"""The examples run as they are, and do what their first lines say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from anyio.from_thread import BlockingPortal

from tests.conftest import Database
from tests.mcp.agent import LEGACY, MODERN, Agent, over_http
from tests.mcp.process import environment
from tests.mcp.serving import PATIENCE, token, until

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, url: str, bearer: str, said: str) -> str:
    """Run an example with ``said`` as its standard input, and return what it prints."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, EXAMPLES / example],
        input=said,
        env={**env, "TASKTRAIL_URL": url, "TASKTRAIL_TOKEN": bearer},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def hosted(database: Database) -> Iterator[str]:
    """Run the FastAPI example with uvicorn, and yield its address."""
    command = [
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_host:app"),
        *("--port", "0"),
    ]
    env = environment(database.app)
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []

    def address() -> str:
        assert process.stderr is not None
        lines.append(process.stderr.readline())
        assert process.poll() is None, "".join(lines)
        _, found, rest = lines[-1].partition("running on ")
        return rest.split(" ")[0] if found else ""

    with process:
        try:
            until(lambda: address() != "")
            yield lines[-1].partition("running on ")[2].split(" ")[0]
        finally:
            process.terminate()


@pytest.mark.parametrize("era", [MODERN])
def test_a_plain_client_stores_every_turn_and_links_every_change(
    address: str, user: str, alice: Agent
) -> None:
    said = "add Buy milk\nadd Call the plumber\ndone 3\nhello\nundo\n"
    shown = run("plain_agent.py", f"{address}/mcp", token(user), said)
    assert "Created task 3 “Buy milk”" in shown
    messages = alice("get_conversation_history", conversation_id=1)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 5
    assert messages[0]["content"] == "add Buy milk"
    events = alice("get_history", conversation_id=1, limit=100)["events"]
    caused = {event["type"]: event["message_id"] for event in events if event["message_id"]}
    by_content = {message["content"]: message["id"] for message in messages}
    assert caused["TaskCompleted"] == by_content["done 3"]
    assert caused["TaskDeleted"] == by_content["undo"]
    assert alice("list_tasks")["tasks"] == []


@pytest.mark.parametrize("era", [MODERN])
def test_an_openai_agent_stores_every_turn_and_links_every_change(
    address: str, user: str, alice: Agent
) -> None:
    shown = run("openai_agent.py", f"{address}/mcp", token(user), "Buy milk\nCall Zoë\n")
    assert "I have noted it. (Created task" in shown
    messages = alice("get_conversation_history", conversation_id=1)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    (second, first) = alice("list_tasks")["tasks"]
    assert (first["title"], second["title"]) == ("Buy milk", "Call Zoë")
    (created,) = alice("get_history", task_id=second["id"])["events"]
    assert (created["conversation_id"], created["message_id"]) == (1, messages[2]["id"])
    assert created["reason"] == "the user asked for it"


def test_a_fastapi_host_keeps_its_own_routes_and_lifespan(
    shared_database: Database, portal: BlockingPortal, era: str, user: str
) -> None:
    with hosted(shared_database) as url:
        assert httpx2.get(url).json() == {"greeting": "Hello from beside /mcp"}
        assert httpx2.get(f"{url}/openapi.json").json()["info"]["title"] == "Your application"
        assert httpx2.post(f"{url}/mcp").status_code == 401
        with over_http(portal, f"{url}/mcp", era, token(user)) as agent:
            assert agent("add_task", title="x")["task_id"] == 1
            assert len(agent.tools) == 14


def test_clients_of_design_b_work_as_they_are(
    shared_database: Database, portal: BlockingPortal, user: str
) -> None:
    """Mounted, the user sent along, ids as strings, its own tool names and error codes."""
    with hosted(shared_database) as url, over_http(portal, f"{url}/mcp", LEGACY, token(user)) as b:
        chat = str(b("create_conversation", user_id=user, title="Hi")["conversation_id"])
        turn = {"user_id": user, "conversation_id": chat, "role": "user", "content": "hello"}
        message = b("add_message", **turn)
        assert isinstance(message["message_id"], int)
        history = b("get_conversation_history", user_id=user, conversation_id=chat, limit=10)
        assert history["messages"][0]["content"] == "hello"
        assert history["conversation_info"]["id"] == int(chat)
        listed = b("list_user_conversations", user_id=user, limit=10, offset=0)
        assert (listed["total_count"], listed["conversations"][0]["message_count"]) == (1, 1)
        task = b("add_task", user_id=user, title="Buy milk", description="two litres")
        assert task["status"] == "created"
        b("update_task", user_id=user, task_id=str(task["task_id"]), title="Buy oat milk")
        assert b("complete_task", user_id=user, task_id=str(task["task_id"]))["title"]
        assert (
            b("list_tasks", user_id=user, status="completed")["tasks"][0]["id"] == task["task_id"]
        )
        b("update_message", user_id=user, message_id=str(message["message_id"]), content="hi")
        b("delete_task", user_id=user, task_id=str(task["task_id"]))
        for tool, arguments, code in (
            ("add_message", {**turn, "conversation_id": "999"}, "conversation_not_found"),
            ("add_message", {**turn, "role": "robot"}, "invalid_role"),
            ("add_message", {**turn, "content": " "}, "empty_content"),
            ("update_message", {"message_id": "999", "content": "x"}, "message_not_found"),
            ("get_conversation_history", {"conversation_id": "999"}, "conversation_not_found"),
            ("list_tasks", {"user_id": "somebody-else"}, "user_mismatch"),
        ):
            assert b.refused(tool, **arguments)["code"] == code

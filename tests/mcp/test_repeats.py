"""Repeating a request: the same key gives the first answer, whatever has happened since."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from mcp_types import CallToolResult

from mcp_server.server import RECEIPT
from tests.conftest import Database
from tests.mcp.agent import Agent

CHANGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # tool, arguments, other arguments; on a task 1, a conversation 2 with a message 3
    ("add_task", {"title": "x"}, {"title": "y"}),
    ("add_task", {"tasks": [{"title": "x"}]}, {"tasks": [{"title": "y"}]}),
    ("update_task", {"task_id": 1, "title": "x"}, {"task_id": 1, "priority": "low"}),
    ("complete_task", {"task_id": 1}, {"task_id": 1, "completed": False}),
    ("complete_task", {"task_id": [1]}, {"task_id": 1}),
    ("delete_task", {"task_id": 1}, {"task_id": 1, "expected_version": 1}),
    ("create_conversation", {"title": "x"}, {}),
    ("add_message", {"role": "user", "content": "x"}, {"role": "tool", "content": "x"}),
    ("update_message", {"message_id": 3, "content": "x"}, {"message_id": 3, "content": "y"}),
    ("delete_conversation", {"conversation_id": 2}, {"conversation_id": 99}),
    ("undo", {"position": 1}, {"since": 1}),
]
each_change = pytest.mark.parametrize(("tool", "arguments", "others"), CHANGES)


@pytest.fixture
def bob(alice: Agent) -> Agent:
    """An agent whose user has a task 1, and a conversation 2 with a message 3."""
    alice("add_task", title="a task")
    alice("add_message", role="user", content="a message")
    return alice


def events(agent: Agent) -> int:
    """Return how many events the ledger has."""
    latest = agent("get_history", limit=1)["events"]
    return int(latest[0]["position"]) if latest else 0


def change_everything(agent: Agent) -> None:
    """Change all that the first answer could have depended on."""
    for task in agent("list_tasks")["tasks"]:
        agent("update_task", task_id=task["id"], title="changed since", priority="high")
        agent("delete_task", task_id=task["id"])
    for conversation in agent("list_conversations")["conversations"]:
        agent("delete_conversation", conversation_id=conversation["id"])


def test_every_change_takes_a_key(alice: Agent) -> None:
    changing = {name for name, tool in alice.tools.items() if not _reads_only(tool)}
    assert {tool for tool, _, _ in CHANGES} == changing
    for name, tool in alice.tools.items():
        takes = {"reason", "idempotency_key"} & set(tool.input_schema["properties"])
        assert len(takes) == (2 if name in changing else 0)


def _reads_only(tool: Any) -> bool:
    return bool(tool.annotations.read_only_hint)


@each_change
def test_a_repeated_key_returns_the_first_answer(
    bob: Agent, tool: str, arguments: dict[str, Any], others: dict[str, Any]
) -> None:
    first = bob(tool, **arguments, idempotency_key="k")
    assert "replayed" not in first
    length = events(bob)
    assert bob(tool, **arguments, idempotency_key="k") == {**first, "replayed": True}
    assert events(bob) == length
    change_everything(bob)
    length = events(bob)
    assert bob(tool, **arguments, idempotency_key="k") == {**first, "replayed": True}
    assert events(bob) == length
    problem = bob.refused(tool, **others, idempotency_key="k")
    assert problem["code"] == "idempotency_conflict"
    assert events(bob) == length


def receipt(result: CallToolResult) -> str | None:
    assert not result.is_error
    return (result.meta or {}).get(RECEIPT)


@each_change
def test_who_lost_the_first_answer_gets_its_receipt_from_the_second(
    bob: Agent,
    user: str,
    shared_database: Database,
    tool: str,
    arguments: dict[str, Any],
    others: dict[str, Any],  # noqa: ARG001 - one of each change's
) -> None:
    first = bob.ask(tool, **arguments, idempotency_key="k")
    with psycopg.connect(shared_database.admin) as connection:
        (head,) = connection.execute(
            "SELECT position || ':' || encode(hash, 'hex') FROM tasktrail.ledgers"
            " WHERE user_id = %s",
            [user],
        )
    assert (receipt(first),) == head
    change_everything(bob)
    assert receipt(bob.ask(tool, **arguments, idempotency_key="k")) == receipt(first)


def test_a_key_belongs_to_one_tool(bob: Agent) -> None:
    bob("complete_task", task_id=1, idempotency_key="k")
    problem = bob.refused("delete_task", task_id=1, idempotency_key="k")
    assert problem["code"] == "idempotency_conflict"


def test_another_reason_or_another_spelling_is_the_same_request(bob: Agent) -> None:
    first = bob("complete_task", task_id=1, reason="done", idempotency_key="k")
    again = bob("complete_task", task_id="1", completed=True, idempotency_key=" k ")
    assert again == {**first, "replayed": True}
    metadata: list[dict[str, Any]] = [{"a": 1, "b": [2]}, {"b": [2], "a": 1}]
    for order in metadata:
        bob("add_message", role="user", content="x", metadata=order, idempotency_key="m")
    assert bob.said.endswith("(Done before with this idempotency_key.)")


def test_a_key_belongs_to_one_user(bob: Agent, user: str, connect: Callable[..., Agent]) -> None:
    bob("add_task", title="x", idempotency_key="k")
    other = connect(f"{user}-too")
    assert "replayed" not in other("add_task", title="y", idempotency_key="k")
    other("undo", position=1)


def test_a_refusal_is_not_remembered(alice: Agent) -> None:
    wish = {"task_id": 1, "idempotency_key": "k"}
    assert alice.refused("complete_task", **wish)["code"] == "not_found"
    alice("add_task", title="now there is one")
    assert "replayed" not in alice("complete_task", **wish)


def test_a_wish_that_was_already_true_is_remembered_too(bob: Agent) -> None:
    wish = {"task_id": 1, "completed": False, "idempotency_key": "k"}
    first = bob("complete_task", **wish)
    assert first["unchanged"] is True
    bob("complete_task", task_id=1)
    assert bob("complete_task", **wish) == {**first, "replayed": True}
    assert bob("get_task", task_id=1)["completed"] is True


def test_what_changed_nothing_has_no_receipt(bob: Agent) -> None:
    for key in (None, "k", "k"):
        wish = {"task_id": 1, "completed": False, "idempotency_key": key}
        answer = bob.ask("complete_task", **wish)
        assert answer.structured_content is not None
        assert answer.structured_content["unchanged"] is True
        assert receipt(answer) is None


def test_one_request_sent_many_times_at_once_happens_once(
    bob: Agent, connect: Callable[..., Agent]
) -> None:
    agents = [bob, *(connect() for _ in range(3))]

    def add(agent: Agent) -> dict[str, Any]:
        return agent("add_task", title="only once", idempotency_key="k")

    with ThreadPoolExecutor(len(agents)) as threads:
        answers = list(threads.map(add, agents * 3))
    assert len({answer["task_id"] for answer in answers}) == 1
    assert sum("replayed" not in answer for answer in answers) == 1
    assert len(bob("list_tasks", query="once")["tasks"]) == 1


def test_many_agents_at_once_lose_no_change(bob: Agent, connect: Callable[..., Agent]) -> None:
    agents = [bob, *(connect() for _ in range(3))]

    def update(number: int) -> dict[str, Any]:
        return agents[number % 4]("update_task", task_id=1, title=f"title {number}")

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(update, range(20)))
    assert sorted(answer["version"] for answer in answers) == list(range(2, 22))


def test_of_many_with_the_same_expected_version_one_wins(
    bob: Agent, connect: Callable[..., Agent]
) -> None:
    agents = [bob, *(connect() for _ in range(3))]

    def update(number: int) -> bool:
        result = agents[number].ask("update_task", task_id=1, title=f"{number}", expected_version=1)
        return not result.is_error

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(update, range(4))) == 1
    assert bob("get_task", task_id=1)["version"] == 2

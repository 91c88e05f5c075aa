"""Bad arguments: each is refused by name, nothing is written, nothing of it is repeated."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from mcp_server.auth.issue import issue
from tests.conftest import Database
from tests.mcp.agent import LEGACY, MODERN, Agent
from tests.mcp.serving import SECRET, configured, serving, token

MESSAGE = {"role": "user", "content": "x"}
BAD: list[tuple[str, dict[str, Any], str]] = [
    # tool, arguments, the argument that the refusal names
    ("add_task", {}, "title"),
    ("add_task", {"title": ""}, "title"),
    ("add_task", {"title": " \t "}, "title"),
    ("add_task", {"title": "x" * 201}, "title"),
    ("add_task", {"title": 5}, "title"),
    ("add_task", {"title": None}, "title"),
    ("add_task", {"title": ["x"]}, "title"),
    ("add_task", {"title": "a\x00b"}, "title"),
    ("add_task", {"title": "two\nlines"}, "title"),
    ("add_task", {"title": "a\u202eb"}, "title"),
    ("add_task", {"title": "a\U000e0041b"}, "title"),
    ("add_task", {"title": "x", "description": "x" * 4001}, "description"),
    ("add_task", {"title": "x", "description": "\x1b[31m"}, "description"),
    ("add_task", {"title": "x", "description": 5}, "description"),
    ("add_task", {"title": "x", "priority": "urgent"}, "priority"),
    ("add_task", {"title": "x", "priority": 1}, "priority"),
    ("add_task", {"title": "x", "due": "tomorrow"}, "due"),
    ("add_task", {"title": "x", "due": "2026-02-30"}, "due"),
    ("add_task", {"title": "x", "due": "2026-12-01T09:00:00"}, "due"),
    ("add_task", {"title": "x", "due": "10000-01-01"}, "due"),
    ("add_task", {"title": "x", "due": "0001-01-01T00:00:00+23:59"}, "due"),
    ("add_task", {"title": "x", "due": 20261201}, "due"),
    ("add_task", {"title": "x", "due": ""}, "due"),
    ("add_task", {"title": "x", "tags": ["t"] * 21}, "tags"),
    ("add_task", {"title": "x", "tags": ["t" * 51]}, "tags.0"),
    ("add_task", {"title": "x", "tags": ["a", " "]}, "tags.1"),
    ("add_task", {"title": "x", "tags": [5]}, "tags.0"),
    ("add_task", {"title": "x", "tags": "home"}, "tags"),
    ("add_task", {"tasks": []}, "tasks"),
    ("add_task", {"tasks": [{}]}, "tasks.0.title"),
    ("add_task", {"tasks": ["x"]}, "tasks.0"),
    ("add_task", {"tasks": {"title": "x"}}, "tasks"),
    ("add_task", {"title": "x", "tasks": [{"title": "y"}]}, "tasks"),
    ("add_task", {"tasks": [{"title": "x"}], "priority": "low"}, "tasks"),
    ("add_task", {"tasks": [{"title": "x", "colour": "red"}]}, "colour"),
    ("add_task", {"title": "x", "reason": "x" * 201}, "reason"),
    ("add_task", {"title": "x", "reason": 5}, "reason"),
    ("add_task", {"title": "x", "reason": "two\nlines"}, "reason"),
    ("add_task", {"title": "x", "idempotency_key": "k" * 129}, "idempotency_key"),
    ("add_task", {"title": "x", "idempotency_key": ""}, "idempotency_key"),
    ("add_task", {"title": "x", "idempotency_key": 5}, "idempotency_key"),
    ("add_task", {"title": "x", "colour": "red"}, "colour"),
    ("add_task", {"title": "x", "Title": "y"}, "Title"),
    ("list_tasks", {"status": "open"}, "status"),
    ("list_tasks", {"status": None}, "status"),
    ("list_tasks", {"query": "x" * 201}, "query"),
    ("list_tasks", {"query": 5}, "query"),
    ("list_tasks", {"query": "a\x00"}, "query"),
    ("list_tasks", {"priority": "none"}, "priority"),
    ("list_tasks", {"tag": ""}, "tag"),
    ("list_tasks", {"due_before": "soon"}, "due_before"),
    ("list_tasks", {"due_after": "soon"}, "due_after"),
    ("list_tasks", {"sort": "title"}, "sort"),
    ("list_tasks", {"deleted": "yes"}, "deleted"),
    ("list_tasks", {"deleted": 1}, "deleted"),
    ("list_tasks", {"reason": "curious"}, "reason"),
    ("get_task", {}, "task_id"),
    ("get_task", {"task_id": "one"}, "task_id"),
    ("get_task", {"task_id": 1.0}, "task_id"),
    ("get_task", {"task_id": True}, "task_id"),
    ("get_task", {"task_id": None}, "task_id"),
    ("get_task", {"task_id": 0}, "task_id"),
    ("get_task", {"task_id": -1}, "task_id"),
    ("get_task", {"task_id": 2**53}, "task_id"),
    ("get_task", {"task_id": 10**40}, "task_id"),
    ("get_task", {"task_id": "9" * 17}, "task_id"),
    ("get_task", {"task_id": "\u0661"}, "task_id"),
    ("get_task", {"task_id": " 1"}, "task_id"),
    ("get_task", {"task_id": [1]}, "task_id"),
    ("get_task", {"id": 1}, "task_id"),
    ("update_task", {"task_id": 1}, "title"),
    ("update_task", {"title": "x"}, "task_id"),
    ("update_task", {"task_id": 1, "title": ""}, "title"),
    ("update_task", {"task_id": 1, "clear": ["title"]}, "clear.0"),
    ("update_task", {"task_id": 1, "clear": ["colour"]}, "clear.0"),
    ("update_task", {"task_id": 1, "clear": "due"}, "clear"),
    ("update_task", {"task_id": 1, "due": "2026-12-01", "clear": ["due"]}, "clear"),
    ("update_task", {"task_id": 1, "title": "x", "expected_version": 0}, "expected_version"),
    ("update_task", {"task_id": 1, "title": "x", "expected_version": "1"}, "expected_version"),
    ("update_task", {"task_id": 1, "completed": True}, "completed"),
    ("complete_task", {"task_id": []}, "task_id"),
    ("complete_task", {"task_id": [1] * 51}, "task_id"),
    ("complete_task", {"task_id": ["one"]}, "task_id.0"),
    ("complete_task", {"task_id": 1, "completed": "no"}, "completed"),
    ("delete_task", {"task_id": {}}, "task_id"),
    ("delete_task", {"task_id": "all"}, "task_id"),
    ("create_conversation", {"title": "x" * 201}, "title"),
    ("create_conversation", {"title": 5}, "title"),
    ("add_message", {**MESSAGE, "external_id": "x" * 129}, "external_id"),
    ("add_message", {**MESSAGE, "external_id": ""}, "external_id"),
    ("add_message", {**MESSAGE, "external_id": 5}, "external_id"),
    ("add_message", {**MESSAGE, "conversation_id": "one"}, "conversation_id"),
    ("add_message", {**MESSAGE, "content": 5}, "content"),
    ("add_message", {**MESSAGE, "content": ["x"]}, "content"),
    ("get_conversation_history", {"conversation_id": 1, "limit": 201}, "limit"),
    ("get_conversation_history", {"conversation_id": 1, "before": "x"}, "before"),
    ("get_conversation_history", {"conversation_id": 1, "after": -1}, "after"),
    ("list_conversations", {"offset": -1}, "offset"),
    ("list_conversations", {"offset": "1"}, "offset"),
    ("list_conversations", {"cursor": 5}, "cursor"),
    ("list_conversations", {"cursor": "x"}, "cursor"),
    ("delete_conversation", {}, "conversation_id"),
    ("undo", {"position": 1, "dry_run": "yes"}, "dry_run"),
    ("undo", {"position": 1, "force": 1}, "force"),
]


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    BAD,
    ids=[f"{tool} {arguments}"[:60] for tool, arguments, _ in BAD],
)
@pytest.mark.parametrize("era", [MODERN])
def test_a_bad_argument_is_refused_by_name(
    alice: Agent, tool: str, arguments: dict[str, Any], argument: str
) -> None:
    problem = alice.refused(tool, **arguments)
    assert (problem["code"], problem["argument"]) == ("invalid_argument", argument), problem
    assert argument in problem["message"]
    assert alice("get_history")["events"] == []


@pytest.mark.parametrize("era", [LEGACY])
def test_the_older_era_refuses_the_same(alice: Agent) -> None:
    for tool, arguments, argument in BAD:
        problem = alice.refused(tool, **arguments)
        assert (problem["code"], problem["argument"]) == ("invalid_argument", argument), problem


def test_an_unknown_argument_is_told_what_there_is(alice: Agent) -> None:
    for tool in alice.tools:
        problem = alice.refused(tool, misspelled=1, role="user", content="x")
        assert problem["code"] == "invalid_argument"
    problem = alice.refused("get_task", task_id=1, misspelled=1)
    assert problem["argument"] == "misspelled"
    assert "task_id, as_of" in problem["hint"]


def test_no_error_repeats_what_was_given_or_stored(alice: Agent) -> None:
    canary = "CANARY-7f3a"
    alice("add_task", title=canary, description=canary, tags=[canary])
    alice("add_message", role="user", content=canary)
    for tool, arguments in (
        ("add_task", {"title": canary * 30}),
        ("add_task", {"title": "x", "due": canary}),
        ("add_task", {"title": "x", "priority": canary}),
        ("list_tasks", {"cursor": canary}),
        ("get_task", {"task_id": canary}),
        ("complete_task", {"task_id": [1, canary]}),
        ("update_task", {"task_id": 1, "title": canary, "expected_version": 7}),
        ("add_message", {"role": canary, "content": "x"}),
        ("undo", {"position": 99}),
        ("get_history", {"event_type": canary}),
        ("add_task", {"title": "x", "user_id": canary}),
    ):
        alice.refused(tool, **arguments)
        assert canary not in alice.said


def test_ids_may_be_strings_of_digits_and_come_back_as_integers(alice: Agent) -> None:
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}])
    assert alice("update_task", task_id="1", title="c")["task_id"] == 1
    assert alice("get_task", task_id="0001")["id"] == 1
    answer = alice("complete_task", task_id=["1", 2])
    assert [task["task_id"] for task in answer["tasks"]] == [1, 2]


# Who the user is


def test_a_user_id_that_is_the_subject_is_ignored(alice: Agent, user: str) -> None:
    assert alice("add_task", title="x", user_id=user)["task_id"] == 1
    for tool, arguments in (("list_tasks", {}), ("get_task", {"task_id": 1}), ("get_history", {})):
        alice(tool, **arguments, user_id=user)


def test_another_user_id_is_a_mismatch_and_nothing_happens(alice: Agent) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "add_task": {"title": "x"},
        "undo": {"position": 1},
        "add_message": MESSAGE,
    }
    for tool in alice.tools:
        for other in ("somebody", "", None, 5, ["x"]):
            problem = alice.refused(tool, **wishes.get(tool, {}), user_id=other)
            assert problem["code"] == "user_mismatch"
    assert alice("get_history")["events"] == []


def test_a_subject_of_digits_may_be_sent_as_a_number(lines: dict[str, Agent], era: str) -> None:
    number = secrets.randbelow(10**12)
    agent = lines[era].as_user(token(str(number)))
    agent("add_task", title="x", user_id=number)
    assert agent.refused("add_task", title="x", user_id=number + 1)["code"] == "user_mismatch"


def test_another_users_id_answers_like_one_that_never_existed(
    connect: Callable[..., Agent], alice: Agent, user: str
) -> None:
    other = connect(f"{user}-too")
    other("add_task", title="theirs")
    other("add_message", role="user", content="theirs")
    for tool, argument, id_ in (
        ("get_task", "task_id", 1),
        ("update_task", "task_id", 1),
        ("complete_task", "task_id", 1),
        ("delete_task", "task_id", 1),
        ("get_conversation_history", "conversation_id", 2),
        ("delete_conversation", "conversation_id", 2),
        ("update_message", "message_id", 3),
        ("get_history", "task_id", 1),
        ("get_history", "conversation_id", 2),
        ("undo", "position", 1),
        ("undo", "conversation_id", 2),
    ):
        more: dict[str, Any] = {}
        more = {"title": "x"} if tool == "update_task" else more
        more = {"content": "x"} if tool == "update_message" else more
        theirs = alice.refused(tool, **{argument: id_}, **more)
        nobodys = alice.refused(tool, **{argument: 98765}, **more)
        assert theirs == {**nobodys, "message": nobodys["message"].replace("98765", str(id_))}
    assert alice("list_tasks")["tasks"] == []
    assert alice("list_conversations")["total_count"] == 0


# Scopes


@pytest.mark.parametrize(
    ("scopes", "tool", "arguments"),
    [
        (["tasks:read"], "add_task", {"title": "x"}),
        (["tasks:read"], "get_history", {}),
        (["tasks:read"], "undo", {"position": 1}),
        (["tasks:write"], "list_tasks", {}),
        (["history:read"], "list_conversations", {}),
    ],
)
def test_without_its_scope_a_tool_refuses(
    connect: Callable[..., Agent], scopes: list[str], tool: str, arguments: dict[str, Any]
) -> None:
    result = connect(scopes=scopes).do("call_tool", tool, arguments)
    assert result.is_error
    assert result.structured_content["code"] == "insufficient_scope"


def test_where_an_issuer_could_grant_more_the_answer_is_403(
    shared_database: Database, user: str
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_ISSUER="https://issuer.example")
    bearer = issue(SECRET.encode(), user, ["tasks:read"], 60, "https://issuer.example", None)
    with serving(settings) as url:
        answer = httpx2.post(
            f"{url}/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "undo"}},
            headers={"Authorization": f"Bearer {bearer}"},
        )
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="tasks:write"' in answer.headers["www-authenticate"]

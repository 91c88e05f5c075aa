"""What an agent reads before its first call: a list of tools, small, true, always the same."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database
from tests.mcp.agent import Agent
from tests.mcp.serving import configured, serving

NAMES = (
    *("add_task", "list_tasks", "get_task", "update_task", "complete_task", "delete_task"),
    *("create_conversation", "add_message", "get_conversation_history", "list_conversations"),
    *("update_message", "delete_conversation", "get_history", "undo"),
)
READING = {
    *("list_tasks", "get_task", "get_conversation_history", "list_conversations", "get_history")
}
CHANGE = {"reason", "idempotency_key"}
FIELDS = {"title", "description", "priority", "due", "tags"}
ARGUMENTS = {
    "add_task": {*FIELDS, "tasks", *CHANGE},
    "list_tasks": {
        *("status", "query", "priority", "tag", "due_before", "due_after", "sort", "limit"),
        *("cursor", "deleted", "as_of"),
    },
    "get_task": {"task_id", "as_of"},
    "update_task": {"task_id", *FIELDS, "clear", "expected_version", *CHANGE},
    "complete_task": {"task_id", "completed", "expected_version", *CHANGE},
    "delete_task": {"task_id", "expected_version", *CHANGE},
    "create_conversation": {"title", *CHANGE},
    "add_message": {"conversation_id", "role", "content", "metadata", "external_id", *CHANGE},
    "get_conversation_history": {"conversation_id", "limit", "before", "after"},
    "list_conversations": {"limit", "cursor", "offset", "deleted"},
    "update_message": {"message_id", "content", *CHANGE},
    "delete_conversation": {"conversation_id", *CHANGE},
    "get_history": {
        *("task_id", "conversation_id", "since", "until", "client", "event_type", "limit"),
        "cursor",
    },
    "undo": {"position", "since", "conversation_id", "dry_run", "force", *CHANGE},
}
REQUIRED = {
    "get_task": {"task_id"},
    "update_task": {"task_id"},
    "complete_task": {"task_id"},
    "delete_task": {"task_id"},
    "add_message": {"role", "content"},
    "get_conversation_history": {"conversation_id"},
    "update_message": {"message_id", "content"},
    "delete_conversation": {"conversation_id"},
}


def as_sent(tool: Any) -> dict[str, Any]:
    """Return a tool of the list as JSON."""
    sent: dict[str, Any] = tool.model_dump(by_alias=True, exclude_none=True, mode="json")
    return sent


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tokens(text: str) -> int:
    """Count the pieces that a tokenizer cannot but make, and cut long words and numbers small."""
    return len(re.findall(r"[^\W\d_]{1,5}|\d{1,2}|[^\w\s]|_|\n", text))


def test_fourteen_tools_in_a_fixed_order(alice: Agent) -> None:
    assert tuple(alice.tools) == NAMES


def test_each_tool_takes_the_arguments_of_the_contract(alice: Agent) -> None:
    for name, tool in alice.tools.items():
        assert set(tool.input_schema["properties"]) == ARGUMENTS[name], name
        assert set(tool.input_schema.get("required", ())) == REQUIRED.get(name, set()), name
        assert tool.input_schema["additionalProperties"] is False


def test_no_tool_asks_for_the_user(alice: Agent) -> None:
    assert not any("user_id" in compact(as_sent(tool)) for tool in alice.tools.values())


def test_schemas_are_plain_and_typed_all_through(alice: Agent) -> None:
    for tool in alice.tools.values():
        sent = as_sent(tool)
        assert "$ref" not in compact(sent)
        assert "$defs" not in compact(sent)
        for name, argument in tool.input_schema["properties"].items():
            assert {"type", "anyOf", "enum"} & set(argument), f"{tool.name}.{name} has no type"


def test_what_is_particular_to_a_tool_comes_before_what_all_changes_take(alice: Agent) -> None:
    for tool in alice.tools.values():
        names = list(tool.input_schema["properties"])
        if set(names) >= CHANGE:
            assert names[-2:] == ["reason", "idempotency_key"]


def test_arguments_that_need_words_have_them(alice: Agent) -> None:
    wordless = {"as_of", "cursor", "since", "until", "due", "clear", "expected_version", *CHANGE}
    for tool in alice.tools.values():
        for name in wordless & set(tool.input_schema["properties"]):
            assert tool.input_schema["properties"][name]["description"], f"{tool.name}.{name}"


def test_the_catalogue_fits_into_a_small_context(alice: Agent) -> None:
    parts = {
        name: len(f"{name}{tool.description}{compact(tool.input_schema)}".encode())
        for name, tool in alice.tools.items()
    }
    whole = len(compact([as_sent(tool) for tool in alice.tools.values()]).encode()) + 200
    told = sum(
        tokens(f"{name}{tool.description}{compact(tool.input_schema)}")
        for name, tool in alice.tools.items()
    )
    print(f"\n{parts}\ntogether {sum(parts.values())} bytes; tools/list {whole} bytes", told)
    assert sum(parts.values()) <= 12_000
    assert whole <= 20_000


def test_fifty_tasks_fit_into_twelve_hundred_tokens(alice: Agent) -> None:
    title = "Buy groceries for Tuesday"
    assert len(title) == 25
    new = {"title": title, "due": "2026-12-01", "priority": "high", "tags": ["home"]}
    alice("add_task", tasks=[new] * 50)
    alice("list_tasks", limit=50)
    by_pieces, by_length = tokens(alice.said), len(alice.said) / 3.5
    print(f"\n50 tasks: {len(alice.said)} characters, {by_pieces} pieces, {by_length:.0f} tokens")
    assert len(alice.said.splitlines()) == 50
    assert by_length <= 1_200
    alice("add_task", tasks=[{"title": title}] * 50)
    alice("list_tasks", limit=50)
    assert tokens(alice.said) <= 1_200


def test_hints_are_complete_and_true(alice: Agent) -> None:
    for name, tool in alice.tools.items():
        hints = tool.annotations
        assert hints is not None
        assert tool.title
        assert hints.title == tool.title
        assert hints.read_only_hint is (name in READING)
        assert hints.destructive_hint is (name in {"delete_task", "delete_conversation", "undo"})
        assert hints.open_world_hint is False
        assert hints.idempotent_hint in (True, False)


def test_what_is_said_to_be_idempotent_is(alice: Agent) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "update_task": {"task_id": 1, "title": "y", "tags": ["a"]},
        "complete_task": {"task_id": 1},
        "delete_task": {"task_id": 1},
        "update_message": {"message_id": 3, "content": "y"},
        "delete_conversation": {"conversation_id": 2},
    }
    alice("add_task", title="x")
    alice("add_message", role="user", content="x")
    said = {
        name
        for name, tool in alice.tools.items()
        if tool.annotations and tool.annotations.idempotent_hint and name not in READING
    }
    assert said == set(wishes)
    for tool, arguments in wishes.items():
        alice(tool, **arguments)
        assert alice(tool, **arguments)["unchanged"] is True


def test_descriptions_are_short_and_hold_nothing_of_a_users(alice: Agent) -> None:
    before = {name: as_sent(tool) for name, tool in alice.tools.items()}
    alice("add_task", title="CANARY", description="CANARY", tags=["CANARY"])
    alice("create_conversation", title="CANARY")
    listed = alice.do("list_tools", cache_mode="bypass").tools
    assert {tool.name: as_sent(tool) for tool in listed} == before
    assert all(len(tool.description or "") < 300 for tool in listed)


def test_the_core_profile_lists_exactly_five(
    connect: Callable[..., Agent], shared_database: Database
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_TOOLS="core")
    with serving(settings) as url:
        agent = connect(url=f"{url}/mcp")
        assert tuple(agent.tools) == (
            *("add_task", "list_tasks", "update_task", "complete_task", "delete_task"),
        )


@pytest.mark.parametrize(
    ("scopes", "names"),
    [
        (["tasks:read"], READING - {"get_history"}),
        (["history:read"], {"get_history"}),
        (["tasks:write"], set(NAMES) - READING),
        (["tasks:read", "tasks:write", "history:read"], set(NAMES)),
        (["something:else"], set()),
    ],
)
def test_a_token_lists_what_its_scopes_allow(
    connect: Callable[..., Agent], scopes: list[str], names: set[str]
) -> None:
    assert set(connect(scopes=scopes).tools) == names

"""Resources, prompts, and what may be kept in a cache."""

import json
from collections.abc import Callable

import pytest

from tests.mcp.agent import LEGACY, MODERN, Agent, protocol_error


def read(agent: Agent, uri: str) -> dict[str, object]:
    (content,) = agent.do("read_resource", uri).contents
    assert content.mime_type == "application/json"
    assert str(content.uri) == uri
    found: dict[str, object] = json.loads(content.text)
    return found


def test_a_task_can_be_read_as_a_resource(alice: Agent) -> None:
    alice("add_task", title="Buy milk — today")
    assert read(alice, "task://1") == alice("get_task", task_id=1)


def test_a_conversation_can_be_read_as_a_resource(alice: Agent) -> None:
    alice("add_message", role="user", content="hello", metadata={"n": 10**30})
    history = alice("get_conversation_history", conversation_id=1)
    assert read(alice, "conversation://1") == history


@pytest.mark.parametrize(
    "uri",
    ["task://99", "task://2", "conversation://1", "task://x", "task://", "note://1", "task://1/2"],
)
def test_a_miss_is_told_as_the_era_does(alice: Agent, era: str, uri: str) -> None:
    alice("add_task", title="x")
    alice("create_conversation")
    error = protocol_error(alice, "read_resource", uri)
    assert error.error.code == {MODERN: -32602, LEGACY: -32002}[era]
    assert error.error.data == {"uri": uri}


def test_another_users_resource_is_a_miss(
    connect: Callable[..., Agent], alice: Agent, user: str
) -> None:
    alice("add_task", title="x")
    other = connect(f"{user}-too")
    theirs, nobodys = (protocol_error(other, "read_resource", f"task://{id_}") for id_ in (1, 2))
    assert (theirs.error.code, theirs.error.message) == (nobodys.error.code, nobodys.error.message)


def test_there_are_two_kinds_of_resources(alice: Agent) -> None:
    templates = alice.do("list_resource_templates").resource_templates
    assert [template.uri_template for template in templates] == [
        "task://{id}",
        "conversation://{id}",
    ]
    assert all(template.title and template.description for template in templates)
    assert alice.do("list_resources").resources == []


def test_there_are_two_prompts(alice: Agent) -> None:
    prompts = alice.do("list_prompts").prompts
    assert [prompt.name for prompt in prompts] == ["plan_day", "weekly_review"]
    assert all(prompt.description for prompt in prompts)
    for prompt in prompts:
        (message,) = alice.do("get_prompt", prompt.name).messages
        assert message.role == "user"
        assert "list_tasks" in message.content.text


def test_an_unknown_prompt_or_tool_is_a_protocol_error(alice: Agent) -> None:
    assert protocol_error(alice, "get_prompt", "plan_life").error.code == -32602
    assert protocol_error(alice, "call_tool", "explode", {}).error.code == -32602


@pytest.mark.parametrize("era", [MODERN])
def test_lists_may_be_kept_for_an_hour_by_anyone_and_reads_by_nobody(alice: Agent) -> None:
    alice("add_task", title="x")
    for method in ("list_tools", "list_prompts", "list_resources", "list_resource_templates"):
        listed = alice.do(method, cache_mode="bypass")
        assert (listed.ttl_ms, listed.cache_scope) == (3_600_000, "public")
    content = alice.do("read_resource", "task://1", cache_mode="bypass")
    assert (content.ttl_ms, content.cache_scope) == (0, "private")


@pytest.mark.parametrize("era", [MODERN])
def test_a_list_that_depends_on_the_token_is_private(connect: Callable[..., Agent]) -> None:
    listed = connect(scopes=["tasks:read"]).do("list_tools", cache_mode="bypass")
    assert listed.cache_scope == "private"


def test_the_server_says_what_it_is(alice: Agent, era: str) -> None:
    assert alice.protocol == era
    assert "undo" in alice.of_client("instructions")
    info = alice.of_client("server_info")
    assert (info.name, info.title) == ("tasktrail", "Tasktrail")
    assert info.version

"""The audit trail as an agent reads it: who changed what, when, why, because of which message."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from events.ledger import Json
from tests.mcp.agent import Agent


@pytest.fixture
def busy(alice: Agent) -> Agent:
    """An agent with a ledger of twelve events."""
    alice("add_task", title="Book the venue", priority="high", reason="the party")  # 1
    alice("update_task", task_id=1, title="Book a venue", clear=["priority"], tags=["party"])  # 2
    alice("complete_task", task_id=1, reason="they confirmed")  # 3
    alice("add_message", role="user", content="hello")  # 4, 5
    alice("update_message", message_id=5, content="hello!")  # 6
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}])  # 7, 8
    alice("delete_task", task_id=[7, 8])  # 9, 10
    alice("undo", position=10, reason="too quick")  # 11
    alice("delete_conversation", conversation_id=4)  # 12
    return alice


def positions(agent: Agent, **filters: Any) -> list[int]:
    return [event["position"] for event in agent("get_history", **filters)["events"]]


def event(agent: Agent, position: int) -> Json:
    """Return what the history says of one position."""
    (only,) = agent("get_history", since=position, until=position + 1)["events"]
    return dict(only)


def test_the_whole_ledger_newest_first_without_gaps(busy: Agent) -> None:
    assert positions(busy) == list(range(12, 0, -1))


def test_every_event_has_every_field(busy: Agent) -> None:
    fields = {
        *("position", "at", "type", "what", "changes", "client", "tool", "reason"),
        *("conversation_id", "message_id"),
    }
    for one in busy("get_history")["events"]:
        assert fields <= set(one) <= {*fields, "undoes", "claims"}
        assert one["at"].endswith("Z")
        assert "\n" not in one["what"]
        assert all(len(pair) == 2 for pair in one["changes"].values())


@pytest.mark.parametrize(
    ("position", "type_", "tool", "changes"),
    [
        (
            1,
            "TaskCreated",
            "add_task",
            {"title": [None, "Book the venue"], "priority": [None, "high"]},
        ),
        (
            *(2, "TaskUpdated", "update_task"),
            {
                "title": ["Book the venue", "Book a venue"],
                "priority": ["high", None],
                "tags": [[], ["party"]],
            },
        ),
        (3, "TaskCompleted", "complete_task", {"completed": [False, True]}),
        (4, "ConversationCreated", "add_message", {}),
        (5, "MessageAdded", "add_message", {"role": [None, "user"], "content": [None, "hello"]}),
        (6, "MessageEdited", "update_message", {"content": ["hello", "hello!"]}),
        (8, "TaskCreated", "add_task", {"title": [None, "b"]}),
        (10, "TaskDeleted", "delete_task", {"deleted": [False, True]}),
        (11, "TaskRestored", "undo", {"deleted": [True, False]}),
        (12, "ConversationDeleted", "delete_conversation", {"deleted": [False, True]}),
    ],
)
def test_each_event_tells_what_was_before_and_after(
    busy: Agent, position: int, type_: str, tool: str, changes: Json
) -> None:
    told = event(busy, position)
    assert (told["type"], told["tool"], told["changes"]) == (type_, tool, changes)


def test_reasons_are_kept(busy: Agent) -> None:
    reasons = {one["position"]: one["reason"] for one in busy("get_history")["events"]}
    given = {1: "the party", 3: "they confirmed", 11: "too quick"}
    assert reasons == {position: given.get(position) for position in range(1, 13)}
    assert "because: too quick" in busy.said


def test_an_undo_is_linked_to_what_it_undid(busy: Agent) -> None:
    assert event(busy, 11)["undoes"] == 10
    assert "undoes" not in event(busy, 10)
    assert event(busy, 11)["what"] == "restored task 8 “b”"


def test_the_history_of_a_task(busy: Agent) -> None:
    assert positions(busy, task_id=1) == [3, 2, 1]
    assert positions(busy, task_id="8") == [11, 10, 8]


def test_the_history_of_a_conversation_has_the_changes_caused_in_it(busy: Agent) -> None:
    busy.meta = {"tasktrail/conversation_id": 4, "tasktrail/message_id": 5}
    busy("complete_task", task_id=8)
    assert positions(busy, conversation_id=4) == [13, 12, 6, 5, 4]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"since": 10}, [12, 11, 10]),
        ({"until": 3}, [2, 1]),
        ({"since": 3, "until": 5}, [4, 3]),
        ({"since": "3", "until": "4"}, [3]),
        ({"since": 13}, []),
        ({"until": 1}, []),
        ({"until": 0}, []),
        ({"event_type": "TaskDeleted"}, [10, 9]),
        ({"event_type": "TaskDeleted", "until": 10}, [9]),
        ({"client": "nobody"}, []),
        ({"task_id": 1, "since": 2, "event_type": "TaskUpdated"}, [2]),
        ({"task_id": 1, "since": 99}, []),
        ({"limit": 2}, [12, 11]),
    ],
)
def test_filters(busy: Agent, filters: dict[str, Any], found: list[int]) -> None:
    assert positions(busy, **filters) == found


def test_since_is_inclusive_and_until_exclusive_for_times_too(busy: Agent) -> None:
    at = event(busy, 3)["at"]
    assert min(positions(busy, since=at)) == 3
    assert max(positions(busy, until=at)) == 2
    assert positions(busy, since="2001-01-01T00:00:00+05:30") == list(range(12, 0, -1))
    assert positions(busy, since="2999-01-01T00:00:00Z") == []


def test_times_never_go_back(busy: Agent) -> None:
    times = [datetime.fromisoformat(one["at"]) for one in busy("get_history")["events"]]
    assert times == sorted(times, reverse=True)


def test_pages_go_on_with_a_cursor(busy: Agent) -> None:
    seen: list[int] = []
    further: Json = {}
    while True:
        page = busy("get_history", limit=5, **further)
        seen += [one["position"] for one in page["events"]]
        assert page["truncated"] is ("next_cursor" in page)
        if "next_cursor" not in page:
            break
        further = {"cursor": page["next_cursor"]}
        busy("add_task", title="meanwhile")
    assert seen == list(range(12, 0, -1))


def test_a_page_ends_once_its_text_is_long(alice: Agent) -> None:
    alice("add_message", role="user", content="x")
    for number in range(200):
        alice("update_message", message_id=2, content=f"{number}" * 60, reason="r" * 200)
    page = alice("get_history", limit=200)
    assert page["truncated"] is True
    assert 24_000 < len(alice.said.encode()) < 25_000
    assert f"cursor={page['next_cursor']}" in alice.said


@pytest.mark.parametrize(
    ("arguments", "code", "argument"),
    [
        ({"task_id": 99}, "not_found", None),
        ({"task_id": 4}, "not_found", None),
        ({"conversation_id": 99}, "conversation_not_found", None),
        ({"conversation_id": 1}, "conversation_not_found", None),
        ({"task_id": 1, "conversation_id": 4}, "invalid_argument", "task_id"),
        ({"event_type": "TaskExploded"}, "invalid_argument", "event_type"),
        ({"limit": 201}, "invalid_argument", "limit"),
        ({"cursor": "made up"}, "invalid_argument", "cursor"),
        ({"client": ""}, "invalid_argument", "client"),
    ],
)
def test_a_question_that_cannot_be(
    busy: Agent, arguments: dict[str, Any], code: str, argument: str | None
) -> None:
    problem = busy.refused("get_history", **arguments)
    assert (problem["code"], problem.get("argument")) == (code, argument)


# Provenance


def test_the_client_is_the_verified_one_and_what_it_claims_to_be(
    connect: Callable[..., Agent], era: str
) -> None:
    agent = connect(client_id="assistant-web", headers={"User-Agent": "Other/9 (x; y)"})
    agent("add_task", title="x")
    told = event(agent, 1)
    assert told["client"] == "assistant-web"
    modern = {"name": "Test-Agent", "version": "1.2.3"}
    assert told["claims"] == (modern if era == "2026-07-28" else {"name": "Other", "version": "9"})
    name = told["claims"]["name"]
    assert positions(agent, client="assistant-web") == positions(agent, client=name) == [1]


def test_without_a_verified_client_the_claim_is_shown(
    connect: Callable[..., Agent], era: str
) -> None:
    agent = connect(headers={"User-Agent": "Other/9"})
    agent("add_task", title="x")
    assert event(agent, 1)["client"] == ("Test-Agent" if era == "2026-07-28" else "Other")


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("by", ["headers", "meta"])
def test_a_change_is_linked_to_the_message_that_caused_it(
    connect: Callable[..., Agent], by: str
) -> None:
    first = connect()
    message = first("add_message", role="user", content="please add a task")
    cause = {
        "conversation_id": message["conversation_id"],
        "message_id": message["message_id"],
    }
    if by == "headers":
        headers = {
            f"Tasktrail-{name.replace('_', '-').title()}": str(id_) for name, id_ in cause.items()
        }
        agent = connect(headers={**headers, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    else:
        agent = connect()
        agent.meta = {f"tasktrail/{name}": id_ for name, id_ in cause.items()}
    position = agent("add_task", title="x")["position"]
    told = event(first, position)
    assert {name: told[name] for name in cause} == cause
    assert f"message {cause['message_id']}" in first.said


def test_a_message_alone_tells_its_conversation(alice: Agent) -> None:
    message = alice("add_message", role="user", content="please")
    alice.meta = {"tasktrail/message_id": str(message["message_id"])}
    position = alice("add_task", title="x")["position"]
    assert event(alice, position)["conversation_id"] == message["conversation_id"]
    assert alice("undo", conversation_id=message["conversation_id"])["undone"]


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ({"tasktrail/conversation_id": 99}, "conversation_not_found"),
        ({"tasktrail/conversation_id": 2}, "conversation_not_found"),
        ({"tasktrail/conversation_id": "one"}, "conversation_not_found"),
        ({"tasktrail/conversation_id": 0}, "conversation_not_found"),
        ({"tasktrail/conversation_id": True}, "conversation_not_found"),
        ({"tasktrail/message_id": 99}, "message_not_found"),
        ({"tasktrail/message_id": 1}, "message_not_found"),
        ({"tasktrail/message_id": {"id": 2}}, "message_not_found"),
        ({"tasktrail/message_id": 10**30}, "message_not_found"),
        ({"tasktrail/conversation_id": 3, "tasktrail/message_id": 2}, "message_not_found"),
    ],
)
def test_a_cause_that_does_not_exist_fails_the_call(
    alice: Agent, meta: dict[str, Any], code: str
) -> None:
    alice("add_message", role="user", content="x")  # 1, 2
    alice("create_conversation")  # 3
    alice.meta = meta
    assert alice.refused("add_task", title="x")["code"] == code
    alice.meta = {}
    assert positions(alice) == [3, 2, 1]


def test_the_cause_of_another_user_is_no_cause(connect: Callable[..., Agent], user: str) -> None:
    other = connect(f"{user}-too")
    other("add_message", role="user", content="theirs")
    agent = connect()
    agent.meta = {"tasktrail/conversation_id": 1}
    theirs = agent.refused("add_task", title="x")
    agent.meta = {"tasktrail/conversation_id": 99}
    nobodys = agent.refused("add_task", title="x")
    assert theirs == {**nobodys, "message": nobodys["message"].replace("99", "1")}

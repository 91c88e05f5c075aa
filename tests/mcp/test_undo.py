"""Undo: what compensates is appended, nothing is rewritten, and conflicts are told."""

from typing import Any

import pytest

from events.ledger import Json
from tests.mcp.agent import Agent

WHOLE = {
    "title": "Book the venue",
    "description": "For thirty people.",
    "priority": "high",
    "due": "2026-12-01",
    "tags": ["party"],
}


def state(agent: Agent) -> list[Any]:
    """Return everything that can be read but for versions, positions and times."""
    tasks = [
        agent("get_task", task_id=task["id"])
        for deleted in (False, True)
        for task in agent("list_tasks", deleted=deleted, limit=100)["tasks"]
    ]
    passing = {"version", "position", "updated_at", "completed_at", "history"}
    kept = [{name: task[name] for name in sorted(set(task) - passing)} for task in tasks]
    chats = agent("list_conversations")["conversations"]
    messages = [
        [message["id"], message["content"]]
        for chat in sorted(chat["id"] for chat in chats)
        for message in agent("get_conversation_history", conversation_id=chat)["messages"]
    ]
    return [sorted(kept, key=lambda task: int(task["id"])), messages]


def head(agent: Agent) -> int:
    events = agent("get_history", limit=1)["events"]
    return int(events[0]["position"]) if events else 0


def undo_as_rehearsed(agent: Agent, **what: Any) -> Json:
    """Undo after a dry run that has to tell exactly what will happen, and changes nothing."""
    before, length = state(agent), head(agent)
    rehearsed = agent("undo", dry_run=True, **what)
    assert rehearsed.pop("dry_run") is True
    assert (state(agent), head(agent)) == (before, length)
    done = agent("undo", **what)
    assert rehearsed["undone"] == done["undone"]
    assert rehearsed["conflicts"] == done["conflicts"]
    assert done["events"] == list(range(length + 1, length + 1 + len(done["events"])))
    told = {event["position"]: event for event in agent("get_history", since=length + 1)["events"]}
    assert rehearsed["events"] == [
        {name: event[name] for name in ("type", "what", "changes", "undoes")}
        for event in (told[position] for position in done["events"])
    ]
    if done["events"]:
        assert done["position"] == done["events"][-1]
    return done


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("the creation of a task", "add_task", WHOLE),
    ("the creation of many", "add_task", {"tasks": [WHOLE, {"title": "x"}]}),
    ("an update", "update_task", {"task_id": 1, "title": "Venue", "due": "2026-12-24"}),
    ("a clearing", "update_task", {"task_id": 1, "clear": ["description", "tags", "due"]}),
    ("a completion", "complete_task", {"task_id": 1}),
    ("a reopening", "complete_task", {"task_id": 2, "completed": False}),
    ("a deletion", "delete_task", {"task_id": 1}),
    ("many deletions", "delete_task", {"task_id": [1, 2]}),
    ("a message", "add_message", {"conversation_id": 4, "role": "user", "content": "again"}),
    ("an edit", "update_message", {"message_id": 5, "content": "hello!"}),
    ("a conversation", "create_conversation", {"title": "new"}),
    ("the end of a conversation", "delete_conversation", {"conversation_id": 4}),
]


@pytest.fixture
def bob(alice: Agent) -> Agent:
    """An agent with an open task 1, a completed task 2, a conversation 4 with a message 5."""
    alice("add_task", **WHOLE)
    alice("add_task", title="done")
    alice("complete_task", task_id=2)
    alice("add_message", role="user", content="hello")
    return alice


@pytest.mark.parametrize(
    ("tool", "arguments"), [change[1:] for change in CHANGES], ids=[change[0] for change in CHANGES]
)
def test_undo_restores_and_undoing_the_undo_brings_it_back(
    bob: Agent, tool: str, arguments: dict[str, Any]
) -> None:
    before, length = state(bob), head(bob)
    bob(tool, **arguments)
    after = state(bob)
    made = head(bob)
    undone = undo_as_rehearsed(bob, since=length + 1)
    assert [one["position"] for one in undone["undone"]] == list(range(made, length, -1))
    assert [task for task in state(bob)[0] if not task["deleted"]] == before[0]
    assert state(bob)[1] == before[1]
    again = undo_as_rehearsed(bob, since=made + 1)
    assert len(again["undone"]) == len(undone["events"])
    assert state(bob) == after


def test_one_position_is_undone_by_itself(bob: Agent) -> None:
    bob("update_task", task_id=1, title="Venue")  # 6
    bob("update_task", task_id=1, priority="low")  # 7
    answer = undo_as_rehearsed(bob, position=6)
    assert answer["undone"] == [{"position": 6, "what": "changed title of task 1 “Venue”"}]
    assert (answer["events"], answer["position"], answer["version"]) == ([8], 8, 4)
    shown = bob("get_task", task_id=1)
    assert (shown["title"], shown["priority"]) == (WHOLE["title"], "low")


def test_undoing_twice_adds_nothing(bob: Agent) -> None:
    bob("undo", position=3)
    assert bob.said == "Undone 3: completed task 2 “done”"
    again = bob("undo", position=3)
    assert (again["unchanged"], again["undone"], again["events"]) == (True, [], [])
    assert head(bob) == 6
    assert bob("undo", position="3", dry_run=True)["unchanged"] is True
    assert bob("undo", since=99)["unchanged"] is True


def test_since_a_time_undoes_everything_from_then_on(bob: Agent) -> None:
    before = state(bob)
    bob("add_task", title="x")
    at = bob("get_history", limit=1)["events"][0]["at"]
    bob("complete_task", task_id=1)
    bob("delete_task", task_id=6)
    answer = undo_as_rehearsed(bob, since=at)
    assert [one["position"] for one in answer["undone"]] == [8, 7, 6]
    assert [task for task in state(bob)[0] if not task["deleted"]] == before[0]


def test_all_that_a_conversation_caused_is_undone_and_nothing_else(bob: Agent) -> None:
    bob.meta = {"tasktrail/conversation_id": 4}
    bob("add_task", title="caused")  # 6
    bob("complete_task", task_id=1)  # 7
    bob.meta = {}
    bob("add_task", title="not caused")  # 8
    messages = state(bob)[1]
    answer = undo_as_rehearsed(bob, conversation_id="4")
    assert [one["position"] for one in answer["undone"]] == [7, 6]
    listed = bob("list_tasks")["tasks"]
    assert [task["title"] for task in listed] == ["not caused", "done", WHOLE["title"]]
    assert not listed[2]["completed"]
    assert state(bob)[1] == messages


def test_of_what_a_conversation_caused_the_latter_part(bob: Agent) -> None:
    bob.meta = {"tasktrail/conversation_id": 4}
    bob("add_task", title="earlier")  # 6
    bob("add_task", title="later")  # 7
    answer = undo_as_rehearsed(bob, conversation_id=4, since=7)
    assert [one["position"] for one in answer["undone"]] == [7]
    assert bob("get_task", task_id=6)["deleted"] is False


def test_later_changes_of_the_same_field_are_conflicts(bob: Agent) -> None:
    bob("update_task", task_id=1, title="second", priority="low")  # 6
    bob("update_task", task_id=1, title="third")  # 7
    before, length = state(bob), head(bob)
    conflict = {"position": 6, "field": "title", "later": 7}
    problem = bob.refused("undo", position=6)
    assert (problem["code"], problem["conflicts"]) == ("undo_conflict", [conflict])
    assert "force" in problem["hint"]
    assert (state(bob), head(bob)) == (before, length)
    rehearsed = bob("undo", position=6, dry_run=True)
    assert rehearsed["conflicts"] == [conflict]
    assert "Conflict at 6: title was changed again at 7" in bob.said
    forced = bob("undo", position=6, force=True)
    assert forced["conflicts"] == [conflict]
    assert bob("get_task", task_id=1)["title"] == WHOLE["title"]


def test_a_later_change_of_another_field_is_none(bob: Agent) -> None:
    bob("update_task", task_id=1, title="second")  # 6
    bob("update_task", task_id=1, priority="low")
    bob("complete_task", task_id=1)
    assert undo_as_rehearsed(bob, position=6)["conflicts"] == []


def test_a_later_change_that_is_undone_is_none(bob: Agent) -> None:
    bob("update_task", task_id=1, title="second")  # 6
    bob("update_task", task_id=1, title="third")  # 7
    bob("undo", position=7)
    undo_as_rehearsed(bob, position=6)
    assert bob("get_task", task_id=1)["title"] == WHOLE["title"]


def test_an_edited_message_conflicts_with_a_later_edit(bob: Agent) -> None:
    bob("update_message", message_id=5, content="one")  # 6
    bob("update_message", message_id=5, content="two")  # 7
    problem = bob.refused("undo", position=6)
    assert problem["conflicts"] == [{"position": 6, "field": "content", "later": 7}]
    bob("undo", position=6, force=True)
    assert state(bob)[1] == [[5, "hello"]]


def test_a_span_that_contains_its_own_undoing_cancels_out(bob: Agent) -> None:
    bob("update_task", task_id=1, title="second")  # 6
    bob("undo", position=6)  # 7
    before = state(bob)
    answer = undo_as_rehearsed(bob, since=6)
    assert answer["undone"] == []
    assert state(bob) == before


def test_undoing_a_creation_hides_a_changed_task_only_by_force_if_fields_were_changed(
    bob: Agent,
) -> None:
    bob("complete_task", task_id=1)
    undo_as_rehearsed(bob, position=1)
    assert bob("get_task", task_id=1)["deleted"] is True
    bob("undo", since=7)
    bob("update_task", task_id=1, title="changed")
    assert bob.refused("undo", position=1)["code"] == "undo_conflict"


def test_a_deleted_task_comes_back_before_its_fields_do(bob: Agent) -> None:
    bob("update_task", task_id=1, title="second")  # 6
    bob("delete_task", task_id=1)  # 7
    problem = bob.refused("undo", position=6)
    assert problem["code"] == "not_found"
    undo_as_rehearsed(bob, since=6)
    assert bob("get_task", task_id=1)["title"] == WHOLE["title"]


def test_an_undo_of_more_than_500_changes_is_too_many(alice: Agent) -> None:
    for _ in range(10):
        alice("add_task", tasks=[{"title": "x"}] * 50)
    assert len(alice("undo", since=1, dry_run=True)["undone"]) == 500
    alice("add_task", title="one more")
    for dry_run in (True, False):
        problem = alice.refused("undo", since=1, dry_run=dry_run)
        assert problem["code"] == "limit_exceeded"
        assert "501" in problem["message"]
    assert len(alice("undo", since=2)["events"]) == 500
    assert [task["id"] for task in alice("list_tasks")["tasks"]] == [1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "invalid_argument"),
        ({"dry_run": True}, "invalid_argument"),
        ({"position": 1, "since": 1}, "invalid_argument"),
        ({"position": 1, "conversation_id": 4}, "invalid_argument"),
        ({"position": 0}, "invalid_argument"),
        ({"position": -1}, "invalid_argument"),
        ({"position": "one"}, "invalid_argument"),
        ({"position": 99}, "not_found"),
        ({"conversation_id": 99}, "conversation_not_found"),
        ({"conversation_id": 1}, "conversation_not_found"),
    ],
)
def test_an_undo_that_cannot_be(bob: Agent, arguments: dict[str, Any], code: str) -> None:
    assert bob.refused("undo", **arguments)["code"] == code
    assert head(bob) == 5

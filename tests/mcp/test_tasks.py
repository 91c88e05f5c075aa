"""Tasks, as an agent adds, reads, changes, completes and deletes them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.mcp.agent import Agent

WHOLE = {
    "title": "Book the venue",
    "description": "For thirty people.\nWith a garden.",
    "priority": "high",
    "due": "2026-12-01",
    "tags": ["party", "home"],
}


def just_now(moment: str) -> bool:
    """Whether ``moment`` is ISO 8601 in UTC, of the last minute."""
    assert moment.endswith("Z")
    return abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 60


# Adding


def test_adding_a_task_tells_its_id_and_place(alice: Agent) -> None:
    assert alice("add_task", title="Buy groceries") == {
        "task_id": 1,
        "status": "created",
        "title": "Buy groceries",
        "version": 1,
        "position": 1,
        "similar": [],
    }
    assert alice.said == "Created task 1 “Buy groceries”, version 1."


def test_a_task_keeps_every_field_it_was_given(alice: Agent) -> None:
    id_ = alice("add_task", **WHOLE, reason="asked at breakfast")["task_id"]
    shown = alice("get_task", task_id=id_)
    assert {name: shown[name] for name in WHOLE} == WHOLE


def test_an_id_is_the_position_of_the_event_that_created_the_thing(alice: Agent) -> None:
    alice("add_task", title="one")
    alice("update_task", task_id=1, title="uno")
    conversation = alice("create_conversation")
    message = alice(
        "add_message", conversation_id=conversation["conversation_id"], role="user", content="hello"
    )
    task = alice("add_task", title="two")
    assert (conversation["conversation_id"], message["message_id"], task["task_id"]) == (3, 4, 5)
    created = alice("get_history", task_id=5)["events"][-1]
    assert (created["position"], created["type"]) == (5, "TaskCreated")


def test_surrounding_space_is_no_part_of_a_title(alice: Agent) -> None:
    assert alice("add_task", title="  Buy milk ")["title"] == "Buy milk"


def test_a_repeated_tag_counts_once(alice: Agent) -> None:
    alice("add_task", title="x", tags=["home", "work", "home"])
    assert alice("get_task", task_id=1)["tags"] == ["home", "work"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-12-01", "2026-12-01"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
        ("2026-12-01T09:00:00+02:00", "2026-12-01T07:00:00Z"),
        ("2026-12-01T09:00-05:30", "2026-12-01T14:30:00Z"),
        ("2024-02-29", "2024-02-29"),
    ],
)
def test_a_due_date_stays_a_date_and_a_time_comes_back_in_utc(
    alice: Agent, given: str, shown: str
) -> None:
    alice("add_task", title="x", due=given)
    assert alice("get_task", task_id=1)["due"] == shown


def test_similar_names_open_tasks_with_the_same_title(alice: Agent) -> None:
    for title in ("Buy milk", "buy  MILK", "Buy milk today", "BUY MILK", "Buy milk"):
        alice("add_task", title=title)
    alice("complete_task", task_id=4)
    alice("delete_task", task_id=5)
    added = alice("add_task", title="Buy Milk")
    assert sorted(added["similar"]) == [1, 2]
    assert "Open tasks with the same title: 2, 1." in alice.said


def test_many_tasks_are_added_as_one_command(alice: Agent) -> None:
    alice("add_task", title="b")
    answer = alice("add_task", tasks=[{"title": "a"}, {"title": "b", "due": "2026-12-01"}])
    assert answer == {
        "tasks": [
            {"task_id": 2, "status": "created", "title": "a", "version": 1, "position": 2}
            | {"similar": []},
            {"task_id": 3, "status": "created", "title": "b", "version": 1, "position": 3}
            | {"similar": [1]},
        ],
        "position": 3,
    }
    assert len(alice.said.splitlines()) == 2


def test_fifty_tasks_at_once_and_no_more(alice: Agent) -> None:
    fifty = [{"title": f"task {number}"} for number in range(50)]
    assert len(alice("add_task", tasks=fifty)["tasks"]) == 50
    problem = alice.refused("add_task", tasks=[*fifty, {"title": "one more"}])
    assert (problem["code"], problem["argument"]) == ("invalid_argument", "tasks")
    assert len(alice("list_tasks", limit=100)["tasks"]) == 50


def test_one_bad_task_keeps_the_others_out(alice: Agent) -> None:
    problem = alice.refused("add_task", tasks=[{"title": "good"}, {"title": " "}])
    assert problem["code"] == "invalid_argument"
    assert problem["argument"] == "tasks.1.title"
    assert alice("list_tasks")["tasks"] == []


# Reading one


def test_get_task_tells_everything(alice: Agent) -> None:
    alice("add_task", **WHOLE)
    alice("complete_task", task_id=1)
    shown = alice("get_task", task_id=1)
    events = shown.pop("history")
    times = [shown.pop(name) for name in ("created_at", "updated_at", "completed_at")]
    assert shown == {
        **WHOLE,
        "id": 1,
        "completed": True,
        "version": 2,
        "position": 2,
        "deleted": False,
    }
    assert all(map(just_now, times))
    assert times == sorted(times)
    assert [event["type"] for event in events] == ["TaskCompleted", "TaskCreated"]
    assert "For thirty people." in alice.said


def test_get_task_tells_the_five_latest_changes_as_get_history_does(alice: Agent) -> None:
    alice("add_task", title="v1")
    for version in range(2, 8):
        alice("update_task", task_id=1, title=f"v{version}", reason=f"reason {version}")
    history = alice("get_task", task_id=1)["history"]
    assert history == alice("get_history", task_id=1, limit=5)["events"]
    assert history[0]["changes"] == {"title": ["v6", "v7"]}


def test_a_bare_task_shows_what_it_does_not_have(alice: Agent) -> None:
    alice("add_task", title="bare")
    shown = alice("get_task", task_id=1)
    assert "priority" not in shown
    assert "due" not in shown
    assert (shown["description"], shown["completed_at"], shown["tags"]) == (None, None, [])


def test_a_deleted_task_can_still_be_read(alice: Agent) -> None:
    alice("add_task", title="gone")
    alice("delete_task", task_id=1)
    assert alice("get_task", task_id=1)["deleted"] is True
    assert "deleted" in alice.said


def test_get_task_as_of_a_position_or_a_time_shows_it_as_it_was(alice: Agent) -> None:
    alice("add_task", title="first")
    alice("update_task", task_id=1, title="second")
    then = alice("get_task", task_id=1)["updated_at"]
    alice("delete_task", task_id=1)
    assert alice("get_task", task_id=1, as_of=1)["title"] == "first"
    assert alice("get_task", task_id=1, as_of="2")["title"] == "second"
    at_the_time = alice("get_task", task_id=1, as_of=then)
    assert (at_the_time["title"], at_the_time["deleted"]) == ("second", False)
    assert len(at_the_time["history"]) == 2


def test_before_it_was_created_a_task_does_not_exist(alice: Agent) -> None:
    alice("add_task", title="one")
    alice("add_task", title="two")
    assert alice.refused("get_task", task_id=2, as_of=1)["code"] == "not_found"
    long_ago = "2001-01-01T00:00:00Z"
    assert alice.refused("get_task", task_id=1, as_of=long_ago)["code"] == "not_found"
    assert alice("list_tasks", as_of=long_ago)["tasks"] == []


# Changing


def test_a_field_that_is_not_given_is_not_touched(alice: Agent) -> None:
    alice("add_task", **WHOLE)
    assert alice("update_task", task_id=1, priority="low") == {
        "task_id": 1,
        "status": "updated",
        "title": "Book the venue",
        "changed": ["priority"],
        "version": 2,
        "position": 2,
    }
    shown = alice("get_task", task_id=1)
    assert {name: shown[name] for name in WHOLE} == {**WHOLE, "priority": "low"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "Book the garden"),
        ("description", "For forty."),
        ("priority", "low"),
        ("due", "2026-12-02T10:00:00Z"),
        ("tags", ["work"]),
    ],
)
def test_each_field_can_be_changed(alice: Agent, field: str, value: Any) -> None:
    alice("add_task", **WHOLE)
    assert alice("update_task", task_id=1, **{field: value})["changed"] == [field]
    assert alice("get_task", task_id=1)[field] == value


@pytest.mark.parametrize("field", ["description", "priority", "due", "tags"])
def test_each_field_but_the_title_can_be_cleared(alice: Agent, field: str) -> None:
    alice("add_task", **WHOLE)
    assert alice("update_task", task_id=1, clear=[field])["changed"] == [field]
    assert not alice("get_task", task_id=1).get(field)
    assert alice.refused("update_task", task_id=1, clear=["title"])["code"] == "invalid_argument"


def test_changing_and_clearing_go_together(alice: Agent) -> None:
    alice("add_task", **WHOLE)
    answer = alice("update_task", task_id=1, title="Venue", clear=["due", "tags"])
    assert sorted(answer["changed"]) == ["due", "tags", "title"]


def test_changed_names_only_what_really_changed(alice: Agent) -> None:
    alice("add_task", **WHOLE)
    answer = alice("update_task", task_id=1, title=WHOLE["title"], priority="low")
    assert answer["changed"] == ["priority"]


# Completing


def test_completing_and_reopening(alice: Agent) -> None:
    alice("add_task", title="x")
    done = {"task_id": 1, "status": "completed", "title": "x", "version": 2, "position": 2}
    assert alice("complete_task", task_id=1) == done
    assert alice("get_task", task_id=1)["completed_at"]
    open_again = {"task_id": 1, "status": "pending", "title": "x", "version": 3, "position": 3}
    assert alice("complete_task", task_id=1, completed=False) == open_again
    assert alice("get_task", task_id=1)["completed_at"] is None


def test_many_tasks_are_completed_as_one_command(alice: Agent) -> None:
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}, {"title": "c"}])
    alice("complete_task", task_id=2)
    answer = alice("complete_task", task_id=[1, "2", 3])
    assert [task.get("unchanged", False) for task in answer["tasks"]] == [False, True, False]
    assert [task["status"] for task in answer["tasks"]] == ["completed"] * 3
    assert answer["position"] == 6
    assert "unchanged" not in answer


def test_one_task_that_does_not_exist_keeps_the_others_open(alice: Agent) -> None:
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}])
    problem = alice.refused("complete_task", task_id=[1, 99, 2])
    assert problem["code"] == "not_found"
    assert "99" in problem["message"]
    assert not any(task["completed"] for task in alice("list_tasks")["tasks"])


# Deleting


def test_deleting_tells_how_to_restore(alice: Agent) -> None:
    alice("add_task", title="x")
    answer = alice("delete_task", task_id=1)
    hint = answer.pop("hint")
    assert answer == {"task_id": 1, "status": "deleted", "title": "x", "version": 2, "position": 2}
    assert hint == "undo with this position restores it"
    assert "undo(position=2) restores it." in alice.said
    assert alice("list_tasks")["tasks"] == []
    alice("undo", position=2)
    assert len(alice("list_tasks")["tasks"]) == 1


def test_many_tasks_are_deleted_as_one_command(alice: Agent) -> None:
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}, {"title": "c"}])
    answer = alice("delete_task", task_id=[1, 3])
    assert [task["position"] for task in answer["tasks"]] == [4, 5]
    assert all("undo" in task["hint"] for task in answer["tasks"])
    assert [task["id"] for task in alice("list_tasks")["tasks"]] == [2]
    assert alice.refused("delete_task", task_id=[2, 99])["code"] == "not_found"
    assert [task["id"] for task in alice("list_tasks")["tasks"]] == [2]


@pytest.mark.parametrize(
    ("tool", "change"),
    [
        ("update_task", {"title": "y"}),
        ("complete_task", {}),
        ("complete_task", {"completed": False}),
    ],
)
def test_a_deleted_task_cannot_be_changed_until_undo_restores_it(
    alice: Agent, tool: str, change: dict[str, Any]
) -> None:
    alice("add_task", title="x")
    alice("delete_task", task_id=1)
    problem = alice.refused(tool, task_id=1, **change)
    assert problem["code"] == "not_found"
    assert "undo(position=2)" in problem["hint"]
    alice("undo", position=2)
    alice(tool, task_id=1, **change)


@pytest.mark.parametrize("tool", ["complete_task", "delete_task"])
def test_a_list_takes_neither_expected_version_nor_a_repeated_id(alice: Agent, tool: str) -> None:
    alice("add_task", tasks=[{"title": "a"}, {"title": "b"}])
    problem = alice.refused(tool, task_id=[1, 2], expected_version=1)
    assert (problem["code"], problem["argument"]) == ("invalid_argument", "expected_version")
    problem = alice.refused(tool, task_id=[1, "1"])
    assert (problem["code"], problem["argument"]) == ("invalid_argument", "task_id")


# What is already so


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("complete_task", {"completed": False}),
        ("update_task", {"title": "x"}),
        ("update_task", {"clear": ["due", "tags"]}),
    ],
)
def test_a_wish_that_is_already_true_adds_nothing(
    alice: Agent, tool: str, arguments: dict[str, Any]
) -> None:
    alice("add_task", title="x")
    answer = alice(tool, task_id=1, **arguments)
    assert (answer["unchanged"], answer["version"], answer["position"]) == (True, 1, 1)
    assert "already" in alice.said
    assert len(alice("get_history")["events"]) == 1


@pytest.mark.parametrize("tool", ["complete_task", "delete_task"])
def test_doing_it_twice_adds_one_event(alice: Agent, tool: str) -> None:
    alice("add_task", title="x")
    once, twice = alice(tool, task_id=1), alice(tool, task_id=1)
    assert twice == {**once, "unchanged": True}
    assert alice(tool, task_id=[1])["unchanged"] is True
    assert len(alice("get_history")["events"]) == 2


# Expected versions


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("update_task", {"title": "y"}), ("complete_task", {}), ("delete_task", {})],
)
def test_an_expected_version_that_has_passed_is_a_conflict(
    alice: Agent, tool: str, arguments: dict[str, Any]
) -> None:
    alice("add_task", title="x")
    alice("update_task", task_id=1, priority="low")
    problem = alice.refused(tool, task_id=1, expected_version=1, **arguments)
    assert (problem["code"], problem["current_version"]) == ("version_conflict", 2)
    assert alice(tool, task_id=1, expected_version=2, **arguments)["version"] == 3


def test_a_text_for_a_model_is_one_line_a_task(alice: Agent) -> None:
    for number in range(16):
        alice("add_task", title=f"filler {number}")
    alice("add_task", title="Buy groceries", due="2026-12-01", priority="high", tags=["home"])
    alice("list_tasks", limit=1)
    first, _ = alice.said.splitlines()
    assert first == "17 [ ] Buy groceries  due 2026-12-01  high  #home"
    alice("complete_task", task_id=17)
    alice("list_tasks", limit=1)
    assert alice.said.startswith("17 [x] ")

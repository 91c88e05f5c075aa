"""The words of the answers: all that many a model sees of them."""

import pytest

from tests.mcp.agent import MODERN, Agent


@pytest.fixture
def era() -> str:
    """Words are the same in both eras."""
    return MODERN


def test_a_history_tells_what_is_empty_in_words(alice: Agent) -> None:
    alice("add_task", title="Buy milk")
    alice("update_task", task_id=1, due="2026-12-01", tags=["home", "shop"])
    alice("update_task", task_id=1, clear=["due", "tags"])
    alice("get_history")
    assert "due: (none) → 2026-12-01  tags: (none) → home, shop" in alice.said
    assert "due: 2026-12-01 → (none)  tags: home, shop → (none)" in alice.said
    alice("get_task", task_id=1)
    assert "due: (none) → 2026-12-01" in alice.said


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("add_task", {}, "title is required (or tasks, for several)."),
        ("get_task", {}, "task_id is required."),
        ("add_message", {"role": "user"}, "content is required."),
        ("undo", {}, "give position, since or conversation_id."),
        ("undo", {"position": 1, "since": 1}, "position goes alone."),
        ("update_task", {"task_id": 1, "due": "2026-12-01", "clear": ["due"]}, "clear names a"),
        ("add_task", {"tasks": []}, "tasks: must have at least 1 item."),
    ],
)
def test_an_error_names_its_argument_once(
    alice: Agent, tool: str, arguments: dict[str, object], said: str
) -> None:
    problem = alice.refused(tool, **arguments)
    assert problem["message"].startswith(said)
    assert problem["argument"] in problem["message"]


def test_a_forced_undo_says_what_it_overwrote(alice: Agent) -> None:
    alice("add_task", title="A")
    alice("update_task", task_id=1, title="B")
    alice("update_task", task_id=1, title="C")
    problem = alice.refused("undo", position=2)
    assert problem["message"] == "1 field was changed again later; nothing was undone."
    alice("undo", position=2, dry_run=True)
    assert "Conflict at 2: title was changed again at 3; only force=true undoes it." in alice.said
    alice("undo", position=2, force=True, idempotency_key="k")
    assert "Conflict" not in alice.said
    assert "Overwritten: title, changed again at 3" in alice.said
    assert "Done before" not in alice.said
    alice("undo", position=2, force=True, idempotency_key="k")
    assert "(Done before with this idempotency_key.)" in alice.said


def test_a_repeated_undo_of_what_is_undone_says_both(alice: Agent) -> None:
    alice("add_task", title="A")
    alice("undo", position=1)
    for again in (False, True):
        alice("undo", position=1, idempotency_key="k")
        assert "Nothing to undo" in alice.said
        assert ("(Done before with this idempotency_key.)" in alice.said) is again


def test_a_deleted_conversation_can_be_restored_by_what_is_said(alice: Agent) -> None:
    alice("create_conversation", title="Plans")
    alice("add_message", conversation_id=1, role="user", content="Hello")
    alice("delete_conversation", conversation_id=1)
    assert "undo(position=3) restores it." in alice.said
    alice("delete_conversation", conversation_id=1)
    assert "undo(position=3) restores it." in alice.said
    for tool, arguments in (
        ("add_message", {"conversation_id": 1, "role": "user", "content": "More"}),
        ("get_conversation_history", {"conversation_id": 1}),
    ):
        problem = alice.refused(tool, **arguments)
        assert problem["code"] == "conversation_not_found"
        assert problem["message"] == "Conversation 1 is deleted."
        assert problem["hint"] == "undo(position=3) restores it."
    problem = alice.refused("update_message", message_id=2, content="Other")
    assert problem["message"] == "The conversation of message 2 is deleted."
    assert problem["hint"] == "undo(position=3) restores it."
    alice("undo", position=3)
    alice("get_conversation_history", conversation_id=1)


def test_one_is_not_several(alice: Agent) -> None:
    alice("add_message", role="user", content="Hello")
    alice("list_conversations")
    assert "1 message  " in alice.said
    alice("add_message", conversation_id=1, role="assistant", content="Hello")
    alice("list_conversations")
    assert "2 messages  " in alice.said

"""Decisions about a conversation and its messages: given, when, then."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from events.conversation import (
    NO_CONVERSATION,
    NO_MESSAGE,
    AddMessage,
    Conversation,
    ConversationCommand,
    ConversationCreated,
    ConversationDeleted,
    ConversationEvent,
    ConversationRestored,
    CreateConversation,
    DeleteConversation,
    DeleteMessage,
    EditMessage,
    Message,
    MessageAdded,
    MessageCommand,
    MessageDeleted,
    MessageEdited,
    MessageRestored,
    RestoreConversation,
    RestoreMessage,
    decide,
    decide_message,
    evolve,
    evolve_message,
    message_id,
)
from events.errors import Refused
from events.stamp import Stamp
from tests.strategies import conversation_commands, conversation_events, message_commands

CREATED = ConversationCreated(title="Moving house")
HELLO = MessageAdded(role="user", content="Hello")  # at position 6, so message 6
EDITED = MessageEdited(message_id=6, content="Good morning")
MESSAGE_DELETED = MessageDeleted(message_id=6)
MESSAGE_RESTORED = MessageRestored(message_id=6)
DELETED = ConversationDeleted()
RESTORED = ConversationRestored()
COMMANDS: st.SearchStrategy[ConversationCommand | MessageCommand] = st.one_of(
    conversation_commands(), message_commands()
)
ADD = AddMessage(role="user", content="Hello")
EDIT = EditMessage(content="Good morning")


def at(version: int) -> datetime:
    return datetime(2026, 11, 20, 12, tzinfo=UTC) + timedelta(minutes=version)


def fold(history: Iterable[ConversationEvent]) -> tuple[Conversation, dict[int, Message]]:
    """Return what a stream folds to: its first event at position 5, minutes apart."""
    conversation, messages = NO_CONVERSATION, dict[int, Message]()
    for n, event in enumerate(history):
        stamp = Stamp(5 + n, n + 1, at(n + 1))
        conversation = evolve(conversation, event, stamp)
        id_ = message_id(event, stamp)
        if id_ is not None:
            before = messages.get(id_, NO_MESSAGE)
            messages[id_] = evolve_message(before, event, stamp, conversation.id)
    return conversation, messages


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        pytest.param(
            [], CreateConversation(title="Moving house"), [CREATED], id="one with a title"
        ),
        pytest.param([], CreateConversation(), [ConversationCreated()], id="one without"),
        pytest.param(
            [], CreateConversation(title=" "), [ConversationCreated()], id="a blank title is none"
        ),
        pytest.param([CREATED], ADD, [HELLO], id="a message can be added"),
        pytest.param([CREATED, HELLO], ADD, [HELLO], id="saying the same twice is two messages"),
        pytest.param(
            [CREATED],
            AddMessage(role="tool", content="42", metadata='{"ms":0.5}', external_id="x-1"),
            [MessageAdded(role="tool", content="42", metadata='{"ms":0.5}', external_id="x-1")],
            id="a message is recorded with all its fields",
        ),
        pytest.param([CREATED], DeleteConversation(), [DELETED], id="it can be deleted"),
        pytest.param(
            [CREATED, DELETED], DeleteConversation(), [], id="deleting twice adds nothing"
        ),
        pytest.param(
            [CREATED, DELETED], RestoreConversation(), [RESTORED], id="it can be restored"
        ),
        pytest.param(
            [CREATED], RestoreConversation(), [], id="restoring one that is there adds nothing"
        ),
        pytest.param([CREATED, DELETED, RESTORED], ADD, [HELLO], id="it goes on where it was"),
        pytest.param(
            [CREATED],
            DeleteConversation(undoes=5),
            [ConversationDeleted(undoes=5)],
            id="an undo of its creation says so",
        ),
        pytest.param(
            [CREATED, DELETED],
            RestoreConversation(undoes=6),
            [ConversationRestored(undoes=6)],
            id="an undo of its deletion says so",
        ),
    ],
)
def test_accepted(
    given_: list[ConversationEvent], when: ConversationCommand, then: list[ConversationEvent]
) -> None:
    assert decide(fold(given_)[0], when) == then


@pytest.mark.parametrize(
    ("given_", "when"),
    [
        pytest.param([], ADD, id="a message to none"),
        pytest.param([], DeleteConversation(), id="deleting none"),
        pytest.param([], RestoreConversation(), id="restoring none"),
    ],
)
def test_refused(given_: list[ConversationEvent], when: ConversationCommand) -> None:
    with pytest.raises(Refused) as refusal:
        decide(fold(given_)[0], when)
    assert refusal.value.code == "conversation_not_found"
    assert "list_conversations" in refusal.value.hint


def test_a_message_to_a_deleted_conversation_is_told_the_way_back() -> None:
    conversation = fold([CREATED, DELETED])[0]
    with pytest.raises(Refused) as refusal:
        decide(conversation, ADD)
    assert refusal.value.code == "conversation_not_found"
    assert refusal.value.hint == f"undo(position={conversation.position}) restores it."


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        pytest.param([CREATED, HELLO], EDIT, [EDITED], id="a message can be edited"),
        pytest.param([CREATED, HELLO, EDITED], EDIT, [], id="to what it says already: nothing"),
        pytest.param(
            [CREATED, HELLO], DeleteMessage(), [MESSAGE_DELETED], id="a message can be deleted"
        ),
        pytest.param(
            [CREATED, HELLO, MESSAGE_DELETED], DeleteMessage(), [], id="deleting twice: nothing"
        ),
        pytest.param(
            [CREATED, HELLO, MESSAGE_DELETED],
            RestoreMessage(),
            [MESSAGE_RESTORED],
            id="a deleted message can be restored",
        ),
        pytest.param(
            [CREATED, HELLO], RestoreMessage(), [], id="restoring one that is there: nothing"
        ),
        pytest.param(
            [CREATED, HELLO],
            EditMessage(content="Good morning", undoes=7),
            [MessageEdited(message_id=6, content="Good morning", undoes=7)],
            id="an undo of an edit says so",
        ),
        pytest.param(
            [CREATED, HELLO],
            DeleteMessage(undoes=6),
            [MessageDeleted(message_id=6, undoes=6)],
            id="an undo of adding says so",
        ),
        pytest.param(
            [CREATED, HELLO, MESSAGE_DELETED],
            RestoreMessage(undoes=7),
            [MessageRestored(message_id=6, undoes=7)],
            id="an undo of a deletion says so",
        ),
    ],
)
def test_accepted_for_a_message(
    given_: list[ConversationEvent], when: MessageCommand, then: list[ConversationEvent]
) -> None:
    conversation, messages = fold(given_)
    assert decide_message(conversation, messages[6], when) == then


@pytest.mark.parametrize(
    ("given_", "when"),
    [
        pytest.param([CREATED], EDIT, id="editing none"),
        pytest.param([CREATED], DeleteMessage(), id="deleting none"),
        pytest.param([CREATED], RestoreMessage(), id="restoring none"),
        pytest.param([CREATED, HELLO, MESSAGE_DELETED], EDIT, id="editing a deleted one"),
        pytest.param([CREATED, HELLO, DELETED], EDIT, id="in a deleted conversation: editing"),
        pytest.param([CREATED, HELLO, DELETED], DeleteMessage(), id="there: deleting"),
        pytest.param([CREATED, HELLO, DELETED], RestoreMessage(), id="there: restoring"),
    ],
)
def test_refused_for_a_message(given_: list[ConversationEvent], when: MessageCommand) -> None:
    conversation, messages = fold(given_)
    with pytest.raises(Refused) as refusal:
        decide_message(conversation, messages.get(6, NO_MESSAGE._replace(id=6)), when)
    assert refusal.value.code == "message_not_found"
    assert "6" in refusal.value.message


def test_a_conversation_folds_to_its_row() -> None:
    conversation, _ = fold([CREATED, HELLO, EDITED, HELLO, MESSAGE_DELETED, DELETED])
    assert conversation == Conversation(
        id=5,
        title="Moving house",
        message_count=1,
        deleted=True,
        created_at=at(1),
        updated_at=at(6),
        version=6,
        position=10,
    )


def test_restoring_counts_again() -> None:
    conversation, messages = fold(
        [CREATED, HELLO, MESSAGE_DELETED, MESSAGE_RESTORED, DELETED, RESTORED]
    )
    assert conversation.message_count == 1
    assert not conversation.deleted
    assert not messages[6].deleted


def test_a_message_folds_to_its_row() -> None:
    added = MessageAdded(role="tool", content="42", metadata="{}", external_id="x-1")
    _, messages = fold([CREATED, added, MESSAGE_DELETED, MESSAGE_RESTORED, EDITED, HELLO])
    assert messages[6] == Message(
        id=6,
        conversation_id=5,
        role="tool",
        content="Good morning",
        metadata="{}",
        external_id="x-1",
        created_at=at(2),
        edited_at=at(5),
        version=5,
        position=9,
    )
    assert set(messages) == {6, 10}


def test_events_about_the_conversation_are_about_no_message() -> None:
    for event in (CREATED, DELETED, RESTORED):
        assert message_id(event, Stamp(5, 1, at(1))) is None
        before = Message(id=6, version=2)
        assert evolve_message(before, event, Stamp(7, 3, at(3)), 5) == before


@given(history=st.lists(conversation_events(), max_size=8))
def test_any_history_folds(history: list[ConversationEvent]) -> None:
    """What is in the log has happened, sensible or not: each event is counted."""
    conversation, _ = fold(history)
    assert conversation.version == len(history)


@given(data=st.data())
def test_a_wish_that_came_true_adds_nothing_again(data: st.DataObject) -> None:
    """On every state that decisions lead to, a command is refused or, once done, already so."""
    history: list[ConversationEvent] = []
    codes = set()
    for _ in range(data.draw(st.integers(0, 8))):
        conversation, messages = fold(history)
        command = data.draw(COMMANDS)
        about = data.draw(st.sampled_from([NO_MESSAGE, *messages.values()]))
        try:
            history += decided(conversation, about, command)
        except Refused as refusal:
            codes.add(refusal.code)
            continue
        if not isinstance(command, CreateConversation | AddMessage):
            conversation, messages = fold(history)
            assert decided(conversation, messages.get(about.id, about), command) == []
    assert codes <= {"conversation_not_found", "message_not_found"}


def decided(
    conversation: Conversation, message: Message, command: ConversationCommand | MessageCommand
) -> list[ConversationEvent]:
    if isinstance(command, EditMessage | DeleteMessage | RestoreMessage):
        return decide_message(conversation, message, command)
    return decide(conversation, command)


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "a" * 16_000},
        {"content": " kept with its edges\n"},
        {"role": "tool"},
        {"external_id": "a" * 128},
    ],
)
def test_a_message_within_the_limits(fields: dict[str, Any]) -> None:
    message = AddMessage(**{"role": "user", "content": "A", **fields})
    assert message.content == fields.get("content", "A")


@pytest.mark.parametrize(
    "fields",
    [
        {"content": ""},
        {"content": " \n\u3000\t"},
        {"content": "a" * 16_001},
        {"content": "a\x00"},
        {"content": None},
        {"role": "robot"},
        {"role": None},
        {"external_id": ""},
        {"external_id": " "},
        {"external_id": "a" * 129},
        {"external_id": "two\nlines"},
        {"metadata": {"not": "text"}},
        {"id": 7},
    ],
)
def test_a_message_outside_the_limits(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AddMessage(**{"role": "user", "content": "A", **fields})


@pytest.mark.parametrize("title", ["a" * 201, "two\nlines", "\x1b[2J", 7])
def test_a_conversation_title_outside_the_limits(title: Any) -> None:
    with pytest.raises(ValidationError):
        CreateConversation(title=title)

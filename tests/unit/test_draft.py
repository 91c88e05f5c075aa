"""A command in the making: what it adds, where that stands, and what it folds to."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import conversation as conversations
from events import task as tasks
from events.conversation import (
    AddMessage,
    Conversation,
    CreateConversation,
    DeleteConversation,
    DeleteMessage,
    EditMessage,
    Message,
    MessageAdded,
    MessageEdited,
)
from events.draft import Draft, Entry
from events.errors import Refused
from events.stamp import NOT_YET, Stamp
from events.task import (
    Changes,
    CompleteTask,
    CreateTask,
    DeleteTask,
    ReopenTask,
    Task,
    TaskCompleted,
    TaskCreated,
    TaskReopened,
    TaskUpdated,
    UpdateTask,
)
from tests.strategies import conversation_commands, message_commands, task_commands

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
OPEN = Task(id=17, title="Book the venue", created_at=AT, updated_at=AT, version=3, position=40)
TALK = Conversation(id=5, message_count=1, created_at=AT, updated_at=AT, version=2, position=6)
HELLO = Message(id=6, conversation_id=5, content="Hello", created_at=AT, version=2, position=6)


def test_a_new_task_begins_a_stream_at_its_own_position() -> None:
    draft = Draft()
    task = draft.change_task(None, CreateTask(title="Buy milk"))
    assert draft.entries == [Entry("task", -1, 1, TaskCreated(title="Buy milk"))]
    assert (task.id, task.version, task.position, task.created_at) == (-1, 1, -1, NOT_YET)
    assert draft.changed_tasks() == [task]


def test_each_event_has_the_next_position() -> None:
    draft = Draft()
    ids = [draft.change_task(None, CreateTask(title=title)).id for title in ("A", "B", "C")]
    assert ids == [-1, -2, -3]
    assert [entry.stream_id for entry in draft.entries] == [-1, -2, -3]


def test_an_existing_task_continues_its_stream() -> None:
    draft = Draft({17: OPEN})
    task = draft.change_task(17, CompleteTask())
    assert draft.entries == [Entry("task", 17, 4, TaskCompleted())]
    assert task == OPEN._replace(
        completed=True, completed_at=NOT_YET, updated_at=NOT_YET, version=4, position=-1
    )


def test_each_decision_sees_what_those_before_it_left() -> None:
    draft = Draft({17: OPEN})
    draft.change_task(17, CompleteTask())
    draft.change_task(17, CompleteTask())
    draft.change_task(17, ReopenTask())
    draft.change_task(17, UpdateTask(changes={"title": "Book a hall"}))
    assert draft.entries == [
        Entry("task", 17, 4, TaskCompleted()),
        Entry("task", 17, 5, TaskReopened()),
        Entry("task", 17, 6, TaskUpdated(changes={"title": "Book a hall"})),
    ]
    assert [row.version for row in draft.changed_tasks()] == [6]


def test_a_task_begun_here_can_be_changed_here() -> None:
    draft = Draft()
    id_ = draft.change_task(None, CreateTask(title="Buy milk")).id
    draft.change_task(id_, CompleteTask())
    assert draft.entries[1] == Entry("task", -1, 2, TaskCompleted())
    assert draft.changed_tasks()[0].completed


def test_what_is_already_so_changes_no_row() -> None:
    draft = Draft({17: OPEN}, {5: TALK}, {6: HELLO})
    assert draft.change_task(17, ReopenTask()) == OPEN
    assert draft.change_message(6, EditMessage(content="Hello")) == HELLO
    assert draft.entries == []
    assert draft.changed_tasks() == []
    assert draft.changed_conversations() == []
    assert draft.changed_messages() == []


def test_a_message_changes_its_conversations_row_too() -> None:
    draft = Draft(None, {5: TALK}, {6: HELLO})
    message = draft.change_message(6, EditMessage(content="Good morning"))
    event = MessageEdited(message_id=6, content="Good morning")
    assert draft.entries == [Entry("conversation", 5, 3, event)]
    assert (message.content, message.edited_at, message.version) == ("Good morning", NOT_YET, 3)
    assert draft.changed_messages() == [message]
    assert [row.version for row in draft.changed_conversations()] == [3]


def test_a_conversation_and_its_first_message_in_one_command() -> None:
    draft = Draft()
    conversation = draft.change_conversation(None, CreateConversation())
    draft.change_conversation(conversation.id, AddMessage(role="user", content="Hello"))
    assert draft.entries[1] == Entry(
        "conversation", -1, 2, MessageAdded(role="user", content="Hello")
    )
    (message,) = draft.changed_messages()
    assert (message.id, message.conversation_id) == (-2, -1)
    assert draft.changed_conversations()[0].message_count == 1


def test_a_message_of_a_deleted_conversation_is_gone_with_it() -> None:
    draft = Draft(None, {5: TALK}, {6: HELLO})
    draft.change_conversation(5, DeleteConversation())
    with pytest.raises(Refused) as refusal:
        draft.change_message(6, DeleteMessage())
    assert refusal.value.code == "message_not_found"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda draft: draft.change_task(99, CompleteTask()), "not_found"),
        (lambda draft: draft.change_task(None, DeleteTask()), "not_found"),
        (
            lambda draft: draft.change_conversation(99, DeleteConversation()),
            "conversation_not_found",
        ),
        (lambda draft: draft.change_message(99, DeleteMessage()), "message_not_found"),
    ],
)
def test_what_was_not_found_does_not_exist(change: Any, code: str) -> None:
    draft = Draft({17: OPEN}, {5: TALK}, {6: HELLO})
    with pytest.raises(Refused) as refusal:
        change(draft)
    assert refusal.value.code == code
    assert draft.entries == []
    assert draft.changed_tasks() == []


def test_an_id_of_another_kind_does_not_exist() -> None:
    draft = Draft({17: OPEN}, {5: TALK}, {6: HELLO})
    assert draft.task(5).version == 0
    assert draft.conversation(6).version == 0
    assert draft.message(17).version == 0


@pytest.mark.parametrize(("current", "expected"), [(3, None), (3, 3), (0, None), (0, 7)])
def test_the_expected_version_is_met(current: int, expected: int | None) -> None:
    """At version 0 it does not exist: that is another refusal, with another code."""
    Draft().expect_version(current, expected)


def test_another_version_than_expected_is_refused_with_the_current_one() -> None:
    with pytest.raises(Refused) as refusal:
        Draft().expect_version(3, 2)
    assert refusal.value.code == "version_conflict"
    assert refusal.value.details == {"current_version": 3}


TASK_COMMANDS = task_commands()
CONVERSATION_COMMANDS = conversation_commands()
MESSAGE_COMMANDS = message_commands()


@given(data=st.data(), base=st.integers(0, 1000))
def test_provisional_rows_settle_to_what_a_replay_folds(data: st.DataObject, base: int) -> None:
    """Folding with provisional stamps and settling is folding with the real ones."""
    draft = Draft()
    for _ in range(data.draw(st.integers(0, 12))):
        attempt(draft, data)
    replayed = replay(draft.entries, base)
    assert {settle(row, base) for row in draft.changed_tasks()} == replayed[0]
    assert {settle(row, base) for row in draft.changed_conversations()} == replayed[1]
    assert {settle(row, base) for row in draft.changed_messages()} == replayed[2]


def attempt(draft: Draft, data: st.DataObject) -> None:
    """Decide any command on anything that there is, or on nothing."""
    try:
        match data.draw(st.integers(0, 2)):
            case 0:
                command = data.draw(TASK_COMMANDS)
                new = isinstance(command, CreateTask)
                id_ = None if new else data.draw(st.sampled_from([99, *draft.tasks]))
                draft.change_task(id_, command)
            case 1:
                about = data.draw(CONVERSATION_COMMANDS)
                new = isinstance(about, CreateConversation)
                id_ = None if new else data.draw(st.sampled_from([99, *draft.conversations]))
                draft.change_conversation(id_, about)
            case _:
                message = data.draw(st.sampled_from([99, *draft.messages]))
                draft.change_message(message, data.draw(MESSAGE_COMMANDS))
    except Refused:
        pass


def settle(row: Any, base: int) -> Any:
    """Return a row as ``commit_commands`` stores it, as text so that it can be in a set."""
    values = row._asdict()
    for name in ("id", "position", "conversation_id"):
        if values.get(name, 0) < 0:
            values[name] = base - values[name]
    for name, value in values.items():
        if name.endswith("_at") and name != "due_at" and value == NOT_YET:
            values[name] = AT
    return repr(values)


def replay(entries: list[Entry], base: int) -> tuple[set[str], set[str], set[str]]:
    """Return the rows that the events fold to once they stand in the ledger."""
    task_rows: dict[int, Task] = {}
    conversation_rows: dict[int, Conversation] = {}
    message_rows: dict[int, Message] = {}
    for n, (stream_type, provisional_id, version, event) in enumerate(entries, start=1):
        id_, stamp = base - provisional_id, Stamp(base + n, version, AT)
        if isinstance(event, tasks.TaskEvent):
            task_rows[id_] = tasks.evolve(task_rows.get(id_, tasks.NO_TASK), event, stamp)
            continue
        assert stream_type == "conversation"
        assert isinstance(event, conversations.ConversationEvent)
        event = settled_message_id(event, base)
        before = conversation_rows.get(id_, conversations.NO_CONVERSATION)
        conversation_rows[id_] = conversations.evolve(before, event, stamp)
        message = conversations.message_id(event, stamp)
        if message is not None:
            was = message_rows.get(message, conversations.NO_MESSAGE)
            message_rows[message] = conversations.evolve_message(was, event, stamp, id_)
    rows = (task_rows, conversation_rows, message_rows)
    a, b, c = ({repr(row._asdict()) for row in table.values()} for table in rows)
    return a, b, c


def settled_message_id(
    event: conversations.ConversationEvent, base: int
) -> conversations.ConversationEvent:
    """An event about a message that the same command added; no tool makes one."""
    id_ = getattr(event, "message_id", 0)
    return event.model_copy(update={"message_id": base - id_}) if id_ < 0 else event


def test_changes_are_typed() -> None:
    assert set(Changes.__annotations__) == set(tasks.FIELDS)

"""What may happen to tasks and conversations, for Hypothesis to draw from.

``TEXT`` is any text that may be stored, as hostile as that goes; ids and positions are small, so
that commands meet things that exist.
"""

from typing import Any

from hypothesis import strategies as st
from pydantic import TypeAdapter

from events import conversation as conversations
from events import task as tasks
from events.catalog import Event, LedgerErased

UNSAFE = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=UNSAFE)).filter(
    lambda text: not any(0xE0000 <= ord(character) <= 0xE007F for character in text)
)
POSITION = st.integers(1, 40)
UNDOES = st.none() | POSITION

_due = TypeAdapter(tasks.Due)
TITLE = st.sampled_from(["Buy milk", "buy  MILK", "Call the plumber", "Café ☕", "\U0001f6d2"])
PRIORITY = st.sampled_from(["low", "medium", "high"])
DUE = st.dates().map(str) | st.datetimes().map(lambda at: _due.validate_python(f"{at}Z"))
TAGS = st.lists(st.sampled_from(["home", "work", "später"]), unique=True, max_size=3)
ROLE = st.sampled_from(["user", "assistant", "system", "tool"])


def changes(title: st.SearchStrategy[str] = TITLE) -> st.SearchStrategy[Any]:
    """Return new values of some of a task's fields; None empties one."""
    return st.fixed_dictionaries(
        {},
        optional={
            "title": title,
            "description": st.none() | TEXT,
            "priority": st.none() | PRIORITY,
            "due": st.none() | DUE,
            "tags": TAGS,
        },
    )


def task_events() -> st.SearchStrategy[tasks.TaskEvent]:
    """Return any task event, whether or not it makes sense where it stands."""
    return st.one_of(
        st.builds(
            tasks.TaskCreated,
            title=TEXT,
            description=st.none() | TEXT,
            priority=st.none() | PRIORITY,
            due=st.none() | DUE,
            tags=st.lists(TEXT),
        ),
        st.builds(tasks.TaskUpdated, changes=changes(TEXT), undoes=UNDOES),
        st.builds(tasks.TaskCompleted, undoes=UNDOES),
        st.builds(tasks.TaskReopened, undoes=UNDOES),
        st.builds(tasks.TaskDeleted, undoes=UNDOES),
        st.builds(tasks.TaskRestored, undoes=UNDOES),
    )


def conversation_events() -> st.SearchStrategy[conversations.ConversationEvent]:
    """Return any conversation event, whether or not it makes sense where it stands."""
    return st.one_of(
        st.builds(conversations.ConversationCreated, title=st.none() | TEXT),
        st.builds(
            conversations.MessageAdded,
            role=ROLE,
            content=TEXT,
            metadata=st.none() | TEXT,
            external_id=st.none() | TEXT,
        ),
        st.builds(conversations.MessageEdited, message_id=POSITION, content=TEXT, undoes=UNDOES),
        st.builds(conversations.MessageDeleted, message_id=POSITION, undoes=UNDOES),
        st.builds(conversations.MessageRestored, message_id=POSITION, undoes=UNDOES),
        st.builds(conversations.ConversationDeleted, undoes=UNDOES),
        st.builds(conversations.ConversationRestored, undoes=UNDOES),
    )


def events() -> st.SearchStrategy[Event]:
    """Return any event of the catalog."""
    erased = st.builds(LedgerErased, through=POSITION)
    return st.one_of(task_events(), conversation_events(), erased)


def task_commands() -> st.SearchStrategy[tasks.TaskCommand]:
    """Return any task command."""
    return st.one_of(
        st.builds(
            tasks.CreateTask,
            title=TITLE,
            description=st.none() | TEXT,
            priority=st.none() | PRIORITY,
            due=st.none() | DUE,
            tags=TAGS,
        ),
        st.builds(tasks.UpdateTask, changes=changes(), undoes=UNDOES),
        st.builds(tasks.CompleteTask, undoes=UNDOES),
        st.builds(tasks.ReopenTask, undoes=UNDOES),
        st.builds(tasks.DeleteTask, undoes=UNDOES),
        st.builds(tasks.RestoreTask, undoes=UNDOES),
    )


def conversation_commands() -> st.SearchStrategy[conversations.ConversationCommand]:
    """Return any conversation command."""
    return st.one_of(
        st.builds(conversations.CreateConversation, title=st.none() | TITLE),
        st.builds(
            conversations.AddMessage,
            role=ROLE,
            content=st.sampled_from(["Hello", "line one\nline two", "\U0001f44b"]),
            metadata=st.none() | st.just('{"temperature":0.1}'),
            external_id=st.none() | st.sampled_from(["a", "b"]),
        ),
        st.builds(conversations.DeleteConversation, undoes=UNDOES),
        st.builds(conversations.RestoreConversation, undoes=UNDOES),
    )


def message_commands() -> st.SearchStrategy[conversations.MessageCommand]:
    """Return any message command."""
    return st.one_of(
        st.builds(conversations.EditMessage, content=st.sampled_from(["Hello", "Bye"])),
        st.builds(conversations.DeleteMessage, undoes=UNDOES),
        st.builds(conversations.RestoreMessage, undoes=UNDOES),
    )

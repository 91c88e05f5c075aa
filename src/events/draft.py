"""A command in the making: the state that was read, the events decided so far, what they fold to.

Pure. ``events.store`` writes a draft; until then its new positions, ids and times are
provisional (``events.stamp``).
"""

from typing import NamedTuple, TypeVar

from events import conversation as conversations
from events import task as tasks
from events.catalog import STREAM_TYPES, Event, StreamType
from events.conversation import (
    NO_CONVERSATION,
    NO_MESSAGE,
    Conversation,
    ConversationCommand,
    ConversationEvent,
    Message,
    MessageCommand,
)
from events.errors import Refused
from events.stamp import NOT_YET, Stamp
from events.task import NO_TASK, Task, TaskCommand

Row = TypeVar("Row", Task, Conversation, Message)


class Entry(NamedTuple):
    """An event and its place: ``stream_id`` below zero is a stream that this command begins."""

    stream_type: StreamType
    stream_id: int
    version: int
    event: Event


class Draft:
    """Decides commands one after another, each on the state that those before it left.

    ``entries`` are the events in order; ``tasks``, ``conversations`` and ``messages`` the state by
    id, as read and then as changed. ``similar_to`` are titles:
    the commit looks for tasks like them.
    """

    def __init__(
        self,
        tasks: dict[int, Task] | None = None,
        conversations: dict[int, Conversation] | None = None,
        messages: dict[int, Message] | None = None,
    ) -> None:
        self.tasks = tasks or {}
        self.conversations = conversations or {}
        self.messages = messages or {}
        self.entries: list[Entry] = []
        self.similar_to: list[str] = []
        self._changed_tasks: set[int] = set()
        self._changed_conversations: set[int] = set()
        self._changed_messages: set[int] = set()

    def task(self, id_: int) -> Task:
        """Return the task's state, or that of a task that does not exist."""
        return self.tasks.get(id_) or NO_TASK._replace(id=id_)

    def change_task(self, id_: int | None, command: TaskCommand) -> Task:
        """Decide ``command`` on one task (None: a new one) and return its state afterwards.

        Raises: Refused, as ``events.task.decide`` says.
        """
        task = NO_TASK if id_ is None else self.task(id_)
        for event in tasks.decide(task, command):
            task = tasks.evolve(task, event, self._append(id_, task.version, event))
            self.tasks[task.id] = task
            self._changed_tasks.add(task.id)
        return task

    def conversation(self, id_: int) -> Conversation:
        """Return the conversation's state, or that of one that does not exist."""
        return self.conversations.get(id_) or NO_CONVERSATION._replace(id=id_)

    def change_conversation(self, id_: int | None, command: ConversationCommand) -> Conversation:
        """Decide ``command`` on one conversation (None: a new one), return its state afterwards.

        Raises: Refused, as ``events.conversation.decide`` says.
        """
        conversation = NO_CONVERSATION if id_ is None else self.conversation(id_)
        for event in conversations.decide(conversation, command):
            conversation = self._evolve_conversation(id_, conversation, event)
        return conversation

    def message(self, id_: int) -> Message:
        """Return the message's state, or that of one that does not exist."""
        return self.messages.get(id_) or NO_MESSAGE._replace(id=id_)

    def change_message(self, id_: int, command: MessageCommand) -> Message:
        """Decide ``command`` on one message and return its state afterwards.

        Raises: Refused, as ``events.conversation.decide_message`` says.
        """
        message = self.message(id_)
        conversation = self.conversation(message.conversation_id)
        for event in conversations.decide_message(conversation, message, command):
            self._evolve_conversation(conversation.id, conversation, event)
        return self.message(id_)

    def expect_version(self, current: int, expected: int | None) -> None:
        """Raises: Refused ``version_conflict``, when ``expected`` is given and not ``current``."""
        if expected is not None and current and expected != current:
            raise Refused(
                "version_conflict",
                f"It is at version {current} now, not {expected}.",
                "Read it again, and repeat the change if it still makes sense.",
                {"current_version": current},
            )

    def _append(self, id_: int | None, version: int, event: Event) -> Stamp:
        stamp = Stamp(-len(self.entries) - 1, version + 1, NOT_YET)
        stream_id = stamp.position if id_ is None else id_
        self.entries.append(Entry(STREAM_TYPES[type(event)], stream_id, stamp.version, event))
        return stamp

    def _evolve_conversation(
        self, id_: int | None, conversation: Conversation, event: ConversationEvent
    ) -> Conversation:
        stamp = self._append(id_, conversation.version, event)
        conversation = conversations.evolve(conversation, event, stamp)
        self.conversations[conversation.id] = conversation
        self._changed_conversations.add(conversation.id)
        message_id = conversations.message_id(event, stamp)
        if message_id is not None:
            self.messages[message_id] = conversations.evolve_message(
                self.message(message_id), event, stamp, conversation.id
            )
            self._changed_messages.add(message_id)
        return conversation

    def changed_tasks(self) -> list[Task]:
        """Return the tasks that have events in this draft, as they are after them."""
        return _those(self.tasks, self._changed_tasks)

    def changed_conversations(self) -> list[Conversation]:
        """Return the conversations that have events in this draft, as they are after them."""
        return _those(self.conversations, self._changed_conversations)

    def changed_messages(self) -> list[Message]:
        """Return the messages that have events in this draft, as they are after them."""
        return _those(self.messages, self._changed_messages)


def _those(rows: dict[int, Row], ids: set[int]) -> list[Row]:
    return [row for id_, row in rows.items() if id_ in ids] if ids else []

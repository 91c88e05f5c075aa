"""A ledger replayed: the rows that one user's events fold to.

Rebuild, ``--check``, the state at a moment and the offline bundle all replay through this, with the
``evolve`` functions that the live path uses, so they cannot disagree with it. Pure.

The events come oldest first. It is enough that those of each stream are in order and complete: so a
replay may be given one stream only, or, after its dicts were filled with known rows, what was
appended to them since. An event about something that is not there changes nothing: that thing was
erased, or was not given to this replay.
"""

from typing import Any

from events import conversation as conversations
from events import task as tasks
from events.catalog import Event, decode
from events.conversation import (
    NO_CONVERSATION,
    NO_MESSAGE,
    Conversation,
    ConversationEvent,
    Message,
)
from events.ledger import Record
from events.stamp import Stamp
from events.task import NO_TASK, Task, TaskEvent


class Replay:
    """The state after the events added so far: ``tasks``, ``conversations`` and ``messages`` by id,
    deleted ones included, erased ones not.

    ``erased_through`` is the position up to which everything is erased. It grows by itself when a
    ``LedgerErased`` comes; whoever does not give the events in the order of their positions sets it
    beforehand.
    """

    def __init__(self, erased_through: int = 0) -> None:
        self.tasks: dict[int, Task] = {}
        self.conversations: dict[int, Conversation] = {}
        self.messages: dict[int, Message] = {}
        self.erased_through = erased_through

    def add(self, record: Record) -> None:
        """Apply one event. One without a body changes nothing: it was erased.

        Raises: as ``events.catalog.decode``.
        """
        body: Any = record.body  # whoever forged it need not have made it an object
        if body is not None:
            stamp = Stamp(record.position, record.version, record.recorded_at)
            data = body.get("data") if isinstance(body, dict) else None
            self.add_data(record.type, record.schema_version, data, record.stream_id, stamp)

    def add_data(
        self, type_: str, schema_version: int, data: Any, stream_id: int, stamp: Stamp
    ) -> None:
        """Apply one event of which only the data and its place are known. Raises: as ``add``."""
        if stamp.position > self.erased_through:
            self._apply(decode(type_, schema_version, data), stream_id, stamp)

    def _apply(self, event: Event, stream_id: int, stamp: Stamp) -> None:
        match event.type:
            case "ConversationCreated" | "ConversationDeleted" | "ConversationRestored":
                self._apply_to_conversation(event, stream_id, stamp)
            case "MessageAdded" | "MessageEdited" | "MessageDeleted" | "MessageRestored":
                self._apply_to_conversation(event, stream_id, stamp)
                self._apply_to_message(event, stream_id, stamp)
            case "LedgerErased":
                self._erase(event.through)
            case _:
                self._apply_to_task(event, stream_id, stamp)

    def _apply_to_task(self, event: TaskEvent, id_: int, stamp: Stamp) -> None:
        task = NO_TASK if event.type == "TaskCreated" else self.tasks.get(id_)
        if task is not None:
            self.tasks[id_] = tasks.evolve(task, event, stamp)

    def _apply_to_conversation(self, event: ConversationEvent, id_: int, stamp: Stamp) -> None:
        created = event.type == "ConversationCreated"
        conversation = NO_CONVERSATION if created else self.conversations.get(id_)
        if conversation is not None:
            self.conversations[id_] = conversations.evolve(conversation, event, stamp)

    def _apply_to_message(
        self, event: ConversationEvent, conversation_id: int, stamp: Stamp
    ) -> None:
        id_ = conversations.message_id(event, stamp)
        if id_ is None:
            return
        message = NO_MESSAGE if event.type == "MessageAdded" else self.messages.get(id_)
        if message is not None:
            self.messages[id_] = conversations.evolve_message(
                message, event, stamp, conversation_id
            )

    def _erase(self, through: int) -> None:
        """Forget everything that began up to ``through``."""
        self.erased_through = max(self.erased_through, through)
        for rows in (self.tasks, self.conversations, self.messages):
            for id_ in [id_ for id_ in rows if id_ <= through]:
                del rows[id_]

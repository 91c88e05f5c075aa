"""A ledger replayed: the rows that one user's events fold to.

Rebuild, ``--check``, the state at a moment and the offline bundle all replay through this, with the
``evolve`` functions that the live path uses, so they cannot disagree with it. Pure.

The events come oldest first. It is enough that those of each stream are in order and complete: so a
replay may be given one stream only, or, after its dicts were filled with known rows, what was
appended to them since. An event about something that is not there changes nothing: that thing was
erased, or was not given to this replay.
"""

from collections.abc import Callable, Mapping
from typing import Any

from events import conversation as conversations
from events import task as tasks
from events.catalog import STREAM_TYPES, TYPES, LedgerErased, StreamType, decode
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
            event = decode(type_, schema_version, data)
            _FOLDS[type_](self, event, stream_id, stamp)


def _to_task(replay: Replay, event: TaskEvent, id_: int, stamp: Stamp) -> None:
    task = NO_TASK if event.type == "TaskCreated" else replay.tasks.get(id_)
    if task is not None:
        replay.tasks[id_] = tasks.evolve(task, event, stamp)


def _to_conversation(replay: Replay, event: ConversationEvent, id_: int, stamp: Stamp) -> None:
    created = event.type == "ConversationCreated"
    conversation = NO_CONVERSATION if created else replay.conversations.get(id_)
    if conversation is not None:
        replay.conversations[id_] = conversations.evolve(conversation, event, stamp)
    message_id = conversations.message_id(event, stamp)
    if message_id is not None:
        added = event.type == "MessageAdded"
        message = NO_MESSAGE if added else replay.messages.get(message_id)
        if message is not None:
            evolved = conversations.evolve_message(message, event, stamp, id_)
            replay.messages[message_id] = evolved


def _to_ledger(replay: Replay, event: LedgerErased, _id: int, _stamp: Stamp) -> None:
    """Forget everything that began up to where it was erased."""
    through = event.through
    replay.erased_through = max(replay.erased_through, through)
    for rows in (replay.tasks, replay.conversations, replay.messages):
        for id_ in [id_ for id_ in rows if id_ <= through]:
            del rows[id_]


_BY_STREAM: Mapping[StreamType, Callable[[Replay, Any, int, Stamp], None]] = {
    "task": _to_task,
    "conversation": _to_conversation,
    "ledger": _to_ledger,
}
_FOLDS = {name: _BY_STREAM[STREAM_TYPES[cls]] for name, cls in TYPES.items()}

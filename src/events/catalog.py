"""Every type of event: how it is written, how it is read, and how old versions are brought up.

The log is for ever. A type's name and its fields are never renamed or repurposed; when a shape has
to change, raise its version in ``VERSIONS`` and add an upcast from each older one, from stored data
to the data of the next version. docs/evolution.md walks through an example.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel

from events.conversation import (
    ConversationCreated,
    ConversationDeleted,
    ConversationEvent,
    ConversationRestored,
    MessageAdded,
    MessageDeleted,
    MessageEdited,
    MessageRestored,
)
from events.frozen import Frozen
from events.task import (
    TaskCompleted,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskReopened,
    TaskRestored,
    TaskUpdated,
)


class LedgerErased(Frozen):
    """All that people wrote up to and including position ``through`` is gone."""

    type: Literal["LedgerErased"] = "LedgerErased"
    through: int


Event = TaskEvent | ConversationEvent | LedgerErased
StreamType = Literal["task", "conversation", "ledger"]

STREAM_TYPES: Mapping[type[BaseModel], StreamType] = {
    TaskCreated: "task",
    TaskUpdated: "task",
    TaskCompleted: "task",
    TaskReopened: "task",
    TaskDeleted: "task",
    TaskRestored: "task",
    ConversationCreated: "conversation",
    MessageAdded: "conversation",
    MessageEdited: "conversation",
    MessageDeleted: "conversation",
    MessageRestored: "conversation",
    ConversationDeleted: "conversation",
    ConversationRestored: "conversation",
    LedgerErased: "ledger",
}
BEGINNINGS = frozenset({"TaskCreated", "ConversationCreated", "LedgerErased"})
"""The types that begin a stream; its id is then their position."""

BODY_PARTS = frozenset({"data", "reason"})
"""What a body is made of: the event's data and why it came about, null if nobody said."""

TYPES: Mapping[str, type[Any]] = {cls.__name__: cls for cls in STREAM_TYPES}
_DEFAULTS = {
    name: {key: of.get_default(call_default_factory=True) for key, of in cls.model_fields.items()}
    for name, cls in TYPES.items()
}
_VALIDATE = {name: cls.__pydantic_validator__.validate_python for name, cls in TYPES.items()}

VERSIONS: Mapping[str, int] = dict.fromkeys(TYPES, 1)
"""The version in which each type is written now."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTS: Mapping[tuple[str, int], Upcast] = {}
"""From (type, version) to a function from that version's data to the next one's."""


class UnknownEvent(Exception):
    """The log holds a type or version that this program is too old to read, or that is forged."""


def encode(event: Event) -> dict[str, Any]:
    """Return the data to store: only what differs from the defaults."""
    defaults = _DEFAULTS[event.type]
    return {name: value for name, value in vars(event).items() if value != defaults[name]}


def decode(type_: str, version: int, data: dict[str, Any]) -> Event:
    """Return the event that was stored.

    Raises:
        UnknownEvent: no such type or version.
        pydantic.ValidationError: the data is not of the type's shape.
    """
    if version != VERSIONS.get(type_):
        data = _upcast(type_, version, data)
    event: Event = _VALIDATE[type_](data)
    return event


def decoder(type_: str, version: int) -> Callable[[Any], Event]:
    """Return ``decode`` for one type and version, for who decodes many."""
    validate: Callable[[Any], Event] = _VALIDATE[type_]
    return validate if version == VERSIONS[type_] else partial(decode, type_, version)


def _upcast(type_: str, version: int, data: dict[str, Any]) -> dict[str, Any]:
    if not 1 <= version <= VERSIONS.get(type_, 0):
        raise UnknownEvent(f"{type_} version {version}")
    for older in range(version, VERSIONS[type_]):
        try:
            data = UPCASTS[type_, older](data)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnknownEvent(f"{type_} version {version} with such data") from error
    return data

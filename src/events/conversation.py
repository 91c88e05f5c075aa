"""One conversation and its messages: events, state, decisions.

A conversation is a stream; its messages are events of that stream, and a message's id is the
position of the event that added it. Two read rows come of it, so there are two folds: ``evolve``
for the conversation and ``evolve_message`` for one message. All that ``events.task`` says of purity
and of the storage format holds here too.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple, assert_never

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from events.errors import Refused
from events.frozen import Frozen
from events.stamp import Stamp
from events.text import OneLine, SeveralLines

Role = Literal["user", "assistant", "system", "tool"]


def _not_blank(content: str) -> str:
    if not content.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return content


ConversationTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200), OneLine
]
Content = Annotated[
    str, StringConstraints(max_length=16_000), SeveralLines, AfterValidator(_not_blank)
]
ExternalId = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128), OneLine
]


class ConversationCreated(Frozen):
    type: Literal["ConversationCreated"] = "ConversationCreated"
    title: str | None = None


class MessageAdded(Frozen):
    """``metadata`` is compact JSON text, so that it may hold any finite number."""

    type: Literal["MessageAdded"] = "MessageAdded"
    role: Role
    content: str
    metadata: str | None = None
    external_id: str | None = None


class MessageEdited(Frozen):
    type: Literal["MessageEdited"] = "MessageEdited"
    message_id: int
    content: str
    undoes: int | None = None


class MessageDeleted(Frozen):
    type: Literal["MessageDeleted"] = "MessageDeleted"
    message_id: int
    undoes: int | None = None


class MessageRestored(Frozen):
    type: Literal["MessageRestored"] = "MessageRestored"
    message_id: int
    undoes: int | None = None


class ConversationDeleted(Frozen):
    type: Literal["ConversationDeleted"] = "ConversationDeleted"
    undoes: int | None = None


class ConversationRestored(Frozen):
    type: Literal["ConversationRestored"] = "ConversationRestored"
    undoes: int | None = None


ConversationEvent = (
    ConversationCreated
    | MessageAdded
    | MessageEdited
    | MessageDeleted
    | MessageRestored
    | ConversationDeleted
    | ConversationRestored
)


class CreateConversation(Frozen):
    title: ConversationTitle | None = None


class AddMessage(Frozen):
    role: Role
    content: Content
    metadata: str | None = None
    external_id: ExternalId | None = None


class EditMessage(Frozen):
    content: str
    undoes: int | None = None


class DeleteMessage(Frozen):
    undoes: int | None = None


class RestoreMessage(Frozen):
    undoes: int | None = None


class DeleteConversation(Frozen):
    undoes: int | None = None


class RestoreConversation(Frozen):
    undoes: int | None = None


ConversationCommand = CreateConversation | AddMessage | DeleteConversation | RestoreConversation
MessageCommand = EditMessage | DeleteMessage | RestoreMessage

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Conversation(NamedTuple):
    """A conversation as agents read it; ``version`` 0 means that it does not exist."""

    id: int = 0
    title: str | None = None
    message_count: int = 0
    deleted: bool = False
    created_at: datetime = _LONG_AGO
    updated_at: datetime = _LONG_AGO
    version: int = 0
    position: int = 0


class Message(NamedTuple):
    """A message as agents read it; ``version`` and ``position`` are those of its last event."""

    id: int = 0
    conversation_id: int = 0
    role: Role = "user"
    content: str = ""
    metadata: str | None = None
    external_id: str | None = None
    deleted: bool = False
    created_at: datetime = _LONG_AGO
    edited_at: datetime | None = None
    version: int = 0
    position: int = 0


NO_CONVERSATION = Conversation()
NO_MESSAGE = Message()


def evolve(conversation: Conversation, event: ConversationEvent, stamp: Stamp) -> Conversation:
    """Apply one event to the conversation's row."""
    position, version, at = stamp
    deleted, messages = conversation.deleted, conversation.message_count
    match event.type:
        case "MessageAdded" | "MessageRestored":
            messages += 1
        case "MessageEdited":
            pass
        case "MessageDeleted":
            messages -= 1
        case "ConversationCreated":
            return Conversation(
                id=position,
                title=event.title,
                created_at=at,
                updated_at=at,
                version=version,
                position=position,
            )
        case "ConversationDeleted":
            deleted = True
        case "ConversationRestored":
            deleted = False
        case _:
            assert_never(event)
    id_, title, created = conversation.id, conversation.title, conversation.created_at
    return Conversation(id_, title, messages, deleted, created, at, version, position)


def message_id(event: ConversationEvent, stamp: Stamp) -> int | None:
    """Return the id of the message that ``event`` is about, None if it is about none."""
    match event.type:
        case "MessageAdded":
            return stamp.position
        case "MessageEdited" | "MessageDeleted" | "MessageRestored":
            return event.message_id
        case _:
            return None


def evolve_message(
    message: Message, event: ConversationEvent, stamp: Stamp, conversation_id: int
) -> Message:
    """Apply one event to the row of the message it is about (see ``message_id``)."""
    position, version, at = stamp
    match event.type:
        case "MessageAdded":
            texts = event.role, event.content, event.metadata, event.external_id
            return Message(  # in order: by name takes twice as long
                position, conversation_id, *texts, False, at, None, version, position
            )
        case "MessageEdited":
            return message._replace(
                content=event.content, edited_at=at, version=version, position=position
            )
        case "MessageDeleted":
            return message._replace(deleted=True, version=version, position=position)
        case "MessageRestored":
            return message._replace(deleted=False, version=version, position=position)
        case _:
            return message


def decide(conversation: Conversation, command: ConversationCommand) -> list[ConversationEvent]:
    """Return the events ``command`` adds; none if what it asks for is already so.

    Raises:
        Refused: ``conversation_not_found``, when there is none or it is deleted.
    """
    match command:
        case CreateConversation(title=title):
            return [ConversationCreated(title=title or None)]
        case _ if conversation.version == 0:
            raise conversation_not_found(conversation.id)
        case DeleteConversation(undoes=undoes):
            return [] if conversation.deleted else [ConversationDeleted(undoes=undoes)]
        case RestoreConversation(undoes=undoes):
            return [ConversationRestored(undoes=undoes)] if conversation.deleted else []
        case _ if conversation.deleted:
            raise conversation_deleted(conversation)
        case AddMessage():
            return [MessageAdded(**command.model_dump())]
    assert_never(command)


def decide_message(
    conversation: Conversation, message: Message, command: MessageCommand
) -> list[ConversationEvent]:
    """Return the events ``command`` adds to ``conversation``; none if it is already so.

    Raises:
        Refused: ``message_not_found``, when there is none, or it or its conversation is deleted.
    """
    if message.version == 0:
        raise message_not_found(message.id)
    if conversation.deleted:
        raise Refused(
            "message_not_found",
            f"The conversation of message {message.id} is deleted.",
            _restores(conversation),
        )
    match command:
        case DeleteMessage(undoes=undoes):
            return [] if message.deleted else [MessageDeleted(message_id=message.id, undoes=undoes)]
        case RestoreMessage(undoes=undoes):
            if not message.deleted:
                return []
            return [MessageRestored(message_id=message.id, undoes=undoes)]
        case EditMessage() if message.deleted:
            raise message_not_found(message.id)
        case EditMessage(content=content, undoes=undoes):
            if message.content == content:
                return []
            return [MessageEdited(message_id=message.id, content=content, undoes=undoes)]
    assert_never(command)


def conversation_not_found(id_: int) -> Refused:
    """There is none, or it is somebody else's: the answer is the same."""
    return Refused(
        "conversation_not_found",
        f"There is no conversation {id_}.",
        "list_conversations shows the ids that exist.",
    )


def conversation_deleted(conversation: Conversation) -> Refused:
    """It is the user's own, so there is a way back to tell."""
    return Refused(
        "conversation_not_found",
        f"Conversation {conversation.id} is deleted.",
        _restores(conversation),
    )


def _restores(conversation: Conversation) -> str:
    """Its last event is its deletion: what is deleted does not change."""
    return f"undo(position={conversation.position}) restores it."


def message_not_found(id_: int) -> Refused:
    """There is none, it is deleted, or it is somebody else's: the answer is the same."""
    return Refused(
        "message_not_found",
        f"There is no message {id_}.",
        "get_conversation_history shows the ids that exist.",
    )

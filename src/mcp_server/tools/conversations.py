"""The six tools for conversations and their messages."""

import json
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from events import conversation as conversations
from events.conversation import (
    Content,
    Conversation,
    ConversationTitle,
    EditMessage,
    ExternalId,
    Message,
    Role,
    conversation_deleted,
    conversation_not_found,
)
from events.conversation import (
    CreateConversation as Create,
)
from events.conversation import (
    DeleteConversation as Delete,
)
from events.draft import Draft
from events.errors import Refused
from events.ledger import Json
from events.stamp import iso
from events.text import safe_text
from mcp_server.database import Database
from mcp_server.handle import Context
from mcp_server.tools.arguments import (
    NEXT,
    Arguments,
    Change,
    Cursor,
    Id,
    invalid,
    is_whole,
    pack,
    says,
    unpack,
)
from mcp_server.tools.pages import take
from mcp_server.tools.quoting import quoted
from projections import conversations as conversation_rows
from projections import messages as message_rows
from projections.current import Wanted
from projections.history import END

METADATA_BYTES = 8_192
METADATA_DEPTH = 16


def _metadata(value: Any) -> Any:
    """Return an object as compact JSON text.

    Raises: PydanticCustomError, for what is no object, too large, too deep, or not storable.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata", "must be an object")
    try:
        _refuse_unsafe(value, METADATA_DEPTH)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError("metadata", "must be valid Unicode") from None
    except ValueError as error:
        raise PydanticCustomError("metadata", "{problem}", {"problem": str(error)}) from None
    if size > METADATA_BYTES:
        raise PydanticCustomError("metadata", "must be at most 8 kB as JSON")
    return text


def _refuse_unsafe(value: Any, depth: int) -> None:
    """Raises: ValueError."""
    if isinstance(value, str):
        safe_text(value)
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"must not be nested deeper than {METADATA_DEPTH}")
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        for part in parts:
            _refuse_unsafe(part, depth - 1)


Metadata = Annotated[str, BeforeValidator(_metadata), WithJsonSchema({"type": "object"})]


class CreateConversation(Change):
    tool: ClassVar = "create_conversation"

    title: ConversationTitle | None = None

    def wanted(self) -> Wanted:
        return Wanted()

    def decide(self, draft: Draft) -> Json:
        conversation = draft.change_conversation(None, Create(title=self.title))
        return {
            "conversation_id": conversation.id,
            "created_at": iso(conversation.created_at),
            "version": conversation.version,
            "position": conversation.position,
        }


class AddMessage(Change):
    tool: ClassVar = "add_message"

    conversation_id: Annotated[Id | None, says("absent: a new one begins")] = None
    role: Role
    content: Content
    metadata: Metadata | None = None
    external_id: Annotated[ExternalId | None, says("your id of this turn")] = None

    def wanted(self) -> Wanted:
        if self.conversation_id is None:
            return Wanted()
        external = (self.conversation_id, self.external_id) if self.external_id else None
        return Wanted(conversation_ids=(self.conversation_id,), external=external)

    def request(self) -> Json:
        """Two metadata are the same whatever the order of their names."""
        request = super().request()
        if self.metadata is not None:
            request["metadata"] = json.dumps(json.loads(self.metadata), sort_keys=True)
        return request

    def decide(self, draft: Draft) -> Json:
        id_ = self.conversation_id
        if id_ is not None and not draft.conversation(id_).deleted:
            for message in draft.messages.values():  # those with this external id
                if not message.deleted:
                    return self._repeated(message)
        if id_ is None:
            id_ = draft.change_conversation(None, Create()).id
        command = conversations.AddMessage(
            role=self.role,
            content=self.content,
            metadata=self.metadata,
            external_id=self.external_id,
        )
        position = draft.change_conversation(id_, command).position
        return _added(draft.message(position))

    def _repeated(self, message: Message) -> Json:
        """The external id was used before. Raises: Refused ``idempotency_conflict``."""
        if (message.role, message.content) != (self.role, self.content):
            raise Refused(
                "idempotency_conflict",
                "This external_id was used in this conversation before, for other content.",
                "update_message changes a message; a new message needs its own external_id.",
            )
        return {**_added(message), "unchanged": True}


def _added(message: Message) -> Json:
    return {
        "message_id": message.id,
        "conversation_id": message.conversation_id,
        "created_at": iso(message.created_at),
        "version": message.version,
        "position": message.position,
    }


class UpdateMessage(Change):
    tool: ClassVar = "update_message"

    message_id: Id
    content: Content

    def wanted(self) -> Wanted:
        return Wanted(message_ids=(self.message_id,))

    def decide(self, draft: Draft) -> Json:
        before = draft.message(self.message_id)
        after = draft.change_message(self.message_id, EditMessage(content=self.content))
        answer = {
            "message_id": after.id,
            "updated_at": iso(after.edited_at or after.created_at),
            "version": after.version,
            "position": after.position,
        }
        return {**answer, "unchanged": True} if after == before else answer


class DeleteConversation(Change):
    tool: ClassVar = "delete_conversation"

    conversation_id: Id

    def wanted(self) -> Wanted:
        return Wanted(conversation_ids=(self.conversation_id,))

    def decide(self, draft: Draft) -> Json:
        before = draft.conversation(self.conversation_id)
        after = draft.change_conversation(self.conversation_id, Delete())
        answer = {
            "conversation_id": after.id,
            "status": "deleted",
            "version": after.version,
            "position": after.position,
        }
        return {**answer, "unchanged": True} if after == before else answer


class GetConversationHistory(Arguments):
    tool: ClassVar = "get_conversation_history"

    conversation_id: Id
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[Id | None, says("message id, exclusive")] = None
    after: Annotated[Id | None, says("message id, exclusive")] = None

    async def answer(self, database: Database, context: Context) -> Json:
        """Newest first where the page can be continued with ``before``, else oldest first."""
        forward = self.after is not None and self.before is None
        async with database.connection() as reader:
            conversation = await conversation_rows.get_conversation(
                reader, context.user_id, self.conversation_id
            )
            if conversation is None:
                raise conversation_not_found(self.conversation_id)
            if conversation.deleted:
                raise conversation_deleted(conversation)
            found = await message_rows.list_messages(
                reader,
                context.user_id,
                self.conversation_id,
                self.limit + 1,
                self.before or END,
                self.after or 0,
                oldest=forward,
            )
        shown, more = take(found, self.limit, message_item, line)
        return {
            "messages": shown if forward else shown[::-1],
            "conversation_info": conversation_info(conversation),
            "truncated": more,
        }


def message_item(message: Message) -> Json:
    """Return a message as the history shows it; what it does not have is left out."""
    shown: Json = {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "created_at": iso(message.created_at),
    }
    if message.metadata is not None:
        shown["metadata"] = json.loads(message.metadata)
    if message.external_id is not None:
        shown["external_id"] = message.external_id
    if message.edited_at is not None:
        shown["edited_at"] = iso(message.edited_at)
    return shown


def conversation_info(conversation: Conversation) -> Json:
    """Return what there is to know about a conversation but its messages."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created_at": iso(conversation.created_at),
        "updated_at": iso(conversation.updated_at),
        "is_active": not conversation.deleted,
    }


class ListConversations(Arguments):
    tool: ClassVar = "list_conversations"

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[Cursor | None, says(NEXT)] = None
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    deleted: Annotated[bool, says("only deleted ones")] = False

    async def answer(self, database: Database, context: Context) -> Json:
        if self.cursor is not None and self.offset:
            raise invalid("offset", "cannot be combined with cursor")
        kind = "conversations"
        (below,) = unpack(self.cursor, kind, (is_whole,)) or (END,)
        page = await database.read(
            lambda reader: conversation_rows.list_conversations(
                reader, context.user_id, self.limit + 1, self.deleted, below, self.offset
            )
        )
        found = page.conversations
        shown, more = take(found, self.limit, conversation_item, conversation_line)
        answer: Json = {"conversations": shown, "total_count": page.total_count, "truncated": more}
        if more:
            answer["next_cursor"] = pack(kind, found[len(shown) - 1].position)
        return answer


def conversation_item(conversation: Conversation) -> Json:
    """Return a conversation as the list shows it."""
    return {**conversation_info(conversation), "message_count": conversation.message_count}


def conversation_line(conversation: Json) -> str:
    """Return a listed conversation as one line for a model."""
    title = conversation["title"] or "(untitled)"
    count = conversation["message_count"]
    messages = "1 message" if count == 1 else f"{count} messages"
    return f"{conversation['id']} {title}  {messages}  {conversation['updated_at'][:16]}Z"


def line(message: Json) -> str:
    """Return a message as text for a model."""
    return f"[{message['id']}] {message['role']}: {quoted(message['content'])}"

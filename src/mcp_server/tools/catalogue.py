"""All tools as an agent sees them: name, description, schemas, hints; the words are in wording.py.

Agents pay for every byte of this in their context: a test prints the sizes and fails when they
grow. Nothing in here comes from a user.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from mcp_types import Tool as Listed
from mcp_types import ToolAnnotations

from events.ledger import Json
from mcp_server.tools import conversations, history, tasks, undo, wording
from mcp_server.tools.arguments import Arguments
from mcp_server.tools.schema import input_schema, output_schema

Scope = Literal["tasks:read", "tasks:write", "history:read"]


@dataclass(frozen=True)
class Tool:
    """One tool. ``returns`` are the properties of its answer; ``text`` makes it words."""

    title: str
    description: str
    arguments: type[Arguments]
    scope: Scope
    returns: Mapping[str, Any]
    text: Callable[[Json], str]
    destructive: bool = False
    idempotent: bool = False

    @property
    def name(self) -> str:
        """The name that clients call."""
        return self.arguments.tool

    @property
    def read_only(self) -> bool:
        """Whether it changes nothing."""
        return self.scope != "tasks:write"

    @cached_property
    def listed(self) -> Listed:
        """The entry in tools/list."""
        return Listed(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=input_schema(self.arguments),
            output_schema=output_schema(self.returns),
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=self.read_only,
                destructive_hint=self.destructive,
                idempotent_hint=self.idempotent or self.read_only,
                open_world_hint=False,
            ),
        )


_INT = {"type": "integer"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_NULL = {"type": "null"}
_TEXT_OR_NULL = {"anyOf": [_TEXT, _NULL]}
_INT_OR_NULL = {"anyOf": [_INT, _NULL]}
_OBJECT = {"type": "object"}
_INTS = {"type": "array", "items": _INT}
_TEXTS = {"type": "array", "items": _TEXT}
_OBJECTS = {"type": "array", "items": _OBJECT}


def _list_of(**properties: Any) -> Json:
    return {"type": "array", "items": {"type": "object", "properties": properties}}


_CHANGED = {"version": _INT, "position": _INT, "replayed": _FLAG, "unchanged": _FLAG}
_TASK_CHANGED = {"task_id": _INT, "status": _TEXT, "title": _TEXT, **_CHANGED}
_PAGE = {"next_cursor": _TEXT, "truncated": _FLAG}
_TASK = {
    "id": _INT,
    "title": _TEXT,
    "completed": _FLAG,
    "priority": _TEXT,
    "due": _TEXT,
    "tags": _TEXTS,
}
_EVENTS = _list_of(
    position=_INT,
    at=_TEXT,
    type=_TEXT,
    what=_TEXT,
    changes=_OBJECT,
    client=_TEXT_OR_NULL,
    claims=_OBJECT,
    tool=_TEXT_OR_NULL,
    reason=_TEXT_OR_NULL,
    conversation_id=_INT_OR_NULL,
    message_id=_INT_OR_NULL,
    undoes=_INT,
)


_ALL = (
    Tool(
        "Add task",
        "Add one task (title), or up to 50 at once (tasks: all or none). "
        "Returns the new ids; `similar` lists open tasks with the same title, so that you can drop "
        "a duplicate.",
        tasks.AddTask,
        "tasks:write",
        {**_TASK_CHANGED, "similar": _INTS, "tasks": _OBJECTS},
        wording.each(wording.task_changed),
    ),
    Tool(
        "List tasks",
        "Find tasks: filter, search words in title, description and tags, sort. One line a task. "
        "as_of (position or time) shows them as they were then.",
        tasks.ListTasks,
        "tasks:read",
        {"tasks": _list_of(**_TASK), **_PAGE},
        wording.of_tasks,
    ),
    Tool(
        "Get task",
        "Everything about one task, with its latest changes; also as it was at a moment (as_of).",
        tasks.GetTask,
        "tasks:read",
        {
            **_TASK,
            "description": _TEXT_OR_NULL,
            "version": _INT,
            "position": _INT,
            "created_at": _TEXT,
            "updated_at": _TEXT,
            "completed_at": _TEXT_OR_NULL,
            "deleted": _FLAG,
            "history": _OBJECTS,
        },
        wording.of_task,
    ),
    Tool(
        "Update task",
        "Change some fields of a task. Fields that you do not give are not touched; clear empties "
        "fields. With expected_version it fails if somebody else changed the task since.",
        tasks.UpdateTask,
        "tasks:write",
        {**_TASK_CHANGED, "changed": _TEXTS},
        wording.each(wording.task_changed),
        idempotent=True,
    ),
    Tool(
        "Complete task",
        "Mark tasks as done: one id, or a list of up to 50 (all or none). completed=false reopens.",
        tasks.CompleteTask,
        "tasks:write",
        {**_TASK_CHANGED, "tasks": _OBJECTS},
        wording.each(wording.task_changed),
        idempotent=True,
    ),
    Tool(
        "Delete task",
        "Delete tasks: one id, or a list of up to 50 (all or none). undo restores them.",
        tasks.DeleteTask,
        "tasks:write",
        {**_TASK_CHANGED, "hint": _TEXT, "tasks": _OBJECTS},
        wording.each(wording.task_changed),
        destructive=True,
        idempotent=True,
    ),
    Tool(
        "Create conversation",
        "Begin a conversation, to store chat turns in.",
        conversations.CreateConversation,
        "tasks:write",
        {"conversation_id": _INT, "created_at": _TEXT, **_CHANGED},
        wording.done(lambda answer: f"Created conversation {answer['conversation_id']}."),
    ),
    Tool(
        "Add message",
        "Store one chat turn; without conversation_id a new conversation begins. external_id makes "
        "repeating it harmless.",
        conversations.AddMessage,
        "tasks:write",
        {"message_id": _INT, "conversation_id": _INT, "created_at": _TEXT, **_CHANGED},
        wording.done(
            lambda answer: (
                f"Added message {answer['message_id']} to conversation {answer['conversation_id']}."
            )
        ),
    ),
    Tool(
        "Get conversation history",
        "The newest messages of a conversation, oldest first; before and after (message ids) page.",
        conversations.GetConversationHistory,
        "tasks:read",
        {
            "messages": _list_of(
                id=_INT,
                role=_TEXT,
                content=_TEXT,
                created_at=_TEXT,
                metadata=_OBJECT,
                external_id=_TEXT,
                edited_at=_TEXT,
            ),
            "conversation_info": _OBJECT,
            "truncated": _FLAG,
        },
        wording.of_conversation,
    ),
    Tool(
        "List conversations",
        "The user's conversations, latest activity first: to pick one up again.",
        conversations.ListConversations,
        "tasks:read",
        {
            "conversations": _list_of(
                id=_INT,
                title=_TEXT_OR_NULL,
                created_at=_TEXT,
                updated_at=_TEXT,
                message_count=_INT,
                is_active=_FLAG,
            ),
            "total_count": _INT,
            **_PAGE,
        },
        wording.of_conversations,
    ),
    Tool(
        "Update message",
        "Replace the content of a stored message; its history keeps the old one.",
        conversations.UpdateMessage,
        "tasks:write",
        {"message_id": _INT, "updated_at": _TEXT, **_CHANGED},
        wording.done(lambda answer: f"Updated message {answer['message_id']}."),
        idempotent=True,
    ),
    Tool(
        "Delete conversation",
        "Hide a conversation and its messages. undo restores them.",
        conversations.DeleteConversation,
        "tasks:write",
        {"conversation_id": _INT, "status": _TEXT, **_CHANGED},
        wording.done(
            lambda answer: (
                f"Deleted conversation {answer['conversation_id']}."
                f" undo(position={answer['position']}) restores it."
            )
        ),
        destructive=True,
        idempotent=True,
    ),
    Tool(
        "Get history",
        "Who changed what, when and why, newest first: of a task, of a conversation (and what it "
        "caused), or of everything. since and until are positions or times.",
        history.GetHistory,
        "history:read",
        {"events": _EVENTS, **_PAGE},
        wording.of_history,
    ),
    Tool(
        "Undo",
        "Take changes back by new changes: the one at position, all since a position or time, or "
        "all that a conversation caused. dry_run shows what would happen; fields that were changed "
        "again later are conflicts, which force overwrites.",
        undo.Undo,
        "tasks:write",
        {
            "undone": _list_of(position=_INT, what=_TEXT),
            "events": {"type": "array"},
            "conflicts": _list_of(position=_INT, field=_TEXT, later=_INT),
            "dry_run": _FLAG,
            **_CHANGED,
        },
        wording.of_undo,
        destructive=True,
    ),
)

CORE = ("add_task", "list_tasks", "update_task", "complete_task", "delete_task")
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}
ALIASES: Mapping[str, str] = {"list_user_conversations": "list_conversations"}
"""Names of earlier designs that answer but are not listed."""


def find(name: str) -> Tool | None:
    """Return the tool that ``name`` calls."""
    return TOOLS.get(ALIASES.get(name, name))


def profile(name: Literal["full", "core"]) -> list[Tool]:
    """Return the tools that a profile lists, in a fixed order."""
    return [tool for tool in _ALL if name == "full" or tool.name in CORE]

"""The read tables as a rebuild sees them: which rows of a replay belong in which table.

A new read table is one more entry here (docs/evolution.md walks through it).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from events.conversation import Conversation, Message
from events.replay import Replay
from events.task import Task

Row = Any
"""A Task, Conversation or Message: a named tuple whose fields are the table's columns."""


class ReadTable(NamedTuple):
    """``fields`` are the folded columns, without ``user_id``; ``types`` their Postgres types.

    ``of`` returns a replay's rows by id. ``stream`` is the column that names the row's stream.
    """

    name: str
    fields: tuple[str, ...]
    types: tuple[str, ...]
    stream: str
    of: Callable[[Replay], dict[int, Row]]
    row: Callable[..., Row]


TASKS = ReadTable(
    "tasks",
    Task._fields,
    (
        *("int8", "text", "text", "text", "text", "timestamptz", "text[]", "bool", "bool"),
        *("timestamptz", "timestamptz", "timestamptz", "int8", "int8"),
    ),
    "id",
    lambda replay: replay.tasks,
    Task,
)
CONVERSATIONS = ReadTable(
    "conversations",
    Conversation._fields,
    ("int8", "text", "int8", "bool", "timestamptz", "timestamptz", "int8", "int8"),
    "id",
    lambda replay: replay.conversations,
    Conversation,
)
MESSAGES = ReadTable(
    "messages",
    Message._fields,
    (
        *("int8", "int8", "text", "text", "text", "text", "bool"),
        *("timestamptz", "timestamptz", "int8", "int8"),
    ),
    "conversation_id",
    lambda replay: replay.messages,
    Message,
)

READ_TABLES = (TASKS, CONVERSATIONS, MESSAGES)

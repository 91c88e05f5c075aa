"""The read tables as a rebuild sees them: which rows of a replay belong in which table.

A new read table is one more entry here (docs/evolution.md walks through it).
"""

from collections.abc import Callable
from typing import Any, LiteralString, NamedTuple

from events.conversation import Conversation, Message
from events.replay import Replay
from events.task import Task

Row = Any
"""A Task, Conversation or Message: a named tuple whose fields are the table's columns."""


class ReadTable(NamedTuple):
    """``fields`` are the folded columns, without ``user_id``; ``types`` their Postgres types.

    ``of`` returns a replay's rows by id. ``stream`` is the column that names the row's stream.
    ``stale`` is an SQL expression on the row ``t``: the name of a column that is derived from the
    others and is not as they say, or NULL. ``stale_words`` is the same for what takes long:
    the words of the full-text search. ``times``: the fields that say when an event was recorded; in
    bulk they are ``snapshot.ticks``.
    """

    name: LiteralString
    fields: tuple[LiteralString, ...]
    types: tuple[LiteralString, ...]
    stream: LiteralString
    of: Callable[[Replay], dict[int, Row]]
    row: Callable[..., Row]
    stale: LiteralString = "NULL::text"
    stale_words: LiteralString = "NULL::text"
    times: tuple[LiteralString, ...] = ()


def _fields(row: Any) -> tuple[LiteralString, ...]:
    """Return the fields of a named tuple: they are ours, so they may be put into SQL."""
    fields: tuple[LiteralString, ...] = row._fields
    return fields


TASKS = ReadTable(
    "tasks",
    _fields(Task),
    (
        *("int8", "text", "text", "text", "text", "timestamptz", "text[]", "bool", "bool"),
        *("timestamptz", "timestamptz", "timestamptz", "int8", "int8"),
    ),
    "id",
    lambda replay: replay.tasks,
    Task,
    """
    CASE
        WHEN t.status <> CASE WHEN t.deleted THEN 2 WHEN t.completed THEN 1 ELSE 0 END THEN 'status'
        WHEN t.urgency <> CASE t.priority
            WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END THEN 'urgency'
        WHEN t.due_order <> coalesce(t.due_at, 'infinity') THEN 'due_order'
        WHEN t.title_key <> lower(CASE WHEN strpos(t.title, '  ') = 0 THEN t.title
            ELSE regexp_replace(t.title, ' +', ' ', 'g') END) THEN 'title_key'
    END
    """,
    """
    CASE WHEN t.search <> tasktrail.searchable(t.title, t.tags, t.description) THEN 'search' END
    """,
    times=("created_at", "updated_at", "completed_at"),
)
CONVERSATIONS = ReadTable(
    "conversations",
    _fields(Conversation),
    ("int8", "text", "int8", "bool", "timestamptz", "timestamptz", "int8", "int8"),
    "id",
    lambda replay: replay.conversations,
    Conversation,
    times=("created_at", "updated_at"),
)
MESSAGES = ReadTable(
    "messages",
    _fields(Message),
    (
        *("int8", "int8", "text", "text", "text", "text", "bool"),
        *("timestamptz", "timestamptz", "int8", "int8"),
    ),
    "conversation_id",
    lambda replay: replay.messages,
    Message,
    times=("created_at", "edited_at"),
)

READ_TABLES = (TASKS, CONVERSATIONS, MESSAGES)

"""What a decision needs to know, read in one trip: the rows, and whether the key was used before.

``Wanted`` says which; the statement is put together from the constant parts that are wanted.
Questions of several users are asked in one, which costs hardly more than a single one.
"""

from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection

from events.conversation import Conversation, Message
from events.ledger import Json
from events.stamp import Settlement
from events.store import Ask, asking
from events.task import Task, due_moment


class Wanted(NamedTuple):
    """Which rows to read. ``external`` is (conversation id, external id) of a message."""

    key: str | None = None
    task_ids: tuple[int, ...] = ()
    conversation_ids: tuple[int, ...] = ()
    message_ids: tuple[int, ...] = ()
    external: tuple[int, str] | None = None
    cause_conversation: int | None = None
    cause_message: int | None = None

    def nothing(self) -> bool:
        """Whether the decision needs no rows: the commit looks after the key by itself."""
        return not any(self[1:])  # but for the key

    def rows(self) -> int:
        """Return how many rows may be found, but for those of the key and the cause."""
        return len(self.task_ids) + len(self.conversation_ids) + len(self.message_ids)


class Question(NamedTuple):
    """What is wanted of one user's rows; ``text`` is how that is sent, ``parts`` names what is."""

    wanted: Wanted
    parts: tuple[str, ...]
    text: str


Texts = dict[str, str | None]
"""An answer: the JSON of each part that was asked for; None where there is no such row."""


class First(NamedTuple):
    """The first use of an idempotency key: its request, its answer, and what settles that."""

    request_hash: bytes
    result: Json
    settlement: Settlement


class Found(NamedTuple):
    """What was read: rows by id; ``missing_cause`` names the kind of a cause that is not there, and
    ``cause_conversation`` is the conversation of the message that is one.

    Of a wanted message the conversation is found too.
    """

    first: First | None
    tasks: dict[int, Task]
    conversations: dict[int, Conversation]
    messages: dict[int, Message]
    missing_cause: str | None
    cause_conversation: int | None = None


def _array_of(fields: tuple[str, ...], alias: str) -> str:
    return f"json_agg(json_build_array({', '.join(f'{alias}.{name}' for name in fields)}))"


_TASKS = _array_of(Task._fields, "t")
_CONVERSATIONS = _array_of(Conversation._fields, "c")
_MESSAGES = _array_of(Message._fields, "m")

# By a join, so that Postgres knows that each id names one row: it may take another index than the
# primary key for an array of nobody knows how many.
_PARTS = {
    "key": """(
        SELECT json_build_array(
            encode(i.request_hash, 'hex'), i.result, i.position, i.created_at, i.alike)
        FROM tasktrail.idempotency i WHERE i.user_id = u AND i.key = q.key)""",
    "task_ids": f"""(
        SELECT {_TASKS} FROM unnest(q.task_ids) AS wanted
        JOIN tasktrail.tasks t ON t.user_id = u AND t.id = wanted)""",
    "conversation_ids": f"""(
        SELECT {_CONVERSATIONS} FROM unnest(q.conversation_ids) AS wanted
        JOIN tasktrail.conversations c ON c.user_id = u AND c.id = wanted)""",
    "message_ids": f"""(
        SELECT json_build_array({_MESSAGES}, {_CONVERSATIONS})
        FROM unnest(q.message_ids) AS wanted
        JOIN tasktrail.messages m ON m.user_id = u AND m.id = wanted
        JOIN tasktrail.conversations c ON c.user_id = u AND c.id = m.conversation_id)""",
    "external": f"""(
        SELECT {_MESSAGES} FROM tasktrail.messages m
        WHERE m.user_id = u AND m.conversation_id = (q.external ->> 0)::bigint
        AND m.external_id = q.external ->> 1)""",
    "cause_conversation": """(
        SELECT count(*) FROM tasktrail.conversations c
        WHERE c.user_id = u AND c.id = q.cause_conversation)""",
    "cause_message": """(
        SELECT m.conversation_id FROM tasktrail.messages m
        WHERE m.user_id = u AND m.id = q.cause_message)""",
}
_TYPES = {
    "key": "text",
    "task_ids": "bigint[]",
    "conversation_ids": "bigint[]",
    "message_ids": "bigint[]",
    "external": "jsonb",
    "cause_conversation": "bigint",
    "cause_message": "bigint",
}


@cache
def _statement(parts: tuple[str, ...]) -> str:
    """Return the statement that answers an array of questions.

    It is not sorted: that would set all users for row-level security before it reads any rows.
    """
    columns = "".join(f", {_PARTS[name]}::text" for name in parts)
    fields = "".join(f", {name} {_TYPES[name]}" for name in parts)
    return f"""SELECT q.number{columns}
        FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (user_id text{fields}))
            WITH ORDINALITY AS q(user_id{"".join(f", {name}" for name in parts)}, number),
        tasktrail.as_user(q.user_id) AS u"""


NOTHING_FOUND = Found(None, {}, {}, {}, None)


def question(user_id: str, wanted: Wanted) -> Question:
    """Return the question for what is ``wanted`` of one user's rows.

    Raises: TypeError: it cannot be JSON.
    """
    parts = {name: part for name, part in zip(Wanted._fields, wanted, strict=True) if part}
    text = orjson.dumps({"user_id": user_id, **parts}).decode()
    return Question(wanted, tuple(parts), text)


async def read(connection: AsyncConnection[Any], user_id: str, wanted: Wanted) -> Found:
    """Read what is ``wanted`` of one user's rows, in one statement."""
    (texts,) = await read_together(asking(connection), [question(user_id, wanted)])
    return found(wanted, texts)


async def read_together(ask: Ask, questions: list[Question]) -> list[Texts]:
    """Answer questions in their order, all by one statement.

    What the answers mean each finds out by itself (``found``): nobody suffers for another's rows.
    """
    parts = tuple(sorted({part for question in questions for part in question.parts}))
    array = f"[{','.join(question.text for question in questions)}]"
    rows = {row[0]: row[1:] for row in await ask(_statement(parts), array)}
    return [dict(zip(parts, rows[number], strict=True)) for number in range(1, len(rows) + 1)]


def found(wanted: Wanted, texts: Texts) -> Found:
    """Return what an answer says of what was ``wanted``.

    Raises: ValueError: somebody doctored a row, and Python cannot hold what is in it.
    """
    values = {name: orjson.loads(text) for name, text in texts.items() if text is not None}
    messages, conversations = values.get("message_ids") or ([], [])
    conversations = (conversations or []) + values.get("conversation_ids", [])
    messages = (messages or []) + values.get("external", [])
    return Found(
        first=_first(values["key"]) if "key" in values else None,
        tasks={row[0]: _task(row) for row in values.get("task_ids", ())},
        conversations={row[0]: _conversation(row) for row in conversations},
        messages={row[0]: _message(row) for row in messages},
        missing_cause=_missing_cause(wanted, values),
        cause_conversation=values.get("cause_message"),
    )


def _missing_cause(wanted: Wanted, values: dict[str, Any]) -> str | None:
    if wanted.cause_conversation and not values["cause_conversation"]:
        return "conversation"
    if wanted.cause_message:
        conversation = values.get("cause_message")
        if conversation is None or wanted.cause_conversation not in (None, conversation):
            return "message"
    return None


_time = datetime.fromisoformat


def _first(row: list[Any]) -> First:
    request_hash, result, base, recorded_at, similar = row
    settlement = Settlement(base, _time(recorded_at), similar or {})
    return First(bytes.fromhex(request_hash), result, settlement)


def _task(row: list[Any]) -> Task:
    task = Task(*row)
    return task._replace(
        due_at=due_moment(task.due),  # its text may have an offset with seconds: long ago
        created_at=_time(task.created_at),  # type: ignore[arg-type] # text, from JSON
        updated_at=_time(task.updated_at),  # type: ignore[arg-type]
        completed_at=task.completed_at and _time(task.completed_at),  # type: ignore[arg-type]
    )


def _conversation(row: list[Any]) -> Conversation:
    conversation = Conversation(*row)
    return conversation._replace(
        created_at=_time(conversation.created_at),  # type: ignore[arg-type] # text, from JSON
        updated_at=_time(conversation.updated_at),  # type: ignore[arg-type]
    )


def _message(row: list[Any]) -> Message:
    message = Message(*row)
    return message._replace(
        created_at=_time(message.created_at),  # type: ignore[arg-type] # text, from JSON
        edited_at=message.edited_at and _time(message.edited_at),  # type: ignore[arg-type]
    )

"""The state at a moment, one task or one conversation after another.

The events are read in the order of their streams, so that each is folded on its own: the memory
this needs does not grow with the ledger, only with its longest conversation.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal, NamedTuple, Self

from pydantic import ValidationError

from events.catalog import UnknownEvent
from events.conversation import Conversation, Message
from events.ledger import Record
from events.replay import Replay
from events.store import Connection
from events.task import Task
from projections.history import PAGE
from projections.story import Unreadable

Kind = Literal["task", "conversation"]


class State(NamedTuple):
    """One task, or one conversation with its messages, by id; empty before it began."""

    tasks: dict[int, Task]
    conversations: dict[int, Conversation]
    messages: dict[int, Message]

    @classmethod
    def of(cls, replay: Replay) -> Self:
        """Return the state as it is now."""
        return cls(dict(replay.tasks), dict(replay.conversations), dict(replay.messages))


_COLUMNS = ", ".join(f"e.{name}" for name in Record._fields)

_STREAMS = f"""
SELECT e.* FROM tasktrail.as_user(%(user_id)s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.events e
    WHERE e.user_id = u AND e.stream_type = %(kind)s AND e.position <= %(until)s{{which}}
    ORDER BY e.stream_id, e.version
) AS e ORDER BY e.stream_id, e.version
"""
_ALL = _STREAMS.format(which="")
_ONE = _STREAMS.format(which=" AND e.stream_id = %(id)s")
_CHANGED = _STREAMS.format(
    which="""
    AND e.stream_id IN (
        SELECT c.stream_id FROM tasktrail.events c
        WHERE c.user_id = u AND c.stream_type = %(kind)s
        AND c.position > %(since)s AND c.position <= %(until)s)"""
)


async def states(
    connection: Connection, user_id: str, kind: Kind, at: int, id_: int | None = None
) -> AsyncIterator[State]:
    """Yield the state of each task or conversation, or of one, after position ``at``.

    Raises: Unreadable.
    """
    statement = _ALL if id_ is None else _ONE
    parameters = {"user_id": user_id, "kind": kind, "until": at, "id": id_}
    async for _, state in _folded(connection, statement, parameters, at):
        yield state


async def changes(
    connection: Connection, user_id: str, kind: Kind, since: int, until: int
) -> AsyncIterator[tuple[State, State]]:
    """Yield the states after ``since`` and after ``until`` of what had events between.

    Raises: Unreadable.
    """
    parameters = {"user_id": user_id, "kind": kind, "since": since, "until": until}
    async for pair in _folded(connection, _CHANGED, parameters, since):
        yield pair


async def _folded(
    connection: Connection, statement: str, parameters: dict[str, object], middle: int
) -> AsyncGenerator[tuple[State, State], None]:
    """Yield each stream's states: after position ``middle``, and after its last event."""
    replay, before = Replay(), None
    stream_id = None
    async with connection.cursor(binary=True) as cursor:
        async for row in cursor.stream(statement, parameters, size=PAGE):
            record = Record(*row)
            if record.stream_id != stream_id:
                if stream_id is not None:
                    yield before or State.of(replay), State.of(replay)
                replay, before, stream_id = Replay(), None, record.stream_id
            if before is None and record.position > middle:
                before = State.of(replay)
            try:
                replay.add(record)
            except (UnknownEvent, ValidationError, LookupError, TypeError):
                raise Unreadable(record.position) from None
        if stream_id is not None:
            yield before or State.of(replay), State.of(replay)


_ERASED = """
SELECT e.through FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT max((e.body->'data'->>'through')::bigint) AS through FROM tasktrail.events e
    WHERE e.user_id = u AND e.stream_type = 'ledger' AND e.type = 'LedgerErased'
) AS e
"""


async def erased_through(connection: Connection, user_id: str) -> int:
    """Return the position up to which everything is erased by now, 0 if nothing is."""
    cursor = await connection.execute(_ERASED, (user_id,), binary=True)
    row = await cursor.fetchone()
    return (row and row[0]) or 0

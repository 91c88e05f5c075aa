"""The read table of messages: the history of a conversation, in pages."""

from events.conversation import Message
from events.store import Connection

_COLUMNS = ", ".join(f"m.{name}" for name in Message._fields)

_PAGE = f"""
SELECT m.* FROM tasktrail.as_user(%(user_id)s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.messages m
    WHERE m.user_id = u AND m.conversation_id = %(conversation_id)s AND NOT m.deleted
    AND m.id < %(before)s AND m.id > %(after)s
    ORDER BY m.id {{direction}} LIMIT %(limit)s
) AS m ORDER BY m.id {{direction}}
"""
_NEWEST = _PAGE.format(direction="DESC")
_OLDEST = _PAGE.format(direction="ASC")


async def list_messages(
    connection: Connection,
    user_id: str,
    conversation_id: int,
    limit: int,
    before: int,
    after: int,
    *,
    oldest: bool,
) -> list[Message]:
    """Return at most ``limit`` messages between two ids, both exclusive: the newest, newest first,
    or the ``oldest``, oldest first."""
    parameters = {
        "user_id": user_id,
        "conversation_id": conversation_id,
        "limit": limit,
        "before": before,
        "after": after,
    }
    statement = _OLDEST if oldest else _NEWEST
    cursor = await connection.execute(statement, parameters, binary=True)
    return [Message(*row) for row in await cursor.fetchall()]

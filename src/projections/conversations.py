"""The read table of conversations: one, and pages of many, latest activity first."""

from typing import NamedTuple

from events.conversation import Conversation
from events.store import Connection

_COLUMNS = ", ".join(f"c.{name}" for name in Conversation._fields)

_GET = f"""
SELECT c.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.conversations c WHERE c.user_id = u AND c.id = %s
) AS c
"""


async def get_conversation(connection: Connection, user_id: str, id_: int) -> Conversation | None:
    """Return one conversation, deleted or not; None if there is none."""
    cursor = await connection.execute(_GET, (user_id, id_), binary=True)
    row = await cursor.fetchone()
    return Conversation(*row) if row else None


class Page(NamedTuple):
    """Conversations, and how many there are in all. A next page begins below a ``position``."""

    conversations: list[Conversation]
    total_count: int


_LIST = f"""
SELECT n.total_count, c.* FROM tasktrail.as_user(%(user_id)s) AS u
CROSS JOIN LATERAL (
    SELECT count(*) AS total_count FROM tasktrail.conversations c
    WHERE c.user_id = u AND c.deleted = %(deleted)s
) AS n
LEFT JOIN LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.conversations c
    WHERE c.user_id = u AND c.deleted = %(deleted)s AND c.position < %(below)s
    ORDER BY c.position DESC LIMIT %(limit)s OFFSET %(offset)s
) AS c ON true
ORDER BY c.position DESC
"""


async def list_conversations(
    connection: Connection,
    user_id: str,
    limit: int,
    deleted: bool = False,
    below: int = 2**63 - 1,
    offset: int = 0,
) -> Page:
    """Return at most ``limit`` conversations whose last event is below a position."""
    parameters = {
        "user_id": user_id,
        "limit": limit,
        "deleted": deleted,
        "below": below,
        "offset": offset,
    }
    cursor = await connection.execute(_LIST, parameters, binary=True)
    rows = await cursor.fetchall()
    found = [Conversation(*row[1:]) for row in rows if row[1] is not None]
    return Page(found, rows[0][0])

"""The receipt of a write: ``position:hash`` of its last event.

Whoever keeps receipts can show later that the ledger still has what was written then, and, because
each hash covers all events before it, all that was written before.
"""

import re

from events.ledger import Finding, Head
from events.store import Connection
from mcp_server.failure import Failure

_FORM = re.compile(r"([1-9]\d{0,17}):([0-9a-fA-F]{64})")


class BadReceipt(Failure):
    """It is not the text of a receipt."""

    exit_code = 2


def write_receipt(head: Head) -> str:
    """Return the receipt of a write whose last event is at this head."""
    return f"{head.position}:{head.hash.hex()}"


def read_receipt(text: str) -> Head:
    """Return the position and hash that a receipt says. Raises: BadReceipt."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadReceipt("A receipt is a position, a colon and 64 hex digits: 17:9f86d0...")
    return Head(int(match[1]), bytes.fromhex(match[2]))


_HASH_AT = """
SELECT e.hash FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT hash FROM tasktrail.events WHERE user_id = u AND position = %s
) AS e
"""


async def read_head(connection: Connection, user_id: str, position: int) -> Head | None:
    """Return the head that a ledger had when ``position`` was its last event, None if there is no
    such event."""
    cursor = await connection.execute(_HASH_AT, (user_id, position), binary=True)
    row = await cursor.fetchone()
    return Head(position, row[0]) if row is not None else None


async def check_receipt(connection: Connection, user_id: str, receipt: Head) -> Finding | None:
    """Return what contradicts a receipt in the database, None if nothing does.

    It compares one hash. That the events before it lead to that hash is the chain's to show.
    """
    head = await read_head(connection, user_id, receipt.position)
    if head is None:
        return Finding(receipt.position, "receipt", "names an event that is not in the ledger")
    if head.hash != receipt.hash:
        return Finding(receipt.position, "receipt", "has another hash than the event there")
    return None

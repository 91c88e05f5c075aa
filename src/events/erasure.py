"""Erase what people wrote in a ledger. The chain stays whole: docs/erasure.md says what goes.

Content hashes are made in Python, so the event is sealed here for the head as it was read, and
``erase_ledger`` (in SQL, under the user's lock) refuses when that has moved.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import uuid4

import orjson

from events.catalog import LedgerErased
from events.draft import Entry
from events.ledger import Json
from events.store import Connection, sealed

TRIES = 20


class Erasure(NamedTuple):
    """What ``erase`` came to: ``position`` of LedgerErased, how many ``events`` lost their words.

    ``unchanged``: the ledger ended with an erasure already; ``moved``: others kept writing.
    """

    status: Literal["erased", "unchanged", "held", "nothing", "moved"]
    position: int | None
    events: int | None


class Erased(NamedTuple):
    """One erasure in a ledger."""

    user_id: str
    position: int
    through: int
    at: datetime
    reason: str | None


_ERASE = "SELECT status, head, events FROM tasktrail.erase_ledger(%s, %s, %s, %s, %s)"
_HEAD = "SELECT position FROM tasktrail.ledgers WHERE user_id = %s"
_ERASED = """
SELECT e.user_id, e.position, (e.body #>> '{data,through}')::bigint, e.recorded_at,
    e.body ->> 'reason'
FROM tasktrail.events e
WHERE e.stream_type = 'ledger' AND e.type = 'LedgerErased'
ORDER BY e.user_id, e.position
"""


async def erase(connection: Connection, user_id: str, actor: Json, reason: str | None) -> Erasure:
    """Erase all words in one user's ledger so far. Repeating it is harmless.

    ``reason`` stays for ever. For a connection that may do what the operator may.
    """
    for _ in range(TRIES):
        row = await (await connection.execute(_HEAD, (user_id,))).fetchone()
        through = row[0] if row else 0
        command_id = uuid4()
        entry = Entry("ledger", through + 1, 1, LedgerErased(through=through))
        event = sealed(entry, str(command_id), actor, reason)
        arguments = (user_id, through, command_id, _json(actor), _json(event))
        cursor = await connection.execute(_ERASE, arguments)
        outcome = Erasure(*await cursor.fetchone())  # type: ignore[misc] # a function returns a row
        if outcome.status != "moved":
            break
    return outcome


def _json(value: Json) -> str:
    return orjson.dumps(value).decode()


async def erasures(connection: Connection) -> AsyncIterator[Erased]:
    """Yield every erasure in every ledger."""
    for row in await (await connection.execute(_ERASED)).fetchall():
        yield Erased(*row)

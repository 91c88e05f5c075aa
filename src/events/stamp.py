"""Where and when an event stands in its ledger.

Before a command is committed nobody knows its positions and its time: only Postgres, holding the
user's lock, can say. Until then a command's first event stands at position -1, its second at -2,
and so on, all at the time ``NOT_YET``. Folding them gives rows and answers that are provisional in
exactly those numbers and times, and ``commit_command`` (in SQL) and ``settle`` (here) put the real
ones in. So there is one fold, and it does not know whether it runs live or in a replay.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

NOT_YET = datetime.max.replace(tzinfo=UTC)


class Stamp(NamedTuple):
    """An event's position in the ledger, its version in the stream, and when it was recorded."""

    position: int
    version: int
    at: datetime


def settle(provisional: Any, base: int, at: datetime) -> Any:
    """Return a JSON value with its provisional numbers replaced.

    ``base`` is the ledger's position before the command. Negative integers, and ``NOT_YET`` under a
    key that ends in ``_at``, occur in answers only as provisional positions, ids and times.
    """
    match provisional:
        case bool():
            return provisional
        case int() if provisional < 0:
            return base - provisional
        case dict():
            return {
                key: iso(at)
                if value == _NOT_YET_TEXT and key.endswith("_at")
                else settle(value, base, at)
                for key, value in provisional.items()
            }
        case list():
            return [settle(value, base, at) for value in provisional]
        case _:
            return provisional


def iso(at: datetime) -> str:
    """Return ``at`` as ISO 8601 in UTC with a ``Z``."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_NOT_YET_TEXT = iso(NOT_YET)

"""Where and when an event stands in its ledger.

Before a command is committed nobody knows its positions and its time: only Postgres, holding the
user's lock, can say. Until then a command's first event stands at position -1, its second at -2,
and so on, all at the time ``NOT_YET``. Folding them gives rows and answers that are provisional in
exactly those numbers and times, and ``commit_commands`` (in SQL) and ``settle`` (here) put the real
ones in. So there is one fold, and it does not know whether it runs live or in a replay.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

NOT_YET = datetime.max.replace(tzinfo=UTC)


class Stamp(NamedTuple):
    """An event's position in the ledger, its version in the stream, and when it was recorded.

    A fold passes ``at`` on and never looks at it, so whoever folds in bulk, to compare
    rows and to write them, keeps the database's integers in its place (``projections.snapshot``).
    """

    position: int
    version: int
    at: datetime


class Settlement(NamedTuple):
    """What the commit found out: the ledger's position before the command, the time of its events,
    and the ids of open tasks that have the same title as new ones."""

    base: int
    at: datetime
    similar: dict[str, list[int]]


def settle(provisional: Any, real: Settlement) -> Any:
    """Return an answer with what is provisional in it replaced.

    That is: negative integers, which stand for positions and ids; ``NOT_YET`` under a key that ends
    in ``_at``; and under ``similar`` a title, which stands for the ids of the tasks like it.
    """
    kind = type(provisional)  # an answer is JSON, so it is exactly one of these
    if kind is int:
        return provisional if provisional >= 0 else real.base - provisional
    if kind is dict:
        return {
            key: _settle_text(key, value, real) if type(value) is str else settle(value, real)
            for key, value in provisional.items()
        }
    if kind is list:
        return [settle(value, real) for value in provisional]
    return provisional


def _settle_text(key: str, text: str, real: Settlement) -> Any:
    if key == "similar":
        return real.similar.get(text, [])
    if text == _NOT_YET_TEXT and key.endswith("_at"):
        return iso(real.at)
    return text


def iso(at: datetime) -> str:
    """Return ``at`` as ISO 8601 in UTC with a ``Z``."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_NOT_YET_TEXT = iso(NOT_YET)

"""The work of a rebuild cut into pieces that each fit into memory: many small users at once, or a
part of one big user's streams.

A span of users is a range of ids, so that rows of users who have no ledger are seen too.
"""

from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection

EVENTS = 20_000
"""A span of users is closed when it has so many events."""

BIG = 50_000
"""A user with more events is cut into spans of so many positions: streams that began in them."""

_PAGE = 1000


class Span(NamedTuple):
    """All users with ``start <= user_id < stop`` (None: no bound) but ``without`` some; or, of the
    one user ``user_id``, the streams that began at positions above ``above`` up to ``until``.

    ``events`` is about how many it has.
    """

    events: int
    start: str | None = None
    stop: str | None = None
    without: tuple[str, ...] = ()
    user_id: str | None = None
    above: int = -(2**63)
    until: int = 2**63 - 1

    def where(self, alias: LiteralString, stream: LiteralString) -> LiteralString:
        """Return the condition on a table, given its ``alias`` and its column for the stream."""
        if self.user_id is not None:
            place = f"{alias}.{stream} > %(above)s AND {alias}.{stream} <= %(until)s"
            return f"{alias}.user_id = %(user_id)s AND {place}"
        parts: list[LiteralString] = []
        if self.start is not None:
            parts.append(f"{alias}.user_id >= %(start)s")
        if self.stop is not None:
            parts.append(f"{alias}.user_id < %(stop)s")
        if self.without:
            parts.append(f"{alias}.user_id <> ALL (%(without)s)")
        return " AND ".join(parts) or "true"

    def parameters(self) -> dict[str, Any]:
        """Return what ``where`` leaves open."""
        return {**self._asdict(), "without": list(self.without)}


def of_user(user_id: str, events: int) -> Iterator[Span]:
    """Yield the spans of one user's ledger with so many events."""
    borders = [*range(BIG, events, BIG), 2**63 - 1] if events > BIG else [2**63 - 1]
    above = -(2**63)
    for until in borders:
        yield Span(min(events, BIG), user_id=user_id, above=above, until=until)
        above = until


def of_all(connection: Connection[Any]) -> Iterator[Span]:
    """Yield spans that together are the whole database."""
    start: str | None = None
    events = 0
    big: list[str] = []
    for user_id, position in _ledgers(connection):
        if events >= EVENTS:
            yield Span(events, start=start, stop=user_id, without=tuple(big))
            start, events, big = user_id, 0, []
        if position > BIG:
            big.append(user_id)
            yield from of_user(user_id, position)
        else:
            events += position
    yield Span(events, start=start, without=tuple(big))


def _ledgers(connection: Connection[Any]) -> Iterator[tuple[str, int]]:
    """Users and their heads by user, a page at a time: there may be millions."""
    after: str | None = None
    while True:
        page = connection.execute(
            """
            SELECT l.user_id, l.position FROM tasktrail.ledgers l
            WHERE %(after)s::text IS NULL OR l.user_id > %(after)s
            ORDER BY l.user_id LIMIT %(page)s
            """,
            {"after": after, "page": _PAGE},
        ).fetchall()
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][0]

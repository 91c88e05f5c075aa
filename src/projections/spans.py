"""The work of a rebuild cut into pieces that each fit into memory: many small users at once, or a
part of one big user's streams.

A span of users is a range of ids, so that rows of users who have no ledger are seen too.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection

from events.errors import NoSuchUser

EVENTS = 20_000
"""A span of users is closed when it has so many events."""

BIG = 50_000
"""A user with more events is cut into spans of so many positions: streams that began in them."""

UNCUT = 150_000
"""For ``verify`` a user with no more events stays whole: of one that is cut, the chain has to be
read for itself. It takes 160 MB when texts are as short as those that ``seed`` makes up."""

_FIRST, _LAST = -(2**63), 2**63 - 1
_PAGE = 1000


class Span(NamedTuple):
    """All users with ``start <= user_id < stop`` (None: no bound) but ``without`` some; or the one
    user ``user_id``: all of it, or the streams that began above the position ``above`` up to
    ``until``.

    ``events`` is about how many it has.
    """

    events: int
    start: str | None = None
    stop: str | None = None
    without: tuple[str, ...] = ()
    user_id: str | None = None
    above: int = _FIRST
    until: int = _LAST

    @property
    def whole(self) -> bool:
        """Whether it has all of its users' streams."""
        return (self.above, self.until) == (_FIRST, _LAST)

    @property
    def first(self) -> bool:
        """Whether it is the first part of its user, or has all."""
        return self.above == _FIRST

    def users(self, alias: LiteralString) -> LiteralString:
        """Return the condition on the users, for the table that is called ``alias``."""
        if self.user_id is not None:
            return f"{alias}.user_id = %(user_id)s"
        parts: list[LiteralString] = []
        if self.start is not None:
            parts.append(f"{alias}.user_id >= %(start)s")
        if self.stop is not None:
            parts.append(f"{alias}.user_id < %(stop)s")
        if self.without:
            parts.append(f"{alias}.user_id <> ALL (%(without)s)")
        return " AND ".join(parts) or "true"

    def streams(self, alias: LiteralString, stream: LiteralString) -> LiteralString:
        """Return the condition on users and streams; ``stream`` is the column that names them."""
        if self.whole:
            return self.users(alias)
        part = f"{alias}.{stream} > %(above)s AND {alias}.{stream} <= %(until)s"
        return f"{self.users(alias)} AND {part}"

    def parameters(self) -> dict[str, Any]:
        """Return what the conditions leave open."""
        return {**self._asdict(), "without": list(self.without)}


def plan(
    connection: Connection[Any], user_id: str | None, uncut: int = 0
) -> tuple[int, Iterator[Span]]:
    """Return about how many events there are, and the spans: of everything, or of one user. Nobody
    with up to ``uncut`` events is cut.

    Raises: NoSuchUser.
    """
    if user_id is not None:
        events = _events_of(connection, user_id)
        return events, of_user(user_id, events, uncut)
    cursor = connection.execute("SELECT coalesce(sum(l.position), 0) FROM tasktrail.ledgers l")
    return int(cursor.fetchall()[0][0]), of_all(connection, uncut)


def _events_of(connection: Connection[Any], user_id: str) -> int:
    """Where somebody removed the ledger's head, or its events too, what is left is looked at."""
    row = connection.execute(
        """
        SELECT l.position, e.position, t.id, c.id, m.id
        FROM tasktrail.as_user(%s) AS u
        LEFT JOIN LATERAL (
            SELECT l.position FROM tasktrail.ledgers l WHERE l.user_id = u) AS l ON true
        LEFT JOIN LATERAL (
            SELECT max(e.position) AS position
            FROM tasktrail.events e WHERE e.user_id = u) AS e ON true
        LEFT JOIN LATERAL (
            SELECT min(t.id) AS id FROM tasktrail.tasks t WHERE t.user_id = u) AS t ON true
        LEFT JOIN LATERAL (
            SELECT min(c.id) AS id FROM tasktrail.conversations c WHERE c.user_id = u) AS c ON true
        LEFT JOIN LATERAL (
            SELECT min(m.id) AS id FROM tasktrail.messages m WHERE m.user_id = u) AS m ON true
        """,
        (user_id,),
    ).fetchall()[0]
    if set(row) == {None}:
        raise NoSuchUser(f"Nothing here belongs to {user_id!r}.")
    return max(row[0] or 0, row[1] or 0)


def of_user(user_id: str, events: int, uncut: int = 0) -> Iterator[Span]:
    """Yield the spans of one user, who has so many events."""
    if events <= uncut:
        yield Span(events, user_id=user_id)
        return
    borders = [_FIRST, *range(BIG, events, BIG), _LAST]
    for above, until in pairwise(borders):
        yield Span(min(events, BIG), user_id=user_id, above=above, until=until)


def of_all(connection: Connection[Any], uncut: int = 0) -> Iterator[Span]:
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
            yield from of_user(user_id, position, uncut)
        else:
            events += max(position, 1)
    yield Span(events, start=start, without=tuple(big))


def _ledgers(connection: Connection[Any]) -> Iterator[tuple[str, int]]:
    """Yield users and their heads by user, a page at a time: there may be millions."""
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

"""Rebuild the read tables from the ledger, online: readers and writers do not notice.

    spans -> scan (no lock) -> what is wrong -> mend (the locks of those users, for milliseconds)

Only rows that are wrong are written, each user's in one transaction. So at any moment every row is
as it was or as it should be, and a rebuild can be killed and started again without a trace.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from psycopg import Connection

from projections.mend import mend
from projections.scan import Difference, scan
from projections.spans import Span


class Totals(NamedTuple):
    """What a rebuild did, or a part of it. ``mended`` counts rows, as ``rows`` does."""

    users: int = 0
    events: int = 0
    rows: int = 0
    mended: int = 0


def rebuild(
    connection: Connection[Any],
    spans: Iterable[Span],
    fix: bool,
    found: Callable[[list[Difference]], None],
    done: Callable[[Totals], None],
) -> None:
    """Compare each span, and if ``fix`` put right what is wrong in it.

    ``found`` gets the differences of each span that has some, ``done`` what was done so far.
    """
    totals = Totals()
    for span in spans:
        result = scan(connection, span)
        if result.differences:
            found(result.differences)
        mended = mend(connection, result.drifts) if fix else 0
        totals = Totals(
            totals.users + result.users,
            totals.events + result.events,
            totals.rows + result.rows,
            totals.mended + mended,
        )
        done(totals)

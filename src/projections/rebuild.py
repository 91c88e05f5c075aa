"""Rebuild the read tables from the ledger, online: neither readers nor writers notice.

    a span -> fold and compare (one snapshot, no lock) -> what is wrong -> mend (locks, briefly)

An event and the rows it folds to are committed together, so in every snapshot they must agree:
whatever differs is wrong, and not merely late. Only such rows are written. So at any moment every
row is as it was or as it should be, and a rebuild may be killed and started again without a trace.
"""

from typing import Any, NamedTuple

from psycopg import Connection

from projections.compare import compare
from projections.finding import Finding
from projections.fold import fold_span
from projections.mend import Drift, mend
from projections.read_tables import READ_TABLES
from projections.snapshot import snapshot
from projections.spans import Span


class Report(NamedTuple):
    """What there was in a span, how many rows were ``mended``, and what was or is wrong."""

    users: int
    events: int
    rows: int
    mended: int
    findings: list[Finding]


def rebuild(
    connection: Connection[Any], span: Span, fix: bool, rewrite: bool = False, tell: bool = True
) -> Report:
    """Compare the rows of ``span`` with the ledger, and put right what is wrong if ``fix``.

    ``rewrite``: write every row, so that what the database derives from it is derived anew.
    ``tell``: find for each wrong row what is wrong with it. ``connection`` is in autocommit mode.
    """
    report, drifts = scan(connection, span, rewrite, tell)
    if not fix or not drifts:
        return report
    mended = mend(connection, drifts)
    return report._replace(mended=mended.rows, findings=report.findings + mended.findings)


def scan(
    connection: Connection[Any],
    span: Span,
    every: bool = False,
    tell: bool = True,
    words: bool = False,
) -> tuple[Report, list[Drift]]:
    """Return what is wrong, twice: if ``tell``, to be told; and (or ``every`` row) to be mended.

    ``words``: as for ``compare``.
    """
    with snapshot(connection, span) as seen:
        heads: dict[str, int] = dict(
            seen.rows(
                f"SELECT l.user_id, l.position FROM tasktrail.ledgers l WHERE {span.users('l')}"
            )
        )
        folds = fold_span(seen, heads)
        findings = [fold.fault for fold in folds.values() if fold.fault is not None]
        replays = {u: fold.replay for u, fold in folds.items() if fold.fault is None}
        drifts: dict[str, Drift] = {}
        for wrong in compare(seen, replays, folds.keys() - replays.keys(), every, words):
            user_id = wrong.user_id
            drifts.setdefault(user_id, Drift(user_id, heads.get(user_id, 0), [])).rows.append(wrong)
            if tell:
                findings += wrong.findings()
    rows = sum(len(table.of(replay)) for table in READ_TABLES for replay in replays.values())
    events = sum(fold.events for fold in folds.values())
    users = len(heads) if span.first else 0
    return Report(users, events, rows, 0, findings), list(drifts.values())

"""Verify ledgers in the database, and the read tables against them.

Of each user: every hash recomputed from the row's own columns, positions and versions without a
gap, the head, each event readable, and each read row as the fold says. All in one snapshot, so that
what is appended meanwhile is no false alarm.
"""

from typing import Any

from psycopg import Connection

from events.intact import Doubt
from projections import glance
from projections.chains import tampered
from projections.exact import Verifier
from projections.finding import Report
from projections.rebuild import scan
from projections.snapshot import snapshot
from projections.spans import Span


def verify(connection: Connection[Any], span: Span, words: bool = False) -> Report:
    """Verify what is in ``span``. ``connection`` is in autocommit mode. ``words``: as for
    ``compare``.

    First at a glance; only where that leaves a doubt, once more to say what is wrong.
    """
    if not span.whole:
        return _verify_part(connection, span, words)
    try:
        with snapshot(connection, span) as seen:
            return glance.everything(seen, words)
    except Doubt:
        with snapshot(connection, span) as seen:
            return Verifier(seen).everything(words)


def _verify_part(connection: Connection[Any], span: Span, words: bool) -> Report:
    """Verify some of a user's streams. A chain cannot be cut into streams: the first part has all
    of it."""
    report, _ = scan(connection, span, words=words)
    if not span.first:
        return report
    findings = tampered(connection, Span(0, user_id=span.user_id))
    return report._replace(findings=findings + report.findings)

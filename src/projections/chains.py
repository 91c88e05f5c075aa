"""The chains of ledgers: do they hold, and so can rows be judged by them?"""

from typing import Any

from psycopg import Connection

from events.intact import Doubt
from projections import glance
from projections.exact import Verifier
from projections.finding import Finding, Report
from projections.mend import Drift
from projections.snapshot import snapshot
from projections.spans import Span


def tampered(connection: Connection[Any], span: Span) -> list[Finding]:
    """Return what is wrong with the chains of the users of ``span``, which has all of their
    streams. ``connection`` is in autocommit mode."""
    try:
        with snapshot(connection, span) as seen:
            glance.chains(seen)
            return []
    except Doubt:
        with snapshot(connection, span) as seen:
            return Verifier(seen).chains()


class Belief:
    """Which ledgers can be believed: a row that is not as its ledger says may be the last honest
    copy of what a forged event said.

    So where rows differ the chains are looked at, and those of whom they do not hold are left
    alone. Rows that are merely missing have no such copy: they are made from what the events say.
    """

    def __init__(self) -> None:
        self._cut: dict[str, bool] = {}  # whether that of a user in several spans can be believed

    def sift(
        self, connection: Connection[Any], span: Span, report: Report, drifts: list[Drift]
    ) -> tuple[Report, list[Drift]]:
        """Return what is wrong with ``span`` (as ``rebuild.scan`` does) by believable ledgers, and
        what is wrong with the others, once each."""
        if all(wrong.live is None for drift in drifts for wrong in drift.rows):
            return report, drifts
        findings, doubted = self._doubt(connection, span)
        doubted &= {drift.user_id for drift in drifts}
        if not doubted:
            return report, drifts
        findings = [finding for finding in findings if finding.user_id in doubted]
        findings += [finding for finding in report.findings if finding.user_id not in doubted]
        believed = [drift for drift in drifts if drift.user_id not in doubted]
        return report._replace(findings=findings), believed

    def _doubt(self, connection: Connection[Any], span: Span) -> tuple[list[Finding], set[str]]:
        user_id = span.user_id
        if span.whole or user_id is None:
            findings = tampered(connection, span)
            return findings, {finding.user_id for finding in findings}
        findings = []
        if user_id not in self._cut:
            findings = tampered(connection, Span(0, user_id=user_id))
            self._cut[user_id] = not findings
        return findings, set() if self._cut[user_id] else {user_id}

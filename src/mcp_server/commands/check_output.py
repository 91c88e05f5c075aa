"""What a check found, on standard output: a line a finding and a summary, or one JSON object.

Findings are written as they come, and none is kept: there may be millions.
"""

import sys
from collections.abc import Iterable, Mapping

import orjson

from mcp_server.commands.printing import counted
from projections.finding import Finding


class CheckOutput:
    """Writes findings, counts them, and writes the totals at the end."""

    def __init__(self, as_json: bool, verdict: bool = False) -> None:
        """``verdict``: say in the end whether anything is wrong."""
        self._verdict = verdict
        self.findings = 0
        self.unreadable = 0
        self._as_json = as_json
        self._totals: dict[str, int] = {}
        self._said: dict[str, object] = {}
        if as_json:
            sys.stdout.write('{"findings": [')

    def add(self, findings: Iterable[Finding], **totals: int) -> None:
        """Write what was found, and add to the totals."""
        for finding in findings:
            self.unreadable += finding.kind == "unreadable"
            self._write(finding)
        for name, number in totals.items():
            self._totals[name] = self._totals.get(name, 0) + number

    def _write(self, finding: Finding) -> None:
        if self._as_json:
            sys.stdout.write(",\n" if self.findings else "\n")
            sys.stdout.write(orjson.dumps(finding._asdict()).decode())
        else:
            sys.stdout.write(finding.line() + "\n")
        self.findings += 1

    def say(self, said: Mapping[str, object]) -> None:
        """Write what is so, beside the totals: a line each; as JSON, in the one object."""
        if self._as_json:
            self._said.update(said)
            return
        for name, value in said.items():
            sys.stdout.write(f"{name.replace('_', ' ')}: {'-' if value is None else value}\n")

    def end(self, seconds: float) -> None:
        """Write the summary."""
        if self._as_json:
            summary = {**self._totals, **self._said, "seconds": round(seconds, 3)}
            sys.stdout.write("],\n" + orjson.dumps(summary).decode().removeprefix("{") + "\n")
            return
        if self._verdict:
            found = f"{counted(self.findings, 'findings')}: see above."
            sys.stdout.write((found if self.findings else "Nothing is wrong.") + "\n")
        totals = self._totals or {"findings": self.findings}
        counts = ", ".join(counted(number, name) for name, number in totals.items())
        rate = ""
        if "events" in self._totals:
            rate = f" ({self._totals['events'] / max(seconds, 1e-6):,.0f} events/s)"
        sys.stdout.write(f"{counts} in {seconds:.1f} s{rate}\n")

"""What a check found, on standard output: a line a finding and a summary, or one JSON object.

Lines are written as they come; the object when it is complete, for half of one is none. No finding
is kept in memory: there may be millions.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Self

from events.ledger import Json
from mcp_server.commands.printing import (
    JsonObject,
    counted,
    printable,
    shown_seconds,
    whole_value,
)
from projections.finding import Finding

_NO_REMARKS: Mapping[str, str] = {}


class CheckOutput:
    """Writes findings, counts them, and writes the totals at the end.

    ``with CheckOutput(...) as output: ...``: left by an exception, it writes no object.
    """

    def __init__(self, as_json: bool, all_well: str | None) -> None:
        """``all_well``: the verdict if nothing is found; None: give none, of findings neither."""
        self._all_well = all_well
        self.findings = 0
        self.unbelievable = 0
        self._totals: dict[str, int] = {}
        self._said: Json = {}
        self._json = JsonObject() if as_json else None
        if self._json is not None:
            self._json.array("findings")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._json is not None:
            self._json.__exit__(kind)

    def add(self, findings: Iterable[Finding], **totals: int) -> None:
        """Write what was found, and add to the totals."""
        for finding in findings:
            self.unbelievable += finding.kind in ("unreadable", "tampered")
            self._write(finding)
        for name, number in totals.items():
            self._totals[name] = self._totals.get(name, 0) + number

    def _write(self, finding: Finding) -> None:
        if self._json is not None:
            self._json.item(finding._asdict())
        else:
            sys.stdout.write(finding.line() + "\n")
        self.findings += 1

    def say(self, said: Json, remarks: Mapping[str, str] = _NO_REMARKS) -> None:
        """Write what is so, beside the totals: a line each, with a remark for people, but for empty
        lists; as JSON, in the one object."""
        if self._json is not None:
            self._said.update(said)
            return
        for name, value in said.items():
            if value != []:
                remark = f" ({remarks[name]})" if name in remarks else ""
                shown = printable(whole_value(value))
                sys.stdout.write(f"{name.replace('_', ' ')}: {shown}{remark}\n")

    def end(self, seconds: float) -> None:
        """Write the summary."""
        if self._json is not None:
            self._json.end_array()
            self._json.add({**self._totals, **self._said, "seconds": round(seconds, 3)})
            return
        if self._all_well is not None:
            found = f"{counted(self.findings, 'findings')}: see above."
            sys.stdout.write((found if self.findings else self._all_well) + "\n")
        if self._totals:
            counts = ", ".join(counted(number, name) for name, number in self._totals.items())
            rate = self._totals["events"] / max(seconds, 1e-6)
            sys.stdout.write(f"{counts} in {shown_seconds(seconds)} ({rate:,.0f} events/s)\n")

"""What a check may find."""

from typing import Literal, NamedTuple

Kind = Literal["missing", "extra", "different", "unreadable", "tampered"]


class Finding(NamedTuple):
    """One thing that is wrong: in row ``id`` of a read table, or at position ``id`` of a ledger.

    ``unreadable``: an event cannot be read or believed, so its user's rows cannot be judged.
    """

    user_id: str
    table: str
    id: int
    kind: Kind
    field: str | None
    what: str

    def line(self) -> str:
        """Return it as a line for people. Nothing is at 0: that is about no single row or event."""
        user = self.user_id if self.user_id.isprintable() else ascii(self.user_id)
        where = f" {self.table} {self.id}" if self.id else ""
        field = f" {self.field}" if self.field else ""
        return f"{user}{where}{field}: {self.what}"


class Report(NamedTuple):
    """What there was in a span, how many rows were ``mended``, and what was or is wrong."""

    users: int
    events: int
    rows: int
    mended: int
    findings: list[Finding]

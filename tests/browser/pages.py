"""Reports without a database: honest ones, and ones that somebody changed afterwards."""

from collections.abc import Callable
from datetime import UTC, datetime

from events.ledger import Record
from mcp_server.commands.report import embedded, frame
from mcp_server.evidence.event_line import to_line
from tests.ledgers import Ledger

MADE = datetime(2026, 6, 1, 12, tzinfo=UTC)
Change = Callable[[list[Record]], list[Record]]


def page_of(ledger: Ledger, change: Change = list) -> bytes:
    """Return the report of ``ledger``, with its events changed but not its head."""
    before, after = frame(ledger.user_id, ledger.head, MADE)
    lines = [embedded(to_line(ledger.user_id, record)) for record in change(ledger.records)]
    return before + b"".join(line + b"\n" for line in lines) + after

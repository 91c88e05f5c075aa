"""Reports without a database: honest ones, and ones that somebody changed afterwards."""

from collections.abc import Callable
from datetime import UTC, datetime

from events import merkle
from events.ledger import Head, Record, genesis
from mcp_server.commands.report import embedded, frame
from mcp_server.evidence.checkpoint import NOTHING, Attestation, Statement, leaf, prove
from mcp_server.evidence.event_line import to_line
from mcp_server.evidence.note import PrivateKey
from tests.ledgers import Ledger

MADE = datetime(2026, 6, 1, 12, tzinfo=UTC)
Change = Callable[[list[Record]], list[Record]]


def attested(ledger: Ledger, head: Head, others: int = 4) -> Attestation:
    """Return a checkpoint over ``others`` ledgers and this one, which then ended at ``head``."""
    key = PrivateKey.new("example.org/tasktrail")
    heads = {f"other-{number}": Head(1, bytes(32)) for number in range(others)}
    heads[ledger.user_id] = head
    leaves = [leaf(user, heads[user]) for user in sorted(heads, key=genesis)]
    statement = Statement(
        key.name, len(leaves), merkle.root(leaves), 7, MADE, NOTHING.hash, restored=NOTHING
    )
    note = key.sign(statement.write())
    return Attestation(note, key.public, prove(ledger.user_id, head, leaves))


def page_of(ledger: Ledger, change: Change = list, attestation: Attestation | None = None) -> bytes:
    """Return the report of ``ledger``, with its events changed but not its head."""
    before, after = frame(ledger.user_id, ledger.head, MADE, attestation)
    lines = [embedded(to_line(ledger.user_id, record)) for record in change(ledger.records)]
    return before + b"".join(line + b"\n" for line in lines) + after

"""What ``tasktrail verify`` checks beside the database's chains: bundles, checkpoints, receipts."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from psycopg import AsyncConnection

from events.ledger import Head
from mcp_server.bundle import verify_bundle
from mcp_server.checkpoint_log import verify_checkpoints
from mcp_server.failure import Failure
from mcp_server.note import BadKey, PublicKey
from mcp_server.receipt import check_receipt, read_receipt
from projections.finding import Finding


class BadEvidence(Failure):
    """A key, a receipt or a file that was given cannot be read."""

    exit_code = 2


class Evidence(NamedTuple):
    """What the one who verifies has kept: a public key, receipts of writes, checkpoints."""

    trusted: PublicKey | None
    receipts: list[Head]
    notes: list[str]

    @classmethod
    def read(cls, key: str | None, receipts: Sequence[str], notes: Sequence[Path]) -> Self:
        """Read what was given: a key as text or as a file. Raises: BadEvidence, BadReceipt."""
        try:
            texts = [note.read_text() for note in notes]
        except (OSError, UnicodeDecodeError) as fault:
            raise BadEvidence(f"--checkpoint: {fault}") from None
        return cls(_key(key) if key else None, [read_receipt(text) for text in receipts], texts)


def _key(text: str) -> PublicKey:
    try:
        file = Path(text)
        return PublicKey.read(file.read_text() if file.is_file() else text)
    except (BadKey, OSError, UnicodeDecodeError) as fault:
        raise BadEvidence(f"--key: {fault}") from None


def bundle_findings(file: Path, evidence: Evidence) -> Iterator[Finding]:
    """Yield what is wrong with a bundle."""
    for position, field, what in verify_bundle(file, evidence.trusted, evidence.receipts):
        yield Finding(file.name, "bundle", position, "tampered", field, what)


def database_findings(conninfo: str, user_id: str | None, evidence: Evidence) -> list[Finding]:
    """Return what contradicts the checkpoints and, of one user, the receipts."""
    return asyncio.run(_database_findings(conninfo, user_id, evidence))


async def _database_findings(
    conninfo: str, user_id: str | None, evidence: Evidence
) -> list[Finding]:
    found = []
    async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
        checkpoints = verify_checkpoints(connection, user_id, evidence.trusted, evidence.notes)
        async for user, (position, field, what) in checkpoints:
            user, table = (user, "events") if user else ("all", "checkpoints")
            found.append(Finding(user, table, position, "tampered", field, what))
        if user_id is not None:
            checked = [await check_receipt(connection, user_id, each) for each in evidence.receipts]
            faults = [fault for fault in checked if fault is not None]
            found += [Finding(user_id, "events", at, "tampered", *why) for at, *why in faults]
    return found

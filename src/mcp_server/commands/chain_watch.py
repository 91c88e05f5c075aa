"""Whether a ledger's chain holds, seen in passing by a command that takes the ledger away.

Such a command refuses nothing: what was tampered with is evidence. But it says so.
"""

import sys
from collections.abc import AsyncIterator
from shlex import quote

from events.intact import Watch
from events.ledger import Chain, Finding, Record
from mcp_server.commands.printing import printable
from mcp_server.commands.snapshot import Snapshot


class ChainWatch:
    """A ledger's pages, how many ``events`` were in them, and whether its chain holds."""

    def __init__(self, ledger: Snapshot) -> None:
        self.events = 0
        self._ledger = ledger
        self._watch = Watch(ledger.user_id)

    async def pages(self) -> AsyncIterator[list[Record]]:
        """Yield the events in pages, oldest first. To be read once, and to the end."""
        async for page in self._ledger.pages():
            self._watch.see(page)
            self.events += len(page)
            yield page

    async def told(self) -> int | None:
        """Say on standard error where the chain does not hold; return that position, None if it
        holds. After the pages."""
        if self._watch.holds(self._ledger.head):
            return None
        fault = await self._first_fault()
        if fault is None:
            return None
        user = printable(self._ledger.user_id)
        sys.stderr.write(
            f"tasktrail: the chain of {user} does not hold at position {fault.position}"
            f" ({fault.field}: {fault.what}). What was written is what the database holds;"
            f" `tasktrail verify {quote(user)}` says more.\n"
        )
        return fault.position

    async def _first_fault(self) -> Finding | None:
        """Read the events once more, up to the first thing that is wrong."""
        chain = Chain(self._ledger.user_id)
        async for page in self._ledger.pages():
            for record in page:
                chain.add(record)
                if chain.findings:
                    return chain.findings[0]
        return next(iter(chain.close(self._ledger.head)), None)

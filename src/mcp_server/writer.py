"""Commands of different users that arrive together are written together (mcp_server.groups).

Each has its own outcome, and if a group fails as a whole, each of its commands is sent by itself:
nobody suffers for another's fault.

Nor for another's length. A command of fifty tasks with long descriptions takes seconds; it goes to
a writer of its own, alone (mcp_server.database), so long ones wait for long ones only.

Nor for another's lock. A command whose user's ledger another session holds (another process, an
erasure, a rebuild) is put aside and looked at again soon: neither a connection nor a lock waits.
"""

import asyncio
import random

import psycopg

from events.store import Outcome, Packed, commit
from mcp_server.groups import AT_ONCE, SIZE, Failed, Groups
from mcp_server.pool import Pool

LOCK_SECONDS = 5.0
"""So long a command tries to get its user's lock."""


class Writer:
    """Writes commands, of which no two that are under way may be of the same user."""

    def __init__(self, pool: Pool, at_once: int = AT_ONCE, size: int = SIZE) -> None:
        """``at_once``: groups at most; ``size``: commands in a group at most."""
        self._together = Groups(pool, commit, at_once, size)
        self._alone = Groups(pool, commit, at_once=1, size=1)

    async def commit(self, command: Packed) -> Outcome:
        """Write one command and return what it came to.

        Raises: as the pool does; psycopg.Error: LockNotAvailable after LOCK_SECONDS.
        """
        try:
            try:
                return await _unlocked(self._together, command)
            except Failed as failed:
                if failed.alone or failed.unknown:
                    raise
            return await _unlocked(self._alone, command)
        except Failed as failed:
            raise failed.error from None


async def _unlocked(groups: Groups[Packed, Outcome], command: Packed) -> Outcome:
    """Write one command; try again if the ledger is locked, the later the longer it has been, at
    most 50 ms."""
    start = asyncio.get_running_loop().time()
    while (outcome := await groups.ask(command)).status == "locked":
        waited = asyncio.get_running_loop().time() - start
        if waited > LOCK_SECONDS:
            problem = "another session has held the user's lock all the time"
            raise psycopg.errors.LockNotAvailable(problem)
        pause = random.uniform(0.5, 1) * min(0.05, 0.001 + waited / 4)  # noqa: S311 - no secret
        await asyncio.sleep(pause)
    return outcome

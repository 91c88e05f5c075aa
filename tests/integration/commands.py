"""The shortest way to a history in a real database: a command that appends what a test decides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.draft import Draft
from events.ledger import Json
from mcp_server.database import Database
from mcp_server.handle import Context, handle
from projections.current import Wanted


@dataclass
class Decided:
    """A command whose decision is a function on the draft."""

    decision: Callable[[Draft], Any]
    reads: Wanted = Wanted()  # noqa: RUF009 - immutable
    tool: str = "test"
    reason: str | None = None
    idempotency_key: str | None = None

    def wanted(self) -> Wanted:
        """Say which rows the decision needs."""
        return self.reads

    def decide(self, draft: Draft) -> Json:
        """Decide, and answer with the provisional position of the last event."""
        self.decision(draft)
        return {"position": -len(draft.entries)}

    def request(self) -> Json:
        """Return what makes two requests the same: here, only the key does."""
        return {}


async def act(
    conninfo: str,
    user_id: str,
    decision: Callable[[Draft], Any],
    reads: Wanted | None = None,
    reason: str | None = None,
    idempotency_key: str | None = None,
) -> int:
    """Append what ``decision`` adds for ``user_id``; return the position of its last event."""
    command = Decided(decision, reads or Wanted(), reason=reason, idempotency_key=idempotency_key)
    async with Database(conninfo, size=1) as database:
        answer = await handle(database, command, Context(user_id, "cli"))
    position: int = answer["position"]
    return position

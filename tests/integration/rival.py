"""A server of its own that fights for task 1: run by tests in other processes too.

So it imports little: each of those processes starts anew.
"""

import asyncio
from threading import Barrier

from events.errors import Refused
from events.ledger import Json
from mcp_server.database import Database as Pool
from mcp_server.handle import Context, handle
from mcp_server.tools.tasks import AddTask, UpdateTask

CONTEXT = Context("user-1", "http")


async def win(pool: Pool, name: str, versions: int) -> dict[int, str]:
    """Rename task 1 on top of the latest version until there are so many; return what was won."""
    won: dict[int, str] = {}
    version = 1
    while version < versions:
        wish = UpdateTask(task_id=1, title=f"{name} on {version}", expected_version=version)
        try:
            answer = await handle(pool, wish, CONTEXT)
        except Refused as refusal:
            version = refusal.details["current_version"]  # type: ignore[assignment] # an int
        else:
            version = answer["version"]
            won[version] = answer["title"]
    return won


async def competing(pool: Pool, name: str) -> tuple[dict[int, str], list[Json]]:
    """Fight for task 1, then use keys that the others use too; return what was won, and answers."""
    won = await win(pool, name, 300)
    wishes = [AddTask(title=f"{n}", idempotency_key=f"{n}") for n in range(10)]
    return won, await asyncio.gather(*(handle(pool, wish, CONTEXT) for wish in wishes))


def compete(conninfo: str, name: str, ready: Barrier) -> tuple[dict[int, str], list[Json]]:
    """Do that in a process of one's own, when all are ``ready``."""

    async def work() -> tuple[dict[int, str], list[Json]]:
        async with Pool(conninfo, size=2) as pool:
            ready.wait(60)
            return await competing(pool, name)

    return asyncio.run(work())

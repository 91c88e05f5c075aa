"""A server of its own that fights for task 1: run by tests in other processes too.

So it imports little: each of those processes starts anew.
"""

import asyncio
from threading import Barrier
from typing import NamedTuple

from events.errors import Refused
from events.ledger import Json
from mcp_server.database import Database as Pool
from mcp_server.handle import Context, handle
from mcp_server.tools.tasks import AddTask, UpdateTask

CONTEXT = Context("user-1", "http")


async def win(pool: Pool, name: str, wins: int) -> tuple[dict[int, str], int]:
    """Rename task 1 on top of its latest version so often; return what was won, and losses."""
    won: dict[int, str] = {}
    lost = 0
    version = 1
    while len(won) < wins:
        wish = UpdateTask(task_id=1, title=f"{name} on {version}", expected_version=version)
        try:
            answer = await handle(pool, wish, CONTEXT)
        except Refused as refusal:
            version = refusal.details["current_version"]  # type: ignore[assignment] # an int
            lost += 1
        else:
            version = answer["version"]
            won[version] = answer["title"]
    return won, lost


class Fought(NamedTuple):
    """What one rival won, by version; how often it lost; and answers to keys that all used."""

    won: dict[int, str]
    lost: int
    answers: list[Json]


async def fight(pool: Pool, name: str) -> Fought:
    """Fight for task 1, then use keys that the others use too."""
    won, lost = await win(pool, name, 100)
    wishes = [AddTask(title=f"{n}", idempotency_key=f"{n}") for n in range(10)]
    return Fought(
        won, lost, await asyncio.gather(*(handle(pool, wish, CONTEXT) for wish in wishes))
    )


def compete(conninfo: str, name: str, ready: Barrier) -> Fought:
    """Do that in a process of one's own, when all are ``ready``."""

    async def work() -> Fought:
        async with Pool(conninfo, size=2) as pool:
            async with pool.connection():  # it is there
                ready.wait(60)
            return await fight(pool, name)

    return asyncio.run(work())

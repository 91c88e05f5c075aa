"""How many connections one user may have: places that are taken, waited for and given back."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from events.errors import Refused
from mcp_server import database as databases
from tests.conftest import Database

SIZE, HALF = 6, 3
WAIT = 0.05

Places = Callable[[str], AbstractAsyncContextManager[None]]


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[databases.Database]:
    async with databases.Database(database.app, size=SIZE, wait=WAIT) as opened:
        yield opened


@pytest.fixture(params=["share", "turn"])
def places(request: pytest.FixtureRequest, pool: databases.Database) -> tuple[Places, int]:
    """What gives a user places, and how many it gives."""
    return getattr(pool, request.param), {"share": HALF, "turn": 1}[request.param]


async def how_many(place: Places, user: str) -> int:
    """Return how many places ``user`` can have now."""
    async with AsyncExitStack() as stack:
        for number in range(SIZE + 1):
            try:
                await stack.enter_async_context(place(user))
            except Refused as refusal:
                if refusal.code != "unavailable":
                    raise
                return number
    raise AssertionError("there is no end to them")


async def test_one_user_has_so_many_and_another_as_many(places: tuple[Places, int]) -> None:
    place, most = places
    async with AsyncExitStack() as stack:
        for _ in range(most):
            await stack.enter_async_context(place("ann"))
        assert await how_many(place, "ann") == 0
        assert await how_many(place, "ben") == most
    assert await how_many(place, "ann") == most


async def test_whoever_asks_all_there_is_leaves_connections_for_others(database: Database) -> None:
    """Ann holds what she can get while she asks and changes; ben is still answered."""
    async with databases.Database(database.app, SIZE) as pool, AsyncExitStack() as stack:
        for _ in range(HALF):
            await stack.enter_async_context(pool.share("ann"))
            await stack.enter_async_context(pool.connection())
        await stack.enter_async_context(pool.turn("ann"))
        await stack.enter_async_context(pool.connection())
        assert pool._shares["ann"].locked()
        assert pool._turns["ann"].locked()
        async with pool.share("ben"), pool.connection() as connection:
            cursor = await connection.execute("SELECT 1")
            assert await cursor.fetchone() == (1,)


@pytest.mark.parametrize("steps", range(5))
async def test_who_is_cancelled_takes_no_place_along(
    places: tuple[Places, int], steps: int
) -> None:
    """While it waits, as it is let in, and while it is in."""
    place, most = places
    let_go = asyncio.Event()

    async def stay() -> None:
        async with place("ann"):
            await let_go.wait()

    async def come_and_go() -> None:
        async with place("ann"):
            await asyncio.sleep(0)

    staying = [asyncio.create_task(stay()) for _ in range(most)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(come_and_go()) for _ in range(4)]
    await asyncio.sleep(0)
    let_go.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*staying, *waiting, return_exceptions=True)
    assert all(task.exception() is None for task in waiting[1::2])
    assert await how_many(place, "ann") == most


async def test_what_fails_inside_gives_its_place_back(places: tuple[Places, int]) -> None:
    place, most = places
    for _ in range(most + 1):
        with pytest.raises(ZeroDivisionError):
            async with place("ann"):
                raise ZeroDivisionError
    assert await how_many(place, "ann") == most


async def test_who_is_gone_is_forgotten(pool: databases.Database) -> None:
    for number in range(50):
        async with pool.share(f"user-{number}"), pool.turn(f"user-{number}"):
            pass
    gc.collect()
    assert (len(pool._shares), len(pool._turns)) == (0, 0)

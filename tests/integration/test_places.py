"""How many connections one user may have: places that are taken, waited for and given back."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest
from mcp import MCPError

from events import undo as planning
from events.errors import Refused
from mcp_server import caller
from mcp_server import database as databases
from mcp_server.auth.identity import SCOPES
from mcp_server.handle import Context
from mcp_server.server import TasktrailServer
from mcp_server.tools import undo
from tests.conftest import Database
from tests.mcp.serving import configured

SIZE, HALF = 6, 3


class Places:
    """The places of one kind, ``share`` or ``turn``, and how many each user has."""

    def __init__(self, pool: databases.Database, kind: str) -> None:
        self.most = {"share": HALF, "turn": 1}[kind]
        self._take = getattr(pool, kind)
        self._taken = getattr(pool, f"_{kind}s")

    def one_of(self, user: str) -> AbstractAsyncContextManager[None]:
        place: AbstractAsyncContextManager[None] = self._take(user)
        return place

    def all_taken(self, user: str) -> bool:
        return bool(self._taken[user].locked())

    async def how_many(self, user: str) -> int:
        """Return how many places ``user`` can have now."""
        async with AsyncExitStack() as stack:
            for number in range(1, SIZE):
                await stack.enter_async_context(self.one_of(user))
                if self.all_taken(user):
                    return number
        raise AssertionError("there is no end to them")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[databases.Database]:
    async with databases.Database(database.app, SIZE, wait=60) as opened:
        yield opened


@pytest.fixture(params=["share", "turn"])
def places(request: pytest.FixtureRequest, pool: databases.Database) -> Places:
    return Places(pool, request.param)


async def test_one_user_has_so_many_and_another_as_many(places: Places) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(places.most):
            await stack.enter_async_context(places.one_of("ann"))
        assert places.all_taken("ann")
        assert await places.how_many("ben") == places.most
    assert await places.how_many("ann") == places.most


async def test_who_waits_too_long_is_told_so(database: Database) -> None:
    async with databases.Database(database.app, SIZE, wait=0.05) as pool:
        places = Places(pool, "turn")
        async with places.one_of("ann"):
            with pytest.raises(Refused, match="reached"):
                await places.one_of("ann").__aenter__()
        assert await places.how_many("ann") == places.most


async def test_whoever_asks_all_there_is_leaves_connections_for_others(
    pool: databases.Database,
) -> None:
    """Ann holds what she can get while she asks and changes; ben is still answered."""
    async with AsyncExitStack() as stack:
        for _ in range(HALF):
            await stack.enter_async_context(pool.share("ann"))
            await stack.enter_async_context(pool.connection())
        await stack.enter_async_context(pool.turn("ann"))
        await stack.enter_async_context(pool.connection())
        assert Places(pool, "share").all_taken("ann")
        assert Places(pool, "turn").all_taken("ann")
        async with pool.share("ben"), pool.connection() as connection:
            cursor = await connection.execute("SELECT 1")
            assert await cursor.fetchone() == (1,)


async def test_what_agents_ask_and_change_takes_places(database: Database) -> None:
    async with databases.Database(database.app, SIZE, wait=0.05) as pool:
        server = TasktrailServer(pool, configured(database.app))
        caller.current.set((Context("ann", "http"), frozenset(SCOPES)))

        async def outcome(tool: str, **arguments: object) -> str:
            answer = (await server.call_tool(tool, arguments)).structured_content or {}
            return str(answer.get("code", "ok"))

        assert await outcome("add_task", title="mine") == "ok"
        async with AsyncExitStack() as stack:
            for _ in range(HALF):
                await stack.enter_async_context(pool.share("ann"))
            for tool in ("list_tasks", "list_conversations", "get_history"):
                assert await outcome(tool) == "unavailable"
            assert await outcome("undo", position=1) == "unavailable"
            with pytest.raises(MCPError):
                await server.read_resource("task://1")
            assert await outcome("add_task", title="mine") == "ok"
        async with pool.turn("ann"):
            assert await outcome("add_task", title="mine") == "unavailable"
            assert await outcome("list_tasks") == "ok"
        assert await server.read_resource("task://1")


@pytest.mark.parametrize("steps", range(5))
async def test_who_is_cancelled_takes_no_place_along(places: Places, steps: int) -> None:
    """While it waits, as it is let in, and while it is in."""
    let_go = asyncio.Event()

    async def stay() -> None:
        async with places.one_of("ann"):
            await let_go.wait()

    async def come_and_go() -> None:
        async with places.one_of("ann"):
            await asyncio.sleep(0)

    staying = [asyncio.create_task(stay()) for _ in range(places.most)]
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
    assert await places.how_many("ann") == places.most


async def test_what_fails_inside_gives_its_place_back(places: Places) -> None:
    for _ in range(places.most + 1):
        with pytest.raises(ZeroDivisionError):
            async with places.one_of("ann"):
                raise ZeroDivisionError
    assert await places.how_many("ann") == places.most


async def test_who_is_cancelled_while_an_undo_is_planned_keeps_the_place_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread cannot be stopped, so places given back would let threads pile up."""
    begun, end = threading.Event(), threading.Event()

    def plan(*_: object) -> planning.Undo:
        begun.set()
        end.wait(60)
        return planning.Undo([], [], [])

    monkeypatch.setattr(planning, "plan_undo", plan)
    under_way = asyncio.create_task(undo._planned([], set()))
    await asyncio.to_thread(begun.wait, 60)
    under_way.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not under_way.done()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await under_way


async def test_who_is_gone_is_forgotten(pool: databases.Database) -> None:
    for number in range(50):
        async with pool.share(f"user-{number}"), pool.turn(f"user-{number}"):
            pass
    gc.collect()
    assert (len(pool._shares), len(pool._turns)) == (0, 0)

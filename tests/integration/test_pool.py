"""Connections pass from hand to hand, and none is lost on the way."""

import asyncio
import time
from contextlib import suppress

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from events.errors import Refused
from events.store import Ask
from mcp_server import database as databases
from mcp_server.connection import Connection
from mcp_server.groups import Groups
from mcp_server.pool import Pool
from tests.conftest import Database
from tests.integration.tcp_proxy import proxied

pytestmark = pytest.mark.each_loop


async def _pid(connection: Connection) -> int:
    cursor = await connection.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _opened(database: Database, size: int, wait: float = 5) -> Pool:
    pool = Pool(database.app, size, wait)
    await pool.open()
    return pool


async def _echo(_: Ask, questions: list[str]) -> list[str]:
    return questions


async def test_many_callers_share_few_connections(database: Database) -> None:
    pool = await _opened(database, 2)

    async def call() -> int:
        async with pool.connection() as connection:
            return await _pid(connection)

    pids = await asyncio.gather(*(call() for _ in range(200)))
    assert len(set(pids)) <= 2
    assert [await call() for _ in range(5)]  # and it goes on when nobody waits
    await pool.close()


async def test_no_two_callers_hold_a_connection_at_once(database: Database) -> None:
    pool = await _opened(database, 3)
    held: set[Connection] = set()

    async def call() -> None:
        async with pool.connection() as connection:
            assert connection not in held
            held.add(connection)
            await asyncio.sleep(0)
            held.remove(connection)

    await asyncio.gather(*(call() for _ in range(100)))
    await pool.close()


async def test_a_caller_waits_only_so_long_and_then_others_go_on(database: Database) -> None:
    pool = await _opened(database, 1, wait=0.05)
    async with pool.connection():
        with pytest.raises(PoolTimeout):
            async with pool.connection():
                pass
    async with pool.connection() as connection:
        assert await _pid(connection)
    await pool.close()


@pytest.mark.parametrize("steps", range(4))
async def test_a_cancelled_caller_takes_no_connection_along(database: Database, steps: int) -> None:
    pool = await _opened(database, 1)

    async def call() -> int:
        async with pool.connection() as connection:
            return await _pid(connection)

    waiting = []
    async with pool.connection():
        waiting = [asyncio.create_task(call()) for _ in range(3)]
        await asyncio.sleep(0)
    for _ in range(steps):  # it is cancelled while it waits, at the hand-over, and after it
        await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, call(), return_exceptions=True)
    assert all(isinstance(result, int) for result in results[1:])
    await pool.close()


async def test_a_broken_connection_is_not_passed_on(database: Database) -> None:
    pool = await _opened(database, 1)

    async def call() -> int:
        async with pool.connection() as connection:
            return await _pid(connection)

    async with pool.connection() as connection:
        waiting = asyncio.create_task(call())
        await asyncio.sleep(0)
        end = "SELECT pg_terminate_backend(%s, 5000)"
        with psycopg.connect(database.admin, autocommit=True) as admin:
            admin.execute(end, [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            await _pid(connection)
    assert await waiting
    await pool.close()


async def test_a_statement_answers_anew_each_time(database: Database) -> None:
    pool = await _opened(database, 1)
    async with pool.connection() as connection:
        for value in (1, "one", None, 2**40, 0.5, 7):
            cursor = await connection.execute("SELECT %s AS value", (value,))
            assert await cursor.fetchone() == (value,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("SELECT 1 / %s::int", (0,))
        cursor = await connection.execute("SELECT 1 / %s::int", (1,))
        assert await cursor.fetchone() == (1,)
    await pool.close()


async def test_who_waits_behind_others_that_wait_in_vain_waits_no_longer(
    database: Database,
) -> None:
    pool = await _opened(database, 1, wait=1)

    groups: Groups[str, str] = Groups(pool, _echo, at_once=1, size=1)
    async with pool.connection():
        began = time.monotonic()
        asked = [groups.ask(f"{number}") for number in range(5)]
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - began < 3
    assert {type(each) for each in said} == {PoolTimeout}
    assert await groups.ask("again") == "again"
    await pool.close()


async def test_who_came_later_than_those_ahead_is_not_refused_with_them(
    database: Database,
) -> None:
    pool = await _opened(database, 1, wait=1)

    groups: Groups[str, str] = Groups(pool, _echo, at_once=1, size=9)
    async with pool.connection():
        first = [asyncio.create_task(groups.ask("first"))]
        await asyncio.sleep(0.1)
        first += [asyncio.create_task(groups.ask("second"))]
        await asyncio.sleep(0.7)
        later = asyncio.create_task(groups.ask("later"))
        await asyncio.sleep(0.5)
    said = await asyncio.gather(*first, return_exceptions=True)
    assert {type(each) for each in said} == {PoolTimeout}
    assert await later == "later"
    await pool.close()


async def test_however_long_the_server_was_away_its_return_is_noticed_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 0.1)
    async with proxied(database.app) as (proxy, conninfo):
        there, proxy.upstream = proxy.upstream, ("/nowhere", 1)
        pool = Pool(conninfo, 1, 0.5)
        await pool.open()
        for _ in range(7):  # by now the pauses would have doubled five times
            with pytest.raises(PoolTimeout):
                async with pool.connection():
                    pass
        proxy.upstream = there
        await asyncio.sleep(0.2)
        async with pool.connection() as connection:
            assert await _pid(connection)
        await pool.close()


async def test_nobody_waits_for_idle_connections_on_a_silent_network(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's check takes a cancellation for an answer, and looks at the next connection."""
    monkeypatch.setattr(databases, "CHECKED", 0.1)
    looks = 0

    async def check(_: Pool) -> None:
        nonlocal looks
        while looks < 30:
            looks += 1
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)

    async with databases.Database(database.app) as opened:
        monkeypatch.setattr(Pool, "check", check)
        for _ in range(2):
            with pytest.raises(Refused) as refusal:
                await opened._drop_dead()
            assert refusal.value.code == "unavailable"
        assert looks < 10
        monkeypatch.undo()
        assert opened._checking is not None
        await opened._checking
        await opened._drop_dead()

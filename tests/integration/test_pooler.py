"""Behind a pooler that gives each transaction another connection, nothing is different.

PgBouncer in transaction mode (`apt install pgbouncer`, then `make pooler`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from events.errors import Refused
from mcp_server.database import Database as Pool
from mcp_server.tools.tasks import AddTask
from tests.conftest import THOROUGH, Database, temporary_home
from tests.integration import strangers as strange
from tests.integration.agents import Agent, Inspector
from tests.integration.command_line import Run
from tests.integration.test_isolation import assert_it_was_worth_looking, search
from tests.mcp.serving import configured, serving
from tests.pooler import SERVER_CONNECTIONS, Pooler, pooled

pytestmark = pytest.mark.pooler

CALLS = 20_000 if THOROUGH else 500


@pytest.fixture
def pooler(database: Database) -> Iterator[Pooler]:
    """PgBouncer before the server's login."""
    with temporary_home() as folder, pooled(database.app, folder) as pooler:
        yield pooler


async def test_what_others_have_and_do_changes_no_answer(
    database: Database, pooler: Pooler
) -> None:
    with serving(configured(pooler.conninfo)) as address:
        made, found = await search(database, address, CALLS, strange.USERS if THOROUGH else 3)
    assert found == []
    assert_it_was_worth_looking(made)


async def backends(pool: Pool) -> set[int]:
    """Return the server's processes that many statements at once ran in."""

    async def ask() -> int:
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT pg_backend_pid(), pg_sleep(0.01)")
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

    return set(await asyncio.gather(*(ask() for _ in range(100))))


async def test_each_connection_knows_that_there_is_a_pooler(pooler: Pooler) -> None:
    async with Pool(pooler.conninfo, size=10) as pool:
        assert 1 < len(await backends(pool)) <= SERVER_CONNECTIONS
        for connection in pool._pool._pool._pool:
            assert connection.prepare_threshold is None


async def test_without_a_pooler_each_connection_knows_that_too(database: Database) -> None:
    async with Pool(database.app, size=10) as pool:
        await backends(pool)
        for connection in pool._pool._pool._pool:
            assert connection.prepare_threshold is not None


async def work(agent: Agent, until: asyncio.Event) -> tuple[int, list[str]]:
    """Add tasks with a key each until told; return how many, and the codes of refusals.

    What was refused is tried again with the same key until it is done.
    """
    done = 0
    refusals: list[str] = []
    while not until.is_set():
        wish = AddTask(title="work", idempotency_key=f"key {done}")
        try:
            answer = await agent(wish)
        except Refused as refusal:
            refusals.append(refusal.code)
            await asyncio.sleep(0.05)
            continue
        done += 1
        assert answer["task_id"] == done
    return done, refusals


async def lose_every_connection(database: Database, pooler: Pooler) -> None:
    """Kill the server's processes, then the pooler itself, a few times."""
    for _ in range(6 if THOROUGH else 2):
        await asyncio.sleep(0.7)
        with psycopg.connect(database.admin, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'tasktrail_server'"
            )
        await asyncio.sleep(0.7)
        pooler.stop()
        await asyncio.sleep(0.3)
        pooler.start()


async def test_it_goes_on_after_restarts_under_load(
    database: Database, pooler: Pooler, inspector: Inspector
) -> None:
    over = asyncio.Event()
    async with Pool(pooler.conninfo, size=10) as pool:
        users = [f"user-{number}" for number in range(12)]
        working = [asyncio.create_task(work(Agent(pool, user), over)) for user in users]
        await lose_every_connection(database, pooler)
        await asyncio.sleep(1)
        over.set()
        results = await asyncio.gather(*working)
        for connection in pool._pool._pool._pool:
            assert connection.prepare_threshold is None
    for user, (done, refusals) in zip(users, results, strict=True):
        print(f"{user}: {done} tasks, {len(refusals)} refusals")
        assert done > 20
        assert set(refusals) <= {"unavailable"}
        assert inspector.head(user).position == done
        assert inspector.findings(user) == []


async def test_the_logins_own_limits_hold(database: Database, pooler: Pooler) -> None:
    """docs/settings.md: through a pooler the limits are set on the role."""
    with limited(database, statement_timeout="500ms", lock_timeout="300ms"):
        await see_that_statements_end(pooler)


def test_doctor_says_which_limits_are_missing(
    database: Database, pooler: Pooler, tasktrail: Run
) -> None:
    def problems() -> str:
        return str(tasktrail("doctor", "--json", DATABASE_URL=pooler.conninfo).json["problems"])

    assert "no statement_timeout or lock_timeout or idle_in" in problems()
    assert 'ALTER ROLE "tasktrail_server" SET lock_timeout' in problems()
    with limited(database, statement_timeout="15s", idle_in_transaction_session_timeout="15s"):
        pooler.command("RECONNECT")
        assert "no lock_timeout for" in problems()
    with limited(
        database,
        statement_timeout="15s",
        lock_timeout="5s",
        idle_in_transaction_session_timeout="15s",
    ):
        pooler.command("RECONNECT")
        assert "pooler" not in problems()


@contextmanager
def limited(database: Database, **limits: str) -> Iterator[None]:
    """Set limits on the server's role."""
    with psycopg.connect(database.admin, autocommit=True) as admin:
        for name, value in limits.items():
            admin.execute(f"ALTER ROLE tasktrail_server SET {name} = '{value}'".encode())
        try:
            yield
        finally:
            admin.execute("ALTER ROLE tasktrail_server RESET ALL")


async def see_that_statements_end(pooler: Pooler) -> None:
    pooler.command("RECONNECT")
    async with Pool(pooler.conninfo, size=2) as pool:
        with pytest.raises(Refused) as refusal:
            await pool.read(lambda reader: reader.execute("SELECT pg_sleep(60)"))
        assert refusal.value.code == "unavailable"
        async with pool.connection() as connection:
            cursor = await connection.execute("SHOW lock_timeout")
            assert await cursor.fetchone() == ("300ms",)

"""Rows that are read together for different users are those that each would have found alone."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from events.errors import Refused
from events.store import Ask
from mcp_server import database as databases
from mcp_server.tools.conversations import AddMessage
from mcp_server.tools.tasks import AddTask, CompleteTask
from projections import current
from projections.current import NOTHING_FOUND, Found, Texts, Wanted
from tests.conftest import Database
from tests.integration.agents import Agent

pytestmark = pytest.mark.each_loop

USERS = [f"user-{number}" for number in range(20)]
# Of a user's day below: task 1, completed at 2, conversation 3 with message 4.
WISHES = [
    Wanted(task_ids=(1,)),
    Wanted(task_ids=(1, 7)),
    Wanted(key="used", task_ids=(1,)),
    Wanted(key="not used", task_ids=(7,)),
    Wanted(conversation_ids=(3,)),
    Wanted(conversation_ids=(3, 7), message_ids=(4, 7)),
    Wanted(external=(3, "x-1")),
    Wanted(external=(3, "x-2"), task_ids=(1,)),
    Wanted(external=(7, "x-1")),
    Wanted(cause_conversation=3, cause_message=4),
    Wanted(cause_conversation=7),
    Wanted(cause_message=4, task_ids=(1,)),
    Wanted(cause_message=7, key="used"),
]


async def a_day(pool: databases.Database, user: str) -> None:
    agent = Agent(pool, user)
    await agent(AddTask(title=f"{user}'s"))
    await agent(CompleteTask(task_id=1, idempotency_key="used"))
    await agent(AddMessage(role="user", content=f"{user}'s", external_id="x-1"))


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[databases.Database]:
    async with databases.Database(database.app) as opened:
        await asyncio.gather(*(a_day(opened, user) for user in USERS))
        yield opened


async def alone(pool: databases.Database, user: str, wanted: Wanted) -> Found:
    return await pool.read(lambda connection: current.read(connection, user, wanted))


async def test_each_finds_what_it_would_find_alone(pool: databases.Database) -> None:
    asked = [(user, wanted) for wanted in WISHES for user in (*USERS, "nobody")]
    found = await asyncio.gather(*(pool.find(user, wanted) for user, wanted in asked))
    assert found == [await alone(pool, user, wanted) for user, wanted in asked]


async def test_each_finds_only_its_own(pool: databases.Database) -> None:
    wanted = Wanted(key="used", task_ids=(1,), conversation_ids=(3,), message_ids=(4,))
    users = [*USERS, "nobody", *USERS]  # also one user twice: who only reads has no turn
    for user, found in zip(
        users, await asyncio.gather(*(pool.find(user, wanted) for user in users)), strict=True
    ):
        if user == "nobody":
            assert found == NOTHING_FOUND
        else:
            assert found.tasks[1].title == f"{user}'s"
            assert found.messages[4].content == f"{user}'s"
            assert found.first is not None
            assert found.first.result["title"] == f"{user}'s"


async def test_they_really_are_read_together(
    pool: databases.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = pool._reader._answers

    async def counted(ask: Ask, questions: list[current.Question]) -> list[Texts]:
        sizes.append(len(questions))
        return await read(ask, questions)

    monkeypatch.setattr(pool._reader, "_answers", counted)
    await asyncio.gather(*(pool.find(user, Wanted(task_ids=(1,))) for user in USERS))
    assert sum(sizes) == len(USERS)
    assert len(sizes) < len(USERS) / 2


async def test_nobody_suffers_for_another_s_fault(pool: databases.Database) -> None:
    """What Postgres cannot read fails the whole group; then each is read by itself."""
    users = [*USERS[:7], "no\0body", *USERS[7:]]
    found = await asyncio.gather(
        *(pool.find(user, Wanted(task_ids=(1,))) for user in users), return_exceptions=True
    )
    assert isinstance(found.pop(7), psycopg.DataError)
    assert [each.tasks[1].title for each in found if isinstance(each, Found)] == [
        f"{user}'s" for user in USERS
    ]
    with pytest.raises(psycopg.DataError):
        await pool.find("no\0body", Wanted(task_ids=(1,)))


async def test_what_cannot_be_read_is_its_own_user_s_fault(
    pool: databases.Database, database: Database
) -> None:
    with psycopg.connect(database.admin) as admin:
        doctored = "UPDATE tasktrail.tasks SET created_at = 'infinity' WHERE user_id = 'user-3'"
        admin.execute(doctored)
    found = await asyncio.gather(
        *(pool.find(user, Wanted(task_ids=(1,))) for user in USERS[:8]), return_exceptions=True
    )
    assert isinstance(found.pop(3), ValueError)
    assert all(isinstance(each, Found) and each.tasks for each in found)


async def test_nobody_waits_for_another_s_long_answer(
    pool: databases.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An undo may want hundreds of long messages: it reads them by itself."""
    together = 0
    ask = pool._reader.ask

    async def counted(question: current.Question) -> Texts:
        nonlocal together
        together += 1
        return await ask(question)

    monkeypatch.setattr(pool._reader, "ask", counted)
    many = Wanted(message_ids=tuple(range(1, databases.MANY + 2)))
    assert await pool.find(USERS[0], many) == await alone(pool, USERS[0], many)
    assert not together
    await pool.find(USERS[0], Wanted(message_ids=many.message_ids[1:]))
    assert together


@pytest.mark.parametrize("callers", [1, 20])
async def test_nobody_notices_that_idle_connections_had_died(
    pool: databases.Database, database: Database, callers: int
) -> None:
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    wanted = Wanted(task_ids=(1,))
    found = await asyncio.gather(*(pool.find(user, wanted) for user in USERS[:callers]))
    assert [each.tasks[1].title for each in found] == [f"{user}'s" for user in USERS[:callers]]


async def test_who_waits_for_a_lock_in_vain_is_told_so_with_all_others_not_after_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_LIMITS", "SET lock_timeout = '200ms'")
    async with (
        databases.Database(database.app) as pool,
        await psycopg.AsyncConnection.connect(database.admin) as other,
    ):
        await other.execute("LOCK TABLE tasktrail.tasks")
        finding = [pool.find(user, Wanted(task_ids=(1,))) for user in USERS]
        async with asyncio.timeout(3):  # one after another it would take more than four seconds
            found = await asyncio.gather(*finding, return_exceptions=True)
    assert {each.code for each in found if isinstance(each, Refused)} == {"unavailable"}
    assert len(found) == len(USERS)


async def test_who_reads_all_the_time_leaves_connections_for_others(database: Database) -> None:
    async with databases.Database(database.app, size=1) as pool:
        await asyncio.gather(*(a_day(pool, user) for user in USERS))

        async def reads_on(user: str) -> None:
            while True:
                await pool.find(user, Wanted(task_ids=(1,)))

        reading = [asyncio.create_task(reads_on(user)) for user in USERS]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(4):  # a second before it would be refused
            for _ in range(3):
                async with pool.connection() as connection:
                    await connection.execute("SELECT 1")
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

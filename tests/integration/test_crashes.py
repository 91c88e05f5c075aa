"""Whatever is killed at whatever moment: what was acknowledged is there, once, and all adds up.

TASKTRAIL_THOROUGH=1 kills for minutes (``-s`` shows the figures of docs/reliability.md).
"""

import asyncio
import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from mcp_server.embedded.cluster import acquire
from mcp_server.tools.tasks import AddTask
from tests.integration.agents import Agent, Inspector
from tests.integration.command_line import Run
from tests.integration.faults import (
    Agents,
    Answered,
    Ledger,
    Service,
    Unavailable,
    Wish,
    fill_disk,
    ledgers,
    problems,
)

VICTIMS = ["server", "writing server", "postmaster", "both", "session"]
KILLS = 60 if os.environ.get("TASKTRAIL_THOROUGH") else len(VICTIMS)


def broken_promises(home: Path, agents: Agents) -> list[str]:
    with acquire(home) as cluster:
        found = problems(ledgers(cluster), agents.wishes.values(), agents.answered)
    return found + agents.surprises


def assert_all_adds_up(home: Path, agents: Agents, tasktrail: Run) -> None:
    """Nothing is lost or doubled, every chain verifies, every read table is its ledger's."""
    assert broken_promises(home, agents) == []
    for check in (["verify"], ["rebuild-projections", "--check"]):
        said = tasktrail(*check, TASKTRAIL_HOME=str(home))
        assert said.code == 0, said.out


async def test_whatever_is_killed_what_was_acknowledged_is_there_once(
    home: Path, tasktrail: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    victims = VICTIMS if len(VICTIMS) == KILLS else random.choices(VICTIMS, k=KILLS)
    with Service(home) as service:
        async with Agents(service).at_work() as agents:
            for victim in victims:
                await agents.more(random.randint(20, 200))
                await agents.survive(victim)
    with capsys.disabled():
        print(f"\n{agents.figures()}")
    await asyncio.to_thread(assert_all_adds_up, home, agents, tasktrail)


async def test_on_a_full_disk_calls_are_refused_until_there_is_room_again(
    small_disk: Path, tasktrail: Run
) -> None:
    ballast = small_disk / "ballast"
    with Service(small_disk) as service:
        async with Agents(service).at_work() as agents:
            await agents.more(50)
            await asyncio.to_thread(fill_disk, ballast)
            await agents.failed(30)
            ballast.unlink()
            await agents.more(50)
            await asyncio.to_thread(fill_disk, ballast)
            with suppress(psycopg.OperationalError), service.superuser() as superuser:
                for _ in range(10):  # without room for its log Postgres ends itself
                    superuser.execute("SELECT pg_switch_wal(), txid_current()")
            await agents.failed(10)
            ballast.unlink()
            await agents.more(50)
    await asyncio.to_thread(assert_all_adds_up, small_disk, agents, tasktrail)


async def test_while_postgres_is_away_calls_are_refused_in_time_and_a_key_tells_afterwards(
    home: Path, tasktrail: Run
) -> None:
    with Service(home) as service:
        async with Agents(service).at_work() as agents:
            await agents.more(50)
            with nobody_starts_postgres(home):
                os.kill(service.postmaster(), signal.SIGKILL)
                await agents.failed(1)
                began = time.monotonic()
                refused = await asyncio.gather(
                    *(agents.call("ann", "add_task", {"title": "x"}) for _ in range(20)),
                    agents.call("ben", "update_task", {"task_id": 1, "title": "x"}),
                    agents.call("cem", "list_tasks", {}),
                    return_exceptions=True,
                )
                assert time.monotonic() - began < 60, "it hung"
                assert {type(each) for each in refused} == {Unavailable}
            await agents.more(50)
            for wish, answer in random.sample(agents.answered, 20):
                again = await agents.call(wish.user, wish.tool, wish.call)
                assert again == {**answer, "replayed": True}
    await asyncio.to_thread(assert_all_adds_up, home, agents, tasktrail)


@contextmanager
def nobody_starts_postgres(home: Path) -> Iterator[None]:
    """Hold the lock that whoever starts it has to have."""
    with (home / "postgres.change.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def test_a_key_tells_of_a_change_that_the_server_did_not_live_to_acknowledge(
    home: Path,
) -> None:
    wish = {"title": "x", "idempotency_key": "1"}
    with acquire(home), Service(home) as service:
        agents = Agents(service)
        await agents.insist("ann", "list_tasks", {})
        with service.superuser() as superuser, superuser.transaction():
            superuser.execute("LOCK TABLE tasktrail.tasks IN SHARE MODE")
            unheard = asyncio.create_task(agents.call("ann", "add_task", wish))
            await asyncio.to_thread(until_one_waits, service)
            service.kill("server")
            with pytest.raises(Unavailable):
                await unheard
        again = await agents.insist("ann", "add_task", wish)
        assert again["replayed"]
        assert len((await agents.insist("ann", "list_tasks", {}))["tasks"]) == 1
        await agents.close()


def until_one_waits(service: Service) -> None:
    with service.superuser() as superuser:
        query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not superuser.execute(query).rowcount:
            time.sleep(0.01)


async def test_a_killed_server_leaves_no_worker_and_no_postgres_behind(home: Path) -> None:
    service = Service(home, workers=2)
    service.start()
    agents = Agents(service)
    try:
        await agents.insist("ann", "list_tasks", {})
        assert service.process
        service.process.kill()
        service.process.wait()
        async with asyncio.timeout(20):
            await asyncio.to_thread(until_gone, home / "postgres" / "postmaster.pid")
        with pytest.raises(Unavailable):
            await agents.call("ann", "list_tasks", {})
    finally:
        service.end()
        await agents.close()


def until_gone(file: Path) -> None:
    while file.exists():
        time.sleep(0.05)


async def test_the_questions_afterwards_are_ones_that_can_be_failed(
    agent: Agent, inspector: Inspector
) -> None:
    def wish(key: str, events: int) -> Wish:
        return Wish("user-1", key, "add_task", {}, events)

    await agent(AddTask(title="x", reason="done once", idempotency_key="1"))
    await agent(AddTask(title="x", reason="done twice", idempotency_key="2"))
    await agent(AddTask(title="x", reason="done twice", idempotency_key="3"))
    stored = [Ledger("user-1", inspector.events(), inspector.head())]
    once, twice, never = wish("done once", 1), wish("done twice", 1), wish("never done", 1)
    half = wish("done once", 3)
    assert problems(stored, [once, never], [Answered(once, {"position": 1})]) == []
    assert problems(stored, [twice], []) == ["done twice: 2 events instead of 1"]
    assert problems(stored, [half], []) == ["done once: 1 events instead of 3"]
    assert "lost" in problems(stored, [], [Answered(never, {"position": 4})])[0]
    backwards = [Answered(twice, {"position": 3}), Answered(once, {"position": 1})]
    assert "earlier" in problems(stored, [], backwards)[0]
    without_the_first = [stored[0]._replace(events=stored[0].events[1:])]
    assert problems(without_the_first, [], [])


async def test_the_same_load_shows_a_database_that_acknowledges_too_early(home: Path) -> None:
    service = Service(home, TASKTRAIL_ALLOW_UNSAFE_DATABASE="1")
    with acquire(home), service.superuser() as superuser:
        for setting in (
            "synchronous_commit = off",
            "wal_writer_delay = '10s'",
            "wal_writer_flush_after = '1GB'",
        ):
            superuser.execute(f"ALTER SYSTEM SET {setting}".encode())
    with service:
        async with Agents(service).at_work() as agents:
            await agents.more(50)
            with service.superuser() as superuser:
                superuser.execute("CHECKPOINT")  # what was there before stays
            await agents.more(50)
            await agents.survive("postmaster")
    found = broken_promises(home, agents)
    print(f"\n{agents.figures()}; {sum('lost' in each for each in found)} lost")
    assert any("lost" in each for each in found)

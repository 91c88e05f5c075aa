"""Many at once: on one task, with one key, as two users, in one process and in several.

Callers of one process that share a pool take turns; each pool here stands for a process of its own.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack

import pytest

from events.catalog import decode
from events.errors import Refused
from events.ledger import Json
from events.task import TaskUpdated
from mcp_server.database import Database as Pool
from mcp_server.tools.conversations import AddMessage, CreateConversation
from mcp_server.tools.tasks import AddTask, CompleteTask, DeleteTask, NewTask, UpdateTask
from tests.conftest import Database
from tests.integration.agents import Agent, Inspector
from tests.integration.rival import compete, fight, win


@pytest.fixture
async def pools(database: Database) -> AsyncIterator[list[Pool]]:
    """Five servers of one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Pool(database.app, size=2)) for _ in range(5)]


@pytest.fixture
def agents(pools: list[Pool]) -> list[Agent]:
    """Ten agents of one user, two at each server."""
    return [Agent(pool) for pool in pools * 2]


def titles(inspector: Inspector, user_id: str = "user-1") -> dict[int, str]:
    """Return the title that each version of task 1 gave it."""
    found = {}
    for record in inspector.events(user_id):
        if record.stream_id == 1 and record.body is not None:
            event = decode(record.type, record.schema_version, record.body["data"])
            if isinstance(event, TaskUpdated):
                found[record.version] = event.changes["title"]
    return found


async def test_exactly_one_of_those_who_expect_a_version_wins_it(
    agents: list[Agent], inspector: Inspector
) -> None:
    await agents[0](AddTask(title="Contested"))
    fights = (win(agent.pool, f"{n}", 6) for n, agent in enumerate(agents))
    results, losses = zip(*await asyncio.gather(*fights), strict=True)
    assert sum(losses) > 0
    winners = Counter(version for won in results for version in won)
    assert winners == Counter(range(2, 62))
    assert {version: title for won in results for version, title in won.items()} == titles(
        inspector
    )
    assert inspector.findings() == []


async def test_all_who_expect_no_version_succeed(agents: list[Agent], inspector: Inspector) -> None:
    await agents[0](AddTask(title="Contested"))

    async def rename(agent: Agent, n: int) -> dict[int, str]:
        done = {}
        for m in range(10):
            answer = await agent(UpdateTask(task_id=1, title=f"{n} {m}"))
            done[answer["version"]] = answer["title"]
        return done

    results = await asyncio.gather(*(rename(agent, n) for n, agent in enumerate(agents)))
    assert {version: title for done in results for version, title in done.items()} == titles(
        inspector
    )
    assert inspector.tasks()[1].version == 101
    assert inspector.findings() == []


async def test_one_of_ten_who_complete_a_task_completes_it(
    agents: list[Agent], inspector: Inspector
) -> None:
    await agents[0](AddTask(title="Contested"))
    answers = await asyncio.gather(*(agent(CompleteTask(task_id=1)) for agent in agents))
    assert Counter(answer.get("unchanged", False) for answer in answers) == {True: 9, False: 1}
    assert {answer["version"] for answer in answers} == {2}
    assert len(inspector.events()) == 2


async def test_additions_never_conflict(agents: list[Agent], inspector: Inspector) -> None:
    wishes = [
        agent(AddTask(tasks=[NewTask(title="A"), NewTask(title="B")]))
        for agent in agents
        for _ in range(5)
    ]
    answers = await asyncio.gather(*wishes)
    ids = [task["task_id"] for answer in answers for task in answer["tasks"]]
    assert sorted(ids) == list(range(1, 101))
    assert set(inspector.tasks()) == set(ids)
    assert inspector.findings() == []


async def test_ten_who_repeat_one_key_at_once_have_one_effect(
    agents: list[Agent], inspector: Inspector
) -> None:
    for round_ in range(10):
        wish = AddTask(title="Buy milk", idempotency_key=f"k{round_}")
        answers = await asyncio.gather(*(agent(wish) for agent in agents))
        assert Counter(answer.pop("replayed", False) for answer in answers) == {True: 9, False: 1}
        assert all(answer == answers[0] for answer in answers)
        assert answers[0]["task_id"] == round_ + 1
    assert len(inspector.events()) == 10


async def test_of_two_requests_with_one_key_at_once_one_is_refused(
    agents: list[Agent], inspector: Inspector
) -> None:
    wishes = [AddTask(title=f"Buy {n % 2}", idempotency_key="k") for n in range(len(agents))]
    calls = (agent(wish) for agent, wish in zip(agents, wishes, strict=True))
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Refused)]
    assert [refusal.code for refusal in refused] == ["idempotency_conflict"] * 5
    assert len(inspector.events()) == 1


async def test_an_external_id_sent_by_ten_at_once_is_one_message(
    agents: list[Agent], inspector: Inspector
) -> None:
    await agents[0](CreateConversation())
    wish = AddMessage(conversation_id=1, role="user", content="Hello", external_id="x")
    answers = await asyncio.gather(*(agent(wish) for agent in agents))
    assert {answer["message_id"] for answer in answers} == {2}
    assert len(inspector.events()) == 2


async def live(agent: Agent, canary: str) -> list[Json]:
    """Live a life full of ``canary``; return all answers."""
    answers = []
    for n in range(10):
        added = await agent(AddTask(title=canary, description=canary, tags=[canary]))
        said = await agent(AddMessage(role="user", content=f"{canary} {n}", external_id=canary))
        cause = agent.context._replace(
            conversation_id=said["conversation_id"], message_id=said["message_id"]
        )
        because = Agent(agent.pool, agent.context.user_id)
        because.context = cause
        answers += [
            added,
            said,
            await because(UpdateTask(task_id=added["task_id"], title=f"{canary} {n}")),
            await because(CompleteTask(task_id=added["task_id"], idempotency_key=str(n))),
            await because(CompleteTask(task_id=added["task_id"], idempotency_key=str(n))),
            await agent(DeleteTask(task_id=added["task_id"])),
        ]
    return answers


async def test_two_users_at_once_never_meet(pools: list[Pool], inspector: Inspector) -> None:
    """Their commands alternate on the same few connections, and their ids are the same."""
    shared = pools[0]
    canaries = {"user-1": "canary-one", "user-2": "canary-two", "user-3": "canary-three"}
    lives = (live(Agent(shared, user_id), canary) for user_id, canary in canaries.items())
    answers = dict(zip(canaries, await asyncio.gather(*lives), strict=True))
    for user_id, canary in canaries.items():
        theirs = repr(
            [
                answers[user_id],
                inspector.events(user_id),
                inspector.tasks(user_id),
                inspector.conversations(user_id),
                inspector.messages(user_id),
            ]
        )
        assert canary in theirs
        assert not any(other in theirs for other in set(canaries.values()) - {canary})
        assert inspector.findings(user_id) == []
    assert {inspector.head(user_id).position for user_id in canaries} == {60}


# --- in several processes -----------------------------------------------------------------------


async def test_processes_share_a_ledger(
    database: Database, agent: Agent, inspector: Inspector
) -> None:
    await agent(AddTask(title="Contested"))
    with multiprocessing.get_context("spawn").Manager() as manager:
        ready = manager.Barrier(3)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
            running = [executor.submit(compete, database.app, name, ready) for name in "AB"]
            await asyncio.to_thread(ready.wait, 60)
            here = await fight(agent.pool, "C")
            results = [here, *[await asyncio.wrap_future(future) for future in running]]
    won = [result.won for result in results]
    assert sum(result.lost for result in results) > 0, "they did not compete"
    assert Counter(version for versions in won for version in versions) == Counter(
        range(2, inspector.tasks()[1].version + 1)
    )
    assert {version: title for versions in won for version, title in versions.items()} == titles(
        inspector
    )
    for answers in zip(*(result.answers for result in results), strict=True):
        assert Counter(answer.pop("replayed", False) for answer in answers) == {True: 2, False: 1}
        assert len({answer["task_id"] for answer in answers}) == 1
    assert len(inspector.tasks()) == 11
    assert inspector.findings() == []

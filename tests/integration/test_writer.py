"""Commands that are written together stay as separate as if each had been written alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from events import store
from events.conversation import AddMessage, CreateConversation
from events.draft import Draft
from events.ledger import Json
from events.store import Outcome
from events.task import CompleteTask, CreateTask, Task
from mcp_server import database as databases
from mcp_server import handle
from mcp_server.groups import Failed, Groups
from mcp_server.handle import Context
from mcp_server.pool import Pool
from tests.conftest import Database
from tests.integration.agents import Inspector

pytestmark = pytest.mark.each_loop

NOBODY = handle.actor("test", Context("nobody", "cli"))


def new_task(user: str, title: str = "Buy milk") -> Json:
    draft = Draft()
    draft.change_task(None, CreateTask(title=title))
    return store.seal(user, draft, NOBODY)


def keyed(user: str, title: str) -> Json:
    draft = Draft()
    draft.change_task(None, CreateTask(title=title))
    return store.seal(user, draft, NOBODY, key=store.Key("key", b"\1" * 32, {"title": title}))


def many_tasks(user: str) -> Json:
    """The longest command that there is, nearly."""
    draft = Draft()
    for _ in range(50):
        draft.change_task(None, CreateTask(title="Buy milk", description="milk " * 700))
    return store.seal(user, draft, NOBODY)


def new_chat(user: str) -> Json:
    draft = Draft()
    draft.change_conversation(None, CreateConversation())
    return store.seal(user, draft, NOBODY)


def impossible(user: str) -> Json:
    """A command that Postgres refuses as a whole."""
    return {**new_task(user), "command_id": "no uuid"}


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[databases.Database]:
    async with _connected(database) as opened:
        yield opened


def _connected(of: Database) -> databases.Database:
    return databases.Database(of.app)


async def together(pool: databases.Database, *sealed: Json) -> list[Outcome | BaseException]:
    return await asyncio.gather(*(pool.commit(each) for each in sealed), return_exceptions=True)


def succeeded(outcome: Outcome | BaseException) -> Outcome:
    assert isinstance(outcome, Outcome)
    assert outcome.status == "committed"
    return outcome


async def test_each_has_its_own_outcome(pool: databases.Database) -> None:
    users = [f"user-{number}" for number in range(100)]
    for before in range(3):
        outcomes = await together(pool, *map(new_task, users))
        assert {succeeded(outcome).base for outcome in outcomes} == {before}
        assert len({succeeded(outcome).hash for outcome in outcomes}) == len(users)


async def test_a_conflict_is_one_command_s_own(pool: databases.Database) -> None:
    await together(pool, new_task("a"), new_task("b"))
    stale = Draft()
    task = stale.change_task(None, CreateTask(title="x"))
    stale = Draft({1: task._replace(id=1, version=7)})
    stale.change_task(1, CompleteTask())
    sealed = store.seal("b", stale, NOBODY)
    outcomes = await together(pool, new_task("c"), sealed, new_task("a"), new_task("d"))
    conflict = outcomes.pop(1)
    assert isinstance(conflict, Outcome)
    assert conflict.status == "version_conflict"
    assert [succeeded(outcome).base for outcome in outcomes] == [0, 1, 0]


def mixed(user: str, turn: int) -> list[Json]:
    """All kinds of commands, each twice: with a key the second is a repetition; without one it adds
    more of the same, or conflicts with the first."""
    tasks = Draft()
    for title in ("Buy milk", "buy  MILK", "Walk"):
        tasks.change_task(None, CreateTask(title=title, tags=[user]))
    tasks.similar_to += ["Buy milk", "Walk"]
    chat = Draft()
    talk = chat.change_conversation(None, CreateConversation(title=user))
    chat.change_conversation(talk.id, AddMessage(role="user", content=f"I am {user}."))
    later = Draft({1: Task(id=1, title="Buy milk", version=1, position=1)})
    later.change_task(1, CompleteTask())
    key = store.Key(f"key {turn // 5}", b"request", {"said": user})
    other = key._replace(request_hash=b"another")
    kinds = [(tasks, None), (chat, key), (later, None), (tasks, other), (Draft(), key)]
    draft, key_ = kinds[turn % len(kinds)]
    return [store.seal(user, draft, NOBODY, None, key_) for _ in range(2)]


def told(outcome: Outcome) -> tuple[Any, ...]:
    """What an outcome says, but for the time and what is made of it."""
    return outcome.status, outcome.base, outcome.result, outcome.similar, outcome.conflicts


async def test_together_they_write_what_they_would_alone(
    pool: databases.Database, inspector: Inspector
) -> None:
    """Users of two kinds do the same: some in groups, some each alone."""
    groups = [[f"{kind}-{n}" for n in range(12)] for kind in ("group", "alone")]
    met = set()
    async with pool.connection() as connection:
        for turn in range(10):
            for again in (0, 1):
                sealed = [
                    [store.pack(mixed(user, turn + n)[again]) for n, user in enumerate(users)]
                    for users in groups
                ]
                in_a_group = await store.commit(store.asking(connection), sealed[0])
                alone = [
                    (await store.commit(store.asking(connection), [each]))[0] for each in sealed[1]
                ]
                met |= {(each.status, bool(each.similar)) for each in alone}
                names = str([told(outcome) for outcome in in_a_group])
                assert names.replace("group-", "alone-") == str([told(each) for each in alone])
    statuses = {"committed", "replayed", "idempotency_conflict", "version_conflict"}
    assert {status for status, _ in met} == statuses
    assert ("committed", True) in met
    for one, other in zip(*groups, strict=True):
        assert inspector.findings(one) == inspector.findings(other) == []
        for rows in (inspector.tasks, inspector.conversations, inspector.messages):
            its, others = (
                [without_times(row) for row in rows(user).values()] for user in (one, other)
            )
            assert its
            assert str(its).replace(one, other) == str(others)


def without_times(row: Any) -> Json:
    return {name: value for name, value in row._asdict().items() if not name.endswith("_at")}


async def test_two_commands_of_one_user_cannot_be_written_together(
    pool: databases.Database, inspector: Inspector
) -> None:
    """The second was decided on what was there before the first."""
    commands = [store.pack(new_task(user)) for user in ("ann", "bob", "bob")]
    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            await store.commit(store.asking(connection), commands)
    assert inspector.events("ann") == inspector.events("bob") == []


async def test_nobody_suffers_for_another_s_fault(pool: databases.Database) -> None:
    users = [f"user-{number}" for number in range(20)]
    sealed = [*map(new_task, users)]
    sealed[11] = impossible(users[11])
    outcomes = await together(pool, *sealed)
    assert isinstance(outcomes.pop(11), psycopg.DataError)
    assert {succeeded(outcome).base for outcome in outcomes} == {0}
    again = await together(pool, *map(new_task, users))
    assert [succeeded(outcome).base for outcome in again] == [1] * 11 + [0] + [1] * 8


async def test_what_cannot_even_be_sent_is_its_own_caller_s_fault(pool: databases.Database) -> None:
    users = [f"user-{number}" for number in range(20)]
    sealed = [*map(new_task, users)]
    sealed[11] = {**sealed[11], "key": "\ud800"}
    outcomes = await together(pool, *sealed)
    assert isinstance(outcomes.pop(11), TypeError)
    assert {succeeded(outcome).base for outcome in outcomes} == {0}


async def test_however_many_write_much_at_once_others_do_not_wait_for_them(
    pool: databases.Database, database: Database
) -> None:
    """Long commands, which take longer still here: a lock on the tasks keeps them."""
    async with await psycopg.AsyncConnection.connect(database.admin) as other:
        await other.execute("LOCK TABLE tasktrail.tasks IN SHARE MODE")
        long = []
        for number in range(8):
            long.append(asyncio.create_task(pool.commit(many_tasks(f"long-{number}"))))
            for _ in range(3):  # until a writer that is free has taken it
                await asyncio.sleep(0)
        for before in (0, 1):
            outcomes = await together(pool, *(new_chat(f"short-{n}") for n in range(40)))
            assert {succeeded(outcome).base for outcome in outcomes} == {before}
        assert not any(task.done() for task in long)
        await other.rollback()
        assert all(succeeded(outcome) for outcome in await asyncio.gather(*long))


async def test_a_cancelled_caller_holds_nobody_up(pool: databases.Database) -> None:
    calls = [asyncio.create_task(pool.commit(new_task(f"user-{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        if number % 3:
            succeeded(outcome)


async def test_what_was_cancelled_before_it_was_sent_is_not_sent(
    pool: databases.Database, inspector: Inspector, database: Database
) -> None:
    """Nor is its outcome taken for that of the same user's next command."""
    first = await pool.commit(keyed("a", "Buy milk"))
    locked = psycopg.connect(database.admin)
    locked.execute("LOCK TABLE tasktrail.ledgers")
    others = [asyncio.create_task(pool.commit(new_task(user))) for user in ("x", "y")]
    await asyncio.sleep(0.1)  # both writers are at work
    cancelled = asyncio.create_task(pool.commit(new_task("a", "Buy wine")))
    await asyncio.sleep(0)
    cancelled.cancel()
    repeated = asyncio.create_task(pool.commit(keyed("a", "Buy milk")))
    await asyncio.sleep(0.1)
    locked.close()
    await asyncio.gather(*others)
    assert (await repeated)[:3] == ("replayed", first.base, first.recorded_at)
    assert inspector.rows("SELECT title FROM tasktrail.tasks WHERE user_id = 'a'") == [
        {"title": "Buy milk"}
    ]


@pytest.mark.parametrize("when", ["20000-01-01", "infinity"])
async def test_a_ledger_of_another_age_is_its_own_user_s_fault(
    pool: databases.Database, inspector: Inspector, database: Database, when: str
) -> None:
    """Somebody doctored it: Python cannot hold such a time, and nothing may be written twice."""
    users = [f"user-{number}" for number in range(8)]
    await together(pool, *map(new_task, users))
    with psycopg.connect(database.admin) as admin:
        admin.execute(
            "UPDATE tasktrail.ledgers SET last_recorded_at = %s WHERE user_id = 'user-3'", [when]
        )
    outcomes = await together(pool, *map(new_task, users))
    assert isinstance(outcomes.pop(3), Exception)
    assert {succeeded(outcome).base for outcome in outcomes} == {1}
    counts = inspector.rows("SELECT count(*) FROM tasktrail.tasks GROUP BY user_id ORDER BY 1")
    assert [row["count"] for row in counts] == [1, *[2] * 7]


@pytest.mark.parametrize(
    ("statement", "unknown"),
    [("SELECT '20000-01-01'::timestamptz WHERE %s <> ''", True), ("SELECT 1 / length(%s)", False)],
    ids=["an answer that cannot be read", "a refusal"],
)
async def test_only_what_the_server_refused_is_known_not_to_be_done(
    database: Database, statement: str, unknown: bool
) -> None:
    """So nothing else is ever sent again."""
    opened = Pool(database.app, 1, 5)
    await opened.open()

    async def answers(ask: store.Ask, questions: list[str]) -> list[Any]:
        return await ask(statement, *questions)

    groups = Groups(opened, answers, size=1)
    for _ in range(8):  # the first few on psycopg's way, the others on our own
        with pytest.raises(Failed) as failed:
            await groups.ask("x" if unknown else "")
        assert (failed.value.unknown, failed.value.alone) == (unknown, True)
    await opened.close()


async def test_one_after_another_never_waits_for_company(pool: databases.Database) -> None:
    async with asyncio.timeout(60):
        for base in range(50):
            (outcome,) = await together(pool, new_task("a"))
            assert succeeded(outcome).base == base


async def test_a_dead_server_is_unavailable_to_all_and_then_it_goes_on(
    pool: databases.Database, database: Database
) -> None:
    await together(pool, *(new_task(f"user-{n}") for n in range(20)))
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    outcomes = await together(pool, *(new_task(f"user-{n}") for n in range(20)))
    codes = {getattr(outcome, "code", None) for outcome in outcomes}
    assert codes <= {"unavailable", None}
    for _ in range(10):  # at most ten connections had died
        (outcome,) = await together(pool, new_task("later"))
        if isinstance(outcome, Outcome):
            break
    succeeded(outcome)


async def test_nobody_waits_for_the_first_command_of_somebody_else(
    pool: databases.Database, database: Database
) -> None:
    """Another process is writing it, so that the ledger is being made."""
    array = f"[{store.pack(new_task('newcomer')).text}]"
    async with await psycopg.AsyncConnection.connect(database.app) as other:
        await other.execute(store._COMMIT, (array,))
        stuck = asyncio.create_task(pool.commit(new_task("newcomer")))
        async with asyncio.timeout(4):  # who waits for a lock does so for 5 seconds
            outcomes = await together(pool, *(new_task(f"free-{n}") for n in range(20)))
        assert all(succeeded(outcome) for outcome in outcomes)
        assert not stuck.done()
        await other.commit()
        assert succeeded(await stuck).base == 1


async def test_nobody_waits_for_a_lock_on_somebody_elses_ledger(
    pool: databases.Database, database: Database
) -> None:
    """Two ledgers are locked, one for each writer: the other users' commands end all the same."""
    locked = ["locked-1", "locked-2"]
    await together(pool, *map(new_task, locked))
    async with await psycopg.AsyncConnection.connect(database.admin) as other:
        await other.execute(
            "SELECT FROM tasktrail.ledgers WHERE user_id = ANY(%s) FOR UPDATE", (locked,)
        )
        stuck = [asyncio.create_task(pool.commit(new_task(user))) for user in locked]
        async with asyncio.timeout(10):  # a statement that waits ends after 15 seconds
            for _ in range(3):
                outcomes = await together(pool, *(new_task(f"free-{n}") for n in range(20)))
                assert all(succeeded(outcome) for outcome in outcomes)
        assert not any(task.done() for task in stuck)
        await other.rollback()
        assert all(succeeded(outcome) for outcome in await asyncio.gather(*stuck))

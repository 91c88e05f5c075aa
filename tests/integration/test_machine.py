"""Two users' agents do anything, in any order, again and at once; after each step all of it fits.

What must fit: the log only grew, without gaps; its chain verifies; the read rows are what a naive
fold of the stored JSON gives, and what a rebuild would write; a repeated key returned the first
answer; and each command did what a simple model of its user says.
"""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from events.errors import Refused
from events.ledger import Json, Record
from mcp_server.database import Database as Pool
from mcp_server.handle import Command, handle
from mcp_server.tools.conversations import (
    AddMessage,
    CreateConversation,
    DeleteConversation,
    UpdateMessage,
)
from mcp_server.tools.tasks import AddTask, CompleteTask, DeleteTask, UpdateTask
from mcp_server.tools.undo import Undo
from projections.rebuild import scan
from projections.spans import Span
from tests.conftest import Database
from tests.integration.agents import Agent, Inspector
from tests.naive_fold import Row, Rows, fold
from tests.strategies import DUE, PRIORITY, ROLE, TAGS, TEXT, TITLE

POOLS = 3
PICK = st.integers(0, 20)
USER = st.integers(0, 1)
CONTENT = st.sampled_from(["Hello", "Bye", "line one\nline two"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "title": TITLE,
        "description": TEXT.filter(bool),
        "priority": PRIORITY,
        "due": DUE,
        "tags": TAGS,
    },
)
CLEAR = st.lists(st.sampled_from(["description", "priority", "due", "tags"]), unique=True)
EXPECT = st.sampled_from([None, None, 0, 1])  # how far behind the expected version is


class Workshop:
    """What all runs of the machine share: the database, and three servers of it."""

    def __init__(self, database: Database, inspector: Inspector) -> None:
        self.inspector = inspector
        self.operator = psycopg.connect(database.operator, autocommit=True)
        self.runner = asyncio.Runner()
        self.pools = [Pool(database.app, size=2) for _ in range(POOLS)]
        self.fresh = count(1)
        for pool in self.pools:
            self.runner.run(pool.__aenter__())

    def close(self) -> None:
        for pool in self.pools:
            self.runner.run(pool.__aexit__())
        self.runner.close()
        self.operator.close()


@pytest.fixture
def workshop(database: Database, inspector: Inspector) -> Iterator[Workshop]:
    workshop = Workshop(database, inspector)
    yield workshop
    workshop.close()


class User:
    """One user: the ledger as the last step left it, and the answers to commands with keys."""

    def __init__(self, user_id: str) -> None:
        self.id = user_id
        self.records: list[Record] = []
        self.tasks: Rows = {}
        self.conversations: Rows = {}
        self.messages: Rows = {}
        self.firsts: list[tuple[Any, Json]] = []

    def pick(self, rows: Rows, pick: int) -> int:
        """Return the id of one of ``rows``, or now and then one that nothing has."""
        ids = [*rows, 999]
        return ids[pick % len(ids)]


def refusal(row: Row | None, code: str, behind: int | None = None) -> str | None:
    """Return the code with which a change of ``row`` has to be refused; None if it has not."""
    if row is not None and behind and row["version"] > behind:
        return "version_conflict"
    return code if row is None or row["deleted"] else None


def visible(tasks: Rows, conversations: Rows, messages: Rows) -> list[tuple[Any, ...]]:
    """Return what an agent sees of the rows, without times and versions."""
    fields = ("id", "title", "description", "priority", "due", "tags", "completed")
    return [
        *(tuple(task[name] for name in fields) for task in tasks.values() if not task["deleted"]),
        *((row["id"], row["title"]) for row in conversations.values() if not row["deleted"]),
        *(
            (message["id"], message["content"])
            for message in messages.values()
            if not message["deleted"] and not conversations[message["conversation_id"]]["deleted"]
        ),
    ]


class Life(RuleBasedStateMachine):
    """The steps. ``which`` of the users takes one; ``pick`` chooses among the ids there are."""

    workshop: Workshop

    def __init__(self) -> None:
        super().__init__()
        number = next(self.workshop.fresh)
        self.users = [User(f"{number}-{name}") for name in "ab"]
        self.keys = count(1)

    # --- calling, and looking at what came of it ---

    def send(self, user: User, *commands: Any) -> list[Json | str]:
        """Send ``commands`` at once, each to another server; return answers or refusals' codes."""

        async def one(pool: Pool, command: Any) -> Json | str:
            agent = Agent(pool, user.id)
            try:
                if isinstance(command, Undo):
                    return await command.answer(pool, agent.context)
                return await handle(pool, command, agent.context)
            except Refused as refused:
                return refused.code

        async def all_() -> list[Json | str]:
            pools = self.workshop.pools
            calls = [one(pools[n % POOLS], command) for n, command in enumerate(commands)]
            return await asyncio.gather(*calls)

        return self.workshop.runner.run(all_())

    def do(self, which: int, command: Command, code: str | None, adds: int) -> Json | None:
        """Send one command that has to be refused with ``code``, or to add so many events."""
        user = self.users[which]
        (answer,) = self.send(user, command)
        before = len(user.records)
        self.look(user)
        added = len(user.records) - before
        if isinstance(answer, str):
            assert (answer, added) == (code, 0)
            return None
        assert (code, adds) == (None, added)
        assert answer.get("unchanged", False) == (adds == 0)
        if adds:
            assert answer["position"] == len(user.records)
        if command.idempotency_key:
            user.firsts.append((command, answer))
        return answer

    def look(self, user: User) -> None:
        """Look at a user's ledger and rows; everything has to fit."""
        inspector, before = self.workshop.inspector, user.records
        user.records = inspector.events(user.id)
        if not user.records:
            return
        assert user.records[: len(before)] == before
        assert [record.position for record in user.records] == [*range(1, len(user.records) + 1)]
        versions: dict[tuple[str, int], int] = {}
        for record in user.records:
            stream = (record.stream_type, record.stream_id)
            versions[stream] = versions.get(stream, 0) + 1
            assert record.version == versions[stream]
        assert inspector.findings(user.id) == []
        user.tasks, user.conversations, user.messages = fold(user.records)
        for table in ("tasks", "conversations", "messages"):
            expected: Rows = getattr(user, table)
            columns = ", ".join(next(iter(expected.values()), {"id": 0}))
            query = f"SELECT {columns} FROM tasktrail.{table} WHERE user_id = %s"
            assert {row["id"]: row for row in inspector.rows(query, user.id)} == expected
        assert scan(self.workshop.operator, Span(0, user_id=user.id))[0].findings == []

    def key(self, keyed: bool) -> str | None:
        return f"k{next(self.keys)}" if keyed else None

    # --- tasks ---

    @rule(which=USER, title=TITLE, fields=FIELDS, keyed=st.booleans())
    def add_task(self, which: int, title: str, fields: Json, keyed: bool) -> None:
        open_ = [task for task in self.users[which].tasks.values() if task["status"] == 0]
        command = AddTask.model_validate(
            {**fields, "title": title, "idempotency_key": self.key(keyed)}
        )
        answer = self.do(which, command, None, 1)
        assert answer is not None
        task = self.users[which].tasks[answer["task_id"]]
        same = [one["id"] for one in open_ if one["title_key"] == task["title_key"]]
        assert answer["similar"] == sorted(same, reverse=True)[:10]

    @rule(which=USER, titles=st.lists(TITLE, min_size=1, max_size=4), keyed=st.booleans())
    def add_tasks(self, which: int, titles: list[str], keyed: bool) -> None:
        tasks = [{"title": title} for title in titles]
        command = AddTask.model_validate({"tasks": tasks, "idempotency_key": self.key(keyed)})
        self.do(which, command, None, len(titles))

    @rule(which=USER, pick=PICK, fields=FIELDS, clear=CLEAR, behind=EXPECT, keyed=st.booleans())
    def update_task(
        self, which: int, pick: int, fields: Json, clear: list[str], behind: int | None, keyed: bool
    ) -> None:
        user = self.users[which]
        id_ = user.pick(user.tasks, pick)
        task = user.tasks.get(id_)
        clear = [name for name in clear if name not in fields]
        if not fields and not clear:
            fields = {"title": "Fallback"}
        expected, code = self.expectation(task, behind)
        new = {**fields, **{name: [] if name == "tags" else None for name in clear}}
        changes = task is not None and any(task[name] != value for name, value in new.items())
        command = UpdateTask.model_validate(
            {
                **fields,
                "task_id": id_,
                "clear": clear,
                "expected_version": expected,
                "idempotency_key": self.key(keyed),
            }
        )
        self.do(which, command, code, int(changes))

    def expectation(self, row: Row | None, behind: int | None) -> tuple[int | None, str | None]:
        """Return a version to expect, and the code with which that has to be refused."""
        missing = "not_found" if row is None or row["deleted"] else None
        if behind is None or row is None or row["version"] <= behind:
            return None, missing
        return row["version"] - behind, "version_conflict" if behind else missing

    @rule(which=USER, pick=PICK, completed=st.booleans(), behind=EXPECT, keyed=st.booleans())
    def complete_task(
        self, which: int, pick: int, completed: bool, behind: int | None, keyed: bool
    ) -> None:
        user = self.users[which]
        id_ = user.pick(user.tasks, pick)
        task = user.tasks.get(id_)
        expected, code = self.expectation(task, behind)
        command = CompleteTask(
            task_id=id_,
            completed=completed,
            expected_version=expected,
            idempotency_key=self.key(keyed),
        )
        self.do(which, command, code, int(task is not None and task["completed"] != completed))

    @rule(which=USER, picks=st.sets(PICK, min_size=1, max_size=3), completed=st.booleans())
    def complete_tasks(self, which: int, picks: set[int], completed: bool) -> None:
        user = self.users[which]
        ids = list(dict.fromkeys(user.pick(user.tasks, pick) for pick in picks))
        rows = [user.tasks.get(id_) for id_ in ids]
        code = "not_found" if any(row is None or row["deleted"] for row in rows) else None
        adds = sum(row is not None and row["completed"] != completed for row in rows)
        self.do(which, CompleteTask(task_id=ids, completed=completed), code, adds)

    @rule(which=USER, pick=PICK, behind=EXPECT, keyed=st.booleans())
    def delete_task(self, which: int, pick: int, behind: int | None, keyed: bool) -> None:
        user = self.users[which]
        id_ = user.pick(user.tasks, pick)
        task = user.tasks.get(id_)
        expected, code = self.expectation(task, behind)
        if task is not None and code == "not_found":
            code = None  # deleting twice is a wish that came true
        command = DeleteTask(
            task_id=id_, expected_version=expected, idempotency_key=self.key(keyed)
        )
        self.do(which, command, code, int(task is not None and not task["deleted"]))

    # --- conversations ---

    @rule(which=USER, title=st.none() | TITLE, keyed=st.booleans())
    def create_conversation(self, which: int, title: str | None, keyed: bool) -> None:
        command = CreateConversation(title=title, idempotency_key=self.key(keyed))
        self.do(which, command, None, 1)

    @rule(which=USER, role=ROLE, content=CONTENT, keyed=st.booleans())
    def begin_with_a_message(self, which: int, role: Any, content: str, keyed: bool) -> None:
        command = AddMessage(role=role, content=content, idempotency_key=self.key(keyed))
        self.do(which, command, None, 2)

    @rule(
        which=USER,
        pick=PICK,
        content=CONTENT,
        external_id=st.none() | st.sampled_from(["x", "y"]),
        keyed=st.booleans(),
    )
    def add_message(
        self, which: int, pick: int, content: str, external_id: str | None, keyed: bool
    ) -> None:
        user = self.users[which]
        id_ = user.pick(user.conversations, pick)
        code = refusal(user.conversations.get(id_), "conversation_not_found")
        known = [
            message
            for message in user.messages.values()
            if external_id and not message["deleted"]
            if (message["conversation_id"], message["external_id"]) == (id_, external_id)
        ]
        if known and code is None and known[0]["content"] != content:
            code = "idempotency_conflict"
        command = AddMessage.model_validate(
            {
                "conversation_id": id_,
                "role": "user",
                "content": content,
                "external_id": external_id,
                "metadata": {"temperature": 0.1, "seed": 10**20},
                "idempotency_key": self.key(keyed),
            }
        )
        self.do(which, command, code, 0 if known else 1)

    @rule(which=USER, pick=PICK, content=CONTENT, keyed=st.booleans())
    def update_message(self, which: int, pick: int, content: str, keyed: bool) -> None:
        user = self.users[which]
        id_ = user.pick(user.messages, pick)
        message = user.messages.get(id_)
        code = refusal(message, "message_not_found")
        if message is not None and user.conversations[message["conversation_id"]]["deleted"]:
            code = "message_not_found"
        command = UpdateMessage(message_id=id_, content=content, idempotency_key=self.key(keyed))
        self.do(which, command, code, int(message is None or message["content"] != content))

    @rule(which=USER, pick=PICK, keyed=st.booleans())
    def delete_conversation(self, which: int, pick: int, keyed: bool) -> None:
        user = self.users[which]
        id_ = user.pick(user.conversations, pick)
        conversation = user.conversations.get(id_)
        code = "conversation_not_found" if conversation is None else None
        command = DeleteConversation(conversation_id=id_, idempotency_key=self.key(keyed))
        self.do(which, command, code, int(conversation is not None and not conversation["deleted"]))

    # --- taking back, repeating, and all at once ---

    @precondition(lambda self: self.users[0].records)
    @rule(pick=PICK, force=st.booleans(), keyed=st.booleans())
    def undo_one(self, pick: int, force: bool, keyed: bool) -> None:
        """Whatever it comes to: all of it or nothing."""
        user = self.users[0]
        position = pick % len(user.records) + 1
        code = self.undo(
            user, Undo(position=position, force=force, idempotency_key=self.key(keyed))
        )
        assert code in {None, "undo_conflict", "not_found", "message_not_found"}
        assert not force or code != "undo_conflict"

    @precondition(lambda self: self.users[0].records)
    @rule(pick=PICK, keyed=st.booleans())
    def undo_all_since(self, pick: int, keyed: bool) -> None:
        """What was there then is as it was then, and what was not is gone."""
        user = self.users[0]
        position = pick % len(user.records) + 1
        before = fold(user.records[: position - 1])
        assert self.undo(user, Undo(since=position, idempotency_key=self.key(keyed))) is None
        assert visible(user.tasks, user.conversations, user.messages) == visible(*before)

    def undo(self, user: User, command: Undo) -> str | None:
        """Undo, and return the code if it was refused."""
        (answer,) = self.send(user, command)
        before = len(user.records)
        self.look(user)
        added = [*range(before + 1, len(user.records) + 1)]
        if isinstance(answer, str):
            assert added == []
            return answer
        assert answer["events"] == added
        if command.idempotency_key:
            user.firsts.append((command, answer))
        return None

    @precondition(lambda self: any(user.firsts for user in self.users))
    @rule(pick=PICK, times=st.integers(1, 4))
    def repeat_a_key(self, pick: int, times: int) -> None:
        user = next(user for user in self.users if user.firsts)
        command, first = user.firsts[pick % len(user.firsts)]
        before = len(user.records)
        assert self.send(user, *[command] * times) == [{**first, "replayed": True}] * times
        self.look(user)
        assert len(user.records) == before

    @precondition(lambda self: any(user.firsts for user in self.users))
    @rule(pick=PICK)
    def use_a_key_for_something_else(self, pick: int) -> None:
        user = next(user for user in self.users if user.firsts)
        command, _ = user.firsts[pick % len(user.firsts)]
        other = AddTask(title="Something else", idempotency_key=command.idempotency_key)
        before = len(user.records)
        assert self.send(user, other) == ["idempotency_conflict"]
        self.look(user)
        assert len(user.records) == before

    @rule(which=USER, title=TITLE, times=st.integers(2, 4))
    def send_a_new_key_at_once(self, which: int, title: str, times: int) -> None:
        user, before = self.users[which], len(self.users[which].records)
        command = AddTask(title=title, idempotency_key=self.key(True))
        answers = self.send(user, *[command] * times)
        self.look(user)
        assert len(user.records) == before + 1
        (first,) = (answer for answer in answers if "replayed" not in answer)
        assert isinstance(first, dict)
        again = {**first, "replayed": True}
        assert all(answer in (first, again) for answer in answers)

    @precondition(lambda self: self.users[0].tasks)
    @rule(pick=PICK, times=st.integers(2, 4), expect=st.booleans())
    def change_a_task_at_once(self, pick: int, times: int, expect: bool) -> None:
        """Those who expect the version: exactly one wins. Those who do not: all succeed."""
        user, before = self.users[0], len(self.users[0].records)
        id_ = list(user.tasks)[pick % len(user.tasks)]
        task = user.tasks[id_]
        version = task["version"] if expect else None
        wishes = [
            UpdateTask(task_id=id_, title=f"{before} {n}", expected_version=version)
            for n in range(times)
        ]
        answers = self.send(user, *wishes)
        self.look(user)
        winners = [answer for answer in answers if not isinstance(answer, str)]
        codes = [answer for answer in answers if isinstance(answer, str)]
        assert len(user.records) == before + len(winners)
        if task["deleted"]:
            assert codes == ["not_found"] * times
        elif expect:
            assert codes == ["version_conflict"] * (times - 1)
        else:
            assert codes == []

    def teardown(self) -> None:
        for user in self.users:
            self.look(user)


def test_whatever_they_do_it_fits(workshop: Workshop) -> None:
    machine = type("AnyLife", (Life,), {"workshop": workshop})
    thorough = hypothesis.settings.default.max_examples > 100  # type: ignore[union-attr]
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=100 if thorough else 10,
            stateful_step_count=50 if thorough else 25,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )

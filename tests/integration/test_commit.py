"""commit_commands: one call writes a command whole, in its place, once; or nothing at all."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from events import ledger, store
from events.catalog import TYPES
from events.conversation import CreateConversation as Begin
from events.draft import Draft, Entry
from events.errors import Refused
from events.task import CompleteTask as Complete
from events.task import CreateTask, Task, TaskCompleted, due_moment
from mcp_server.database import Database as Pool
from mcp_server.handle import actor
from mcp_server.tools.conversations import AddMessage, CreateConversation, UpdateMessage
from mcp_server.tools.tasks import AddTask, CompleteTask, DeleteTask, ListTasks, NewTask, UpdateTask
from projections import current
from projections.current import Wanted
from tests.integration.agents import Agent, Inspector


async def a_busy_day(agent: Agent) -> None:
    """Nine commands, eleven events: tasks 1, 3, 4 and 5, conversation 6, messages 7 and 9."""
    await agent(AddTask(title="Buy milk"))
    await agent(UpdateTask(task_id=1, title="Buy oat milk", priority="high", tags=["home"]))
    await agent(AddTask(tasks=[NewTask(title=title) for title in ("A", "B", "C")]))
    await agent(AddMessage(role="user", content="Hello"))
    await agent(CompleteTask(task_id=[1, 3]))
    await agent(AddMessage(conversation_id=6, role="assistant", content="Hi"))


async def commit(pool: Pool, draft: Draft, key: store.Key | None = None) -> store.Outcome:
    return await pool.commit(
        store.seal("user-1", draft, actor("test", Agent(pool).context), key=key)
    )


# --- in its place -------------------------------------------------------------------------------


async def test_positions_and_versions_have_no_gaps(agent: Agent, inspector: Inspector) -> None:
    await a_busy_day(agent)
    events = inspector.events()
    assert [event.position for event in events] == list(range(1, 11))
    streams: dict[tuple[str, int], list[int]] = {}
    for event in events:
        streams.setdefault((event.stream_type, event.stream_id), []).append(event.version)
    assert streams == {
        ("task", 1): [1, 2, 3],
        ("task", 3): [1, 2],
        ("task", 4): [1],
        ("task", 5): [1],
        ("conversation", 6): [1, 2, 3],
    }


async def test_the_hashes_are_those_of_the_format(agent: Agent, inspector: Inspector) -> None:
    await a_busy_day(agent)
    previous = ledger.genesis("user-1")
    for event in inspector.events():
        at = ledger.microseconds(event.recorded_at)
        place = (event.position, event.stream_id, event.version, at)
        previous = ledger.link(previous, event.content_hash, *place)
        assert event.hash == previous
    assert inspector.head() == (10, previous)
    assert inspector.findings() == []


@pytest.mark.parametrize(
    "user_id", ["u", "a" * 255, "usér 買い物 \U0001f6d2", "x' || NULL --", "%s"]
)
async def test_any_subject_has_a_ledger(pool: Pool, inspector: Inspector, user_id: str) -> None:
    agent = Agent(pool, user_id)
    await agent(AddTask(title="Buy milk"))
    assert inspector.findings(user_id) == []
    assert inspector.tasks(user_id)[1].title == "Buy milk"


async def test_the_first_use_creates_the_ledger(agent: Agent, inspector: Inspector) -> None:
    assert inspector.rows("SELECT * FROM tasktrail.ledgers") == []
    answer = await agent(AddTask(title="Buy milk"))
    assert (answer["task_id"], answer["position"], answer["version"]) == (1, 1, 1)
    assert inspector.head().position == 1


async def test_a_refusal_does_not(agent: Agent, inspector: Inspector) -> None:
    with pytest.raises(Refused):
        await agent(CompleteTask(task_id=1))
    assert inspector.rows("SELECT * FROM tasktrail.ledgers") == []


async def test_all_events_of_a_command_have_one_time_and_one_command_id(
    agent: Agent, inspector: Inspector
) -> None:
    await a_busy_day(agent)
    bulk = inspector.events()[2:5]
    assert len({event.recorded_at for event in bulk}) == 1
    assert len({event.command_id for event in bulk}) == 1
    assert len({event.event_id for event in bulk}) == 3
    assert len({event.salt for event in bulk}) == 3
    assert len({event.command_id for event in inspector.events()}) == 6


async def test_the_actor_and_the_reason_are_kept(pool: Pool, inspector: Inspector) -> None:
    talk = await Agent(pool)(AddMessage(role="user", content="Please"))
    agent = Agent(
        pool,
        client_id="web",
        client_name="Assistant",
        client_version="2.1",
        conversation_id=talk["conversation_id"],
        message_id=talk["message_id"],
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    await agent(AddTask(title="Buy milk", reason="she asked"))
    event = inspector.events()[-1]
    assert event.body == {"data": {"title": "Buy milk"}, "reason": "she asked"}
    assert event.actor == {
        "client_id": "web",
        "client_name": "Assistant",
        "client_version": "2.1",
        "tool": "add_task",
        "transport": "http",
        "conversation_id": 1,
        "message_id": 2,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


# --- its time -----------------------------------------------------------------------------------


async def test_recorded_at_is_the_databases_clock(agent: Agent, inspector: Inspector) -> None:
    (before,) = inspector.rows("SELECT clock_timestamp() AS at")
    await agent(AddTask(title="Buy milk"))
    (after,) = inspector.rows("SELECT clock_timestamp() AS at")
    assert before["at"] <= inspector.events()[0].recorded_at <= after["at"]


async def test_recorded_at_never_goes_backwards(agent: Agent, inspector: Inspector) -> None:
    """The clock of the database was set back by a day."""
    await agent(AddTask(title="Before"))
    ahead = datetime.now(UTC).replace(microsecond=123_457) + timedelta(days=1)
    inspector.run("UPDATE tasktrail.ledgers SET last_recorded_at = %s", ahead)
    await agent(AddTask(title="After"))
    await agent(CompleteTask(task_id=2))
    assert [event.recorded_at for event in inspector.events()[1:]] == [ahead, ahead]
    row = inspector.tasks()[2]
    assert row.created_at == row.updated_at == row.completed_at == ahead
    assert inspector.findings() == []


# --- what was provisional -----------------------------------------------------------------------


async def test_a_new_conversation_with_its_first_message(
    agent: Agent, inspector: Inspector
) -> None:
    await agent(AddTask(title="Buy milk"))
    answer = await agent(AddMessage(role="user", content="Hello"))
    assert (answer["conversation_id"], answer["message_id"], answer["position"]) == (2, 3, 3)
    conversation, message = inspector.conversations()[2], inspector.messages()[3]
    recorded_at = inspector.events()[-1].recorded_at
    assert conversation.message_count == 1
    assert (conversation.version, conversation.position) == (2, 3)
    assert (message.conversation_id, message.version, message.position) == (2, 2, 3)
    assert conversation.created_at == message.created_at == recorded_at
    assert datetime.fromisoformat(answer["created_at"]) == recorded_at


async def test_a_bulk_has_ids_in_its_order(agent: Agent, inspector: Inspector) -> None:
    await agent(AddTask(title="Buy milk"))
    answer = await agent(AddTask(tasks=[NewTask(title=title) for title in ("A", "B", "C")]))
    assert [task["task_id"] for task in answer["tasks"]] == [2, 3, 4]
    assert answer["position"] == 4
    assert [row.title for row in inspector.tasks().values()] == [
        "Buy milk",
        "A",
        "B",
        "C",
    ]


async def test_nothing_provisional_is_stored(agent: Agent, inspector: Inspector) -> None:
    await a_busy_day(agent)
    await agent(UpdateMessage(message_id=7, content="Good morning"))
    rows: list[Any] = [*inspector.tasks().values(), *inspector.conversations().values()]
    for row in [*rows, *inspector.messages().values()]:
        values = row._asdict()
        assert min(value for value in values.values() if type(value) is int) >= 0
        times = [value for name, value in values.items() if name.endswith("_at") and value]
        assert {time.year for time in times} == {datetime.now(UTC).year}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "due", ["0001-01-01", "1850-06-01T12:00:00Z", "9999-12-31T23:59:59.999999Z"]
)
async def test_any_due_date_can_be_kept_anywhere(
    agent: Agent, inspector: Inspector, zone: str, due: str
) -> None:
    """In the server's time zone that may be before the year 1, after 9999, or odd seconds off."""
    name = inspector.connection.info.dbname
    inspector.run(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    await agent(AddTask(title="Wait", due=due))
    answer = await agent(CompleteTask(task_id=1))
    assert answer["version"] == 2
    row = inspector.tasks()[1]
    assert (row.due, row.due_at) == (due, due_moment(due))
    listed = await ListTasks(status="completed").answer(agent.pool, agent.context)
    assert [task["due"] for task in listed["tasks"]] == [due]


# --- once ---------------------------------------------------------------------------------------


async def test_a_repeated_key_returns_the_first_answer(agent: Agent, inspector: Inspector) -> None:
    first = await agent(AddTask(title="Buy milk", idempotency_key="k"))
    await agent(UpdateTask(task_id=1, title="Buy bread"))
    before = inspector.everything()
    again = await agent(AddTask(title="Buy milk", idempotency_key="k"))
    assert again == {**first, "replayed": True}
    assert inspector.everything() == before


async def test_a_repeated_key_answers_so_whatever_has_happened_since(
    agent: Agent, inspector: Inspector
) -> None:
    await agent(AddTask(title="Buy milk"))
    wish = CompleteTask(task_id=1, expected_version=1, idempotency_key="k")
    first = await agent(wish)
    await agent(DeleteTask(task_id=1))
    before = inspector.everything()
    assert await agent(wish) == {**first, "replayed": True}
    assert inspector.everything() == before


async def test_a_bulk_and_a_new_conversation_are_replayed_too(agent: Agent) -> None:
    await agent(AddTask(title="A"))
    for wish in (
        AddTask(tasks=[NewTask(title="A"), NewTask(title="B")], idempotency_key="bulk"),
        AddMessage(role="user", content="Hello", idempotency_key="talk"),
    ):
        first = await agent(wish)
        assert await agent(wish) == {**first, "replayed": True}


async def test_another_reason_is_the_same_request(agent: Agent) -> None:
    await agent(AddTask(title="Buy milk", idempotency_key="k", reason="she asked"))
    again = await agent(AddTask(title="Buy milk", idempotency_key="k", reason="a retry"))
    assert again["replayed"]


@pytest.mark.parametrize(
    "other",
    [
        AddTask(title="Buy bread", idempotency_key="k"),
        AddTask(title="Buy milk", priority="low", idempotency_key="k"),
        AddTask(tasks=[NewTask(title="Buy milk")], idempotency_key="k"),
        CreateConversation(title="Buy milk", idempotency_key="k"),
    ],
)
async def test_a_key_for_another_request_is_a_conflict(
    agent: Agent, inspector: Inspector, other: Any
) -> None:
    await agent(AddTask(title="Buy milk", idempotency_key="k"))
    before = inspector.everything()
    with pytest.raises(Refused) as refusal:
        await agent(other)
    assert refusal.value.code == "idempotency_conflict"
    assert inspector.everything() == before


async def test_the_commit_itself_knows_a_used_key(pool: Pool, inspector: Inspector) -> None:
    """Two at once with one key both read that it is new; the lock tells the second."""

    def draft() -> Draft:
        draft = Draft()
        draft.change_task(None, CreateTask(title="Buy milk"))
        return draft

    first = await commit(pool, draft(), store.Key("k", b"request", {"task_id": -1}))
    before = inspector.everything()
    again = await commit(pool, draft(), store.Key("k", b"request", {"task_id": -1}))
    assert (again.status, again.result) == ("replayed", {"task_id": -1})
    assert again.settlement == first.settlement
    other = await commit(pool, draft(), store.Key("k", b"another", {"task_id": -1}))
    assert (other.status, other.result, other.similar) == ("idempotency_conflict", None, None)
    assert inspector.everything() == before


async def test_keys_are_per_user(pool: Pool, inspector: Inspector) -> None:
    for user_id in ("user-1", "user-2"):
        answer = await Agent(pool, user_id)(AddTask(title="Buy milk", idempotency_key="k"))
        assert "replayed" not in answer
        assert inspector.head(user_id).position == 1


async def test_a_refusal_is_not_remembered(agent: Agent) -> None:
    with pytest.raises(Refused):
        await agent(CompleteTask(task_id=1, idempotency_key="k"))
    await agent(AddTask(title="Buy milk"))
    answer = await agent(CompleteTask(task_id=1, idempotency_key="k"))
    assert "replayed" not in answer
    assert answer["position"] == 2


async def test_that_nothing_had_to_be_done_is_remembered(
    agent: Agent, inspector: Inspector
) -> None:
    await agent(AddTask(title="Buy milk"))
    await agent(CompleteTask(task_id=1))
    first = await agent(CompleteTask(task_id=1, idempotency_key="k"))
    assert first["unchanged"]
    await agent(CompleteTask(task_id=1, completed=False))
    assert await agent(CompleteTask(task_id=1, idempotency_key="k")) == {**first, "replayed": True}
    assert not inspector.tasks()[1].completed
    assert inspector.findings() == []


# --- or nothing at all --------------------------------------------------------------------------


async def stale(pool: Pool, *task_ids: int) -> Draft:
    """Return a draft that completes tasks, decided on what is there now."""
    async with pool.connection() as connection:
        found = await current.read(connection, "user-1", Wanted(task_ids=task_ids))
    draft = Draft(found.tasks)
    for task_id in task_ids:
        draft.change_task(task_id, Complete())
    return draft


async def test_a_version_conflict_writes_nothing(
    agent: Agent, pool: Pool, inspector: Inspector
) -> None:
    await agent(AddTask(tasks=[NewTask(title="A"), NewTask(title="B"), NewTask(title="C")]))
    draft = await stale(pool, 1, 2, 3)
    draft.change_task(None, CreateTask(title="D"))
    await agent(UpdateTask(task_id=2, title="B2"))
    await agent(UpdateTask(task_id=2, title="B3"))
    before = inspector.everything()
    outcome = await commit(pool, draft, store.Key("k", b"request", {}))
    assert outcome.status == "version_conflict"
    assert outcome.conflicts == [{"stream_type": "task", "stream_id": 2, "version": 3}]
    assert inspector.everything() == before


async def test_a_conflict_names_every_stream_that_moved_on(
    agent: Agent, pool: Pool, inspector: Inspector
) -> None:
    await agent(AddTask(tasks=[NewTask(title="A"), NewTask(title="B"), NewTask(title="C")]))
    draft = await stale(pool, 1, 2, 3)
    await agent(CompleteTask(task_id=[1, 3]))
    outcome = await commit(pool, draft)
    conflicts = {conflict["stream_id"]: conflict["version"] for conflict in outcome.conflicts or ()}
    assert conflicts == {1: 2, 3: 2}
    assert inspector.findings() == []


async def test_a_stream_that_is_not_there_is_a_conflict(pool: Pool, inspector: Inspector) -> None:
    draft = Draft({7: Task(id=7, title="Never was", version=4, position=9)})
    draft.change_task(7, Complete())
    before = inspector.rows("SELECT * FROM tasktrail.events")
    outcome = await commit(pool, draft)
    assert outcome.conflicts == [{"stream_type": "task", "stream_id": 7, "version": 0}]
    assert inspector.rows("SELECT * FROM tasktrail.events") == before


async def test_a_command_that_fails_halfway_leaves_nothing(
    agent: Agent, pool: Pool, inspector: Inspector
) -> None:
    await agent(AddTask(title="A"))
    draft = Draft()
    draft.change_task(None, CreateTask(title="B"))
    draft.entries.append(Entry("task", 1, 2, TaskCompleted()))
    draft.entries.append(Entry("task", 1, 2, TaskCompleted()))  # the same version twice
    before = inspector.everything()
    with pytest.raises(psycopg.errors.UniqueViolation):
        await commit(pool, draft, store.Key("k", b"request", {}))
    assert inspector.everything() == before


async def test_the_users_expected_version_is_compared_with_the_current_one(
    agent: Agent, inspector: Inspector
) -> None:
    await agent(AddTask(title="A"))
    await agent(UpdateTask(task_id=1, title="B", expected_version=1))
    before = inspector.everything()
    for wish in (
        UpdateTask(task_id=1, title="C", expected_version=1),
        CompleteTask(task_id=1, expected_version=3),
        DeleteTask(task_id=1, expected_version=1),
    ):
        with pytest.raises(Refused) as refusal:
            await agent(wish)
        assert refusal.value.code == "version_conflict"
        assert refusal.value.details == {"current_version": 2}
    assert inspector.everything() == before


# --- whose ------------------------------------------------------------------------------------


async def test_the_user_is_never_taken_from_a_row(
    agent: Agent, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when the server is wrong about whose rows it writes."""
    rows, event = store._rows, store.sealed

    def forged_rows(made: list[Any]) -> list[Any] | None:
        return [{**row, "user_id": "user-2"} for row in rows(made) or []] or None

    def forged_event(*made: Any) -> Any:
        return {**event(*made), "user_id": "user-2"}

    monkeypatch.setattr(store, "_rows", forged_rows)
    monkeypatch.setattr(store, "sealed", forged_event)
    await agent(AddTask(title="A"))
    await agent(AddMessage(role="user", content="Hello"))
    found = inspector.everything()
    assert all(rows for name, rows in found.items() if name != "idempotency")
    assert {row["user_id"] for rows in found.values() for row in rows} == {"user-1"}


async def test_another_users_ids_do_not_exist(pool: Pool, inspector: Inspector) -> None:
    await a_busy_day(Agent(pool))
    before = inspector.everything()
    other = Agent(pool, "user-2")
    for wish, code in (
        (CompleteTask(task_id=1), "not_found"),
        (UpdateTask(task_id=4, title="Mine now"), "not_found"),
        (AddMessage(conversation_id=6, role="user", content="Hi"), "conversation_not_found"),
        (UpdateMessage(message_id=7, content="Hi"), "message_not_found"),
    ):
        with pytest.raises(Refused) as refusal:
            await other(wish)
        assert refusal.value.code == code
        with pytest.raises(Refused) as never_was:
            await Agent(pool, "user-3")(wish)
        assert never_was.value.message == refusal.value.message
    assert inspector.everything() == before


# --- tasks of the same title ----------------------------------------------------------------------


async def test_similar_are_open_tasks_of_the_same_title(agent: Agent) -> None:
    titles = ("Buy milk", "buy  MILK", "Buy milk!", "Buy bread", "BUY MILK", "Buy Milk")
    await agent(AddTask(tasks=[NewTask(title=title) for title in titles]))
    await agent(CompleteTask(task_id=5))
    await agent(DeleteTask(task_id=6))
    assert (await agent(AddTask(title=" Buy milk ")))["similar"] == [2, 1]
    assert (await agent(AddTask(title="Sell milk")))["similar"] == []


async def test_similar_says_nothing_of_the_command_itself(agent: Agent) -> None:
    await agent(AddTask(title="A"))
    answer = await agent(AddTask(tasks=[NewTask(title=title) for title in ("A", "B", "a", "B")]))
    assert [task["similar"] for task in answer["tasks"]] == [[1], [], [1], []]


async def test_similar_are_the_ten_latest(agent: Agent) -> None:
    await agent(AddTask(tasks=[NewTask(title="A")] * 12))
    assert (await agent(AddTask(title="A")))["similar"] == list(range(12, 2, -1))


async def test_similar_in_a_replay_are_those_of_that_time(agent: Agent) -> None:
    await agent(AddTask(title="A"))
    await agent(AddTask(title="A", idempotency_key="k"))
    await agent(AddTask(title="A"))
    await agent(DeleteTask(task_id=1))
    assert (await agent(AddTask(title="A", idempotency_key="k")))["similar"] == [1]


async def test_similar_are_never_another_users(pool: Pool) -> None:
    await Agent(pool, "user-2")(AddTask(title="A"))
    assert (await Agent(pool)(AddTask(title="A")))["similar"] == []


# --- the log and the code -----------------------------------------------------------------------


async def test_every_type_that_is_written_is_in_the_catalog(
    agent: Agent, inspector: Inspector
) -> None:
    await a_busy_day(agent)
    assert {event.type for event in inspector.events()} <= set(TYPES)


async def test_a_conversation_without_a_title(pool: Pool, inspector: Inspector) -> None:
    draft = Draft()
    draft.change_conversation(None, Begin())
    await commit(pool, draft)
    assert inspector.conversations()[1].title is None

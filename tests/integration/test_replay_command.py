"""``tasktrail replay`` and ``diff``: the past as the tools showed it when it was the present."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from events.ledger import Json
from mcp_server.tools.conversations import (
    AddMessage,
    CreateConversation,
    DeleteConversation,
    GetConversationHistory,
    ListConversations,
    UpdateMessage,
)
from mcp_server.tools.tasks import (
    AddTask,
    CompleteTask,
    DeleteTask,
    GetTask,
    ListTasks,
    NewTask,
    UpdateTask,
)
from mcp_server.tools.undo import Undo
from tests.conftest import Database
from tests.integration.agents import Agent
from tests.integration.command_line import Run, Said

Command = Callable[..., Awaitable[Said]]


class Recorded(NamedTuple):
    """What the tools answered when the ledger ended at ``position``, and at that time."""

    position: int
    at: str
    tasks: list[Json]
    each_task: list[Json]
    conversations: list[Json]
    histories: list[Json]


async def look(agent: Agent) -> Recorded:
    """Ask the tools for everything there is."""

    async def answer(question: Any) -> Json:
        answered: Json = await question.answer(agent.pool, agent.context)
        return answered

    tasks = (await answer(ListTasks(limit=100)))["tasks"]
    conversations = (await answer(ListConversations(limit=100)))["conversations"]
    each_task = [await answer(GetTask(task_id=task["id"])) for task in tasks]
    histories = [
        await answer(GetConversationHistory(conversation_id=conversation["id"], limit=200))
        for conversation in conversations
    ]
    moments = [task["position"] for task in each_task]
    return Recorded(max(moments, default=0), "", tasks, each_task, conversations, histories)


STEPS: list[Any] = [
    AddTask(title="Buy milk", due="2026-12-01", tags=["home"]),  # 1
    CreateConversation(title="Shopping"),  # 2
    AddMessage.model_validate(
        {"conversation_id": 2, "role": "user", "content": "Milk!", "metadata": {"n": 1.5}}
    ),  # 3
    AddTask(tasks=[NewTask(title="One", priority="high"), NewTask(title="Two")]),  # 4, 5
    UpdateTask(task_id=1, description="Two litres", clear=["due"]),  # 6
    UpdateMessage(message_id=3, content="Oat milk!"),  # 7
    CompleteTask(task_id=[1, 4]),  # 8, 9
    AddMessage(conversation_id=2, role="assistant", content="Done", external_id="x"),  # 10
    DeleteTask(task_id=5),  # 11
    Undo(position=8),  # 12
    AddMessage(role="user", content="In a new conversation"),  # 13, 14
    Undo(position=10),  # 15
    DeleteConversation(conversation_id=2),  # 16
    Undo(position=16),  # 17
]


@pytest.fixture
async def recorded(agent: Agent) -> list[Recorded]:
    """What the tools answered after each step."""
    answers = []
    for step in STEPS:
        if isinstance(step, Undo):
            done = await step.answer(agent.pool, agent.context)
        else:
            done = await agent(step)
        seen = await look(agent)
        at = await agent.pool.read(_last_moment)
        answers.append(seen._replace(position=done["position"], at=at))
    return answers


async def _last_moment(connection: Any) -> str:
    cursor = await connection.execute(
        "SELECT to_char(l.last_recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        " FROM tasktrail.as_user('user-1') AS u, LATERAL"
        " (SELECT last_recorded_at FROM tasktrail.ledgers WHERE user_id = u) AS l"
    )
    row = await cursor.fetchone()
    return str(row[0])


@pytest.fixture
def run(tasktrail: Run, database: Database) -> Command:
    async def run(command: str, *arguments: str, login: str = "auditor") -> Said:
        url = getattr(database, login)
        return await asyncio.to_thread(tasktrail, command, *arguments, DATABASE_URL=url)

    return run


def without(item: Json, *names: str) -> Json:
    return {name: value for name, value in item.items() if name not in names}


async def test_the_state_is_what_the_tools_showed_then(
    recorded: list[Recorded], run: Command
) -> None:
    for then in recorded:
        by_position = await run("replay", "user-1", "--as-of", str(then.position), "--json")
        state = by_position.json
        assert state["position"] == then.position
        assert state["tasks"] == sorted(
            (without(task, "history") for task in then.each_task), key=lambda task: task["id"]
        )
        item = ("id", "title", "completed", "priority", "due", "tags")
        listed = [{name: task[name] for name in item if name in task} for task in state["tasks"]]
        assert listed[::-1] == then.tasks
        shown = [without(conversation, "messages") for conversation in state["conversations"]]
        newest = sorted(shown, key=lambda conversation: conversation["updated_at"], reverse=True)
        assert newest == then.conversations
        messages = {each["id"]: each["messages"] for each in state["conversations"]}
        for history in then.histories:
            assert messages[history["conversation_info"]["id"]] == history["messages"]
        by_time = await run("replay", "user-1", "--as-of", then.at, "--json")
        assert by_time.json == state


async def test_one_task_and_one_conversation_are_what_their_tools_showed_then(
    recorded: list[Recorded], run: Command
) -> None:
    for then in recorded[::3]:
        at = ("--as-of", str(then.position), "--json")
        for task in then.each_task:
            said = await run("replay", "user-1", "--task", str(task["id"]), *at)
            assert said.json == task
        for history in then.histories:
            id_ = str(history["conversation_info"]["id"])
            said = await run("replay", "user-1", "--conversation", id_, *at)
            assert said.json == without(history, "truncated")


async def test_without_a_moment_it_is_now(recorded: list[Recorded], run: Command) -> None:
    now = await run("replay", "user-1", "--json")
    last = await run("replay", "user-1", "--as-of", str(recorded[-1].position), "--json")
    assert now.json == last.json


async def test_before_the_first_event_there_was_nothing(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    for moment in ("0", "2000-01-01T00:00:00Z"):
        state = (await run("replay", "user-1", "--as-of", moment, "--json")).json
        assert (state["position"], state["tasks"], state["conversations"]) == (0, [], [])


async def test_what_was_deleted_is_shown_when_asked_for(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    state = (await run("replay", "user-1", "--deleted", "--json")).json
    assert [task["id"] for task in state["tasks"] if task["deleted"]] == [5]
    (conversation,) = [each for each in state["conversations"] if each["id"] == 2]
    assert [each.get("deleted") for each in conversation["messages"]] == [None, True]


async def test_people_read_it_too(recorded: list[Recorded], run: Command) -> None:  # noqa: ARG001
    said = await run("replay", "user-1", "--as-of", "9")
    lines = said.out.splitlines()
    assert lines[0] == "user-1 at position 9"
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "[x]"], ["4", "[x]"], ["5", "["]]
    assert lines[4].split() == ["2", "1", lines[4].split()[2], "Shopping"]
    said = await run("replay", "user-1", "--conversation", "2")
    assert "Oat milk!" in said.out
    said = await run("replay", "user-1", "--task", "1")
    assert "Two litres" in said.out


@pytest.mark.parametrize("option", ["--task", "--conversation"])
async def test_what_was_not_there_yet_is_said(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
    option: str,
) -> None:
    said = await run("replay", "user-1", option, "4", "--as-of", "1")
    assert (said.code, said.out) == (1, "")
    assert "at position 1" in said.err


async def test_a_diff_says_field_by_field_what_became_of_each_thing(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    told = (await run("diff", "user-1", "--from", "5", "--to", "12", "--json")).json
    assert (told["from"], told["to"]) == (5, 12)
    assert told["changes"] == [
        {
            "kind": "task",
            "id": 1,
            "what": "changed",  # completed and reopened in between
            "changes": {"description": [None, "Two litres"], "due": ["2026-12-01", None]},
        },
        {"kind": "task", "id": 4, "what": "changed", "changes": {"completed": [False, True]}},
        {"kind": "task", "id": 5, "what": "deleted", "changes": {"deleted": [False, True]}},
        {
            "kind": "message",
            "id": 3,
            "what": "changed",
            "changes": {"content": ["Milk!", "Oat milk!"]},
        },
        {
            "kind": "message",
            "id": 10,
            "what": "created",
            "changes": {
                "role": [None, "assistant"],
                "content": [None, "Done"],
                "external_id": [None, "x"],
            },
        },
    ]


async def test_a_diff_and_the_state_before_give_the_state_after(
    recorded: list[Recorded], run: Command
) -> None:
    """For every two moments, as far as tasks go."""
    for before in recorded[::2]:
        for after in recorded[1::3]:
            if after.position < before.position:
                continue
            moments = ("--from", str(before.position), "--to", str(after.position))
            told = (await run("diff", "user-1", *moments, "--json")).json
            tasks = {task["id"]: dict(task) for task in before.tasks}
            for change in told["changes"]:
                if change["kind"] != "task":
                    continue
                task = tasks.setdefault(
                    change["id"], {"id": change["id"], "completed": False, "tags": []}
                )
                for field, (_, new) in change["changes"].items():
                    task[field] = new
            left = [
                {name: value for name, value in task.items() if value is not None}
                for task in tasks.values()
                if not task.pop("deleted", False)
            ]
            shown = [without(task, "description") for task in left]
            assert sorted(shown, key=lambda task: -task["id"]) == after.tasks


async def test_equal_moments_have_no_differences(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    for moments in (["--from", "7", "--to", "7"], ["--from", "99999"]):
        said = await run("diff", "user-1", *moments, "--json")
        assert (said.code, said.json["changes"]) == (0, [])


async def test_what_came_and_went_in_between_is_told_as_such(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    told = (await run("diff", "user-1", "--from", "4", "--to", "15", "--json")).json
    what = {(each["kind"], each["id"]): each["what"] for each in told["changes"]}
    assert what["task", 5] == "created and deleted"
    assert what["message", 10] == "created and deleted"
    assert what["conversation", 13] == "created"
    (task,) = [each for each in told["changes"] if each["id"] == 5]
    assert task["changes"] == {"title": [None, "Two"], "deleted": [None, True]}
    lines = (await run("diff", "user-1", "--from", "4", "--to", "15")).out.splitlines()
    rows = [line.split() for line in lines[1:]]
    assert ["task", "5", "created", "and", "deleted", "title", "-", "→", "Two"] in rows
    assert ["conversation", "13", "created"] in rows, "it has no title"
    assert not [row for row in rows if row[0] == "deleted"]
    lines = (await run("diff", "user-1", "--from", "10", "--to", "11")).out.splitlines()
    assert [line.split() for line in lines[1:]] == [["task", "5", "deleted"]]


async def test_that_nothing_is_different_is_said(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    said = await run("diff", "user-1", "--from", "8", "--to", "8")
    assert (said.code, said.out) == (0, "user-1 from position 8 to 8\n")
    assert said.err == "tasktrail: nothing is different.\n"


async def test_people_read_a_diff_too(recorded: list[Recorded], run: Command) -> None:  # noqa: ARG001
    said = await run("diff", "user-1", "--from", "5", "--to", "6")
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1] == ["task", "1", "changed", "description", "-", "→", "Two", "litres"]
    assert lines[2] == ["due", "2026-12-01", "→", "-"]


async def test_the_later_moment_comes_second(
    recorded: list[Recorded],  # noqa: ARG001
    run: Command,
) -> None:
    said = await run("diff", "user-1", "--from", "6", "--to", "5")
    assert (said.code, said.out) == (2, "")


async def test_what_was_erased_is_gone_from_the_past_too(
    recorded: list[Recorded],
    run: Command,
    agent: Agent,
) -> None:
    erased = await run("erase", "user-1", "--yes", login="operator")
    assert erased.code == 0
    await agent(AddTask(title="A new beginning"))
    last = recorded[-1].position
    then = await run("replay", "user-1", "--as-of", str(last), "--json")
    assert (then.json["tasks"], then.json["conversations"]) == ([], [])
    assert then.json["erased_through"] == last
    said = await run("replay", "user-1", "--as-of", "3")
    assert said.err == "tasktrail: the content up to position 3 has been erased.\n"
    now = await run("diff", "user-1", "--from", "1", "--json")
    assert [(each["id"], each["what"]) for each in now.json["changes"]] == [(last + 2, "created")]


@pytest.mark.parametrize("command", [["replay"], ["diff", "--from", "1"]])
async def test_a_user_nobody_wrote_for_is_said_in_a_line(run: Command, command: list[str]) -> None:
    said = await run(command[0], "nobody", *command[1:])
    assert (said.code, said.out) == (1, "")
    assert "Nothing was ever written for user 'nobody' in this database" in said.err


@pytest.mark.parametrize("moment", ["tomorrow", "-1", "2026-01-01", "1e3", "99999999999999999999"])
@pytest.mark.parametrize("option", ["replay --as-of", "diff --from", "diff --from 1 --to"])
def test_what_is_no_moment_is_a_usage_error(tasktrail: Run, option: str, moment: str) -> None:
    command, *rest = option.split()
    said = tasktrail(command, "ann", *rest, moment, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (said.code, said.out) == (2, "")

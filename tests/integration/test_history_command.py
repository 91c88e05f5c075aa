"""``tasktrail history``: what happened, with filters, for people and for machines."""

import asyncio
from typing import Any

import pytest

from mcp_server.tools.conversations import AddMessage, CreateConversation, UpdateMessage
from mcp_server.tools.history import GetHistory
from mcp_server.tools.tasks import AddTask, CompleteTask, DeleteTask, UpdateTask
from mcp_server.tools.undo import Undo
from tests.conftest import Database
from tests.integration.agents import Agent
from tests.integration.command_line import Run, Said


@pytest.fixture
async def lived(agent: Agent) -> None:
    """User-1's ledger: a task, a conversation about it, an undo; another user's beside it."""
    desk = agent.context._replace(client_id="desk-app", client_name="Desk", client_version="2")
    await agent(AddTask(title="Buy milk", tags=["home"], reason="Asked for"))  # 1
    await agent(UpdateTask(task_id=1, title="Buy oat milk", reason="Corrected"))  # 2
    await agent(CreateConversation(title="Shopping"))  # 3
    await agent(AddMessage(conversation_id=3, role="user", content="Is it done?"))  # 4
    agent.context = desk._replace(conversation_id=3, message_id=4)
    await agent(CompleteTask(task_id=1))  # 5
    agent.context = desk
    await Undo(position=5, reason="Not yet").answer(agent.pool, agent.context)  # 6
    await agent(UpdateMessage(message_id=4, content="Is it done now?"))  # 7
    await agent(DeleteTask(task_id=1))  # 8
    await Agent(agent.pool, "eve")(AddTask(title="Eve's own"))


@pytest.fixture
def history(tasktrail: Run, database: Database, lived: None) -> Any:  # noqa: ARG001
    async def run(*arguments: str, login: str = "auditor") -> Said:
        url = getattr(database, login)
        return await asyncio.to_thread(tasktrail, "history", "user-1", *arguments, DATABASE_URL=url)

    return run


async def test_it_says_what_get_history_says_oldest_first(history: Any, agent: Agent) -> None:
    told = (await history("--json")).lines
    answer = await GetHistory(limit=200).answer(agent.pool, agent.context)
    more = ("subject", "outcome", "undone_by", "transport", "trace_id")
    shown = [{name: event[name] for name in event if name not in more} for event in told]
    assert shown == answer["events"][::-1]
    assert [event["position"] for event in told] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_each_line_says_what_it_is_about_and_what_became_of_it(history: Any) -> None:
    told = (await history("--json")).lines
    assert [event["outcome"] for event in told] == ["done"] * 4 + ["undone"] + ["done"] * 3
    assert told[4]["undone_by"] == 6
    assert told[5]["undoes"] == 5
    assert told[6]["subject"] == {"kind": "message", "id": 4}
    assert told[6]["changes"] == {"content": ["Is it done?", "Is it done now?"]}
    assert told[0]["transport"] == "http"


@pytest.mark.parametrize(
    ("arguments", "positions"),
    [
        (["--since", "3", "--until", "5"], [3, 4]),
        (["--since", "2000-01-01T00:00:00Z", "--until", "2000-01-02T00:00:00+01:00"], []),
        (["--since", "2000-01-01T00:00:00Z"], [1, 2, 3, 4, 5, 6, 7, 8]),
        (["--until", "0001-01-01T00:00:00Z"], []),
        (["--until", "9007199254740991"], [1, 2, 3, 4, 5, 6, 7, 8]),
        (["--type", "TaskUpdated"], [2]),
        (["--task", "1"], [1, 2, 5, 6, 8]),
        (["--task", "99"], []),
        (["--conversation", "3"], [3, 4, 5, 7]),
        (["--client", "desk-app"], [5, 6, 7, 8]),
        (["--client", "Desk", "--tool", "undo"], [6]),
        (["--reason", "CORRECT"], [2]),
        (["--reason", "%"], []),
        (["--outcome", "undone"], [5]),
        (["--outcome", "erased"], []),
        (["--last", "2"], [7, 8]),
        (["--last", "1", "--task", "1", "--outcome", "done", "--until", "8"], [6]),
    ],
)
async def test_filters(history: Any, arguments: list[str], positions: list[int]) -> None:
    said = await history("--json", *arguments)
    assert [event["position"] for event in said.lines] == positions
    assert (said.code, bool(said.err)) == (0, not positions)


async def test_people_get_a_line_for_each(history: Any) -> None:
    said = await history()
    lines = said.out.splitlines()
    assert len(lines) == 8
    assert "changed title of task 1" in lines[1]
    assert "title: Buy milk → Buy oat milk" in lines[1]
    assert "because: Corrected" in lines[1]
    assert "undone by 6" in lines[4]
    assert "(message 4)" in lines[4]
    assert "Eve" not in said.out


async def test_what_people_wrote_stays_on_its_line(history: Any, agent: Agent) -> None:
    await agent(AddMessage(role="user", content="two\nlines\tand [bold]more"))
    (line,) = (await history("--last", "1")).out.splitlines()
    assert "“two⏎lines and [bold]more”" in line


async def test_what_was_erased_is_told_without_words(
    history: Any, tasktrail: Run, database: Database
) -> None:
    url = {"DATABASE_URL": database.operator}
    erased = await asyncio.to_thread(tasktrail, "erase", "user-1", "--yes", **url)
    assert erased.code == 0
    told = (await history("--json")).lines
    assert [event["outcome"] for event in told] == ["erased"] * 8 + ["done"]
    assert told[1] | {"outcome": "", "at": ""} == {
        **dict.fromkeys(("reason", "conversation_id", "message_id", "trace_id", "client")),
        "position": 2,
        "type": "TaskUpdated",
        "tool": "update_task",
        "transport": "http",
        "what": "erased event",
        "changes": {},
        "subject": told[1]["subject"],
        "outcome": "",
        "at": "",
    }
    assert (await history("--json", "--outcome", "erased", "--last", "1")).lines == told[7:8]
    assert (await history()).code == 0


@pytest.mark.parametrize("form", [[], ["--json"], ["--last", "3"]])
async def test_that_nothing_matches_is_said(history: Any, form: list[str]) -> None:
    said = await history("--reason", "no such words", *form)
    assert (said.code, said.out, said.err) == (0, "", "tasktrail: no event matches.\n")
    said = await history("--task", "1", "--reason", "no such words", *form)
    assert (said.code, said.out, said.err) == (0, "", "tasktrail: no event matches.\n")
    said = await history("--task", "999", *form)
    assert (said.code, said.out, said.err) == (0, "", "tasktrail: there never was a task 999.\n")


def test_a_user_nobody_wrote_for_is_said_in_a_line(tasktrail: Run, database: Database) -> None:
    said = tasktrail("history", "nobody", DATABASE_URL=database.auditor)
    assert (said.code, said.out) == (1, "")
    assert "Nothing was ever written for user 'nobody' in this database" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--until", "2026-01-01T00:00:00"],
        ["--type", "TaskForgotten"],
        ["--task", "0"],
        ["--task", "1", "--conversation", "3"],
        ["--outcome", "refused"],
        ["--last", "0"],
        ["--no-such-option"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(tasktrail: Run, arguments: list[str]) -> None:
    said = tasktrail("history", "ann", *arguments, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (said.code, said.out) == (2, "")


@pytest.mark.parametrize("user", ["", " ann", "tasktrail:everybody", "a" * 256, "a\nb", "e\u0301"])
def test_a_name_that_no_user_can_have_is_a_usage_error(tasktrail: Run, user: str) -> None:
    said = tasktrail("history", user, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (said.code, said.out) == (2, "")

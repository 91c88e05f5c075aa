"""``tasktrail replay``: one user's tasks and conversations as they were at a moment.

They are what the tools showed then. Each is folded on its own (projections.past) and printed before
the next one, so memory does not grow with the ledger.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

import orjson
import typer

from events.conversation import Message
from events.ledger import Json
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import MOMENT, UserId, given, moment, shown_moment, whole_number
from mcp_server.commands.printing import Column, JsonObject, Rows, pages, printable
from mcp_server.commands.recording import Access, remark_on_erasure
from mcp_server.commands.snapshot import Snapshot, position_at
from mcp_server.failure import Failure
from mcp_server.tools import conversations as conversation_tools
from mcp_server.tools import tasks as task_tools
from mcp_server.tools.history import line as history_line
from projections import past
from projections.history import Moment
from projections.past import State

TASK_COLUMNS = (
    Column("task", 8, number=True),
    Column("done", 4),
    Column("due", 20),
    Column("priority", 8),
    Column("title"),
)
CONVERSATION_COLUMNS = (
    Column("conversation", 12, number=True),
    Column("messages", 8, number=True),
    Column("updated", 27),
    Column("title"),
)
MESSAGE_COLUMNS = (
    Column("message", 8, number=True),
    Column("at", 27),
    Column("role", 9),
    Column("content"),
)


class NothingThere(Failure):
    """There was no such task or conversation at that moment."""


def replay(
    user: UserId,
    as_of: Annotated[str | None, typer.Option(help=f"The moment: {MOMENT}. Default: now.")] = None,
    task: Annotated[int | None, whole_number("Only this task, whole.")] = None,
    conversation: Annotated[
        int | None, whole_number("Only this conversation, with its messages.")
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="What was deleted, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    if task is not None and conversation is not None:
        raise typer.BadParameter("give --task or --conversation, not both", param_hint="'--task'")
    at = moment(as_of, "--as-of")
    options = {"task": task, "conversation": conversation, "deleted": deleted or None}
    filters = given({"as_of": shown_moment(at), **options})
    with target.opened(settings.read()) as database:
        asyncio.run(_replay(database, user, at, filters, as_json))


async def _replay(
    database: target.Target, user: str, at: Moment | None, filters: Json, as_json: bool
) -> None:
    looked = Access("replay", filters)
    async with recording.opened(database, user, looked) as ledger:
        position = await position_at(ledger, at)
        await recording.record(database, user, looked._replace(first=1, last=position))
        earlier = _Past(ledger, position, filters.get("deleted", False))
        if "task" in filters:
            _print_task(await earlier.task(filters["task"]), as_json)
        elif "conversation" in filters:
            await _print_conversation(earlier, filters["conversation"], as_json)
        elif as_json:
            await _print_json(earlier)
        else:
            await _print_all(earlier)


class _Past(NamedTuple):
    """A ledger at a position; ``deleted``: with what was deleted by then."""

    ledger: Snapshot
    position: int
    deleted: bool

    def states(self, kind: past.Kind, id_: int | None = None) -> AsyncIterator[State]:
        """Yield the states of all tasks or conversations, or of one."""
        ledger = self.ledger
        return past.states(ledger.connection, ledger.user_id, kind, self.position, id_)

    async def tasks(self) -> AsyncIterator[Json]:
        """Yield the tasks, by id, as get_task shows them."""
        async for state in self.states("task"):
            for task in state.tasks.values():
                if self.deleted or not task.deleted:
                    yield task_tools.whole(task)

    async def task(self, id_: int) -> Json:
        """Return one task, deleted or not, as get_task shows it. Raises: NothingThere."""
        ledger = self.ledger
        task = await task_tools.task_at(ledger.connection, ledger.user_id, id_, self.position)
        if task is None:
            raise NothingThere(f"There was no task {id_} at position {self.position}.")
        return task

    async def conversations(self, id_: int | None = None) -> AsyncIterator[tuple[Json, list[Json]]]:
        """Yield the conversations, by id, each with its messages, as the tools show them."""
        async for state in self.states("conversation", id_):
            for conversation in state.conversations.values():
                if self.deleted or not conversation.deleted:
                    messages = state.messages.values()
                    shown = [
                        _message(each) for each in messages if self.deleted or not each.deleted
                    ]
                    yield conversation_tools.conversation_item(conversation), shown


def _message(message: Message) -> Json:
    shown = conversation_tools.message_item(message)
    return {**shown, "deleted": True} if message.deleted else shown


def _print_task(task: Json, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps(task).decode() + "\n")
        return
    changes = task.pop("history")
    for name, value in task.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        text = "-" if value in (None, []) else text
        sys.stdout.write(f"{name:<12}  {printable(text)}\n")
    for change in changes:
        sys.stdout.write(f"{'change':<12}  {printable(history_line(change))}\n")


async def _print_conversation(earlier: _Past, id_: int, as_json: bool) -> None:
    async for conversation, messages in earlier.conversations(id_):
        if as_json:
            del conversation["message_count"]
            told = {"messages": messages, "conversation_info": conversation}
            sys.stdout.write(orjson.dumps(told).decode() + "\n")
            return
        sys.stdout.write(f"{conversation['id']}  {printable(conversation['title'] or '-')}\n")
        Rows(MESSAGE_COLUMNS).add(
            [str(each["id"]), each["created_at"], each["role"], printable(each["content"])]
            for each in messages
        )
        return
    hint = "" if earlier.deleted else " If it had been deleted by then, --deleted shows it."
    raise NothingThere(f"There was no conversation {id_} at position {earlier.position}.{hint}")


async def _print_json(earlier: _Past) -> None:
    erased = await past.erased_through(earlier.ledger.connection, earlier.ledger.user_id)
    about = {"user": earlier.ledger.user_id, "position": earlier.position}
    with JsonObject(**about, erased_through=erased or None) as written:
        written.array("tasks")
        async for task in earlier.tasks():
            written.item(task)
        written.end_array()
        written.array("conversations")
        async for conversation, messages in earlier.conversations():
            written.item({**conversation, "messages": messages})
        written.end_array()


async def _print_all(earlier: _Past) -> None:
    ledger = earlier.ledger
    sys.stdout.write(f"{ledger.user_id} at position {earlier.position}\n")
    await remark_on_erasure(ledger, earlier.position)
    tasks = Rows(TASK_COLUMNS)
    async for page in pages(earlier.tasks()):
        tasks.add(_task_row(task) for task in page)
    conversations = Rows(CONVERSATION_COLUMNS)
    async for found in pages(earlier.conversations()):
        conversations.add(_conversation_row(conversation) for conversation, _ in found)


def _task_row(task: Json) -> list[str]:
    mark = "[x]" if task["completed"] else "[ ]"
    tags = "".join(f"  #{tag}" for tag in task["tags"])
    title = task["title"] + tags + ("  (deleted)" if task["deleted"] else "")
    return [
        *(str(task["id"]), mark, task.get("due", "-"), task.get("priority", "-")),
        printable(title),
    ]


def _conversation_row(conversation: Json) -> list[str]:
    title = (conversation["title"] or "-") + ("" if conversation["is_active"] else "  (deleted)")
    return [
        *(str(conversation["id"]), str(conversation["message_count"]), conversation["updated_at"]),
        printable(title),
    ]

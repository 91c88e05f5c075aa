"""Tasks with a tag are the same whether they are near, or have to be looked up by its words."""

from itertools import cycle, islice, product

import pytest

from events.store import Connection
from events.task import Task
from mcp_server.database import Database
from mcp_server.handle import Context, handle
from mcp_server.tools.tasks import AddTask, CompleteTask, DeleteTask, NewTask
from projections import tasks
from projections.tasks import Filter, Key, Sort

TAGS = [
    "home",
    "Home",
    "home office",
    "office",
    "2026",
    "買い物",
    "買い物 2",
    "é1",
    "!?",
    "a-b",
    "🔥",
]
SORTS: tuple[Sort, ...] = ("created", "updated", "due", "priority")
ALICE = Context("alice", "cli")


@pytest.mark.parametrize("near", [1, 7, 400])
async def test_a_tag_is_found_near_and_far(
    pool: Database, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(tasks, "NEAR", near)
    await handle(pool, AddTask(tasks=_forty()), ALICE)
    await handle(pool, CompleteTask(task_id=list(range(1, 40, 3))), ALICE)
    await handle(pool, DeleteTask(task_id=list(range(2, 40, 5))), ALICE)
    async with pool.connection() as reader:
        for sort, deleted in product(SORTS, (False, True)):
            nothing_said = Filter(deleted=deleted)
            everything = await tasks.list_tasks(reader, "alice", nothing_said, sort, 100)
            for tag in TAGS:
                filter_ = nothing_said._replace(tag=tag)
                wanted = [one for one in everything if tasks.matches(one[0], filter_)]
                assert await tasks.list_tasks(reader, "alice", filter_, sort, 100) == wanted
                assert await _in_pages_of_two(reader, filter_, sort) == wanted


async def _in_pages_of_two(
    reader: Connection, filter_: Filter, sort: Sort
) -> list[tuple[Task, Key]]:
    found: list[tuple[Task, Key]] = []
    while part := await tasks.list_tasks(
        reader, "alice", filter_, sort, 2, found[-1][1] if found else None
    ):
        found += part
    return found


def _forty() -> list[NewTask]:
    """Tasks with one tag or two; some titles hold the words of a tag that they do not have."""
    first, second = cycle(TAGS), cycle(TAGS[:7])
    due = cycle(["2026-12-01", None, "2027-01-01"])
    return [
        NewTask(
            title=f"At home {number}", tags=[one] if number % 2 else sorted({one, two}), due=day
        )
        for number, one, two, day in islice(zip(range(40), first, second, due, strict=False), 40)
    ]

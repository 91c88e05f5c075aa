"""Tasks as they were at some moment: replayed from the ledger, then chosen and sorted as the
database would have done it, had it stopped then.

A ledger may be long, so all of it goes in small steps: between two of them others are served.
"""

import asyncio
import heapq
from collections.abc import Sequence

from events.replay import Replay
from events.store import Connection
from events.task import Task
from projections import history
from projections import tasks as rows
from projections.tasks import Filter, Key, Sort

STEP = 500

Keyed = tuple[Task, Key]


async def tasks_at(
    connection: Connection, user_id: str, moment: history.Moment, *, described: bool
) -> list[Task]:
    """Return all tasks as they were after ``moment``, deleted ones too.

    Unless they shall be ``described``, descriptions are forgotten: they are most of the memory.
    """
    until = await history.position_at(connection, user_id, moment)
    replay = Replay()
    async for page in history.task_events(connection, user_id, until):
        for event in page:
            replay.add_data(*event)
            task = replay.tasks.get(event[3])
            if task is not None and not described:
                replay.tasks[event[3]] = task._replace(description=None)
    return list(replay.tasks.values())


async def page_of(
    connection: Connection,
    tasks: Sequence[Task],
    filter_: Filter,
    sort: Sort,
    limit: int,
    after: Key | None = None,
) -> list[Keyed]:
    """Return what ``rows.list_tasks`` would, of ``tasks``."""
    first = heapq.nsmallest if sort == "due" else heapq.nlargest
    best: list[Keyed] = []
    for start in range(0, len(tasks), STEP):
        chosen = [task for task in tasks[start : start + STEP] if rows.matches(task, filter_)]
        found = await _found(connection, chosen, filter_.query)
        keyed = [(task, rows.sort_key(task, sort, in_title)) for task, in_title in found]
        if after is not None:
            keyed = [one for one in keyed if (one[1] > after) is (sort == "due")]
            keyed = [one for one in keyed if one[1] != after]
        best = first(limit, best + keyed, key=lambda one: one[1])
    return best


async def _found(
    connection: Connection, tasks: list[Task], query: str | None
) -> list[tuple[Task, bool]]:
    """Return those of ``tasks`` that ``query`` finds, and whether in the title."""
    if query is None:
        await asyncio.sleep(0)
        return [(task, False) for task in tasks]
    in_title = await rows.search(connection, tasks, query)
    return [(task, in_title[task.id]) for task in tasks if task.id in in_title]

"""Does it matter how much a user has? And are others held up by a question about a long past?

- pages: for a user with 100 tasks and one with 100,000 of the same kinds, among thousands with two,
  in the same process, in turns: list_tasks in each order, its first page and one far behind, with
  filters, and searching; a task with its history, and the history.
- others: the calls of some users over HTTP, to one process: alone, and while another user asks for
  the past of a ledger of more than 100,000 events (``as_of``), or rehearses an undo.
"""

import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from functools import partial
from typing import Annotated, Any

import psycopg
import typer

from bench import endpoint, server
from bench.commit import event_loop
from bench.endpoint import Endpoint
from bench.measure import percentile
from bench.server import Server
from bench.wire import MODERN, Wire
from events.ledger import Json
from events.task import Task
from mcp_server.database import Database
from mcp_server.handle import Context, handle
from mcp_server.server import Answering
from mcp_server.tools.arguments import pack
from mcp_server.tools.history import GetHistory
from mcp_server.tools.tasks import AddTask, CompleteTask, GetTask, ListTasks, NewTask
from mcp_server.tools.undo import Undo
from projections import tasks as rows

SMALL, BIG = "small", "big"
SMALLEST = 2000
TURNS = 4
"""What others are timed beside takes turns, so that a noisy neighbour meets all of it."""
OTHERS = 8
"""So many users call all the time; each waits up to 40 ms between two calls."""

FAR = {
    "created": "id DESC",
    "updated": "position DESC",
    "due": "due_order, id",
    "priority": "urgency DESC, id DESC",
}
SOON: Json = {"due_after": "2027-03-01", "due_before": "2027-03-11"}
PAGES: dict[str, Json] = {
    **{sort: {"sort": sort} for sort in FAR},
    "pending": {"status": "pending"},
    "completed, by due": {"status": "completed", "sort": "due"},
    "priority=low": {"priority": "low"},
    "priority=low, by priority": {"priority": "low", "sort": "priority"},
    "due within 10 days, by due": {**SOON, "sort": "due"},
    "due within 10 days": SOON,
    "tag, 1 of 10": {"tag": "home"},
    "tag, 5 of all": {"tag": "rare"},
    "query, 5 of all": {"query": "unicorn"},
    "query, 1 of 100": {"query": "number 42"},
    "query, 1 of 10": {"query": "plumber"},
    "query, all": {"query": "call"},
}
"""What is asked of list_tasks, by name."""


def main(
    tasks: Annotated[int, typer.Option(help="Tasks of the big user.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Times that each page is read.")] = 60,
    seconds: Annotated[float, typer.Option(help="How long others are watched, each time.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pages of a big user against those of a small one; others during as_of and undo."""
    with server.started() as postgres, asyncio.Runner(loop_factory=event_loop()) as runner:
        pages = runner.run(_pages(postgres, tasks, rounds))
        with endpoint.serving(postgres) as served:
            others = runner.run(_others(served, seconds))
    figures = {"tasks": tasks, "pages": pages, "others": others}
    print(json.dumps(figures) if as_json else _lines(figures))


async def _pages(postgres: Server, tasks: int, rounds: int) -> Json:
    async with Database(postgres.app) as database:
        for number in range(SMALLEST):
            await _fill(database, f"smallest-{number}", 2)
        await _fill(database, SMALL, 100)
        await _fill(database, BIG, tasks)
        with psycopg.connect(postgres.superuser, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
        gc.freeze()  # as the server does
        took: dict[str, dict[str, list[float]]] = {}
        for user in (SMALL, BIG):
            for name, wish in (await _questions(postgres, database, user)).items():
                took.setdefault(name, {})[user] = await _times(database, user, wish, rounds)
    return {name: _compared(both) for name, both in took.items()}


async def _questions(postgres: Server, database: Database, user: str) -> dict[str, Answering]:
    """Return what is asked about ``user``, by name."""
    newest = await ListTasks(limit=1).answer(database, Context(user, "http"))
    id_ = newest["tasks"][0]["id"]
    questions: dict[str, Answering] = {name: ListTasks(**page) for name, page in PAGES.items()}
    for sort in FAR:
        cursor = _far(postgres, user, sort)
        questions[f"{sort}, far behind"] = ListTasks.model_validate(
            {"sort": sort, "cursor": cursor}
        )
    return questions | {
        "get_task": GetTask(task_id=id_),
        "get_history": GetHistory(),
        "get_history of a task": GetHistory(task_id=id_),
        "undo, dry run": Undo(position=id_, dry_run=True),
    }


async def _times(database: Database, user: str, wish: Answering, rounds: int) -> list[float]:
    context = Context(user, "http")
    return [await _timed(lambda: wish.answer(database, context)) for _ in range(rounds)]


async def _fill(database: Database, user: str, count: int) -> None:
    """Add tasks of all kinds, and complete every fifth."""
    context = Context(user, "http")
    for start in range(0, count, 50):
        new = [_task(number, count) for number in range(start, min(start + 50, count))]
        answer = await handle(database, AddTask(tasks=new), context)
        ids = [task["task_id"] for task in answer["tasks"]][::5]
        await handle(database, CompleteTask(task_id=ids), context)


def _task(number: int, count: int) -> NewTask:
    """Return one of ``count`` tasks; they differ in the same way however many they are."""
    whom = "plumber" if number % 10 == 3 else "dentist"
    unicorn = " unicorn" if number % (count // 5 or 1) == 7 else ""
    tag = "rare" if number % (count // 5 or 1) == 11 else ("home" if number % 10 == 1 else "work")
    due = date(2027, 1, 1) + timedelta(days=number * 3650 // count)
    return NewTask(
        title=f"Call the {whom} about number {number % 100}{unicorn}",
        priority=random.choice((None, "low", "medium", "high")),
        due=None if number % 4 == 0 else due.isoformat(),
        tags=[tag],
    )


def _far(postgres: Server, user: str, sort: Any) -> str:
    """Return the cursor after nine tenths of a user's tasks."""
    with psycopg.connect(postgres.superuser) as connection:
        found = connection.execute(
            f"SELECT {', '.join(Task._fields)} FROM tasktrail.tasks WHERE user_id = %(user)s"
            f" ORDER BY {FAR[sort]}"
            " OFFSET (SELECT count(*) * 9 / 10 FROM tasktrail.tasks WHERE user_id = %(user)s)",
            {"user": user},
        ).fetchone()
    assert found is not None
    return pack(f"tasks/{sort}", *rows.sort_key(Task(*found), sort))


async def _timed(ask: Callable[[], Awaitable[Any]]) -> float:
    start = time.perf_counter()
    await ask()
    return time.perf_counter() - start


def _compared(took: dict[str, list[float]]) -> Json:
    small, big = (statistics.median(took[user]) * 1e3 for user in (SMALL, BIG))
    return {
        "small_ms": round(small, 2),
        "big_ms": round(big, 2),
        "ratio": round(big / small, 2),
        "big_p95_ms": round(percentile(took[BIG], 95), 2),
    }


async def _others(served: Endpoint, seconds: float) -> Json:
    """Time the calls of others, alone and beside each long question, which is asked on and on."""
    wire = Wire(served.url, MODERN)
    last = (await wire.call(BIG, "get_history", {"limit": 1}))["events"][0]["position"]
    long: dict[str, tuple[str, Json] | None] = {
        "alone": None,
        "as_of": ("list_tasks", {"as_of": last}),
        "as_of and query": ("list_tasks", {"as_of": last, "query": "plumber"}),
        "undo, dry run": ("undo", {"position": 1, "dry_run": True}),
        "undo of 440, dry run": ("undo", {"since": last - 439, "dry_run": True}),
    }
    waits: dict[str, list[float]] = {name: [] for name in long}
    asked: dict[str, list[float]] = {name: [] for name in long}
    for _ in range(TURNS):
        for name, question in long.items():
            watching = asyncio.ensure_future(_watch(served.url, seconds / TURNS))
            while question is not None and not watching.done():
                asked[name].append(await _timed(partial(wire.call, BIG, *question)))
            waits[name] += await watching
    wire.close()
    return {name: _waited(waits[name], asked[name]) for name in long}


def _waited(waits: list[float], asked: list[float]) -> Json:
    return {
        **{f"p{percent}_ms": round(percentile(waits, percent), 1) for percent in (50, 95, 99)},
        "calls": len(waits),
        "asked": len(asked),
        "each_s": round(statistics.median(asked), 2) if asked else None,
    }


async def _watch(url: str, seconds: float) -> list[float]:
    """Let others add and list tasks; return how long each of their calls took."""
    waits: list[float] = []
    end = time.perf_counter() + seconds
    calls: tuple[tuple[str, Json], ...] = (("list_tasks", {}), ("add_task", {"title": "Buy milk"}))

    async def other(user: str) -> None:
        wire = Wire(url, MODERN)
        while time.perf_counter() < end:
            waits.append(await _timed(partial(wire.call, user, *random.choice(calls))))
            await asyncio.sleep(random.uniform(0, 0.04))
        wire.close()

    await asyncio.gather(*(other(f"other-{number}") for number in range(OTHERS)))
    return waits


def _lines(figures: Json) -> str:
    lines = [f"{'':36}{'100 tasks':>12}{figures['tasks']:>12,}{'ratio':>8}{'p95':>8}"]
    for name, page in figures["pages"].items():
        lines.append(
            f"{name:36}{page['small_ms']:>9} ms{page['big_ms']:>9} ms{page['ratio']:>8}"
            f"{page['big_p95_ms']:>8}"
        )
    for name, one in figures["others"].items():
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in one.items()))
    return "\n".join(lines)

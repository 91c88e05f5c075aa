"""``handle`` in one process, many callers, against pgbench in the same run.

Three loads, in rounds that take turns so that a noisy neighbour meets all of them: pgbench
(bench.floor), ``add_task`` (one trip to the database), and ``change``: one update_task and one
complete_task for each task, in turn (two trips each).
"""

import asyncio
import gc
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import floor, server
from bench.measure import Round, any_user, median, run
from events.ledger import Json
from mcp_server.database import Database
from mcp_server.handle import Command, Context, handle
from mcp_server.tools.tasks import AddTask, CompleteTask, UpdateTask

Loads = dict[str, list[Round]]

AHEAD = 100
"""So many tasks are updated before the first of them is completed."""


def main(
    clients: Annotated[int, typer.Option(help="Concurrent callers.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of a round of one load.")] = 5,
    rounds: Annotated[int, typer.Option(help="Rounds; the medians are shown.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Commands per second through `handle`, as a share of what pgbench reaches."""
    with server.started() as postgres, tempfile.TemporaryDirectory() as folder:
        script = floor.prepare(postgres, Path(folder))
        loads: Loads = {"pgbench": [], "add_task": [], "change": []}
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(_measure(postgres, script, clients, seconds, rounds, loads))
    figures = _figures(loads)
    print(json.dumps(figures) if as_json else _lines(figures))


def event_loop() -> Any:
    """Return the maker of the event loop that the server uses too."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _measure(
    postgres: server.Server, script: Path, clients: int, seconds: float, rounds: int, loads: Loads
) -> None:
    async with Database(postgres.app) as database:
        load = Load(database)
        await run(postgres, clients, 1, load.add_task)  # every connection, plan and user is warm
        gc.freeze()  # as the server does
        for _ in range(rounds):
            loads["pgbench"].append(floor.run(postgres, script, clients, seconds))
            loads["add_task"].append(await run(postgres, clients, seconds, load.add_task))
            loads["change"].append(await run(postgres, clients, seconds, load.change))


class Load:
    """Calls of many users; ``added`` and ``updated`` are tasks with their users."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._added: list[tuple[str, int]] = []
        self._updated: list[tuple[str, int]] = []

    async def add_task(self) -> None:
        user = any_user()
        title = f"Buy groceries at number {random.randrange(1000)}"
        command = AddTask(title=title, priority="high", due="2026-12-01", tags=["home"])
        answer = await self._handle(user, command)
        self._added.append((user, answer["task_id"]))

    async def change(self) -> None:
        """Update a task that was added, or complete one that was updated: half and half."""
        if len(self._updated) < AHEAD:
            user, task = self._added.pop(random.randrange(len(self._added)))
            await self._handle(user, UpdateTask(task_id=task, title="Buy flowers instead"))
            self._updated.append((user, task))
        else:
            user, task = self._updated.pop(random.randrange(AHEAD))
            await self._handle(user, CompleteTask(task_id=task))

    async def _handle(self, user: str, command: Command) -> Json:
        return await handle(self._database, command, Context(user, "http"))


def _figures(loads: Loads) -> dict[str, Any]:
    medians = {name: median(rounds) for name, rounds in loads.items()}
    add, change, least = medians["add_task"], medians["change"], medians["pgbench"]
    return {
        "commands_per_s": round(add.per_s),
        "pgbench_per_s": round(least.per_s),
        "ratio_to_pgbench": round(add.per_s / least.per_s, 3),
        "cpu_ms": round(add.cpu_ms, 3),
        **{f"add_task_{name}": value for name, value in rounded(add).items()},
        **{f"change_{name}": value for name, value in rounded(change).items()},
        **{f"pgbench_{name}": value for name, value in rounded(least).items()},
    }


def rounded(figures: Round) -> dict[str, float]:
    """Return what is known of a round, for people."""
    return {k: round(v, 3) for k, v in figures._asdict().items() if v is not None}


def _lines(figures: dict[str, Any]) -> str:
    return "\n".join(f"{name:24} {value:>10}" for name, value in figures.items())

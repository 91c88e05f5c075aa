"""Many users at once over HTTP, to one process: each with a connection of its own, calling,
thinking for some seconds, and calling again. In both eras, with the garbage collector as the
server leaves it (frozen after start-up, seldom) and as Python has it.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from typing import Annotated

import typer

from bench import endpoint, server
from bench.commit import event_loop
from bench.endpoint import Endpoint
from bench.measure import percentile
from bench.wire import LEGACY, MODERN, Wire
from events.ledger import Json

APP = [
    *(sys.executable, "-m", "uvicorn", "bench.collector:app", "--port", "0", "--no-access-log"),
    *("--http", "httptools", "--log-level", "info"),
]
MIX: tuple[tuple[str, Json], ...] = (
    *(("list_tasks", {}),) * 8,
    *(("add_task", {"title": "Buy groceries", "due": "2026-12-01", "tags": ["home"]}),) * 4,
    *(("complete_task", {"task_id": 1}), ("complete_task", {"task_id": 1, "completed": False})),
    ("update_task", {"task_id": 1, "priority": "high"}),
    *(("add_message", {"role": "user", "content": "Please remember to buy milk."}),) * 3,
    *(("get_task", {"task_id": 1}), ("get_history", {"limit": 10})),
)
"""What users do; task 1 is their first."""


def main(
    users: Annotated[int, typer.Option(help="Users, each with a connection.")] = 1000,
    seconds: Annotated[float, typer.Option(help="How long each of the four runs is.")] = 20,
    thinking: Annotated[float, typer.Option(help="Seconds between two calls, at most.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tail latencies with many concurrent users, in both eras."""
    figures: Json = {}
    gc.freeze()
    for collector in ("ours", "default"):
        for era in (MODERN, LEGACY):
            with server.started() as postgres, asyncio.Runner(loop_factory=event_loop()) as runner:
                env = {**os.environ, **endpoint.environment(postgres), "COLLECTOR": collector}
                with endpoint.announced(APP, env, r"running on (http[^ \"]+)") as served:
                    at = served._replace(url=f"{served.url}/mcp")
                    figures[f"{era}, collector {collector}"] = runner.run(
                        _measure(at, era, users, seconds, thinking)
                    )
    print(json.dumps(figures) if as_json else _lines(figures))


async def _measure(served: Endpoint, era: str, users: int, seconds: float, thinking: float) -> Json:
    waits: list[float] = []
    everybody_is_there = asyncio.Barrier(users)
    first = asyncio.Semaphore(50)

    async def user(name: str) -> None:
        wire = Wire(served.url, era)
        async with first:
            await wire.call(name, "add_task", {"title": "The first"})
        await everybody_is_there.wait()
        end = time.perf_counter() + seconds
        await asyncio.sleep(random.uniform(0, thinking))
        while (start := time.perf_counter()) < end:
            await wire.call(name, *random.choice(MIX))
            waits.append(time.perf_counter() - start)
            await asyncio.sleep(random.uniform(0, thinking))
        wire.close()

    before = served.cpu_seconds()
    await asyncio.gather(*(user(f"user-{number}") for number in range(users)))
    after = served.cpu_seconds()
    cpu = None if before is None or after is None else (after - before) / (len(waits) + users)
    return {
        "calls_per_s": round(len(waits) / seconds),
        **{f"p{percent}_ms": round(percentile(waits, percent), 1) for percent in (50, 95, 99)},
        "max_ms": round(max(waits) * 1e3, 1),
        "cpu_ms": None if cpu is None else round(cpu * 1e3, 2),
    }


def _lines(figures: Json) -> str:
    return "\n".join(
        f"{name:34}" + ", ".join(f"{key} {value}" for key, value in one.items())
        for name, one in figures.items()
    )

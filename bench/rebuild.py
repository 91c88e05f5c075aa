"""rebuild-projections and verify against a plain COPY of the same events, in the same run.

Measured in rounds that take turns, so that a noisy neighbour meets all of them:
- copy: all events out of the ledgers, in order, through the client, into a temporary table.
- durable: the same into an ordinary table, committed. Neither has an index.
- check: ``rebuild-projections --check``. Nothing differs.
- rebuild: ``rebuild-projections``. Nothing differs, so nothing is written.
- alone: ``rebuild-projections`` after the read tables were emptied, so every row is written.
- empty: the same while ``--writes`` tasks a second are added through ``handle``; how long those
  took, and at rest: of each round some seconds before it.
- verify: ``tasktrail verify``.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, LiteralString, NamedTuple, TypeVar

import psycopg
import typer

from bench import server
from bench.measure import percentile
from bench.server import Server
from events.errors import Refused
from mcp_server.commands.seed import UsersExist, fill, user_name
from mcp_server.database import Database
from mcp_server.handle import Context, handle
from mcp_server.tools.tasks import AddTask

T = TypeVar("T")

REBUILD = ["rebuild-projections"]
RUNS = {
    "check": [*REBUILD, "--check"],
    "rebuild": REBUILD,
    "verify": ["verify"],
    "alone": REBUILD,
    "empty": REBUILD,
}
AT_REST_S = 5
READ_TABLES = "tasktrail.tasks, tasktrail.conversations, tasktrail.messages"


class Run(NamedTuple):
    """One run; ``peak_mb`` is the memory of all its processes together, 0 where /proc is not."""

    events_per_s: float
    peak_mb: float


def main(
    events: Annotated[str, typer.Option(help="Sizes, separated by commas.")] = "1000000,5000000",
    users: Annotated[int, typer.Option(help="Users of each size.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="Rounds; the medians are shown.")] = 3,
    writes: Annotated[int, typer.Option(help="Tasks added a second meanwhile.")] = 200,
    only: Annotated[str, typer.Option(help="Just these, separated by commas.")] = ",".join(RUNS),
    jobs: Annotated[str, typer.Option(help="Each with so many jobs.")] = "1,2",
    home: Annotated[
        Path | None, typer.Option(help="Keep the database in this folder: one size, seeded once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Events per second of rebuild-projections and verify, as a share of a plain COPY."""
    kinds = [(name, int(number)) for name in only.split(",") for number in jobs.split(",")]
    figures = [
        _measure(int(size), users, rounds, writes, kinds, home) for size in events.split(",")
    ]
    print(json.dumps({"sizes": figures}) if as_json else "\n\n".join(map(_lines, figures)))


def _measure(
    events: int,
    users: int,
    rounds: int,
    writes: int,
    kinds: list[tuple[str, int]],
    home: Path | None,
) -> dict[str, Any]:
    runs: dict[str, list[Run]] = {}
    waits: dict[str, list[float]] = {}
    with server.started(home) as postgres:
        seeding_s = _seed(postgres, events, users)
        load = _Load(postgres, users, writes)
        for number in range(rounds):
            for name in ("copy", "durable")[
                :: -1 if number % 2 else 1
            ]:  # the second meets a warm disk
                runs.setdefault(name, []).append(_copy(postgres, "TEMP" if name == "copy" else ""))
            waited, _nothing = asyncio.run(load.during(asyncio.sleep(AT_REST_S)))
            waits["at rest"] = waits.get("at rest", []) + waited
            for name, jobs in kinds:
                title = f"{name} --jobs {jobs}"
                if name in ("alone", "empty"):
                    with psycopg.connect(postgres.superuser) as connection:
                        connection.execute(f"TRUNCATE {READ_TABLES}")
                if name == "empty":
                    work = asyncio.to_thread(_run, postgres, REBUILD, jobs)
                    waited, run = asyncio.run(load.during(work))
                    waits[title] = waits.get(title, []) + waited
                else:
                    run = _run(postgres, RUNS[name], jobs)
                runs.setdefault(title, []).append(run)
    return {
        "events": events,
        "users": users,
        "seeding_s": round(seeding_s, 1),
        "runs": {name: _median(several, runs) for name, several in runs.items()},
        "writes_refused": load.refused,
        "writes_ms": {name: _percentiles(several) for name, several in waits.items()},
    }


def _seed(postgres: Server, events: int, users: int) -> float:
    """Seed it, unless it was before; return the seconds that took."""
    start = time.perf_counter()
    with psycopg.connect(postgres.admin) as connection, suppress(UsersExist):
        fill(connection, events, users, 1, lambda _: None)
    return time.perf_counter() - start


class _Load:
    """So many tasks a second, whether or not those before have been answered."""

    def __init__(self, postgres: Server, users: int, writes: int) -> None:
        self._postgres = postgres
        self._users = users
        self._pause_s = 1 / writes
        self.refused = 0

    async def during(self, work: Awaitable[T]) -> tuple[list[float], T]:
        """Return how long each took, in seconds, and the result of ``work``."""
        waits: list[float] = []
        async with Database(self._postgres.app) as database, asyncio.TaskGroup() as group:
            working = asyncio.ensure_future(work)
            while not working.done():
                group.create_task(self._write(database, waits))
                await asyncio.sleep(self._pause_s)
        return waits, await working

    async def _write(self, database: Database, waits: list[float]) -> None:
        busy_rather_than_not = int(self._users * random.random() ** 3)
        context = Context(user_name(1, busy_rather_than_not + 1), "http")
        start = time.perf_counter()
        try:
            await handle(database, AddTask(title="Buy groceries", due="2026-12-01"), context)
        except Refused:  # unavailable, after 5 s
            self.refused += 1
        waits.append(time.perf_counter() - start)


def _copy(postgres: Server, kind: LiteralString = "") -> Run:
    start = time.perf_counter()
    with psycopg.connect(postgres.superuser) as source, psycopg.connect(postgres.superuser) as sink:
        sink.execute(f"CREATE {kind} TABLE copied AS SELECT * FROM tasktrail.events WITH NO DATA")
        sink.commit()  # what is created and filled in one transaction might skip the log
        query = "SELECT * FROM tasktrail.events ORDER BY user_id, position"
        with (
            source.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as out,
            sink.cursor().copy("COPY copied FROM STDIN (FORMAT BINARY)") as into,
        ):
            for block in out:
                into.write(block)
        sink.commit()
        seconds = time.perf_counter() - start
        copied: int = sink.execute("SELECT count(*) FROM copied").fetchall()[0][0]
        sink.execute("DROP TABLE copied")
    return Run(copied / seconds, 0)


def _run(postgres: Server, command: list[str], jobs: int) -> Run:
    program = "from mcp_server.cli import main; main()"
    environment = {"DATABASE_URL": postgres.app, "ADMIN_DATABASE_URL": postgres.admin}
    with subprocess.Popen(
        [sys.executable, "-c", program, *command, "--jobs", str(jobs), "--json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak_mb = 0.0
        while process.poll() is None:
            peak_mb = max(peak_mb, _memory_mb(process.pid))
            time.sleep(0.3)  # a look takes some milliseconds of a core
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
    assert process.returncode == 0, answer
    return Run(answer["events"] / answer["seconds"], peak_mb)


def _memory_mb(pid: int) -> float:
    """Return what a process and its children hold in memory, shared pages counted once."""
    kilobytes = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
            if str(pid) in (folder.name, parent):
                usage = (folder / "smaps_rollup").read_text()
                kilobytes += int(usage.partition("\nPss:")[2].split()[0])
    return kilobytes / 1024


def _median(runs: list[Run], all_runs: dict[str, list[Run]]) -> dict[str, Any]:
    return {
        "events_per_s": round(statistics.median(run.events_per_s for run in runs)),
        "share_of_copy": _share(runs, all_runs["copy"]),
        "share_of_durable": _share(runs, all_runs["durable"]),
        "peak_mb": round(max(run.peak_mb for run in runs)),
    }


def _share(runs: list[Run], copies: list[Run]) -> float:
    """Return the median of the rounds' shares."""
    shares = [run.events_per_s / copy.events_per_s for run, copy in zip(runs, copies, strict=True)]
    return round(statistics.median(shares), 2)


def _percentiles(waits: list[float]) -> dict[str, Any]:
    named = {f"p{percent}": round(percentile(waits, percent), 1) for percent in (50, 95, 99)}
    return {"count": len(waits), **named, "max": round(max(waits) * 1e3, 1)}


def _lines(figures: dict[str, Any]) -> str:
    lines = [
        (
            f"{figures['events']:,} events of {figures['users']:,} users,"
            f" seeded in {figures['seeding_s']} s"
        ),
        f"{'':20}{'events/s':>12}{'of copy':>9}{'durable':>9}{'peak MB':>9}",
    ]
    for name, run in figures["runs"].items():
        shares = f"{run['share_of_copy']:>9.0%}{run['share_of_durable']:>9.0%}"
        lines.append(f"{name:20}{run['events_per_s']:>12,}{shares}{run['peak_mb']:>9}")
    for name, waited in figures["writes_ms"].items():
        text = ", ".join(f"{key} {value:,}" for key, value in waited.items())
        lines.append(f"writes in ms, {name}: {text}")
    lines.append(f"writes refused: {figures['writes_refused']}")
    return "\n".join(lines)

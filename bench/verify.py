"""tasktrail verify, in a database and on a bundle, against the least that Python has to do for it.

The floor, measured in turns with the others in the same process: for each event the four hashes
that an event is checked with, over as many bytes, and its body and actor read as JSON. Reading from
Postgres, putting canonical JSON together and folding come on top of that.

``events_per_s`` is by the clock; ``client_per_s`` by the processor time of the process that
verifies, which is what one core does when Postgres has another; ``both_per_s`` by that of the
process and of Postgres together.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import psycopg
import typer

from bench import server
from bench.server import Server
from mcp_server.commands.jobs import collect_garbage_seldom, connected
from mcp_server.commands.seed import fill, user_name
from mcp_server.evidence.bundle import verify_bundle
from projections.spans import UNCUT, plan
from projections.verify import verify


class Run(NamedTuple):
    """What one run took, in seconds."""

    clock: float
    client: float
    server: float


def main(
    events: Annotated[int, typer.Option(help="Events in the database.")] = 300_000,
    users: Annotated[int, typer.Option(help="Users.")] = 50,
    rounds: Annotated[int, typer.Option(help="Rounds; the medians are shown.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Events per second of verify, in one process, beside the floor."""
    collect_garbage_seldom()
    with server.started() as postgres, tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(postgres.admin) as connection:
            fill(connection, events, users, 1, lambda _: None)
            connection.commit()
            sample = _sample(connection)
        bundle = Path(folder) / "ledger.zip"
        in_bundle = _export(postgres, bundle)
        work = {
            "floor": (len(sample), lambda: _floor(sample)),
            "verify": (events, lambda: _verify(postgres)),
            "verify --bundle": (in_bundle, lambda: list(verify_bundle(bundle))),
        }
        runs: dict[str, list[Run]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, (_, act) in work.items():
                runs[name].append(_timed(postgres, act))
    figures = {name: _figures(work[name][0], several) for name, several in runs.items()}
    print(json.dumps(figures) if as_json else _lines(figures))


def _sample(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    query = (
        "SELECT body::text, actor::text FROM tasktrail.events WHERE body IS NOT NULL LIMIT 50000"
    )
    return connection.execute(query).fetchall()


def _floor(sample: list[tuple[str, str]]) -> None:
    """Hash and read as much as an event needs; nothing is compared."""
    inner, outer, link, header = (b"x" * size for size in (82, 96, 96, 330))
    for body, actor in sample:
        orjson.loads(body)
        orjson.loads(actor)
        sha256(inner + body.encode()).digest()
        sha256(outer).digest()
        sha256(header + actor.encode()).digest()
        sha256(link).digest()


def _export(postgres: Server, file: Path) -> int:
    program = "from mcp_server.cli import main; main()"
    arguments = ["export", user_name(1, 1), "-o", str(file), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"DATABASE_URL": postgres.admin},
        capture_output=True,
        check=True,
    )
    return int(json.loads(done.stdout)["events"])


def _verify(postgres: Server) -> None:
    with connected(postgres.admin) as connection:
        for span in plan(connection, None, UNCUT)[1]:
            assert verify(connection, span).findings == []


def _timed(postgres: Server, act: Callable[[], object]) -> Run:
    clock, client, before = time.perf_counter(), time.process_time(), postgres.cpu_seconds()
    act()
    after = postgres.cpu_seconds()
    used = after - before if after is not None and before is not None else 0
    return Run(time.perf_counter() - clock, time.process_time() - client, used)


def _figures(events: int, runs: list[Run]) -> dict[str, int]:
    def rate(seconds: Callable[[Run], float]) -> int:
        return round(events / statistics.median(map(seconds, runs)))

    return {
        "events_per_s": rate(lambda run: run.clock),
        "client_per_s": rate(lambda run: run.client),
        "both_per_s": rate(lambda run: run.client + run.server),
    }


def _lines(figures: dict[str, dict[str, int]]) -> str:
    names = ("events_per_s", "client_per_s", "both_per_s")
    head = f"{'':16}" + "".join(f"{name:>14}" for name in names)
    rows = [
        f"{name:16}" + "".join(f"{run[one]:>14,}" for one in names) for name, run in figures.items()
    ]
    return "\n".join([head, *rows])

"""Every tool over HTTP, in both eras of the protocol, to one process of ``tasktrail serve``.

The database has a past: 1,000 users with 200,000 events, a few of them very busy. Each tool is
called by one caller at a time (what an agent waits for) and then by many, each as fast as it can
(what a process can do). ``cpu_ms`` is the server's processor time a call, without Postgres's.
"""

import asyncio
import gc
import itertools
import json
import random
from collections.abc import Callable
from typing import Annotated, Any, LiteralString

import psycopg
import typer

from bench import endpoint, server
from bench.commit import event_loop
from bench.endpoint import Endpoint
from bench.measure import Round, run
from bench.server import Server
from bench.wire import LEGACY, MODERN, Wire
from events.ledger import Json
from mcp_server.commands.seed import fill, user_name

EVENTS, USERS = 500_000, 1000

Thing = tuple[str, int]
"""A user and an id."""


THINGS: dict[str, LiteralString] = {
    "task": "SELECT user_id, id FROM tasktrail.tasks WHERE status = 0",
    "conversation": """
        SELECT user_id, id FROM tasktrail.conversations WHERE NOT deleted AND id % 2 = 1""",
    "message": """
        SELECT m.user_id, m.id FROM tasktrail.messages m JOIN tasktrail.conversations c
        ON (c.user_id, c.id) = (m.user_id, m.conversation_id)
        WHERE NOT m.deleted AND NOT c.deleted AND c.id % 2 = 0""",
}
"""Where they are. The messages are not of the conversations that will be deleted."""


class Things:
    """What is there to be asked for; ``take`` is for what is gone afterwards."""

    def __init__(self, postgres: Server) -> None:
        with psycopg.connect(postgres.superuser) as connection:
            self._of: dict[str, list[Thing]] = {
                kind: connection.execute(query).fetchall() for kind, query in THINGS.items()
            }
        for things in self._of.values():
            random.shuffle(things)

    def any(self, kind: str) -> Thing:
        """Return one, which somebody else may take later."""
        return random.choice(self._of[kind][: len(self._of[kind]) // 2])

    def take(self, kind: str) -> Thing:
        """Return one that nobody else will get."""
        things = self._of[kind]
        assert len(things) > 100, f"every {kind} is used up: measure for a shorter time"
        return things.pop()


Wish = tuple[str, Json]
"""A user, and the arguments of a call."""
NUMBERS = itertools.count()


def _own(**arguments: Any) -> Callable[[Things], Wish]:
    return lambda _: (user_name(1, random.randrange(USERS) + 1), arguments)


def _with(name: str, kind: str, **arguments: Any) -> Callable[[Things], Wish]:
    def wish(things: Things) -> Wish:
        user, id_ = things.any(kind)
        return user, {name: id_, **arguments}

    return wish


def _taking(name: str, kind: str, **arguments: Any) -> Callable[[Things], Wish]:
    def wish(things: Things) -> Wish:
        user, id_ = things.take(kind)
        return user, {name: id_, **arguments}

    return wish


def _with_new(name: str, kind: str, field: str) -> Callable[[Things], Wish]:
    """Change a field to what it was not before."""

    def wish(things: Things) -> Wish:
        user, id_ = things.any(kind)
        return user, {name: id_, field: f"Call the dentist, number {next(NUMBERS)}"}

    return wish


CALLS: dict[str, Callable[[Things], Wish]] = {
    "add_task": _own(title="Buy groceries", priority="high", due="2026-12-01", tags=["home"]),
    "list_tasks": _own(),
    "get_task": _with("task_id", "task"),
    "update_task": _with_new("task_id", "task", "title"),
    "complete_task": _taking("task_id", "task"),
    "delete_task": _taking("task_id", "task"),
    "create_conversation": _own(title="Plans"),
    "add_message": _with("conversation_id", "conversation", role="user", content="Buy milk."),
    "get_conversation_history": _with("conversation_id", "conversation"),
    "list_conversations": _own(),
    "update_message": _with_new("message_id", "message", "content"),
    "delete_conversation": _taking("conversation_id", "conversation"),
    "get_history": _own(),
    "undo": _taking("position", "task", force=True),  # an id is the position of the creation
}


def main(
    clients: Annotated[int, typer.Option(help="Concurrent callers.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of a round of one tool.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Latency and calls per second of every tool over HTTP, in both eras."""
    with server.started() as postgres, asyncio.Runner(loop_factory=event_loop()) as runner:
        with psycopg.connect(postgres.admin) as connection:
            fill(connection, EVENTS, USERS, 1, lambda _: None)
        with psycopg.connect(postgres.superuser, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
        things = Things(postgres)
        gc.freeze()
        with endpoint.serving(postgres) as served:
            figures = {
                era: {
                    tool: runner.run(_measure(served, era, tool, things, clients, seconds))
                    for tool in CALLS
                }
                for era in (MODERN, LEGACY)
            }
    print(json.dumps(figures) if as_json else _lines(figures, clients))


async def _measure(
    served: Endpoint, era: str, tool: str, things: Things, clients: int, seconds: float
) -> Json:
    wires = [Wire(served.url, era) for _ in range(clients)]

    async def call() -> None:
        wire = wires.pop()
        user, arguments = CALLS[tool](things)
        await wire.call(user, tool, arguments)
        wires.append(wire)

    await run(served, clients, 0.3, call)  # connected, and warm
    alone, many = [await run(served, count, seconds, call) for count in (1, clients)]
    for wire in wires:
        wire.close()
    return {"alone": _rounded(alone), "many": _rounded(many)}


def _rounded(one: Round) -> Json:
    cpu = one.server_cpu_ms
    assert one.p50_ms is not None
    assert one.p95_ms is not None
    return {
        "per_s": round(one.per_s),
        "p50_ms": round(one.p50_ms, 1),
        "p95_ms": round(one.p95_ms, 1),
        "cpu_ms": None if cpu is None else round(cpu, 2),
    }


def _lines(figures: Json, clients: int) -> str:
    lines = []
    for era, tools in figures.items():
        lines.append(f"{era:26}  alone: p50, p95 ms   {clients} callers: calls/s, p50, p95, CPU ms")
        for tool, rounds in tools.items():
            one, many = rounds["alone"], rounds["many"]
            lines.append(
                f"{tool:26}{one['p50_ms']:>14}{one['p95_ms']:>7}"
                f"{many['per_s']:>21}{many['p50_ms']:>7}{many['p95_ms']:>7}{many['cpu_ms']:>7}"
            )
    return "\n".join(lines)

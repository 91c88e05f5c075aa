"""``tasktrail seed``: a realistic database of any size, for demos and benchmarks.

Everything is written in one transaction: ledgers, events and the rows they fold to. Row-level
security lets nobody COPY into these tables, so each batch goes through temporary ones; a thread
moves it on while the next one is being made up.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
import typer
from psycopg import Connection

from events.ledger import Record
from events.replay import Replay
from mcp_server import settings, target
from mcp_server.commands.arguments import whole_number
from mcp_server.commands.jobs import collect_garbage_seldom
from mcp_server.commands.printing import counted
from mcp_server.commands.progress import WorkProgress
from mcp_server.commands.seed_histories import events_of_users, history
from mcp_server.failure import Failure
from mcp_server.reach import connect
from mcp_server.tools.arguments import LARGEST
from projections.read_tables import READ_TABLES

BATCH = 20_000
"""Events in one batch."""

_JSONB = b"\x01"  # the version of the binary format of jsonb


class _Table(NamedTuple):
    """``types`` are those of the binary COPY; what is encoded already travels as bytea."""

    name: str
    fields: tuple[str, ...]
    types: tuple[str, ...]


_TABLES = (
    _Table(
        "ledgers",
        ("user_id", "position", "hash", "last_recorded_at"),
        ("text", "int8", "bytea", "timestamptz"),
    ),
    _Table(
        "events",
        ("user_id", *Record._fields),
        (
            *("text", "int8", "text", "int8", "int8", "text", "int4", "bytea", "bytea", "bytea"),
            *("bytea", "bytea", "bytea", "bytea", "bytea", "timestamptz"),
        ),
    ),
    *(_Table(t.name, ("user_id", *t.fields), ("text", *t.types)) for t in READ_TABLES),
)

Batch = dict[str, list[tuple[Any, ...]]]
"""Rows by the name of their table."""


class UsersExist(Failure):
    """Some of the users to make up are there already; nothing was written."""


def seed(
    events: Annotated[int, whole_number("Events of all users together.")],
    users: Annotated[int, whole_number("Users; a few of them are very busy.")],
    seed: Annotated[
        int, whole_number("The same seed makes the same database.", least=-LARGEST)
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    if events < users:
        raise typer.BadParameter("every user needs an event: give --events as many at least")
    collect_garbage_seldom()
    with (
        target.opened(settings.read(), create=True) as database,
        connect(database.admin) as connection,
        WorkProgress("seeding", events) as progress,
    ):
        fill(connection, events, users, seed, progress.advance)
    summary = {"events": events, "users": users, "seed": seed, "seconds": progress.seconds}
    names = f"{user_name(seed, 1)} to {user_name(seed, users)}"
    made = f"{counted(events, 'events')} of {counted(users, 'users')}"
    text = f"{made}, {names}, in {progress.seconds:.1f} s"
    sys.stdout.write((orjson.dumps(summary).decode() if as_json else text) + "\n")


def user_name(seed: int, number: int) -> str:
    """Return the id of the busiest user (1), the next (2) and so on."""
    return f"demo-{seed}-{number:05}"


def fill(
    connection: Connection[Any],
    events: int,
    users: int,
    seed: int,
    done: Callable[[int], None],
) -> None:
    """Write it all and commit. ``done`` hears of each batch's number of events.

    Raises: UsersExist.
    """
    _refuse_existing(connection, seed, users)
    for table in _TABLES:
        columns = ", ".join(table.fields)
        connection.execute(
            f"""
            CREATE TEMP TABLE seed_{table.name} ON COMMIT DROP AS
            SELECT {columns} FROM tasktrail.{table.name} WITH NO DATA
            """
        )
    with ThreadPoolExecutor(1) as mover:
        moved = mover.submit(int)
        for batch in _batches(events, users, seed):
            done(moved.result())
            moved = mover.submit(_move, connection, batch)
        done(moved.result())
    connection.commit()


def _refuse_existing(connection: Connection[Any], seed: int, users: int) -> None:
    names = [user_name(seed, number) for number in range(1, users + 1)]
    existing = connection.execute(
        "SELECT min(l.user_id) FROM tasktrail.ledgers l WHERE l.user_id = ANY (%s)", (names,)
    ).fetchall()[0][0]
    if existing is not None:
        raise UsersExist(f"{existing} exists already: give another --seed.")


def _batches(events: int, users: int, seed: int) -> Iterator[Batch]:
    batch: Batch = {table.name: [] for table in _TABLES}
    for number, count in enumerate(events_of_users(events, users), start=1):
        user_id = user_name(seed, number)
        replay = Replay()
        for record in history(seed, user_id, count):
            replay.add(record)
            batch["events"].append(_event_row(user_id, record))
            if len(batch["events"]) >= BATCH:
                yield batch
                batch = {table.name: [] for table in _TABLES}
        head = (user_id, record.position, record.hash, record.recorded_at)
        batch["ledgers"].append(head)
        for table in READ_TABLES:
            batch[table.name] += [(user_id, *row) for row in table.of(replay).values()]
    yield batch


def _event_row(user_id: str, record: Record) -> tuple[Any, ...]:
    """Return the row, ids and JSON encoded as the binary COPY takes them."""
    return (
        user_id,
        *record[:6],
        _uuid(record.event_id),
        _uuid(record.command_id),
        _JSONB + orjson.dumps(record.actor),
        record.commitment,
        _JSONB + orjson.dumps(record.body),
        *record[11:],
    )


def _uuid(text: UUID | str) -> bytes:
    return bytes.fromhex(str(text).replace("-", ""))


def _move(connection: Connection[Any], batch: Batch) -> int:
    """Write one batch; return its number of events."""
    for table in _TABLES:
        rows = batch[table.name]
        if not rows:
            continue
        with connection.cursor().copy(f"COPY seed_{table.name} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(table.types)
            for row in rows:
                copy.write_row(row)
        columns = ", ".join(table.fields)
        connection.execute(
            f"""
            INSERT INTO tasktrail.{table.name} ({columns})
            SELECT {columns} FROM seed_{table.name}
            """
        )
        connection.execute(f"TRUNCATE seed_{table.name}")
    return len(batch["events"])

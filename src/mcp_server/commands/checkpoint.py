"""``tasktrail checkpoint``: sign where every ledger ends, and keep that in several places.

The key is a file that the server has no access to. Beside it the signer keeps the last note it
signed (``<key>.last``): the database cannot make it forget what it has vouched for. Two things it
has to be told: that another key was used so far, and that a backup was restored.
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import psycopg
import typer

from events.ledger import Json
from events.store import Connection
from mcp_server import settings, target
from mcp_server.commands.checkpoint_places import PlaceFailed, put
from mcp_server.evidence import checkpoint_log as log
from mcp_server.evidence.access_log import (
    access_breaks,
    access_heads,
    access_tree,
    keep_access_heads,
)
from mcp_server.evidence.checkpoint import (
    NOTHING,
    BadCheckpoint,
    Link,
    Statement,
    checked,
    hash_of,
)
from mcp_server.evidence.note import BadKey, PrivateKey
from mcp_server.failure import Failure, why
from mcp_server.reach import connect_async


class NotSigned(Failure):
    """The ledgers are not a continuation of what was signed before, so nothing is signed."""


class KeyTrouble(Failure):
    """The key cannot be used."""

    exit_code = 2


class Memory(NamedTuple):
    """What a signer has signed last."""

    statement: Statement
    note: str


class NotKept(Failure):
    """The checkpoint is signed and in the database, but not everywhere it should be."""


def checkpoint(
    key: Annotated[
        Path | None, typer.Option("--key", help="The file with the private key.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="A folder, git:FOLDER or command:COMMAND; may be repeated."),
    ] = None,
    old_key: Annotated[
        Path | None,
        typer.Option("--old-key", help="The key used so far, when --key is another: both sign."),
    ] = None,
    after_restore: Annotated[
        bool,
        typer.Option(
            "--after-restore", help="A backup was restored: go on, though checkpoints are missing."
        ),
    ] = False,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", help="Make a key in this new file, and end.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="The new key's name, such as example.org/tasktrail.")
    ] = "tasktrail",
    json: Annotated[bool, typer.Option("--json", help="Say what was signed as JSON.")] = False,
) -> None:
    if new_key is not None:
        _tell({"key": make_key(new_key, name), "file": str(new_key)}, json)
        return
    if key is None:
        raise typer.BadParameter("Name the file with the key, or make one with --new-key FILE.")
    private = read_key(key)
    old = read_key(old_key) if old_key is not None else None
    memory = _memory_of(key)
    remembered = [_remembered(memory, private)]
    if old_key is not None and old is not None:
        remembered.append(_remembered(_memory_of(old_key), old))
    last = max(filter(None, remembered), key=lambda each: each.statement.number, default=None)
    with target.opened(settings.read()) as database:
        note = asyncio.run(_sign(database.admin, private, old, last, after_restore))
    _remember(memory, note)
    statement = checked(note, private.public)
    missed = _publish(to or [], statement.number, note)
    restored = {"restored": statement.restored.number} if statement.restored else {}
    _tell(
        {
            "number": statement.number,
            **restored,
            "ledgers": statement.size,
            "root": statement.root.hex(),
            "key": str(private.public),
            "kept": [place for place in to or [] if place not in missed],
        },
        json,
    )
    if missed:
        raise NotKept(
            "The checkpoint is in the database, but not in:\n" + "\n".join(missed.values())
        )


def make_key(file: Path, name: str) -> str:
    """Write a new private key to a new file that only its owner can read; return the public key.

    Raises: KeyTrouble.
    """
    try:
        private = PrivateKey.new(name)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (BadKey, OSError) as fault:
        raise KeyTrouble(f"{file}: {why(fault)}.") from None
    with os.fdopen(descriptor, "w") as new:
        new.write(private.write())
    return str(private.public)


def read_key(file: Path) -> PrivateKey:
    """Return the key in a file that nobody else can read. Raises: KeyTrouble."""
    try:
        if file.stat().st_mode & 0o077:
            raise KeyTrouble(f"Others can read {file}. Run: chmod 600 {file}")
        return PrivateKey.read(file.read_text())
    except (BadKey, OSError, UnicodeDecodeError) as fault:
        raise KeyTrouble(f"{file}: {why(fault)}.") from None


def _memory_of(key: Path) -> Path:
    return key.with_name(f"{key.name}.last")


def _remembered(memory: Path, key: PrivateKey) -> Memory | None:
    """Return what this signer signed last, None if it never did. Raises: NotSigned."""
    if not memory.exists():
        return None
    note = memory.read_text()
    try:
        return Memory(checked(note, key.public), note)
    except BadCheckpoint as fault:
        raise NotSigned(f"{memory} is not what this key signed last: {fault}.") from None


def _remember(memory: Path, note: str) -> None:
    part = memory.with_name(f"{memory.name}.part")
    part.write_text(note)
    part.replace(memory)


async def _sign(
    conninfo: str,
    key: PrivateKey,
    old: PrivateKey | None,
    remembered: Memory | None,
    after_restore: bool,
) -> str:
    """Check, sign and keep one checkpoint; return the note. Raises: NotSigned."""
    async with await connect_async(conninfo) as connection:
        try:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                return await _sign_in(connection, key, old, remembered, after_restore)
        except psycopg.errors.UniqueViolation:
            raise NotSigned(
                "Another checkpoint was signed at the same time. Run it again."
            ) from None


async def _sign_in(
    connection: Connection,
    key: PrivateKey,
    old: PrivateKey | None,
    remembered: Memory | None,
    after_restore: bool,
) -> str:
    if remembered is not None and not after_restore:
        await _check_remembered(connection, remembered)
    last = await log.last(connection)
    before = NOTHING
    if last is not None:
        await _check_last(connection, last, old or key)
        before = Link(last.number, hash_of(last.note))
    previous, restored = before, None
    if after_restore:
        previous, restored = await _lost(connection, remembered), before
    ledgers, breaks = await log.heads(connection)
    async for user_id, record, what in access_breaks(connection):
        breaks.append(f"{user_id}: record of access {record}: {what}")
    if breaks:
        first = "\n".join(breaks[:20])
        last_one = f"go on from checkpoint {before.number}" if before.number else "hold"
        raise NotSigned(
            f"The ledgers do not {last_one}; nothing is signed.\n{first}\n"
            "`tasktrail verify` says more."
        )
    accesses = await access_heads(connection)
    at, tree = datetime.now(UTC), access_tree([(each.user_id, each.head) for each in accesses])
    root, number = log.root_of(ledgers), previous.number + 1
    text = Statement(
        key.name, len(ledgers), root, number, at, previous.hash, tree, restored
    ).write()
    note = key.sign(text) + (old.sign(text).removeprefix(f"{text}\n") if old else "")
    await log.add(connection, number, note, key.public, ledgers)
    await keep_access_heads(connection, number, accesses)
    return note


async def _check_last(connection: Connection, last: log.Kept, key: PrivateKey) -> None:
    try:
        statement = checked(last.note, key.public)
    except BadCheckpoint as fault:
        raise NotSigned(
            f"Checkpoint {last.number} in the database: {fault}."
            " If another key was used so far, name its file with --old-key."
        ) from None
    if statement.number != last.number or not await log.still_states(connection, statement):
        raise NotSigned(
            f"Checkpoint {last.number}: the heads in the database are not those that were signed."
        )


async def _lost(connection: Connection, remembered: Memory | None) -> Link:
    """Return the checkpoint that was signed last and that a restored backup does not have.

    Raises: NotSigned: it has it, or nobody knows of one.
    """
    if remembered is None:
        raise NotSigned(
            "Nothing that this key signed last is remembered beside it, so nothing is known to be"
            " missing: leave --after-restore out."
        )
    number = remembered.statement.number
    if (kept := await log.last(connection)) is not None and kept.number >= number:
        raise NotSigned(
            f"The database has checkpoint {kept.number}, and {number} was signed last: no backup"
            " from before that was restored. Leave --after-restore out."
        )
    return Link(number, hash_of(remembered.note))


async def _check_remembered(connection: Connection, remembered: Memory) -> None:
    statement, note = remembered
    kept = await log.by_number(connection, statement.number)
    if kept is None or kept.note != note:
        raise NotSigned(
            f"The database does not have checkpoint {statement.number} as this key signed it: it"
            " was put back to an earlier state, or its checkpoints were replaced. If you restored a"
            " backup, say so with --after-restore; the new checkpoint will say it too."
        )
    if not await log.still_states(connection, statement):
        raise NotSigned(
            f"Checkpoint {statement.number}: the heads in the database are not those that were"
            " signed."
        )


def _publish(places: Sequence[str], number: int, note: str) -> dict[str, str]:
    """Keep the note everywhere; return the places where that failed, with why."""
    missed = {}
    for place in places:
        try:
            put(place, number, note)
        except PlaceFailed as failure:
            missed[place] = str(failure)
    return missed


def _tell(summary: Json, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(summary).decode())  # noqa: T201 - this is the command line
        return
    for field, value in summary.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        if shown != "":
            print(f"{field:8} {shown}")  # noqa: T201 - as above

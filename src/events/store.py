"""The SQL on the ledger: ``commit``, the only way commands write to it, and a replay's reads.

Every statement is one autocommit call, and names the user twice: in its WHERE and to row-level
security. So it is safe behind a pooler that gives each transaction another connection.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Literal, LiteralString, NamedTuple

import orjson
from psycopg import AsyncConnection

from events import catalog, ledger
from events.draft import Draft, Entry
from events.ledger import Json, Record
from events.stamp import NOT_YET, Settlement, iso

Connection = AsyncConnection[Any]


class Outcome(NamedTuple):
    """What committing one command came to.

    ``committed``: ``base`` is the ledger's position before it, ``hash`` that of its last event.
    ``replayed``: the key was used before for the same request: ``base``, ``recorded_at`` and the
    provisional ``result`` of that time. ``similar``: ids of open tasks by title. Otherwise nothing
    was written; ``conflicts`` then tells the streams that have moved on: [{stream_type, stream_id,
    version}]. ``locked``: another session is writing this user's ledger; nobody waited for it.
    """

    status: Literal["committed", "replayed", "idempotency_conflict", "version_conflict", "locked"]
    base: int
    recorded_at: datetime
    hash: bytes
    result: Json | None
    similar: dict[str, list[int]] | None
    conflicts: list[Json] | None

    @property
    def settlement(self) -> Settlement:
        """What is needed to settle the answer."""
        return Settlement(self.base, self.recorded_at, self.similar or {})


class Key(NamedTuple):
    """An idempotency key, the hash of the request it came with, and the answer to remember."""

    key: str
    request_hash: bytes
    result: Json


_COMMIT = f"""
SELECT
    c.user_id, c.status, c.base, c.recorded_at, c.hash, c.result, c.alike, c.conflicts
FROM tasktrail.commit_commands(%s, '{iso(NOT_YET)}') AS c
"""


def seal(
    user_id: str, draft: Draft, actor: Json, reason: str | None = None, key: Key | None = None
) -> Json:
    """Return ``draft`` as it is sent: hashed, but for its events' places and times.

    ``actor`` has the eight fields of docs/ledger-format.md.
    """
    command_id = new_id()
    command: Json = {
        "user_id": user_id,
        "command_id": command_id,
        "actor": actor,
        "expected": _expected(draft.entries),
        "events": [sealed(entry, command_id, actor, reason) for entry in draft.entries] or None,
        "tasks": _rows(draft.changed_tasks()),
        "conversations": _rows(draft.changed_conversations()),
        "messages": _rows(draft.changed_messages()),
        "similar_to": "\n".join(draft.similar_to) or None,
    }
    if key is not None:
        command["key"] = key.key
        command["request_hash"] = rf"\x{key.request_hash.hex()}"
        command["result"] = key.result
    return command


class Packed(NamedTuple):
    """A sealed command as it is sent."""

    user_id: str
    text: str


def pack(sealed: Json) -> Packed:
    """Return a sealed command as JSON. Raises: TypeError: it cannot be JSON."""
    return Packed(sealed["user_id"], orjson.dumps(sealed).decode())


Ask = Callable[[str, str], Awaitable[list[tuple[Any, ...]]]]
"""Returns the rows of a statement whose one parameter is a text."""


def asking(connection: Connection) -> Ask:
    """Return the way to ask over a connection, for who has no shorter one."""

    async def ask(statement: str, text: str) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(statement, (text,), binary=True)
        return await cursor.fetchall()

    return ask


async def commit(ask: Ask, commands: list[Packed]) -> list[Outcome]:
    """Write sealed commands of different users, in one round trip and one transaction.

    Each has its own outcome; an error is one of all. Sorted by user, so that two of these at once
    cannot wait for each other's new ledgers in a circle.
    """
    together = ",".join(command.text for command in sorted(commands))
    outcomes = {row[0]: Outcome(*row[1:]) for row in await ask(_COMMIT, f"[{together}]")}
    return [outcomes[command.user_id] for command in commands]


def _expected(entries: list[Entry]) -> list[Json] | None:
    """The versions at which the existing streams were read: before the first event of each."""
    first: dict[tuple[str, int], int] = {}
    for entry in entries:
        if entry.stream_id > 0:
            first.setdefault((entry.stream_type, entry.stream_id), entry.version - 1)
    return [
        {"stream_type": type_, "stream_id": id_, "version": version}
        for (type_, id_), version in first.items()
    ] or None


def _rows(rows: list[Any]) -> list[Json] | None:
    """Rows without their nulls: what is left out is null, and costs nothing to read."""
    return [
        {name: value for name, value in zip(row._fields, row, strict=True) if value is not None}
        for row in rows
    ] or None


def sealed(entry: Entry, command_id: str, actor: Json, reason: str | None) -> Json:
    """Return one event as ``commit_commands`` takes it: sealed, but for its place and its time."""
    type_ = entry.event.type
    schema_version = catalog.VERSIONS[type_]
    event_id = new_id()
    salt = os.urandom(ledger.SALT_BYTES)
    body = {"data": catalog.encode(entry.event), "reason": reason}
    commitment = ledger.commit_to(body, salt)
    content_hash = ledger.hash_content(
        event_id, command_id, type_, schema_version, entry.stream_type, actor, commitment
    )
    return {
        "stream_type": entry.stream_type,
        "stream_id": entry.stream_id,
        "version": entry.version,
        "type": type_,
        "schema_version": schema_version,
        "event_id": event_id,
        "commitment": commitment.hex(),
        "body": body,
        "salt": salt.hex(),
        "content_hash": content_hash.hex(),
    }


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def new_id() -> str:
    """Return a random UUID (RFC 9562, version 4) as text, in a third of the library's time."""
    digits = os.urandom(16).hex()
    third, fourth = f"4{digits[13:16]}", f"{_VARIANT[digits[16]]}{digits[17:20]}"
    return f"{digits[:8]}-{digits[8:12]}-{third}-{fourth}-{digits[20:]}"


_EARLIEST, _LATEST = "0001-01-01 00:00:00.000001+00", "9999-12-31 23:59:59.999999+00"


def moment(column: LiteralString) -> LiteralString:
    """Return the expression for a time: one that Python cannot hold, such as infinity, becomes the
    earliest one, which no event has."""
    beyond = f"{column} NOT BETWEEN '{_EARLIEST}' AND '{_LATEST}'"
    return f"CASE WHEN {beyond} THEN '{_EARLIEST}' ELSE {column} END"


_AS = {
    "event_id": "e.event_id::text",
    "command_id": "e.command_id::text",
    "recorded_at": f"{moment('e.recorded_at')} AS recorded_at",
}
_COLUMNS = ", ".join(_AS.get(name, f"e.{name}") for name in Record._fields)

_READ_LEDGER = f"""
SELECT e.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.events e
    WHERE e.user_id = u AND e.position > %s AND e.position <= %s
    ORDER BY e.position LIMIT %s
) AS e ORDER BY e.position
"""

PAGE = 500
"""Events per read of a long ledger: a few milliseconds of work between two breaths."""


async def read_ledger(
    connection: Connection, user_id: str, after: int = 0, until: int = 2**63 - 1
) -> AsyncIterator[list[Record]]:
    """Yield one user's events in pages, oldest first: positions above ``after`` up to ``until``.

    The ledger only grows, so the pages need no common snapshot. Ids are text, a time is as
    in ``moment``.
    """
    while True:
        cursor = await connection.execute(_READ_LEDGER, (user_id, after, until, PAGE), binary=True)
        page = [Record(*row) for row in await cursor.fetchall()]
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1].position

"""The SQL on the ledger: ``commit``, the only thing that writes to it, and the reads of a replay.

Every statement is one autocommit call, and names the user twice: in its WHERE and to row-level
security. So it is safe behind a pooler that gives each transaction another connection.
"""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import orjson
from psycopg import AsyncConnection

from events import catalog, ledger
from events.draft import Draft, Entry
from events.ledger import Json, Record
from events.stamp import NOT_YET, Settlement, iso

Connection = AsyncConnection[Any]


class Outcome(NamedTuple):
    """What ``commit`` came to.

    ``committed``: ``base`` is the ledger's position before it, ``hash`` that of its last event.
    ``replayed``: the key was used before for the same request: ``base``, ``recorded_at`` and the
    provisional ``result`` of that time. ``similar``: ids of open tasks by title. Otherwise nothing
    was written; ``conflicts`` then tells the streams that have moved on: [{stream_type, stream_id,
    version}].
    """

    status: Literal["committed", "replayed", "idempotency_conflict", "version_conflict"]
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


_NOT_YET = iso(NOT_YET)

_COMMIT = """
SELECT status, base, recorded_at, hash, result, alike, conflicts
FROM tasktrail.commit_command(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


async def commit(
    connection: Connection,
    user_id: str,
    draft: Draft,
    actor: Json,
    reason: str | None = None,
    key: Key | None = None,
) -> Outcome:
    """Write ``draft`` and, with it, the rows it folds to and the answer to a repetition.

    ``actor`` has the eight fields of docs/ledger-format.md. All or nothing, in one round trip.
    """
    command_id = str(uuid4())
    # All as text, which costs psycopg half of what its adapters do.
    arguments = (
        user_id,
        key.key if key else None,
        rf"\x{key.request_hash.hex()}" if key else None,
        _json(key.result) if key else None,
        _NOT_YET,
        command_id,
        _json(actor),
        _expected(draft.entries),
        _events(draft.entries, command_id, actor, reason),
        _rows(draft.changed_tasks()),
        _rows(draft.changed_conversations()),
        _rows(draft.changed_messages()),
        "\n".join(draft.similar_to) if draft.similar_to else None,
    )
    cursor = await connection.execute(_COMMIT, arguments, binary=True)
    return Outcome(*await cursor.fetchone())  # type: ignore[misc] # a function returns a row


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _expected(entries: list[Entry]) -> str | None:
    """The versions at which the existing streams were read: before the first event of each."""
    first: dict[tuple[str, int], int] = {}
    for entry in entries:
        if entry.stream_id > 0:
            first.setdefault((entry.stream_type, entry.stream_id), entry.version - 1)
    if not first:
        return None
    return _json(
        [
            {"stream_type": type_, "stream_id": id_, "version": version}
            for (type_, id_), version in first.items()
        ]
    )


def _rows(rows: list[Any]) -> str | None:
    return _json([row._asdict() for row in rows]) if rows else None


def _events(entries: list[Entry], command_id: str, actor: Json, reason: str | None) -> str | None:
    if not entries:
        return None
    return _json([sealed(entry, command_id, actor, reason) for entry in entries])


def sealed(entry: Entry, command_id: str, actor: Json, reason: str | None) -> Json:
    """Return one event as ``commit_command`` takes it: sealed, but for its place and its time."""
    type_ = entry.event.type
    schema_version = catalog.VERSIONS[type_]
    event_id = str(uuid4())
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


_COLUMNS = ", ".join(f"e.{name}" for name in Record._fields)

_READ_LEDGER = f"""
SELECT e.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.events e
    WHERE e.user_id = u AND e.position > %s AND e.position <= %s
    ORDER BY e.position LIMIT %s
) AS e ORDER BY e.position
"""

_READ_STREAM = f"""
SELECT e.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT {_COLUMNS} FROM tasktrail.events e
    WHERE e.user_id = u AND e.stream_type = %s AND e.stream_id = %s
    ORDER BY e.version
) AS e ORDER BY e.version
"""

PAGE = 500
"""Events per read of a long ledger: a few milliseconds of work between two breaths."""


async def read_ledger(
    connection: Connection, user_id: str, after: int = 0, until: int = 2**63 - 1
) -> AsyncIterator[list[Record]]:
    """Yield one user's events in pages, oldest first: positions above ``after`` up to ``until``.

    The ledger only grows, so the pages need no common snapshot.
    """
    while True:
        cursor = await connection.execute(_READ_LEDGER, (user_id, after, until, PAGE), binary=True)
        page = [Record(*row) for row in await cursor.fetchall()]
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1].position


async def read_stream(
    connection: Connection, user_id: str, stream_type: str, stream_id: int
) -> list[Record]:
    """Return all events of one task or conversation, oldest first."""
    cursor = await connection.execute(_READ_STREAM, (user_id, stream_type, stream_id), binary=True)
    return [Record(*row) for row in await cursor.fetchall()]

"""The records of who looked at whose ledger: read, checked, and compared with what was signed.

Of each user that was looked at the records are a chain, as their events are (migrations/sql/
record_access.sql makes it). A checkpoint states where each of these chains ended, so that cutting
off the last records shows too. All of it is for an auditor's or an operator's login.
"""

import struct
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from events import merkle
from events.ledger import Head, microseconds
from events.store import Connection
from mcp_server.evidence.checkpoint import Tree

_GENESIS_TAG = b"tasktrail/access/v1\0"
_LEAF_TAG = b"tasktrail/access-head/v1\0"
_numbers = struct.Struct(">qq").pack


class AccessRecord(NamedTuple):
    """A row of ``tasktrail.audit_access``."""

    user_id: str
    number: int
    login: str
    details: str
    at: datetime
    hash: bytes


class AccessHead(NamedTuple):
    """Where the records about one user end. ``signed``: where they did at the last checkpoint."""

    user_id: str
    head: Head
    signed: Head | None


_READ = """
SELECT a.user_id, a.number, a.login, a.details, a.at, a.hash FROM tasktrail.audit_access a
WHERE %(user_id)s::text IS NULL OR a.user_id = %(user_id)s
ORDER BY a.user_id, a.number
"""
_PAGE = 500


async def read_records(connection: Connection, user_id: str | None) -> AsyncIterator[AccessRecord]:
    """Yield the records about a user, or about all, user by user, oldest first."""
    async with connection.cursor(binary=True) as cursor:
        async for row in cursor.stream(_READ, {"user_id": user_id}, size=_PAGE):
            yield AccessRecord(*row)


class Chain:
    """Checks the records of one user after another, oldest first."""

    def __init__(self) -> None:
        self._user_id: str | None = None
        self._number = 0
        self._hash = b""

    def add(self, record: AccessRecord) -> str | None:
        """Return what is wrong with a record, None if nothing is."""
        if record.user_id != self._user_id:
            self._user_id, self._number = record.user_id, 0
            self._hash = _genesis(record.user_id)
        expected = sha256(
            self._hash
            + _numbers(record.number, microseconds(record.at))
            + sha256(record.login.encode()).digest()
            + sha256(record.details.encode()).digest()
        ).digest()
        missing = record.number != self._number + 1
        self._number, self._hash = record.number, record.hash
        if missing:
            return "records before it are missing"
        return None if expected == record.hash else "it was changed, or one before it was"


def _genesis(user_id: str) -> bytes:
    return sha256(_GENESIS_TAG + user_id.encode()).digest()


_SIGNED = """
    SELECT DISTINCT ON (c.user_id) c.user_id, c.record, c.hash FROM tasktrail.checkpoint_access c
    WHERE %(number)s::bigint IS NULL OR c.number <= %(number)s
    ORDER BY c.user_id, c.number DESC
"""

_HEADS = f"""
SELECT a.user_id, a.number, a.hash, s.record, s.hash
FROM (
    SELECT DISTINCT ON (r.user_id) r.user_id, r.number, r.hash FROM tasktrail.audit_access r
    ORDER BY r.user_id, r.number DESC
) AS a
LEFT JOIN ({_SIGNED}) AS s ON s.user_id = a.user_id
"""


async def access_heads(connection: Connection) -> list[AccessHead]:
    """Return where the records about each user end."""
    rows = await (await connection.execute(_HEADS, {"number": None}, binary=True)).fetchall()
    return [
        AccessHead(user_id, Head(number, hash_), None if signed is None else Head(signed, signed_))
        for user_id, number, hash_, signed, signed_ in rows
    ]


_UNLIKE_SIGNED = """
SELECT c.user_id, c.number, c.record, a.number IS NULL
FROM tasktrail.checkpoint_access c
LEFT JOIN tasktrail.audit_access a ON a.user_id = c.user_id AND a.number = c.record
WHERE a.hash IS DISTINCT FROM c.hash
ORDER BY c.user_id, c.number
"""


async def access_breaks(connection: Connection) -> AsyncIterator[tuple[str, int, str]]:
    """Yield (user, number of the record, what is wrong with it).

    It reads every record there is.
    """
    rows = await (await connection.execute(_UNLIKE_SIGNED)).fetchall()
    for user_id, number, record, gone in rows:
        what = "is gone" if gone else "has another hash"
        yield user_id, record, f"the record {what}, which checkpoint {number} signed"
    chain = Chain()
    async for each in read_records(connection, None):
        if fault := chain.add(each):
            yield each.user_id, each.number, fault


def access_tree(heads: Sequence[tuple[str, Head]]) -> Tree:
    """Return the tree over where the records about each user end."""
    in_order = sorted((_genesis(user_id), head) for user_id, head in heads)
    leaves = [
        merkle.leaf_hash(_LEAF_TAG + genesis + head.position.to_bytes(8, "big") + head.hash)
        for genesis, head in in_order
    ]
    return Tree(len(leaves), merkle.root(leaves))


async def signed_access_tree(connection: Connection, number: int) -> Tree:
    """Return the tree of a checkpoint, as the database has its leaves now."""
    rows = await (await connection.execute(_SIGNED, {"number": number}, binary=True)).fetchall()
    return access_tree([(user_id, Head(record, hash_)) for user_id, record, hash_ in rows])


_ADD = """
INSERT INTO tasktrail.checkpoint_access (number, user_id, record, hash)
SELECT %s, h.* FROM unnest(%s::text[], %s::bigint[], %s::bytea[]) AS h
"""


async def keep_access_heads(
    connection: Connection, number: int, heads: Sequence[AccessHead]
) -> None:
    """Keep, for a checkpoint, the ends that moved since the one before."""
    moved = [each for each in heads if each.head != each.signed]
    columns = (
        [each.user_id for each in moved],
        [each.head.position for each in moved],
        [each.head.hash for each in moved],
    )
    await connection.execute(_ADD, (number, *columns))


async def sees_access(connection: Connection) -> bool:
    """Whether this login may read the records. (The server's may not.)"""
    query = "SELECT has_table_privilege('tasktrail.audit_access', 'SELECT')"
    row = await (await connection.execute(query)).fetchone()
    return bool(row and row[0])

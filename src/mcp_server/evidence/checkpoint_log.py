"""The checkpoints in the database: read, add, and whether the ledgers go on from them.

All of it is for a connection that may read every ledger, but for ``attest``, which is content with
one user's own.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from events import merkle
from events.ledger import Finding, Head, genesis, link, microseconds
from events.store import Connection, moment
from mcp_server.evidence.access_log import access_breaks, sees_access, signed_access_tree
from mcp_server.evidence.checkpoint import (
    NOTHING,
    Attestation,
    BadCheckpoint,
    Link,
    Statement,
    checked,
    hash_of,
    leaf,
    prove,
    text_of,
)
from mcp_server.evidence.note import BadKey, PublicKey
from mcp_server.sight import SEES_ALL


class Kept(NamedTuple):
    """A checkpoint as the database keeps it."""

    number: int
    note: str
    key: str


class Moved(NamedTuple):
    """A ledger's head now, and the head that was signed last (None: it is new since)."""

    user_id: str
    head: Head
    signed: Head | None


_KEPT = "SELECT number, note, key FROM tasktrail.checkpoints ORDER BY number"
_LAST = f"{_KEPT} DESC LIMIT 1"

_SIGNED_HEADS = """
    SELECT DISTINCT ON (c.user_id) c.user_id, c.position, c.hash
    FROM tasktrail.checkpoint_heads c ORDER BY c.user_id, c.number DESC
"""

_HEADS = f"""
SELECT coalesce(l.user_id, h.user_id), l.position, l.hash, h.position, h.hash, e.hash
FROM ({_SIGNED_HEADS}) AS h
FULL JOIN (SELECT * FROM tasktrail.ledgers WHERE position > 0) AS l ON l.user_id = h.user_id
LEFT JOIN tasktrail.events e ON e.user_id = h.user_id AND e.position = h.position
"""

_NEW_LINKS = f"""
SELECT e.user_id, e.position, e.stream_id, e.version, e.content_hash, e.hash,
       {moment("e.recorded_at")}
FROM tasktrail.ledgers l
LEFT JOIN ({_SIGNED_HEADS}) AS h ON h.user_id = l.user_id
JOIN tasktrail.events e ON e.user_id = l.user_id AND e.position > coalesce(h.position, 0)
ORDER BY e.user_id, e.position
"""


async def last(connection: Connection) -> Kept | None:
    """Return the latest checkpoint, None if there is none."""
    row = await (await connection.execute(_LAST)).fetchone()
    return Kept(*row) if row else None


async def by_number(connection: Connection, number: int) -> Kept | None:
    """Return one checkpoint, None if there is no such."""
    statement = "SELECT number, note, key FROM tasktrail.checkpoints WHERE number = %s"
    row = await (await connection.execute(statement, (number,))).fetchone()
    return Kept(*row) if row else None


async def count(connection: Connection) -> int:
    """Return how many checkpoints there are."""
    row = await (await connection.execute("SELECT count(*) FROM tasktrail.checkpoints")).fetchone()
    return int(row[0]) if row else 0


async def heads(connection: Connection) -> tuple[list[Moved], list[str]]:
    """Return every ledger's head, and why ledgers are not a continuation of what was signed.

    In a transaction with one snapshot. Of what is new, every link is recomputed.
    """
    ledgers, breaks = [], []
    for user_id, *row in await (await connection.execute(_HEADS, binary=True)).fetchall():
        head = Head(row[0], row[1]) if row[0] is not None else None
        signed = Head(row[2], row[3]) if row[2] is not None else None
        if why := _break(head, signed, row[4]):
            breaks.append(f"{user_id}: {why}")
        if head is not None:
            ledgers.append(Moved(user_id, head, signed))
    breaks += [f"{user_id}: {why}" async for user_id, why in _new_breaks(connection, ledgers)]
    return ledgers, breaks


def _break(head: Head | None, signed: Head | None, hash_there: bytes | None) -> str | None:
    if signed is None:
        return None
    if head is None:
        return f"the whole ledger is gone, which was signed up to position {signed.position}"
    if head.position < signed.position:
        return (
            f"the ledger ends at position {head.position}, but was signed up to {signed.position}"
        )
    if hash_there != signed.hash or (head.position == signed.position and head != signed):
        return f"position {signed.position} has another hash than the one that was signed"
    return None


async def _new_breaks(
    connection: Connection, ledgers: Sequence[Moved]
) -> AsyncIterator[tuple[str, str]]:
    """Yield (user, why) where the events since the last checkpoint do not lead to the head."""
    reached = {each.user_id: each.signed or Head(0, genesis(each.user_id)) for each in ledgers}
    broken: dict[str, int] = {}
    async with connection.cursor(name="new_links", binary=True) as cursor:
        cursor.itersize = 5000
        await cursor.execute(_NEW_LINKS)
        async for user_id, position, stream_id, version, content_hash, hash_, at in cursor:
            before = reached.get(user_id)
            if before is None:
                continue
            expected = link(
                before.hash, content_hash, position, stream_id, version, microseconds(at)
            )
            if (position, hash_) != (before.position + 1, expected):
                broken.setdefault(user_id, position)
            reached[user_id] = Head(position, hash_)
    for each in ledgers:
        if reached[each.user_id] != each.head:
            broken.setdefault(each.user_id, each.head.position)
    for user_id, position in broken.items():
        yield user_id, f"the chain does not hold at position {position}"


def root_of(ledgers: Sequence[Moved]) -> bytes:
    """Return the root of the tree over these ledgers."""
    in_order = sorted(ledgers, key=lambda each: genesis(each.user_id))
    return merkle.root([leaf(each.user_id, each.head) for each in in_order])


async def leaves(connection: Connection, number: int) -> list[bytes]:
    """Return the leaves of a checkpoint's tree, as the database has them now."""
    statement = "SELECT tasktrail.checkpoint_leaves(%s)"
    rows = await (await connection.execute(statement, (number,), binary=True)).fetchall()
    return [row[0] for row in rows]


_HEADS_IN = """
SELECT DISTINCT ON (c.user_id) c.user_id, c.position, c.hash FROM tasktrail.checkpoint_heads c
WHERE c.number <= %s ORDER BY c.user_id, c.number DESC
"""


async def still_states(connection: Connection, statement: Statement) -> bool:
    """Whether the heads in the database are those that were signed.

    A login that sees all reads the heads themselves: a function in the database says what somebody
    made it say. Those of the records of access only where this login may see them.
    """
    row = await (await connection.execute(SEES_ALL)).fetchone()
    if row and row[0]:
        cursor = await connection.execute(_HEADS_IN, (statement.number,), binary=True)
        found = [(user, Head(position, hash_)) for user, position, hash_ in await cursor.fetchall()]
        there = [leaf(*each) for each in sorted(found, key=lambda each: genesis(each[0]))]
    else:
        there = await leaves(connection, statement.number)
    if (len(there), merkle.root(there)) != (statement.size, statement.root):
        return False
    if statement.access is None or not await sees_access(connection):
        return True
    return await signed_access_tree(connection, statement.number) == statement.access


_BATCH = 10_000
_ADD_HEADS = """
INSERT INTO tasktrail.checkpoint_heads (number, user_id, position, hash)
SELECT %s, h.* FROM unnest(%s::text[], %s::bigint[], %s::bytea[]) AS h
"""


async def add(
    connection: Connection, number: int, note: str, key: PublicKey, ledgers: Sequence[Moved]
) -> None:
    """Keep a checkpoint and the heads that moved since the one before. In a transaction."""
    await connection.execute(
        "INSERT INTO tasktrail.checkpoints (number, note, key) VALUES (%s, %s, %s)",
        (number, note, str(key)),
    )
    moved = [each for each in ledgers if each.head != each.signed]
    for start in range(0, len(moved), _BATCH):
        batch = moved[start : start + _BATCH]
        columns = (
            [each.user_id for each in batch],
            [each.head.position for each in batch],
            [each.head.hash for each in batch],
        )
        await connection.execute(_ADD_HEADS, (number, *columns))


_SIGNED_HEAD = """
SELECT h.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT c.position, c.hash FROM tasktrail.checkpoint_heads c
    WHERE c.user_id = u AND c.number <= %s ORDER BY c.number DESC LIMIT 1
) AS h
"""


async def attest(connection: Connection, user_id: str) -> Attestation | None:
    """Return the latest checkpoint with the proof of one ledger's head in it.

    None if there is no checkpoint, or none since the ledger began.

    Raises:
        BadCheckpoint: what the database keeps does not prove itself.
    """
    kept = await last(connection)
    if kept is None:
        return None
    row = await (await connection.execute(_SIGNED_HEAD, (user_id, kept.number))).fetchone()
    if row is None:
        return None
    proof = prove(user_id, Head(*row), await leaves(connection, kept.number))
    attestation = Attestation(kept.note, _key(kept), proof)
    attestation.check(user_id)
    return attestation


def _key(kept: Kept) -> PublicKey:
    try:
        return PublicKey.read(kept.key)
    except BadKey as fault:
        raise BadCheckpoint(f"checkpoint {kept.number}: {fault}") from None


_UNLIKE_SIGNED = """
SELECT h.user_id, h.number, h.position, e.position IS NULL
FROM tasktrail.checkpoint_heads h
LEFT JOIN tasktrail.events e ON e.user_id = h.user_id AND e.position = h.position
WHERE e.hash IS DISTINCT FROM h.hash
ORDER BY h.user_id, h.number
"""

_UNLIKE_SIGNED_OF_ONE = """
SELECT s.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT h.user_id, h.number, h.position, e.position IS NULL
    FROM tasktrail.checkpoint_heads h
    LEFT JOIN tasktrail.events e ON e.user_id = u AND e.position = h.position
    WHERE h.user_id = u AND e.hash IS DISTINCT FROM h.hash
    ORDER BY h.number
) AS s
"""


async def verify_checkpoints(
    connection: Connection,
    user_id: str | None = None,
    trusted: PublicKey | None = None,
) -> AsyncIterator[tuple[str | None, Finding]]:
    """Yield (user, finding) for whatever contradicts the checkpoints; user None: the checkpoints'
    own fault.

    ``user_id``: only this user's ledger. ``trusted``: the key that must have signed; without it the
    one in the database must, which proves less.
    """
    statements: list[Statement] = []
    async for number, fault in _check_notes(connection, trusted, statements):
        yield None, Finding(0, "checkpoint", f"{number}: {fault}")
    if statements and not await still_states(connection, statements[-1]):
        what = f"{statements[-1].number}: the heads in the database are not those that were signed"
        yield None, Finding(0, "checkpoint", what)
    query: tuple[Any, ...] = (_UNLIKE_SIGNED_OF_ONE, (user_id,)) if user_id else (_UNLIKE_SIGNED,)
    for user, number, position, gone in await (await connection.execute(*query)).fetchall():
        what = "is gone" if gone else "has another hash"
        signed = f"the event {what}, which checkpoint {number} signed"
        yield user, Finding(position, "checkpoint", signed)
    if user_id is not None:
        return
    if await sees_access(connection):
        async for user, number, what in access_breaks(connection):
            yield user, Finding(number, "access", what)
    elif any(statement.access is not None for statement in statements):
        what = "this login may not read the records of access, which were signed too"
        yield None, Finding(0, "access", what)


async def _all(connection: Connection) -> list[Kept]:
    return [Kept(*row) for row in await (await connection.execute(_KEPT)).fetchall()]


async def _check_notes(
    connection: Connection, trusted: PublicKey | None, statements: list[Statement]
) -> AsyncIterator[tuple[int, str]]:
    """Yield (number, fault) for checkpoints that do not hold; add what the others state."""
    kept = await _all(connection)
    vouched_for = _vouched_for(kept, trusted) if trusted else set()
    before = NOTHING
    for each in kept:
        try:
            by = trusted if trusted and each.number not in vouched_for else _key(each)
            statement = checked(each.note, by)
        except BadCheckpoint as fault:
            yield each.number, str(fault)
        else:
            if statement.number != each.number or statement.follows.number != before.number:
                yield each.number, f"expected checkpoint {before.number + 1}, which is missing"
            elif statement.follows != before:
                yield each.number, "does not follow from the checkpoint before it"
            else:
                statements.append(statement)
        before = Link(each.number, hash_of(each.note))


def _vouched_for(kept: Sequence[Kept], trusted: PublicKey) -> set[int]:
    """Return the numbers of the checkpoints that ``trusted`` did not sign, but a later one, which
    goes on from them: they are from before the key was changed."""
    numbers: set[int] = set()
    follows: Link | None = None
    for each in reversed(kept):
        try:
            statement = Statement.read(text_of(each.note))
            if follows == Link(each.number, hash_of(each.note)):
                numbers.add(each.number)
            else:
                checked(each.note, trusted)
            follows = statement.follows
        except BadCheckpoint:
            follows = None
    return numbers


async def compare_outside(
    connection: Connection, note: str, trusted: PublicKey | None
) -> tuple[int, str | None]:
    """Return the number of a checkpoint that was kept outside, and why the database does not go on
    from it, None if it does.

    ``trusted`` need not have signed one that the database has too: ``verify_checkpoints`` says
    whether that is to be believed.

    Raises:
        BadCheckpoint: it is none, or neither ``trusted`` signed it nor a key from before.
    """
    statement = Statement.read(text_of(note))
    number = statement.number
    kept = await by_number(connection, number)
    if trusted is not None and (kept is None or kept.note != note):
        await _check_signed(connection, note, trusted)
    if kept is None:
        return number, f"{number}: {await _why_missing(connection, number)}"
    if kept.note != note:
        return number, f"{number}: is not the one that was kept outside"
    if not await still_states(connection, statement):
        return number, f"{number}: the heads in the database are not those that were signed"
    return number, None


async def _check_signed(connection: Connection, note: str, trusted: PublicKey) -> None:
    """Raises: BadCheckpoint: neither ``trusted`` signed it nor a key before it, as what ``trusted``
    vouches for shows."""
    kept = await _all(connection)
    vouched_for = _vouched_for(kept, trusted)
    for each in kept:
        if each.number in vouched_for:
            with suppress(BadCheckpoint):
                checked(each.note, _key(each))
                checked(note, _key(each))
                return
    checked(note, trusted)


async def _why_missing(connection: Connection, number: int) -> str:
    after = next((each for each in await _all(connection) if each.number > number), None)
    with suppress(BadCheckpoint):
        restored = checked(after.note, _key(after)).restored if after else None
        if after and restored and restored.number < number:
            return (
                "was kept outside, and lost when a backup was restored: checkpoint"
                f" {after.number} says that it goes on from {restored.number}"
            )
    return "was kept outside, and is missing in the database"

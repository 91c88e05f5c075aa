"""The hash chain of a ledger, format 1 (docs/ledger-format.md): pure functions over bytes.

Of each event a person's words (the body) enter the chain only as a salted commitment, so that they
can be erased and every hash still verifies:

    commitment   = HMAC-SHA-256(salt, "tasktrail/body/v1\\0" + JCS(body))
    header       = JCS of who, what and the commitment
    content_hash = SHA-256("tasktrail/event/v1\\0" + header)
    hash         = SHA-256(previous hash + content_hash + position, stream_id, version, time)

The first three are computed here when a command is decided, the last in SQL under the user's lock
(migrations/sql/commit_commands.sql) and here to verify. JCS is RFC 8785.
"""

import hmac
import struct
from binascii import hexlify, unhexlify
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import orjson

_BODY_TAG = b"tasktrail/body/v1\0"
_EVENT_TAG = b"tasktrail/event/v1\0"
_LEDGER_TAG = b"tasktrail/ledger/v1\0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SALT_BYTES = 16
_place = struct.Struct(">qqqq").pack

Json = dict[str, Any]


class Record(NamedTuple):
    """One row of ``tasktrail.events`` without its user, as the ledger keeps it.

    Whoever reads in bulk may give the ids as text: lower case, with hyphens.
    """

    position: int
    stream_type: str
    stream_id: int
    version: int
    type: str
    schema_version: int
    event_id: UUID | str
    command_id: UUID | str
    actor: Json
    commitment: bytes
    body: Json | None
    salt: bytes | None
    content_hash: bytes
    hash: bytes
    recorded_at: datetime


class Head(NamedTuple):
    """What ``tasktrail.ledgers`` says of a ledger: its last position and that event's hash."""

    position: int
    hash: bytes


class Finding(NamedTuple):
    """One thing that is wrong: at which position, in which field, and what."""

    position: int
    field: str
    what: str


class NotOurs(ValueError):
    """A value that the format does not allow, and that Tasktrail never wrote."""


def jcs(value: Json) -> bytes:
    """Return ``value`` in canonical form (RFC 8785).

    Our keys are ASCII and our numbers integers within +-(2**53-1), and there orjson with sorted
    keys and RFC 8785 agree; a test compares them with the rfc8785 package.

    Raises: NotOurs, when it is no object, or there is a float in it (orjson would write NaN as
    null), a larger integer, a lone surrogate, or too deep a nest.
    """
    return jcs_of_many([value])[0]


def jcs_of_many(values: list[Json]) -> list[bytes]:
    """Return the canonical form of each of ``values``, quicker than ``jcs`` one by one.

    Raises: NotOurs, when it would for one of them.
    """
    if any(type(value) is not dict for value in values):
        raise NotOurs("it is no object")
    try:
        canonical = [orjson.dumps(value, None, _CANONICAL) for value in values]
    except orjson.JSONEncodeError as error:
        raise NotOurs(str(error)) from error
    if any(map(_holds_float, values)):
        raise NotOurs("a number in it is no integer")
    return canonical


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


def _holds_float(value: Json | list[Any]) -> bool:
    for part in value.values() if isinstance(value, dict) else value:
        kind = type(part)
        if kind is str or kind is int or part is None:  # nearly all
            continue
        if kind is float or ((kind is dict or kind is list) and _holds_float(part)):
            return True
    return False


def commit_to(body: Json, salt: bytes) -> bytes:
    """Return the commitment to ``body``; ``salt`` is SALT_BYTES random bytes. Raises: NotOurs."""
    canonical = jcs(body)
    if len(salt) != SALT_BYTES:
        return hmac.digest(salt, _BODY_TAG + canonical, "sha256")
    return commitments([canonical], [salt])[0]


def commitments(bodies: Iterable[bytes], salts: Iterable[bytes]) -> list[bytes]:
    """Return the commitment to each body, in canonical form, with its salt of SALT_BYTES bytes.

    HMAC-SHA-256 (RFC 2104) for a key of that length takes half the time of the library's.
    """
    return [
        sha256(
            salt.translate(_OUTER)
            + _OUTER_REST
            + sha256(salt.translate(_INNER) + _INNER_REST + body).digest()
        ).digest()
        for body, salt in zip(bodies, salts, strict=True)
    ]


_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_INNER_REST = b"\x36" * (64 - SALT_BYTES) + _BODY_TAG
_OUTER_REST = b"\x5c" * (64 - SALT_BYTES)


def hash_content(
    event_id: str,
    command_id: str,
    type_: str,
    schema_version: int,
    stream_type: str,
    actor: Json,
    commitment: bytes,
) -> bytes:
    """Return the content hash; both ids as lower-case text with hyphens. Raises: NotOurs."""
    ids = header_ids(command_id.encode(), commitment, event_id.encode())
    end = header_end(type_, schema_version, stream_type)
    return content_hashes([header_start(jcs(actor))], [ids], [end])[0]


def content_hashes(
    starts: Iterable[bytes], ids: Iterable[bytes], ends: Iterable[bytes]
) -> list[bytes]:
    """Return content hashes. Each header is put together of three parts, in the order of its keys:
    faster than making an object of it first."""
    parts = zip(starts, ids, ends, strict=True)
    return [sha256(start + its_ids + end).digest() for start, its_ids, end in parts]


def header_start(actor: bytes) -> bytes:
    """Return a header up to the first id, and the tag before it; ``actor`` is canonical."""
    return _EVENT_TAG + b'{"actor":' + actor + b',"command_id":"'


def header_ids(command_id: bytes, commitment: bytes, event_id: bytes) -> bytes:
    """Return a header from the first id to the last (``projections.glance`` has Postgres do it)."""
    return b'%b","commitment":"%b","event_id":"%b' % (command_id, hexlify(commitment), event_id)


def commitment_in(ids: bytes) -> bytes:
    """Return the commitment in ``header_ids``: the very one that is hashed with them, whatever
    whoever put them together may say it was. Raises: ValueError."""
    if len(ids) != _IDS:
        raise ValueError("an id or the commitment is not as long as it should be")
    return unhexlify(ids[_COMMITMENT])


_IDS = len(header_ids(b"-" * 36, bytes(32), b"-" * 36))
_COMMITMENT = slice(52, 116)


@lru_cache(maxsize=1000)  # there are some twenty, but a forger may make more
def header_end(type_: str, schema_version: int, stream_type: str) -> bytes:
    """Return what comes after a header's last id. Raises: NotOurs."""
    last = {"schema_version": schema_version, "stream_type": stream_type, "type": type_, "v": 1}
    return b'",' + jcs(last)[1:]


def genesis(user_id: str) -> bytes:
    """Return what stands for the previous hash of a ledger's first event."""
    return sha256(_LEDGER_TAG + user_id.encode()).digest()


def microseconds(at: datetime) -> int:
    """Return microseconds since 1970 in UTC, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def link(
    previous: bytes, content_hash: bytes, position: int, stream_id: int, version: int, at: int
) -> bytes:
    """Return the hash of an event at its place; ``at`` in microseconds since 1970."""
    return links([previous], [content_hash], [position], [stream_id], [version], [at])[0]


def links(
    previous: Iterable[bytes],
    contents: Iterable[bytes],
    positions: Iterable[int],
    streams: Iterable[int],
    versions: Iterable[int],
    times: Iterable[int],
) -> list[bytes]:
    """Return ``link`` of each."""
    return [
        sha256(before + content_hash + place).digest()
        for before, content_hash, place in zip(
            previous, contents, map(_place, positions, streams, versions, times), strict=True
        )
    ]


class Chain:
    """Checks one user's events as they come, oldest first.

    ``findings`` grows by what is wrong with each. A break is reported once, at the event where it
    shows: the check goes on from the hash that is stored. Memory grows with the streams, not with
    the events.
    """

    def __init__(self, user_id: str) -> None:
        self.findings: list[Finding] = []
        self.position = 0
        self._hash = genesis(user_id)
        self.recorded_at = 0
        self._versions: dict[tuple[str, int], int] = {}
        self._without_body: list[int] = []

    def add(self, record: Record) -> None:
        """Check one event against itself and against the one before it."""
        self.add_columns(*record)

    def add_columns(
        self,
        position: int,
        stream_type: str,
        stream_id: int,
        version: int,
        type_: str,
        schema_version: int,
        event_id: UUID | str,
        command_id: UUID | str,
        actor: Json | bytes,
        commitment: bytes,
        body: Json | None,
        salt: bytes | None,
        content_hash: bytes,
        hash_: bytes,
        recorded_at: datetime,
    ) -> None:
        """``add`` for who checks in bulk and makes no record. ``actor`` as bytes is canonical.

        Most of a verification's time is spent in here.
        """
        at = (recorded_at - _EPOCH) // _MICROSECOND
        stream = stream_type, stream_id
        expected = self._versions.get(stream, 0) + 1
        if position != self.position + 1:
            what = f"expected {self.position + 1}: events are missing or added"
            self._find(position, "position", what)
        if at < self.recorded_at:
            self._find(position, "recorded_at", "is earlier than the event before it")
        if version != expected:
            self._find(position, "version", f"expected {expected} in its stream")
        self._check_body(position, type_, body, salt, commitment)
        try:
            who = actor if isinstance(actor, bytes) else jcs(actor)
            ids = header_ids(str(command_id).encode(), commitment, str(event_id).encode())
            end = header_end(type_, schema_version, stream_type)
            intact = content_hashes([header_start(who)], [ids], [end]) == [content_hash]
        except NotOurs:  # a value that the format forbids has no hash
            intact = False
        if not intact:
            what = "does not match type, actor, ids or commitment"
            self._find(position, "content_hash", what)
        place = _place(position, stream_id, version, at)
        if sha256(self._hash + content_hash + place).digest() != hash_:
            what = "does not follow from the event before it and its own columns"
            self._find(position, "hash", what)
        self.position, self.recorded_at, self._hash = position, at, hash_
        self._versions[stream] = version

    def _check_body(
        self, position: int, type_: str, body: Json | None, salt: bytes | None, commitment: bytes
    ) -> None:
        if body is None or salt is None:
            if body is None and salt is None and type_ != "LedgerErased":
                self._without_body.append(position)
            else:
                self._find(position, "body", "body and salt are not both there")
            return
        if len(salt) != SALT_BYTES:  # zeros after a salt do not change an HMAC
            self._find(position, "salt", f"is not {SALT_BYTES} bytes")
        try:
            intact = commit_to(body, salt) == commitment
        except NotOurs:
            intact = False
        if not intact:
            self._find(position, "body", "does not match its commitment")
        if type_ == "LedgerErased":
            self._erased(position, body)

    def _erased(self, position: int, body: Json) -> None:
        """A body may be missing where a later erasure covers it."""
        match body:
            case {"data": {"through": int(through)}} if through < position:
                covered = through
            case _:
                what = "an erasure must cover positions before its own"
                self._find(position, "body", what)
                return
        self._without_body = [each for each in self._without_body if each > covered]

    def _find(self, position: int, field: str, what: str) -> None:
        self.findings.append(Finding(position, field, what))

    def close(self, head: Head) -> list[Finding]:
        """Return all findings, in order, now that the ledger's ``head`` is known too."""
        for position in self._without_body:
            what = "is missing, and no later erasure covers it"
            self.findings.append(Finding(position, "body", what))
        if (head.position, head.hash) != (self.position, self._hash):
            what = f"the head is at {head.position}, the last event at {self.position}"
            if head.position == self.position:
                what = "the head's hash is not the last event's"
            self.findings.append(Finding(head.position, "head", what))
        return sorted(self.findings)


def verify(user_id: str, records: Iterable[Record], head: Head) -> Iterator[Finding]:
    """Check a whole ledger, oldest event first; yields what is wrong, nothing if it is intact."""
    chain = Chain(user_id)
    for record in records:
        chain.add(record)
    yield from chain.close(head)

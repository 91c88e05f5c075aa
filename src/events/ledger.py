"""The hash chain of a ledger, format 1 (docs/ledger-format.md): pure functions over bytes.

Of each event a person's words (the body) enter the chain only as a salted commitment, so that they
can be erased and every hash still verifies:

    commitment   = HMAC-SHA-256(salt, "tasktrail/body/v1\\0" + JCS(body))
    header       = JCS of who, what and the commitment
    content_hash = SHA-256("tasktrail/event/v1\\0" + header)
    hash         = SHA-256(previous hash + content_hash + position, stream_id, version, time)

The first three are computed here when a command is decided, the last in SQL under the user's lock
(migrations/sql/commit_command.sql) and here to verify. JCS is RFC 8785.
"""

import hmac
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
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
    if type(value) is not dict:
        raise NotOurs("it is no object")
    try:
        canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except orjson.JSONEncodeError as error:
        raise NotOurs(str(error)) from error
    if _holds_float(value):
        raise NotOurs("a number in it is no integer")
    return canonical


def _holds_float(value: Json | list[Any]) -> bool:
    for part in value.values() if isinstance(value, dict) else value:
        kind = type(part)
        if kind is str or kind is int or part is None:  # nearly all
            continue
        if kind is float or ((kind is dict or kind is list) and _holds_float(part)):
            return True
    return False


def commit_to(body: Json, salt: bytes) -> bytes:
    """Return the commitment to ``body``; ``salt`` is SALT_BYTES random bytes."""
    return _hmac(salt, _BODY_TAG + jcs(body))


_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_INNER_REST = b"\x36" * (64 - SALT_BYTES)
_OUTER_REST = b"\x5c" * (64 - SALT_BYTES)


def _hmac(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-256 (RFC 2104), for a salt in half the time of the library's."""
    if len(key) != SALT_BYTES:
        return hmac.digest(key, message, "sha256")
    inner = sha256(key.translate(_INNER) + _INNER_REST + message).digest()
    return sha256(key.translate(_OUTER) + _OUTER_REST + inner).digest()


def hash_content(
    event_id: str,
    command_id: str,
    type_: str,
    schema_version: int,
    stream_type: str,
    actor: Json,
    commitment: bytes,
) -> bytes:
    """Return the content hash; both ids as lower-case text with hyphens."""
    header = {
        "v": 1,
        "event_id": event_id,
        "command_id": command_id,
        "type": type_,
        "schema_version": schema_version,
        "stream_type": stream_type,
        "actor": actor,
        "commitment": commitment.hex(),
    }
    return sha256(_EVENT_TAG + jcs(header)).digest()


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
    return sha256(previous + content_hash + _place(position, stream_id, version, at)).digest()


def _body_holds(body: Json, salt: bytes, commitment: bytes) -> bool:
    try:
        return commit_to(body, salt) == commitment
    except NotOurs:  # a value that the format forbids has no commitment
        return False


def _header_holds(record: Record) -> bool:
    try:
        content_hash = hash_content(
            str(record.event_id),
            str(record.command_id),
            record.type,
            record.schema_version,
            record.stream_type,
            record.actor,
            record.commitment,
        )
    except NotOurs:
        return False
    return content_hash == record.content_hash


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
        at = microseconds(record.recorded_at)
        self._check_order(record, at)
        self._check_body(record)
        if not _header_holds(record):
            self._find(record, "content_hash", "does not match type, actor, ids or commitment")
        expected = link(
            self._hash,
            record.content_hash,
            record.position,
            record.stream_id,
            record.version,
            at,
        )
        if record.hash != expected:
            what = "does not follow from the event before it and its own columns"
            self._find(record, "hash", what)
        self._hash = record.hash
        self.position = record.position
        self.recorded_at = at

    def _check_order(self, record: Record, at: int) -> None:
        if record.position != self.position + 1:
            what = f"expected {self.position + 1}: events are missing or added"
            self._find(record, "position", what)
        if at < self.recorded_at:
            self._find(record, "recorded_at", "is earlier than the event before it")
        stream = (record.stream_type, record.stream_id)
        expected = self._versions.get(stream, 0) + 1
        if record.version != expected:
            self._find(record, "version", f"expected {expected} in its stream")
        self._versions[stream] = record.version

    def _check_body(self, record: Record) -> None:
        if record.body is None and record.salt is None and record.type != "LedgerErased":
            self._without_body.append(record.position)
        elif record.body is None or record.salt is None:
            self._find(record, "body", "body and salt are not both there")
        else:
            if len(record.salt) != SALT_BYTES:  # zeros after a salt do not change an HMAC
                self._find(record, "salt", f"is not {SALT_BYTES} bytes")
            if not _body_holds(record.body, record.salt, record.commitment):
                self._find(record, "body", "does not match its commitment")
            if record.type == "LedgerErased":
                self._erased(record)

    def _erased(self, record: Record) -> None:
        """A body may be missing where a later erasure covers it."""
        match record.body:
            case {"data": {"through": int(through)}} if through < record.position:
                covered = through
            case _:
                self._find(record, "body", "an erasure must cover positions before its own")
                return
        self._without_body = [position for position in self._without_body if position > covered]

    def _find(self, record: Record, field: str, what: str) -> None:
        self.findings.append(Finding(record.position, field, what))

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

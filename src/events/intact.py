"""Is a ledger intact? Yes, or "I doubt it": the checks of ``ledger.Chain``, and the fold, at once.

Nearly every ledger that is verified is intact. So first it is asked quickly whether it is, and only
if not, ``Chain`` is asked what is wrong. The loop in here has no words for that, makes no records,
and takes the columns as the database sends them. It never passes what ``Chain`` objects to; what it
does not know, such as a type from a newer version, it may doubt in vain. A test forges ledgers and
asks both. Pure.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from orjson import loads

from events.catalog import STREAM_TYPES, VERSIONS, UnknownEvent
from events.ledger import (
    SALT_BYTES,
    Head,
    commit_to,
    genesis,
    hash_header,
    header_end,
    jcs,
    link,
)
from events.replay import Replay
from events.stamp import Stamp

Columns = tuple[Any, ...]
"""An event: position, kind, stream, version, event id, command id, actor, commitment, body, salt,
content hash, hash, time, and the time as the replay shall have it.

The kind (stream type, type and schema version, with a space between), the ids, the actor and the
body (these two are JSON) are bytes. The time is in microseconds since 2000, as Postgres sends it.
"""

_FROM_1970_TO_2000 = 946_684_800_000_000


class Doubt(Exception):
    """Something may be wrong with the ledger."""


class End(NamedTuple):
    """Where a ledger ends; ``at`` is in microseconds since 2000."""

    head: Head
    at: int


class _Kind(NamedTuple):
    type: str
    schema_version: int
    stream_type: str
    header_end: bytes


_KINDS = {
    f"{stream_type} {event_class.__name__} {version}".encode(): _Kind(
        event_class.__name__,
        version,
        stream_type,
        header_end(event_class.__name__, version, stream_type),
    )
    for event_class, stream_type in STREAM_TYPES.items()
    for version in range(1, VERSIONS[event_class.__name__] + 1)
}
_ODD = (ValueError, TypeError, LookupError, UnknownEvent, struct.error)
"""What reading odd values raises."""


def follow(user_id: str, events: Iterable[Columns], replay: Replay | None) -> End:
    """Check all events of a user, oldest first, and add them to ``replay`` if there is one.

    Raises: Doubt.
    """
    try:
        return _follow(user_id, events, replay)
    except _ODD as odd:
        raise Doubt from odd


def _follow(user_id: str, events: Iterable[Columns], replay: Replay | None) -> End:
    """One flat loop: in here every call costs a hundredth of an event's time."""
    last, previous, latest = 0, genesis(user_id), -_FROM_1970_TO_2000
    without_body = erased_through = 0
    versions: dict[str, dict[int, int]] = {stream_type: {} for stream_type in STREAM_TYPES.values()}
    for (
        position,
        kind,
        stream_id,
        version,
        event_id,
        command_id,
        actor,
        commitment,
        text,
        salt,
        content_hash,
        hash_,
        at,
        time,
    ) in events:
        type_, schema_version, stream_type, end = _KINDS[kind]
        streams = versions[stream_type]
        micros = at + _FROM_1970_TO_2000
        if (
            position != last + 1
            or version != streams.get(stream_id, 0) + 1
            or at < latest
            or hash_header(_canonical(actor), command_id, commitment, event_id, end) != content_hash
            or link(previous, content_hash, position, stream_id, version, micros) != hash_
        ):
            raise Doubt
        if text is None:
            if salt is not None or type_ == "LedgerErased":
                raise Doubt
            without_body = position
        else:
            body = loads(text)
            if len(salt) != SALT_BYTES or commit_to(body, salt) != commitment:
                raise Doubt
            data = body["data"]
            if type_ == "LedgerErased":
                erased_through = max(erased_through, _through(data, position))
            if replay is not None:
                stamp = Stamp(position, version, time)
                replay.add_data(type_, schema_version, data, stream_id, stamp)
        streams[stream_id] = version
        last, previous, latest = position, hash_, at
    if without_body > erased_through:
        raise Doubt
    return End(Head(last, previous), latest)


@lru_cache(maxsize=1000)  # a client does many things, and without a trace they have one actor
def _canonical(actor: bytes) -> bytes:
    return jcs(loads(actor))


def _through(data: Any, position: int) -> int:
    """Return up to where an erasure says that it erased: before its own position."""
    through = data["through"]
    if type(through) is not int or through >= position:
        raise Doubt
    return through

"""Is a ledger intact? Yes, or "I doubt it": the checks of ``ledger.Chain``, and the fold, at once.

Nearly every ledger that is verified is intact. So first it is asked quickly whether it is, and only
if not, ``Chain`` is asked what is wrong. What is in here has no words for that, makes no records,
and takes the columns as the database sends them. It never passes what ``Chain`` objects to; what it
does not know, such as a type from a newer version, it may doubt in vain. A test forges ledgers and
asks both. Pure.

The events are checked a hundred at a time and column by column, not one by one: a short loop that
does one thing to many stays in the processor's nearest memory, and takes up to a third less time.
"""

import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import compress, islice
from operator import eq
from typing import Any, NamedTuple

from orjson import loads

from events.catalog import (
    BEGINNINGS,
    BODY_PARTS,
    STREAM_TYPES,
    VERSIONS,
    UnknownEvent,
    decoder,
)
from events.ledger import (
    SALT_BYTES,
    Head,
    Record,
    commitment_in,
    commitments,
    content_hashes,
    genesis,
    header_end,
    header_ids,
    header_start,
    jcs,
    jcs_of_many,
    links,
    microseconds,
)
from events.replay import FOLDS, Replay
from events.stamp import Stamp

Columns = tuple[Any, ...]
"""An event: user, position, kind, stream, version, ids, actor, body, salt, content hash, hash and
time.

The kind (stream type, type and schema version, with a space between), the ids (as
``ledger.header_ids`` puts them together, the commitment among them), the actor and the body (these
two are JSON) are bytes. The time is in microseconds since 2000, as Postgres sends it; the replay
gets it like that, and never looks at it.
"""

AT_ONCE = 100
"""Events whose columns are checked together."""

_FROM_1970_TO_2000 = 946_684_800_000_000
_LAST_MOMENT = microseconds(datetime.max.replace(tzinfo=UTC)) - _FROM_1970_TO_2000


class Doubt(Exception):
    """Something may be wrong with the ledger."""


class End(NamedTuple):
    """Where a ledger ends; ``at`` is in microseconds since 2000."""

    head: Head
    at: int


class _Columns(NamedTuple):
    """Some events, column by column."""

    users: tuple[bytes, ...]
    positions: tuple[int, ...]
    kinds: tuple[bytes, ...]
    streams: tuple[int, ...]
    versions: tuple[int, ...]
    ids: tuple[bytes, ...]
    actors: tuple[bytes, ...]
    bodies: tuple[Any, ...]
    salts: tuple[Any, ...]
    contents: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    times: tuple[int, ...]


_BODY = _Columns._fields.index("bodies")
_NOTHING = _Columns(*[()] * len(_Columns._fields))


class _Kind(NamedTuple):
    """What is the same for all events of a kind."""

    stream_type: str
    begins: bool
    erases: bool
    header_end: bytes
    decode: Callable[[Any], Any]
    fold: Callable[[Replay, Any, int, Stamp], None]


def _kind(stream_type: str, type_: str, version: int) -> _Kind:
    begins, erases = type_ in BEGINNINGS, type_ == "LedgerErased"
    end = header_end(type_, version, stream_type)
    return _Kind(stream_type, begins, erases, end, decoder(type_, version), FOLDS[type_])


_KINDS = {
    f"{stream_type} {type_} {version}".encode(): _kind(stream_type, type_, version)
    for type_, stream_type in ((cls.__name__, of) for cls, of in STREAM_TYPES.items())
    for version in range(1, VERSIONS[type_] + 1)
}
_ODD = (ValueError, TypeError, LookupError, UnknownEvent, struct.error)
"""What reading odd values raises."""


def follow(
    user_id: str, events: Iterable[Columns], replay: Replay | None, exported: bool = False
) -> End:
    """Check all events of a user, oldest first, and add them to ``replay`` if there is one.

    ``exported``: they come from a bundle, where actors and bodies are in canonical form, bodies
    hold nothing but what they should, and streams begin with what begins them.

    Raises: Doubt.
    """
    walk = _Walk(user_id, replay, exported)
    events = iter(events)
    try:
        while some := list(islice(events, AT_ONCE)):
            walk.add(some)
    except _ODD as odd:
        raise Doubt from odd
    return walk.end()


class Watch:
    """``follow`` for who has records, page by page, and reads them for something else."""

    def __init__(self, user_id: str) -> None:
        self._walk = _Walk(user_id, None, exported=False, parsed=True)
        self._doubts = False

    def see(self, records: list[Record]) -> None:
        """Check the next events. After a doubt it costs nothing."""
        if self._doubts:
            return
        try:
            for start in range(0, len(records), AT_ONCE):
                self._walk.add(_columns(records[start : start + AT_ONCE]))
        except (Doubt, *_ODD):
            self._doubts = True

    def holds(self, head: Head) -> bool:
        """Whether all is right with what was seen, and it ends at ``head``. No means perhaps."""
        try:
            return not self._doubts and self._walk.end().head == head
        except Doubt:
            return False


def _columns(records: list[Record]) -> list[Columns]:
    """Return the columns that a ``parsed`` walk takes."""
    actors = jcs_of_many([record.actor for record in records])
    return [
        (
            None,
            position,
            f"{stream_type} {type_} {schema_version}".encode(),
            stream_id,
            version,
            header_ids(str(command_id).encode(), commitment, str(event_id).encode()),
            canonical,
            body,
            salt,
            content_hash,
            hash_,
            microseconds(recorded_at) - _FROM_1970_TO_2000,
        )
        for (
            position,
            stream_type,
            stream_id,
            version,
            type_,
            schema_version,
            event_id,
            command_id,
            _actor,
            commitment,
            body,
            salt,
            content_hash,
            hash_,
            recorded_at,
        ), canonical in zip(records, actors, strict=True)
    ]


class _Walk:
    """A way along one ledger. What it is given are columns: as many values in each as events.

    ``parsed``: bodies are objects, and actors in canonical form.
    """

    def __init__(
        self, user_id: str, replay: Replay | None, exported: bool, parsed: bool = False
    ) -> None:
        self._replay = replay
        self._exported = exported
        self._parsed = parsed
        self._last, self._hash, self._latest = 0, genesis(user_id), -_FROM_1970_TO_2000
        self._versions: dict[str, dict[int, int]] = {name: {} for name in STREAM_TYPES.values()}
        self._without_body = self._erased_through = 0

    def add(self, events: list[Columns]) -> None:
        """Check the next events. Raises: Doubt, and ``_ODD``."""
        columns = _Columns(*zip(*events, strict=True))
        self._check_chain(columns)
        if None in columns.bodies:
            self._pass_over(_Columns(*zip(*[e for e in events if e[_BODY] is None], strict=True)))
            events = [event for event in events if event[_BODY] is not None]
            columns = _Columns(*zip(*events, strict=True)) if events else _NOTHING
        self._check_bodies(columns)

    def end(self) -> End:
        """Return where it ended. Raises: Doubt."""
        _require(self._without_body <= self._erased_through)
        return End(Head(self._last, self._hash), self._latest)

    def _check_chain(self, these: _Columns) -> None:
        """Check positions, times and versions, content hashes and links."""
        positions, times = these.positions, these.times
        kinds = [_KINDS[kind] for kind in these.kinds]
        _require(positions == tuple(range(self._last + 1, self._last + 1 + len(positions))))
        _require(times[0] >= self._latest and sorted(times) == list(times))
        _require(times[-1] <= _LAST_MOMENT)
        self._count([kind.stream_type for kind in kinds], these.streams, these.versions)
        if self._exported:
            begins = [kind.begins for kind in kinds]
            _require(list(map(eq, these.streams, positions)) == begins)
            _require([version == 1 for version in these.versions] == begins)
        start = header_start if self._parsed else _start
        starts = [start(actor) for actor in these.actors]
        if self._exported:
            _require(starts == [header_start(actor) for actor in these.actors])
        found = content_hashes(starts, these.ids, [kind.header_end for kind in kinds])
        _require(found == list(these.contents))
        micros = [at + _FROM_1970_TO_2000 for at in times]
        before = (self._hash, *these.hashes[:-1])
        follow_on = links(before, these.contents, positions, these.streams, these.versions, micros)
        _require(follow_on == list(these.hashes))
        self._last, self._hash, self._latest = positions[-1], these.hashes[-1], times[-1]

    def _count(self, types: list[str], streams: tuple[int, ...], versions: tuple[int, ...]) -> None:
        """Check that in each stream the versions follow each other."""
        for type_, stream, version in zip(types, streams, versions, strict=True):
            known = self._versions[type_]
            if version != known.get(stream, 0) + 1:
                raise Doubt
            known[stream] = version

    def _pass_over(self, these: _Columns) -> None:
        """Remember the last of those without a body: a later erasure must cover it."""
        _require(not any(_KINDS[kind].erases for kind in these.kinds))
        _require(set(these.salts) == {None})
        self._without_body = these.positions[-1]

    def _check_bodies(self, these: _Columns) -> None:
        """Check the commitments, read the events and fold them."""
        kinds = [_KINDS[kind] for kind in these.kinds]
        bodies = list(these.bodies) if self._parsed else [loads(text) for text in these.bodies]
        canonical = jcs_of_many(bodies)
        _require(all(len(salt) == SALT_BYTES for salt in these.salts))
        _require(commitments(canonical, these.salts) == list(map(commitment_in, these.ids)))
        data = [body["data"] for body in bodies]
        erasures = [kind.erases for kind in kinds]
        if True in erasures:
            for position, erasure in compress(zip(these.positions, data, strict=True), erasures):
                self._erased_through = max(self._erased_through, _through(erasure, position))
        if self._exported:
            _require(canonical == list(these.bodies))
            _require(all(body.keys() == BODY_PARTS for body in bodies))
        if self._exported or self._replay is not None:
            read = [kind.decode(of) for kind, of in zip(kinds, data, strict=True)]
            self._fold(kinds, read, these)

    def _fold(self, kinds: list[_Kind], read: list[Any], these: _Columns) -> None:
        if self._replay is not None:
            stamps = map(
                Stamp._make, zip(these.positions, these.versions, these.times, strict=True)
            )
            for kind, event, stream, stamp in zip(kinds, read, these.streams, stamps, strict=True):
                kind.fold(self._replay, event, stream, stamp)


def _require(right: bool) -> None:
    if not right:
        raise Doubt


@lru_cache(maxsize=1000)  # a client does many things, and without a trace they have one actor
def _start(actor: bytes) -> bytes:
    return header_start(jcs(loads(actor)))


def _through(data: Any, position: int) -> int:
    """Return up to where an erasure says that it erased: before its own position."""
    through = data["through"]
    _require(type(through) is int and through < position)
    return int(through)

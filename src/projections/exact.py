"""Verify a span exactly: what is wrong, in which event, row or column, and how.

As ``projections.glance``, which only says whether all is right and is asked first.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from events.catalog import UnknownEvent
from events.ledger import Chain, Head, Json, NotOurs, jcs, microseconds
from events.replay import Replay
from events.stamp import Stamp
from events.store import moment
from projections.compare import compare
from projections.finding import Finding, Report
from projections.fold import unreadable, why
from projections.read_tables import READ_TABLES
from projections.snapshot import Snapshot, ticks

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOLES = {"position", "version", "head"}
"""Where the chain is wrong in one of these, events are missing or added: no row can be judged."""

_FIELDS = (
    *("e.position", "e.stream_type", "e.stream_id", "e.version", "e.type", "e.schema_version"),
    *("e.event_id::text", "e.command_id::text", "e.actor::text", "e.commitment", "e.body::text"),
    *("e.salt", "e.content_hash", "e.hash", moment("e.recorded_at"), ticks("e.recorded_at")),
)


_Row = tuple[Any, ...]
"""A user, and the columns of an event."""

_ACTORS = 1000
"""Actors that are kept."""


class _Ledger(NamedTuple):
    """A row of ``tasktrail.ledgers``."""

    position: int
    hash: bytes
    last_recorded_at: datetime


_NO_LEDGER = _Ledger(0, b"", _EPOCH)


class Verifier:
    """Verifies the users of one span."""

    def __init__(self, seen: Snapshot) -> None:
        self._seen = seen
        self._ledgers = _read_ledgers(seen)
        self._findings: list[Finding] = []
        self._actors: dict[str, Json | bytes] = {}

    def everything(self, words: bool) -> Report:
        """Verify chains, events and read rows."""
        replays: dict[str, Replay] = {}
        passed_over: set[str] = set()
        events = 0
        for user_id, its in self._users():
            replay = Replay()
            chain = Chain(user_id)
            readable = self._follow(user_id, its, chain, replay)
            events += chain.position
            replays[user_id] = replay
            whole = self._close(user_id, chain)
            if not (readable and whole):
                passed_over.add(user_id)
                del replays[user_id]
        for wrong in compare(self._seen, replays, passed_over, words=words):
            self._findings += wrong.findings()
        rows = sum(len(table.of(replay)) for table in READ_TABLES for replay in replays.values())
        return Report(len(self._ledgers), events, rows, 0, self._findings)

    def chains(self) -> list[Finding]:
        """Verify the chains alone."""
        for user_id, its in self._users():
            chain = Chain(user_id)
            self._follow(user_id, its, chain, None)
            self._close(user_id, chain)
        return self._findings

    def _users(self) -> Iterator[tuple[str, Iterator[_Row]]]:
        """Yield each user with all events, oldest first; at last those who have none."""
        without = set(self._ledgers)
        for user_id, rows in groupby(_read_events(self._seen), itemgetter(0)):
            without.discard(user_id)
            yield user_id, rows
        for user_id in sorted(without):
            yield user_id, iter(())

    def _follow(
        self, user_id: str, rows: Iterable[_Row], chain: Chain, replay: Replay | None
    ) -> bool:
        """Check each event, and fold it if there is a ``replay``; return whether all can be read.

        This runs for every event there is: it makes no record, and reads an actor once.
        """
        readable, actor_of, add = True, self._actor_of, chain.add_columns
        for row in rows:
            _, position, stream_type, stream_id, version, type_, schema_version, *rest = row
            event_id, command_id, actor, commitment, text, *seals, at = rest
            body = None if text is None else _loads(text)
            place = position, stream_type, stream_id, version, type_, schema_version
            add(*place, event_id, command_id, actor_of(actor), commitment, body, *seals)
            if readable and replay is not None and body is not None:
                data = body.get("data") if isinstance(body, dict) else None
                stamp = Stamp(position, version, at)
                try:
                    replay.add_data(type_, schema_version, data, stream_id, stamp)
                except (UnknownEvent, ValidationError) as error:
                    readable = False
                    self._findings.append(unreadable(user_id, position, why(error)))
        return readable

    def _actor_of(self, text: str) -> Json | bytes:
        """Return an actor in canonical form if it has one. A client does many things, and without
        a trace they all have the same."""
        known = self._actors.get(text)
        if known is None:
            if len(self._actors) == _ACTORS:
                self._actors.clear()
            known = self._actors[text] = _canonical(_loads(text))
        return known

    def _close(self, user_id: str, chain: Chain) -> bool:
        """Compare with the head; return whether events are neither missing nor added."""
        ledger = self._ledgers.get(user_id, _NO_LEDGER)
        found = chain.close(Head(ledger.position, ledger.hash))
        for position, field, what in found:
            table = "ledgers" if field == "head" else "events"
            self._findings.append(Finding(user_id, table, position, "tampered", field, what))
        if microseconds(ledger.last_recorded_at) != chain.recorded_at:
            what = "is not the last event's recorded_at"
            self._findings.append(
                Finding(user_id, "ledgers", ledger.position, "tampered", "last_recorded_at", what)
            )
        return _HOLES.isdisjoint(finding.field for finding in found)


def _read_ledgers(seen: Snapshot) -> dict[str, _Ledger]:
    rows = seen.rows(
        f"""
        SELECT l.user_id, l.position, l.hash, {moment("l.last_recorded_at")}
        FROM tasktrail.ledgers l WHERE {seen.span.users("l")}
        """
    )
    return {user_id: _Ledger(*rest) for user_id, *rest in rows}


def _read_events(seen: Snapshot) -> Iterator[tuple[Any, ...]]:
    return seen.rows(
        f"""
        SELECT e.user_id, {", ".join(_FIELDS)} FROM tasktrail.events e
        WHERE {seen.span.users("e")} ORDER BY e.user_id, e.position
        """
    )


def _canonical(actor: Json) -> Json | bytes:
    try:
        return jcs(actor)
    except NotOurs:
        return actor


def _loads(text: str) -> Any:
    """Return what JSON says. What is beyond JCS, as a number of 400 digits, is an empty object."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}

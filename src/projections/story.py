"""A long ledger told in memory that does not grow with it.

To tell what an event changed one must know the thing as it was (events.audit). Keeping every task
and message would need the whole ledger's memory; so only what was touched last is kept, and what is
needed again is read again: the events of that one thing.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import ValidationError

from events.audit import Entry, Narrator
from events.catalog import UnknownEvent
from events.ledger import Record
from events.store import Connection
from projections import history
from projections.history import EVERYTHING, Filter, Thing

KEPT = 2_000
"""Things whose state is kept from one page to the next."""


class Unreadable(Exception):
    """An event cannot be told: it is forged, or this program is too old for it."""

    def __init__(self, position: int) -> None:
        super().__init__(f"The event at position {position} cannot be read.")


def thing_of(record: Record) -> Thing:
    """Return what an event is about. Raises: Unreadable."""
    if record.stream_type != "conversation" or record.type.startswith("Conversation"):
        return Thing(record.stream_type, record.stream_id)
    if record.type == "MessageAdded" or record.body is None:
        return Thing("conversation", record.stream_id, record.position)
    try:
        return Thing("conversation", record.stream_id, int(record.body["data"]["message_id"]))
    except (KeyError, TypeError, ValueError):
        raise Unreadable(record.position) from None


def begins(record: Record) -> bool:
    """Whether nothing has to be known to tell this event."""
    return record.version == 1 or record.type in ("MessageAdded", "LedgerErased")


async def tell(
    connection: Connection, user_id: str, filter_: Filter, until: int
) -> AsyncGenerator[list[Entry], None]:
    """Yield the events up to position ``until`` that ``filter_`` names, told, oldest first.

    Raises: Unreadable.
    """
    teller = _Teller(connection, user_id, skips=filter_ != EVERYTHING)
    async with aclosing(history.walk(connection, user_id, filter_, until)) as pages:
        async for page in pages:
            yield await teller.tell(page)


class _Teller:
    """``skips``: not every event is told, so what is known of a thing may be out of date."""

    def __init__(self, connection: Connection, user_id: str, skips: bool) -> None:
        self._connection = connection
        self._user_id = user_id
        self._skips = skips
        self._narrator = Narrator()
        self._known: dict[Thing, int] = {}  # up to which position; the last used is the last

    async def tell(self, page: list[Record]) -> list[Entry]:
        """Tell the events of ``page``, reading before what they changed."""
        told: dict[int, Entry] = {}
        last = page[-1].position
        missing = self._missing(page)
        if missing:
            wanted = {record.position for record in page}
            changes = history.changes(self._connection, self._user_id, missing, last)
            async for records in changes:
                for record in records:
                    if record.position <= missing[thing_of(record)]:
                        continue
                    entry = self._tell(record)
                    if record.position in wanted:
                        told[record.position] = entry
        for record in page:
            if record.position not in told:
                told[record.position] = self._tell(record)
            if record.body is not None:
                thing = thing_of(record)
                self._known.pop(thing, None)
                self._known[thing] = last if thing in missing else record.position
        if any(record.type == "LedgerErased" for record in page):
            self._known.clear()  # the narrator has forgotten everything; in which order is not said
        self._forget()
        return [told[record.position] for record in page]

    def _missing(self, page: list[Record]) -> dict[Thing, int]:
        """Return the things to read about, each with the position after which to read."""
        missing: dict[Thing, int] = {}
        begun: set[Thing] = set()
        for record in page:
            if record.body is None:
                continue
            thing = thing_of(record)
            if begins(record):
                begun.add(thing)
            elif self._skips or not (thing in self._known or thing in begun):
                missing.setdefault(thing, self._known.get(thing, 0))
        return missing

    def _tell(self, record: Record) -> Entry:
        if not isinstance(record.actor, dict):
            raise Unreadable(record.position)
        try:
            return self._narrator.tell(record)
        except (UnknownEvent, ValidationError, LookupError, TypeError):
            raise Unreadable(record.position) from None

    def _forget(self) -> None:
        """Drop what was used least lately, and what the narrator knows only in part."""
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        narrator = self._narrator
        tasks = {thing.stream_id for thing in self._known if thing.stream_type == "task"}
        messages = {thing.message_id for thing in self._known}
        conversations = {
            thing.stream_id
            for thing in self._known
            if thing.stream_type == "conversation" and thing.message_id is None
        }
        for kept, states in (
            (tasks, narrator.tasks),
            (conversations, narrator.conversations),
            (messages, narrator.messages),
        ):
            for id_ in [id_ for id_ in states if id_ not in kept]:
                del states[id_]


_UNDOINGS = """
SELECT e.* FROM tasktrail.as_user(%s) AS u, LATERAL (
    SELECT e.position, (e.body->'data'->>'undoes')::bigint FROM tasktrail.events e
    WHERE e.user_id = u AND e.position <= %s AND e.body->'data' ? 'undoes'
) AS e ORDER BY 1 DESC
"""


async def undone_by(connection: Connection, user_id: str, until: int) -> dict[int, int]:
    """Return the position of each event that is undone, with that of the event that undid it."""
    undone: dict[int, int] = {}
    async with connection.cursor(binary=True) as cursor:
        async for position, undoes in cursor.stream(_UNDOINGS, (user_id, until), size=history.PAGE):
            if undoes is not None and position not in undone:
                undone.setdefault(undoes, position)
    return undone

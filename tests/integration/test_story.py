"""A story told page by page says the same as one told from the beginning to the end at once."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from events.audit import Entry
from mcp_server.commands.seed import fill, user_name
from projections import history, story
from projections.history import EVERYTHING, Filter
from tests.conftest import Database
from tests.integration.agents import Inspector
from tests.ledgers import tell_all

ANN = user_name(7, 1)
EVENTS = 3_000


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    with psycopg.connect(database.admin) as connection:
        fill(connection, EVENTS, 1, 7, lambda _: None)
    async with await psycopg.AsyncConnection.connect(database.auditor, autocommit=True) as reader:
        yield reader


async def told(reader: Any, filter_: Filter, until: int = EVENTS) -> list[Entry]:
    return [entry async for page in story.tell(reader, ANN, filter_, until) for entry in page]


FILTERS = [
    EVERYTHING,
    Filter(event_type="TaskCompleted"),
    Filter(event_type="MessageEdited"),
    Filter(event_type="ConversationDeleted"),
    Filter(event_type="TaskRestored"),
    Filter(since=1_200),
    Filter(since=700, until=2_000),
    Filter(tool="update_task"),
    Filter(reason="TIDYING"),
    Filter(client="nobody"),
]


@pytest.mark.parametrize("kept", [0, 20, story.KEPT])
async def test_what_is_kept_makes_no_difference(
    reader: Any, inspector: Inspector, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(story, "KEPT", kept)
    whole = {entry.position: entry for entry in tell_all(inspector.events(ANN))}
    for filter_ in FILTERS:
        for entry in await told(reader, filter_):
            assert entry == whole[entry.position], filter_


async def test_filters_leave_out_what_they_should(reader: Any, inspector: Inspector) -> None:
    whole = tell_all(inspector.events(ANN))
    expected = {
        EVERYTHING: whole,
        Filter(since=2_900): [entry for entry in whole if entry.position >= 2_900],
        Filter(until=100): [entry for entry in whole if entry.position < 100],
        Filter(tool="nothing"): [],
        Filter(event_type="TaskDeleted"): [e for e in whole if e.type == "TaskDeleted"],
        Filter(reason="idying"): [e for e in whole if e.reason and "idying" in e.reason],
        Filter(stream=("task", 1)): [e for e in whole if e.subject == ("task", 1)],
    }
    for filter_, entries in expected.items():
        assert await told(reader, filter_) == entries, filter_
        assert entries or filter_.tool == "nothing"


async def test_it_ends_where_it_should(reader: Any) -> None:
    assert [entry.position for entry in await told(reader, EVERYTHING, 3)] == [1, 2, 3]


async def test_an_event_that_cannot_be_read_is_named(reader: Any, inspector: Inspector) -> None:
    inspector.run("ALTER TABLE tasktrail.events DISABLE TRIGGER USER")
    inspector.run("""UPDATE tasktrail.events SET body = '{"data": {"x": 1}}' WHERE position = 17""")
    with pytest.raises(story.Unreadable, match="17"):
        await told(reader, EVERYTHING)


async def test_what_is_read_about_a_thing_is_what_happened_to_it_and_no_more(
    reader: Any, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 7)
    events = inspector.events(ANN)
    things = dict.fromkeys(map(story.thing_of, events))
    some = set(list(things)[::9])
    expected = [event.position for event in events if story.thing_of(event) in some]
    about = dict.fromkeys(some, 0)
    pages = [page async for page in history.changes(reader, ANN, about)]
    assert [record.position for page in pages for record in page] == expected
    assert max(map(len, pages)) == 7
    for thing in list(some)[:40]:
        about, until = {thing: 0}, expected[-1] // 2
        pages = [page async for page in history.changes(reader, ANN, about, until)]
        happened = [e for e in events if story.thing_of(e) == thing and e.position <= until]
        assert [record for page in pages for record in page] == happened
        known = happened[len(happened) // 2].position if happened else 0
        pages = [page async for page in history.changes(reader, ANN, {thing: known}, until)]
        later = [record for record in happened if record.position > known]
        assert [record for page in pages for record in page] == later
    assert [page async for page in history.changes(reader, ANN, {})] == []


async def test_versions_are_those_of_the_last_events(reader: Any, inspector: Inspector) -> None:
    last = {(event.stream_type, event.stream_id): event.version for event in inspector.events(ANN)}
    assert await history.versions(reader, ANN, last) == last
    assert await history.versions(reader, "nobody", last) == {}

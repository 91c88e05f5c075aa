"""Every event type is written and read back as it was, in every version that was ever written."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from events import catalog
from events.catalog import STREAM_TYPES, TYPES, VERSIONS, UnknownEvent, decode, encode
from events.ledger import jcs
from tests.strategies import events

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
EVER_WRITTEN = [(type_, version) for type_ in TYPES for version in range(1, VERSIONS[type_] + 1)]


@given(event=events())
def test_what_is_written_is_read_back(event: catalog.Event) -> None:
    data = json.loads(jcs(encode(event)))
    assert decode(event.type, VERSIONS[event.type], data) == event


def test_hypothesis_draws_every_type() -> None:
    """So a new type without a strategy fails here, and is round-tripped above."""
    drawn = set()

    @settings(max_examples=300, derandomize=True, database=None)
    @given(event=events())
    def draw(event: catalog.Event) -> None:
        drawn.add(event.type)

    draw()
    assert drawn == set(TYPES)


@pytest.mark.parametrize(("type_", "version"), EVER_WRITTEN)
def test_old_events_decode_for_ever(type_: str, version: int) -> None:
    """The files are what was stored. They are never changed: a new version gets a new file."""
    golden = json.loads((GOLDEN / f"{type_}.v{version}.json").read_text(encoding="utf-8"))
    assert (golden["type"], golden["version"]) == (type_, version)
    for data in golden["data"]:
        event = decode(type_, version, data)
        assert event.type == type_
        if version == VERSIONS[type_]:
            assert encode(event) == data


def test_there_is_no_golden_file_of_nothing() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{type_}.v{version}.json" for type_, version in EVER_WRITTEN
    }


@pytest.mark.parametrize(
    ("type_", "version"),
    [("TaskExploded", 1), ("", 1), ("Task", 1), ("TaskCreated", 0), ("TaskCreated", -1)]
    + [(type_, version + 1) for type_, version in VERSIONS.items()],
)
def test_what_is_unknown_is_not_guessed_at(type_: str, version: int) -> None:
    with pytest.raises(UnknownEvent):
        decode(type_, version, {"title": "Buy milk"})


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("TaskCreated", {}),
        ("TaskCreated", {"title": None}),
        ("TaskCreated", {"title": "A", "colour": "red"}),
        ("TaskCreated", {"title": "A", "priority": "urgent"}),
        ("TaskUpdated", {"changes": {"completed": True}}),
        ("TaskUpdated", {}),
        ("MessageAdded", {"role": "robot", "content": "A"}),
        ("MessageEdited", {"content": "A"}),
        ("LedgerErased", {}),
        ("TaskCompleted", None),
        ("TaskCompleted", []),
    ],
)
def test_data_of_another_shape_is_not_read(type_: str, data: Any) -> None:
    with pytest.raises(ValidationError):
        decode(type_, 1, data)


def test_an_older_version_is_brought_up_one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "VERSIONS", {**VERSIONS, "TaskCreated": 3})
    monkeypatch.setattr(
        catalog,
        "UPCASTS",
        {
            ("TaskCreated", 1): lambda data: {"label": data["name"]},
            ("TaskCreated", 2): lambda data: {"title": data["label"]},
        },
    )
    expected = decode("TaskCreated", 3, {"title": "Buy milk"})
    assert decode("TaskCreated", 1, {"name": "Buy milk"}) == expected
    assert decode("TaskCreated", 2, {"label": "Buy milk"}) == expected


def test_every_older_version_has_an_upcast() -> None:
    older = {(type_, v) for type_, now in VERSIONS.items() for v in range(1, now)}
    assert set(catalog.UPCASTS) == older


def test_a_type_is_called_as_its_class() -> None:
    assert all(cls.model_fields["type"].default == cls.__name__ for cls in STREAM_TYPES)


def test_only_what_differs_from_the_defaults_is_stored() -> None:
    assert encode(decode("TaskCreated", 1, {"title": "A", "tags": [], "due": None})) == {
        "title": "A"
    }
    assert encode(decode("TaskUpdated", 1, {"changes": {"due": None, "tags": []}})) == {
        "changes": {"due": None, "tags": []}
    }

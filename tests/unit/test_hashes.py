"""What is hashed, and how: the canonical form against RFC 8785's, the formulas by hand."""

import hmac
import struct
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from events import catalog
from events.catalog import Event
from events.ledger import (
    Json,
    NotOurs,
    commit_to,
    genesis,
    hash_content,
    jcs,
    jcs_of_many,
    link,
    microseconds,
)
from tests import ledgers
from tests.strategies import TEXT, WHOLE, events

ACTOR = {**ledgers.ACTOR, "message_id": 6, "trace_id": "0af7651916cd43dd8448eb211c80319c"}

# --- canonical form -----------------------------------------------------------------------------

KEY = st.text(st.characters(codec="ascii"))
VALUE = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=20,
)
OBJECT = st.dictionaries(KEY, VALUE, max_size=6)


@given(OBJECT)
def test_our_canonical_form_is_rfc_8785(value: Json) -> None:
    assert jcs(value) == rfc8785.dumps(value)


@given(event=events(), reason=st.none() | TEXT)
def test_so_is_that_of_every_body(event: Event, reason: str | None) -> None:
    body = {"data": catalog.encode(event), "reason": reason}
    assert jcs(body) == rfc8785.dumps(body)


def nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": 1.5}, id="a fraction"),
        pytest.param({"a": 1.0}, id="a whole number written as a float"),
        pytest.param({"a": {"b": [None, float("nan")]}}, id="NaN is not null"),
        pytest.param({"a": [[float("inf")]]}, id="nor is infinity"),
        pytest.param({"a": 2**53}, id="an integer that other languages round"),
        pytest.param({"a": -(2**53)}, id="a negative one"),
        pytest.param({"a": 10**400}, id="a huge one"),
        pytest.param({"a": "\ud800"}, id="a lone surrogate"),
        pytest.param({"\udfff": 1}, id="a lone surrogate in a key"),
        pytest.param(nested(900), id="a very deep nest"),
        pytest.param([], id="a list"),
        pytest.param("text", id="text"),
        pytest.param(None, id="nothing"),
    ],
)
def test_what_the_format_does_not_allow_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(NotOurs):
        jcs(value)


@given(st.lists(OBJECT, max_size=4))
def test_many_values_have_the_forms_that_each_has(values: list[Json]) -> None:
    assert jcs_of_many(values) == [jcs(value) for value in values]


@pytest.mark.parametrize("bad", [{"a": [0.5]}, {"a": 2**53}, [], None])
def test_one_that_has_none_is_found_among_many(bad: Any) -> None:
    with pytest.raises(NotOurs):
        jcs_of_many([{"a": 1}, bad, {"a": 2}])


def test_the_deepest_body_has_one() -> None:
    assert jcs(nested(16)) == rfc8785.dumps(nested(16))


# --- the formulas -------------------------------------------------------------------------------


def test_the_commitment_by_hand() -> None:
    body = {"reason": None, "data": {"title": "Café \U0001f6d2", "tags": ["b", "a"]}}
    salt = bytes(range(16))
    canonical = '{"data":{"tags":["b","a"],"title":"Café \U0001f6d2"},"reason":null}'
    expected = hmac.new(salt, b"tasktrail/body/v1\x00" + canonical.encode(), sha256).digest()
    assert commit_to(body, salt) == expected
    assert expected.hex() == "9d2bcb4fbed6e9f8d133594cd8db9ce4b52da8bd462958add2a0c3df598c1aae"


def test_the_content_hash_by_hand() -> None:
    header = (
        '{"actor":{"client_id":"assistant-web","client_name":"Assistant","client_version":"2.1",'
        '"conversation_id":null,"message_id":6,"tool":"add_task",'
        '"trace_id":"0af7651916cd43dd8448eb211c80319c","transport":"http"},'
        '"command_id":"00000000-0000-4000-8000-00000000000c",'
        f'"commitment":"{"ab" * 32}",'
        '"event_id":"00000000-0000-4000-8000-00000000000e",'
        '"schema_version":1,"stream_type":"task","type":"TaskCreated","v":1}'
    )
    content_hash = hash_content(
        "00000000-0000-4000-8000-00000000000e",
        "00000000-0000-4000-8000-00000000000c",
        "TaskCreated",
        1,
        "task",
        ACTOR,
        bytes.fromhex("ab" * 32),
    )
    assert content_hash == sha256(b"tasktrail/event/v1\x00" + header.encode()).digest()
    assert content_hash.hex() == "d9c54490023b9251104bb8abcfcd73af81376329c462c3bdf44d2d58cf1fc458"


def test_the_link_by_hand() -> None:
    previous, content_hash = bytes(32), bytes([255]) * 32
    place = bytes.fromhex("000000000000001200000000000000110000000000000002")
    expected = sha256(previous + content_hash + place + struct.pack(">q", -1)).digest()
    assert link(previous, content_hash, 18, 17, 2, -1) == expected
    assert expected.hex() == "7da3bc74de188347a51a21d531dfb64c892d207a777df5107cba941f90a0a927"


def test_the_first_previous_hash_by_hand() -> None:
    assert genesis("usér") == sha256(b"tasktrail/ledger/v1\x00us\xc3\xa9r").digest()


@given(st.datetimes(timezones=st.timezones()))
def test_microseconds_are_exact(at: datetime) -> None:
    assume(at.astimezone(UTC).astimezone(at.tzinfo) == at)
    since = at.astimezone(UTC).replace(tzinfo=None) - datetime(1970, 1, 1)  # noqa: DTZ001 - both in UTC
    assert microseconds(at) == (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds

"""The quick check of a bundle's events: it passes what is right, and nothing else.

``test_bundle`` asks what is found; here the exact check alone must find the same.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events.intact import Doubt
from events.ledger import Finding, Head, Record
from mcp_server.evidence import bundle as checking
from mcp_server.evidence.bundle import verify_bundle
from mcp_server.evidence.bundle_glance import Glance
from mcp_server.evidence.event_line import to_line
from tests.ledgers import Ledger, a_day_with_an_agent, a_long_ledger
from tests.unit.test_bundle import bundle_of, files_of
from tests.unit.test_bundle import resealed as with_new_seals
from tests.unit.test_intact import USER, head_of, honest, recommitted, relinked, resealed


def passes(lines: list[bytes], head: Head) -> bool:
    try:
        return Glance(USER, lines, []).head == head
    except (Doubt, ValueError, TypeError, LookupError):
        return False


def lines_of(records: list[Record]) -> list[bytes]:
    return [to_line(USER, record) for record in records]


def found_in(
    path: Path, content: bytes, receipts: list[Head], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Finding], list[Finding]]:
    """Return what is found in a bundle, and what the exact check alone finds."""
    path.write_bytes(content)
    found = list(verify_bundle(path, receipts=receipts))
    with monkeypatch.context() as patch:
        patch.setattr(checking, "_are_right", lambda *_: False)
        return found, list(verify_bundle(path, receipts=receipts))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(a_day_with_an_agent, id="every kind of event"),
        pytest.param(lambda: a_long_ledger(300), id="long"),
        pytest.param(lambda: a_day_with_an_agent("zoë's \"ledger\\/../`x`(.*)"), id="an odd user"),
    ],
)
@pytest.mark.parametrize("erased", [False, True])
def test_what_is_right_is_seen_at_a_glance(
    tmp_path: Path, make: Callable[[], Ledger], erased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make()
    first = Head(1, ledger.records[0].hash)
    if erased:
        ledger.erase()
        ledger.add_task("And life goes on")
    (tmp_path / "b.zip").write_bytes(bundle_of(ledger))
    monkeypatch.setattr(checking, "Chain", None)  # who looks for words
    assert list(verify_bundle(tmp_path / "b.zip", receipts=[first, ledger.head])) == []


def test_what_was_erased_and_which_anchors_did_not_come_is_told() -> None:
    records = honest()[2]
    there, not_there = Head(3, records[2].hash), Head(3, records[3].hash)
    glance = Glance(USER, lines_of(records), [there, not_there])
    assert glance.missed == {not_there}
    last = [record for record in records if record.type == "LedgerErased"][-1]
    assert last.body is not None
    assert glance.erased_through == last.body["data"]["through"]


def test_a_receipt_of_an_event_that_is_not_in_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = [Head(3, bytes(32))]
    found, exactly = found_in(
        tmp_path / "b.zip", bundle_of(a_day_with_an_agent()), receipts, monkeypatch
    )
    assert found == exactly
    assert [finding[:2] for finding in found] == [(3, "receipt")]


@pytest.mark.parametrize("records", honest(), ids=["lived", "long", "erased"])
def test_no_changed_byte_passes(records: list[Record]) -> None:
    lines, head, chance = lines_of(records), head_of(records), random.Random(3)
    assert passes(lines, head)
    for number, line in enumerate(lines):
        for offset in range(len(line)):
            changed = bytearray(line)
            changed[offset] ^= 1 << chance.randrange(8)
            lines[number] = bytes(changed)
            assert not passes(lines[: number + 1], Head(number + 1, records[number].hash)), changed
        lines[number] = line


@pytest.mark.parametrize("records", honest(), ids=["lived", "long", "erased"])
def test_no_left_out_line_passes(records: list[Record]) -> None:
    lines, head = lines_of(records), head_of(records)
    for number in range(len(lines)):
        assert not passes(lines[:number] + lines[number + 1 :], head)


def with_body(body: Any) -> Callable[[Record], Record]:
    return lambda record: record._replace(body=body)


FORMS: dict[str, Callable[[Record], Record]] = {
    "a body with a third part": with_body({"data": {"title": "x"}, "reason": None, "and": "more"}),
    "a body without a reason": with_body({"data": {"title": "x"}}),
    "data that is not of its type": with_body({"data": {"title": 7}, "reason": None}),
    "an unknown field": with_body({"data": {"title": "x", "colour": "red"}, "reason": None}),
    "a stream that something else begins": lambda record: record._replace(
        type="TaskCompleted", body={"data": {}, "reason": None}
    ),
    "another type of stream": lambda record: record._replace(stream_type="conversation"),
    "an unknown type": lambda record: record._replace(type="TaskTagged"),
    "a version from the future": lambda record: record._replace(schema_version=2),
    "a stream with another's id": lambda record: record._replace(stream_id=99),
    "an id in capitals": lambda record: record._replace(event_id=str(record.event_id).upper()),
    "an id without hyphens": lambda record: record._replace(command_id="0" * 36),
    "hyphens elsewhere": lambda record: record._replace(command_id="0-" * 4 + "0" * 28),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_no_event_has_is_found_under_the_right_hashes(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = list(a_day_with_an_agent().records)
    index = next(i for i, record in enumerate(records) if record.type == "TaskCreated")
    forged = FORMS[form](records[index])
    records[index] = resealed(recommitted(forged._replace(event_id=str(forged.event_id))))
    found, exactly = found_in(tmp_path / "b.zip", repacked(relinked(records)), [], monkeypatch)
    assert found == exactly
    assert found


def in_capitals(line: bytes) -> bytes:
    before, name, after = line.partition(b'"hash":"')
    return before + name + after[:64].upper() + after[64:]


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a hash in capitals": in_capitals,
    "a zero before a number": lambda line: line.replace(b'"version":', b'"version":0'),
    "a space in the body": lambda line: line.replace(b'"data":', b'"data": '),
    "a space in the actor": lambda line: line.replace(b'"tool":', b'"tool": '),
    "a part of the body twice": lambda line: line.replace(b'"body":{', b'"body":{"reason":1,'),
    "an actor in another order": lambda line: line.replace(
        b'{"actor":{', b'{"actor":{"transport":"http",'
    ),
    "another time zone": lambda line: line.replace(b'Z","salt"', b'+00:00","salt"'),
    "a carriage return": lambda line: line + b"\r",
    "two events on a line": lambda line: line + b"," + line,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_of_the_same_event_is_found(
    tmp_path: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = a_day_with_an_agent().records
    lines = lines_of(records)
    lines[3] = SPELLINGS[spelling](lines[3])
    assert lines[3] != to_line(USER, records[3])
    assert not passes(lines, head_of(records))
    files = {**files_of(bundle_of(a_day_with_an_agent())), "events.jsonl": b"\n".join(lines)}
    found, exactly = found_in(tmp_path / "b.zip", with_new_seals(files), [], monkeypatch)
    assert found == exactly
    assert found


def repacked(records: list[Record]) -> bytes:
    """A bundle of these records, with all seals made anew."""
    text = b"".join(line + b"\n" for line in lines_of(records))
    files = {**files_of(bundle_of(a_day_with_an_agent())), "events.jsonl": text}
    return with_new_seals(files, head_hash=records[-1].hash.hex())


def test_the_same_records_packed_anew_pass(tmp_path: Path) -> None:
    records = a_day_with_an_agent().records
    (tmp_path / "b.zip").write_bytes(repacked(relinked(records)))
    assert list(verify_bundle(tmp_path / "b.zip")) == []

"""docs/ledger-format.md is true: its worked example is recomputed twice, its program is run.

First by nothing but the page and the standard library, as an outsider would; then by the ledger
module. The two must also agree about every ledger that somebody tampered with.
"""

import hashlib
import hmac
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from events import ledger
from events.ledger import Head, Record, genesis
from mcp_server.evidence.event_line import from_line
from tests.unit.test_ledger import TAMPERED, a_ledger

PAGE = (Path(__file__).parents[2] / "docs" / "ledger-format.md").read_text(encoding="utf-8")
USER = "user-1"

Values = dict[str, str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def values(block: str) -> Values:
    """Return what a block of ``name = value`` lines says."""
    return dict(re.split(r" += ", line, maxsplit=1) for line in block.splitlines())


GENESIS, *EVENTS = map(values, blocks("text"))
SALTS = re.findall(r"the salt `([0-9a-f]{32})`", PAGE)
TIMES = re.findall(r"`recorded_at` is (\S+),", PAGE)
BEFORE, AFTER = (block.splitlines() for block in blocks("json"))
(PROGRAM,) = blocks("python")


def canonical(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode()


def test_the_first_previous_hash() -> None:
    assert (
        hashlib.sha256(b"tasktrail/ledger/v1\0" + USER.encode()).hexdigest() == GENESIS["genesis"]
    )


def test_there_are_three_events() -> None:
    assert len(EVENTS) == len(SALTS) == len(TIMES) == len(AFTER) == 3


@pytest.mark.parametrize("n", range(3))
def test_an_event_of_the_example_without_any_code_of_ours(n: int) -> None:
    event = EVENTS[n]
    previous = EVENTS[n - 1]["hash"] if n else GENESIS["genesis"]

    body = event["body"].encode()
    assert canonical(json.loads(body)) == body
    message = b"tasktrail/body/v1\0" + body
    committed = hmac.new(bytes.fromhex(SALTS[n]), message, hashlib.sha256).hexdigest()
    assert committed == event["commitment"]

    header = event["header"].encode()
    assert canonical(json.loads(header)) == header
    assert json.loads(header)["commitment"] == committed
    content_hash = hashlib.sha256(b"tasktrail/event/v1\0" + header).digest()
    assert content_hash.hex() == event["content_hash"]

    columns = json.loads(AFTER[n])
    place = struct.pack(
        ">qqqq",
        columns["position"],
        columns["stream_id"],
        columns["version"],
        int(event["microseconds"]),
    )
    assert place.hex() == event["place"]
    link = hashlib.sha256(bytes.fromhex(previous) + content_hash + place)
    assert link.hexdigest() == event["hash"]


@pytest.mark.parametrize("n", range(3))
def test_the_lines_hold_what_the_example_says(n: int) -> None:
    event, after = EVENTS[n], json.loads(AFTER[n])
    assert canonical(after).decode() == AFTER[n]
    header = json.loads(event["header"])
    assert header.pop("v") == 1
    assert {name: after[name] for name in header} == header
    assert (after["content_hash"], after["hash"]) == (event["content_hash"], event["hash"])
    assert (after["user_id"], after["recorded_at"]) == (USER, TIMES[n])
    whole = {**after, "body": json.loads(event["body"]), "salt": SALTS[n]}
    if n < 2:
        assert (after["body"], after["salt"]) == (None, None)
        assert json.loads(BEFORE[n]) == whole
    else:
        assert after == whole


@pytest.mark.parametrize("n", range(3))
def test_an_event_of_the_example_with_ours(n: int) -> None:
    event = EVENTS[n]
    previous = bytes.fromhex(EVENTS[n - 1]["hash"]) if n else genesis(USER)
    user_id, record = from_line(AFTER[n].encode())
    body = json.loads(event["body"])
    assert user_id == USER
    assert genesis(USER).hex() == GENESIS["genesis"]
    assert ledger.jcs(body).decode() == event["body"]
    assert ledger.commit_to(body, bytes.fromhex(SALTS[n])).hex() == event["commitment"]
    assert ledger.jcs(json.loads(event["header"])).decode() == event["header"]
    content_hash = ledger.hash_content(
        str(record.event_id),
        str(record.command_id),
        record.type,
        record.schema_version,
        record.stream_type,
        record.actor,
        record.commitment,
    )
    assert content_hash.hex() == event["content_hash"]
    at = ledger.microseconds(record.recorded_at)
    assert at == int(event["microseconds"])
    place = (record.position, record.stream_id, record.version, at)
    assert ledger.link(previous, content_hash, *place).hex() == event["hash"]


@pytest.mark.parametrize("lines", [BEFORE, AFTER])
def test_the_example_verifies_before_and_after_the_erasure(lines: list[str]) -> None:
    records = [from_line(line.encode())[1] for line in lines]
    assert list(ledger.verify(USER, records, Head(len(lines), records[-1].hash))) == []


@pytest.mark.parametrize("lines", [BEFORE, AFTER])
def test_the_program_runs(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "check.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    head_hash = EVENTS[len(lines) - 1]["hash"]
    command = [sys.executable, "-I", "check.py", USER, "events.jsonl", str(len(lines)), head_hash]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    command[3] = "user-2"
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "event 1: its hash does not follow\n")


# --- the program of the page and our own check agree -------------------------------------------

_names: dict[str, Any] = {"__name__": "check"}
exec(PROGRAM, _names)  # noqa: S102 - the page is ours
check = _names["check"]


def as_line(record: Record) -> Any:
    """Return the columns as a line of ``events.jsonl`` gives them."""
    columns = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in record._asdict().items()
    }
    at = record.recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    ids = {"event_id": str(record.event_id), "command_id": str(record.command_id)}
    return {**columns, **ids, "recorded_at": at}


def test_they_agree_that_an_honest_ledger_is_intact() -> None:
    book = a_ledger()
    head = book.head
    assert list(check(USER, map(as_line, book.records), head.position, head.hash.hex())) == []


@pytest.mark.parametrize("field", Record._fields)
def test_they_agree_about_every_changed_value(field: str) -> None:
    for n, honest in enumerate(a_ledger().records):
        for value in TAMPERED[field](honest):
            book = a_ledger()
            head = book.head
            book.records[n] = honest._replace(**{field: value})
            try:
                theirs = list(check(USER, map(as_line, book.records), head[0], head[1].hex()))
            except (ValueError, TypeError, KeyError):
                theirs = ["what no event can hold"]
            assert bool(theirs) == bool(book.findings(head)), f"{field} of event {n + 1}: {value!r}"


@pytest.mark.parametrize("n", range(6))
def test_they_agree_about_every_missing_event(n: int) -> None:
    book = a_ledger()
    head = book.head
    del book.records[n]
    assert list(check(USER, map(as_line, book.records), head[0], head[1].hex()))
    assert book.findings(head)

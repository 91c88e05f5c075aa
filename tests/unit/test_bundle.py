"""A bundle is checked offline: any changed byte and any left-out event shows, and nothing else."""

import asyncio
import io
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from events.ledger import Finding, Head
from mcp_server.evidence.bundle import verify_bundle
from mcp_server.evidence.bundle_format import Manifest
from mcp_server.evidence.bundle_writer import write_bundle
from tests.ledgers import Ledger, a_day_with_an_agent, a_long_ledger

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
Lines = list[dict[str, Any]]


def bundle_of(ledger: Ledger, head: Head | None = None) -> bytes:
    file = io.BytesIO()
    pages = ledger.pages()
    asyncio.run(write_bundle(file, ledger.user_id, head or ledger.head, pages, NOW, lambda _: None))
    return file.getvalue()


def findings(tmp_path: Path, content: bytes) -> list[Finding]:
    path = tmp_path / "bundle.zip"
    path.write_bytes(content)
    return list(verify_bundle(path))


def files_of(bundle: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def forged(bundle: bytes, change: Callable[[Lines], Lines | None]) -> bytes:
    """A bundle whose events were changed by someone who made all seals of the files anew."""
    files = files_of(bundle)
    lines = [orjson.loads(line) for line in files["events.jsonl"].splitlines()]
    changed = change(lines)
    lines = lines if changed is None else changed
    text = b"".join(orjson.dumps(line, option=orjson.OPT_SORT_KEYS) + b"\n" for line in lines)
    return resealed({**files, "events.jsonl": text})


def resealed(files: dict[str, bytes], **fields: Any) -> bytes:
    from hashlib import sha256

    manifest = Manifest.from_bytes(files["manifest.json"])
    hashes = {
        name: sha256(text).hexdigest() for name, text in files.items() if name != "manifest.json"
    }
    manifest = manifest.model_copy(update={"files": hashes, **fields})
    return packed({**files, "manifest.json": manifest.to_bytes()})


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return bundle_of(a_day_with_an_agent())


@pytest.mark.parametrize(
    "ledger",
    [
        pytest.param(a_day_with_an_agent(), id="every kind of event"),
        pytest.param(a_long_ledger(1200), id="several pages"),
        pytest.param(a_day_with_an_agent("zoë's ledger/../`x`"), id="an odd user"),
    ],
)
def test_an_honest_bundle_is_clean(tmp_path: Path, ledger: Ledger) -> None:
    assert findings(tmp_path, bundle_of(ledger)) == []


def test_a_bundle_of_an_erased_ledger_is_clean_and_says_so(tmp_path: Path) -> None:
    ledger = a_day_with_an_agent()
    ledger.erase()
    ledger.add_task("And life goes on")
    bundle = bundle_of(ledger)
    assert findings(tmp_path, bundle) == []
    files = files_of(bundle)
    assert orjson.loads(files["manifest.json"])["erased_through"] == 11
    assert b"Erased" in files["README.md"]


def test_packing_the_same_files_anew_changes_nothing_that_matters(
    tmp_path: Path, bundle: bytes
) -> None:
    assert findings(tmp_path, packed(files_of(bundle), zipfile.ZIP_STORED)) == []


def test_the_same_ledger_at_the_same_moment_gives_the_same_bytes() -> None:
    ledger = a_day_with_an_agent()
    assert bundle_of(ledger) == bundle_of(ledger)


def test_any_changed_byte_of_the_zip_is_found(tmp_path: Path, bundle: bytes) -> None:
    chance = random.Random(7)
    for offset in range(len(bundle)):
        content = bytearray(bundle)
        content[offset] ^= 1 << chance.randrange(8)
        assert findings(tmp_path, bytes(content)), f"byte {offset}"


@pytest.mark.parametrize("length", [300, 1500])
def test_one_flipped_bit_of_a_compressed_file_is_told_in_a_few_lines(
    tmp_path: Path, length: int
) -> None:
    bundle = bundle_of(a_long_ledger(length))
    chance = random.Random(7)
    for offset in range(40, len(bundle), len(bundle) // 30):
        content = bytearray(bundle)
        content[offset] ^= 1 << chance.randrange(8)
        first, *others = findings(tmp_path, bytes(content))
        assert (first.field, first.what) == ("bundle", "the file was changed after it was written")
        assert len(others) <= 3, f"byte {offset}"
        if others:
            assert "is damaged" in others[-1].what
            assert all(1 <= finding.position <= length for finding in others[:-1])


def test_a_damaged_file_does_not_hide_what_is_wrong_with_the_others(
    tmp_path: Path, bundle: bytes
) -> None:
    content = bytearray(forged(bundle, lambda lines: lines[3].update(CHANGES_OF_ONE)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        readme = archive.getinfo("README.md").header_offset
    content[readme + 60] ^= 1
    found = findings(tmp_path, bytes(content))
    assert [(finding.position, finding.field) for finding in found] == [
        (0, "README.md"),
        (4, "body"),
    ]
    assert found[0].what.startswith("is damaged")


def test_all_that_was_forged_is_told_where_the_seal_of_the_zip_is_the_old_one(
    tmp_path: Path, bundle: bytes
) -> None:
    def change(lines: Lines) -> None:
        for line in lines[3:5]:
            line["body"] = CHANGES["body"]

    content = forged(bundle, change)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        comment = archive.comment
    content = content[:-2] + len(comment).to_bytes(2, "little") + comment
    told = [(finding.position, finding.field) for finding in findings(tmp_path, content)]
    assert told[0] == (0, "bundle")
    assert {(4, "body"), (5, "body")} <= set(told)


NO_BUNDLES: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "is empty"),
    "a text": (b"Dear auditor,\n", "is not a zip, and so no bundle"),
    "a zip of other things": (packed({"a.txt": b"a", "b.txt": b"b"}), "is a zip, but no bundle"),
    "the beginning of a zip": (packed({"a.txt": b"a"})[:-30], "is damaged, or was cut off"),
}


@pytest.mark.parametrize("what", NO_BUNDLES)
def test_what_is_no_bundle_is_said_to_be_none_in_one_line(tmp_path: Path, what: str) -> None:
    content, told = NO_BUNDLES[what]
    (finding,) = findings(tmp_path, content)
    assert (finding.position, finding.field) == (0, "bundle")
    assert finding.what.startswith(told)


def test_many_lines_that_cannot_be_read_are_not_all_told(tmp_path: Path, bundle: bytes) -> None:
    files = files_of(bundle)
    found = findings(tmp_path, resealed({**files, "events.jsonl": b"x\n" * 500}))
    assert len(found) <= 21
    assert found[-1].what == "20 lines cannot be read: the rest is not checked"


@pytest.mark.parametrize("name", ["events.jsonl", "manifest.json", "README.md"])
def test_any_changed_byte_of_a_file_is_found(tmp_path: Path, bundle: bytes, name: str) -> None:
    files = files_of(bundle)
    chance = random.Random(7)
    for offset in range(0, len(files[name]), 1 if name == "manifest.json" else 7):
        content = bytearray(files[name])
        content[offset] ^= 1 << chance.randrange(8)
        assert findings(tmp_path, packed({**files, name: bytes(content)})), f"byte {offset}"


CHANGES: dict[str, Any] = {
    "user_id": "eve",
    "position": 5,
    "stream_type": "conversation",
    "stream_id": 4,
    "version": 7,
    "type": "TaskDeleted",
    "schema_version": 2,
    "event_id": "00000000-0000-4000-8000-00000000000f",
    "command_id": "00000000-0000-4000-8000-00000000000f",
    "actor": {"client_id": "somebody else"},
    "commitment": "00" * 32,
    "body": {"data": {"changes": {"title": "Book no van"}}, "reason": None},
    "salt": "00" * 16,
    "content_hash": "00" * 32,
    "hash": "00" * 32,
    "recorded_at": "2026-03-02T08:58:00.000001Z",
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_column_is_found_at_its_position(
    tmp_path: Path, bundle: bytes, column: str
) -> None:
    def change(lines: Lines) -> None:
        assert lines[3][column] != CHANGES[column]
        lines[3][column] = CHANGES[column]

    found = findings(tmp_path, forged(bundle, change))
    assert found[0].position == (5 if column == "position" else 4)


CHANGES_OF_ONE = {"body": CHANGES["body"]}
ROWS: dict[str, Callable[[Lines], Lines]] = {
    "leave one out": lambda lines: [*lines[:4], *lines[5:]],
    "leave out the first": lambda lines: lines[1:],
    "cut the tail": lambda lines: lines[:-1],
    "leave out all": lambda _: [],
    "swap two": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "repeat one": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "add one at the end": lambda lines: [*lines, {**lines[-1], "position": len(lines) + 1}],
}


@pytest.mark.parametrize("what", ROWS)
def test_a_row_left_out_added_or_moved_is_found(tmp_path: Path, bundle: bytes, what: str) -> None:
    assert findings(tmp_path, forged(bundle, ROWS[what]))


def test_an_event_of_another_users_ledger_is_found(tmp_path: Path, bundle: bytes) -> None:
    other = files_of(bundle_of(a_day_with_an_agent("eve")))["events.jsonl"].splitlines()
    spliced = {**orjson.loads(other[4]), "user_id": "ada"}
    found = findings(tmp_path, forged(bundle, lambda lines: [*lines[:4], spliced, *lines[5:]]))
    assert {finding.position for finding in found} <= {5, 6}
    assert found


def test_words_may_be_missing_only_where_an_erasure_covers_them(
    tmp_path: Path, bundle: bytes
) -> None:
    def blacken(lines: Lines) -> None:
        lines[3].update(body=None, salt=None)

    found = findings(tmp_path, forged(bundle, blacken))
    assert [finding[:2] for finding in found] == [(4, "body")]


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "eve"},
        {"first_position": 2},
        {"last_position": 10},
        {"head_hash": "0" * 64},
        {"erased_through": 4},
    ],
)
def test_a_manifest_that_says_otherwise_than_the_events_is_found(
    tmp_path: Path, bundle: bytes, fields: dict[str, Any]
) -> None:
    assert findings(tmp_path, resealed(files_of(bundle), **fields))


def line_of(bundle: bytes, number: int) -> bytes:
    return files_of(bundle)["events.jsonl"].splitlines()[number - 1]


HOSTILE_LINES: dict[str, Callable[[bytes], bytes]] = {
    "a key twice": lambda line: line[:-1] + b',"version":1}',
    "a space": lambda line: line.replace(b":", b": ", 1),
    "another spelling of a letter": lambda line: line.replace(b"ada", b"\\u0061da"),
    "not JSON": lambda _: b"{",
    "empty": lambda _: b"",
    "not an object": lambda _: b"[1,2]",
    "not UTF-8": lambda line: line.replace(b"ada", b"\xff\xfe"),
    "a lone surrogate": lambda line: line.replace(b"ada", b"\\ud800"),
    "a position in text": lambda line: line.replace(b'"position":4', b'"position":"4"'),
    "a position with a point": lambda line: line.replace(b'"position":4', b'"position":4.0'),
    "a position beyond 64 bits": lambda line: line.replace(
        b'"position":4', b'"position":99999999999999999999999'
    ),
    "true for a version": lambda line: line.replace(b'"version":2', b'"version":true'),
    "depth": lambda line: line.replace(b'"body":{', b'"body":{"x":' + b"[" * 5000),
    "closed depth": lambda line: line.replace(
        b'"body":{', b'"body":{"x":' + b"[" * 150 + b"]" * 150 + b","
    ),
    "a huge number": lambda line: line.replace(b'"body":{', b'"body":{"x":1e999,'),
    "many digits": lambda line: line.replace(b'"body":{', b'"body":{"x":' + b"9" * 5000 + b","),
    "an unknown column": lambda line: line[:-1] + b',"x":1}',
    "a body that is a list": lambda line: line.replace(b'"body":{', b'"body":[{', 1),
    "a line that is too long": lambda line: b" " * (2 << 20) + line,
    "the last year": lambda line: line.replace(b"2026-03-02", b"9999-12-31"),
    "no offset": lambda line: line.replace(b'00Z"', b'00"'),
}


@pytest.mark.parametrize("what", HOSTILE_LINES)
def test_a_hostile_line_is_a_finding(tmp_path: Path, bundle: bytes, what: str) -> None:
    files = files_of(bundle)
    lines = files["events.jsonl"].split(b"\n")
    assert lines[3] != HOSTILE_LINES[what](lines[3])
    lines[3] = HOSTILE_LINES[what](lines[3])
    assert findings(tmp_path, resealed({**files, "events.jsonl": b"\n".join(lines)}))


def two_of_a_name(bundle: bytes) -> bytes:
    file = io.BytesIO(packed(files_of(bundle)))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("events.jsonl", b"{}\n")
    return file.getvalue()


def claiming_a_huge_directory(bundle: bytes) -> bytes:
    content = packed(files_of(bundle))
    return content[:-10] + b"\xff\xff\xff\x7f" + content[-6:]


def encrypted(bundle: bytes) -> bytes:
    content = bytearray(packed(files_of(bundle)))
    at = content.index(b"PK\1\2") + 8
    content[at] |= 1
    content[6] |= 1
    return bytes(content)


HOSTILE_ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "not a zip": lambda _: b"This is not the file you are looking for.",
    "a zip of nothing": lambda _: packed({}),
    "the first half": lambda bundle: bundle[: len(bundle) // 2],
    "something before it": lambda bundle: b"#!/bin/sh\n" + bundle,
    "something after it": lambda bundle: bundle + b"\n",
    "two files of a name": two_of_a_name,
    "a file too many": lambda bundle: packed({**files_of(bundle), "../../etc/passwd": b"x"}),
    "a file with terminal codes": lambda bundle: packed({**files_of(bundle), "\x1b[2Jx": b"x"}),
    "no manifest": lambda bundle: packed(
        {name: text for name, text in files_of(bundle).items() if name != "manifest.json"}
    ),
    "no events": lambda bundle: packed(
        {name: text for name, text in files_of(bundle).items() if name != "events.jsonl"}
    ),
    "a bomb of zeros": lambda bundle: packed(
        {**files_of(bundle), "events.jsonl": b"\0" * (64 << 20)}
    ),
    "a bomb of line feeds": lambda bundle: packed(
        {**files_of(bundle), "events.jsonl": b"\n" * (64 << 20)}
    ),
    "a manifest that is a bomb": lambda bundle: packed(
        {**files_of(bundle), "manifest.json": b" " * (64 << 20)}
    ),
    "a README that is a bomb": lambda bundle: packed(
        {**files_of(bundle), "README.md": b" " * (64 << 20)}
    ),
    "a huge directory": claiming_a_huge_directory,
    "another compression": lambda bundle: packed(files_of(bundle), zipfile.ZIP_LZMA),
    "encrypted": encrypted,
}


@pytest.mark.parametrize("what", HOSTILE_ZIPS)
def test_a_hostile_zip_is_a_finding_on_one_line(tmp_path: Path, bundle: bytes, what: str) -> None:
    found = findings(tmp_path, HOSTILE_ZIPS[what](bundle))
    assert 1 <= len(found) <= 1100
    for finding in found:
        assert f"{finding.field} {finding.what}".isprintable()


def test_random_damage_never_gives_a_traceback(tmp_path: Path, bundle: bytes) -> None:
    chance = random.Random(11)
    plain = packed(files_of(bundle), zipfile.ZIP_STORED)
    for _ in range(400):
        content = bytearray(plain)
        for _ in range(chance.randrange(1, 12)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        findings(tmp_path, bytes(content[: chance.randrange(1, len(content))]))
        findings(tmp_path, bytes(content))

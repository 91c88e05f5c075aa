"""Check a bundle (``bundle_format``) offline: no network, no database, no key.

The file may come from anyone. So nothing is extracted; what is read at once is bounded, whatever
the zip claims; and whatever is wrong with it becomes a finding, not a traceback. A finding at
position 0 is about a file of the bundle, which its ``field`` then names.

What was forged is told event by event. What is merely damaged is not: one flipped bit of what is
compressed spoils all that comes after it, so of that only the first is told.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from events import catalog
from events.intact import Doubt
from events.ledger import Chain, Finding, Head, Json, Record
from mcp_server.evidence import bundle_format as form
from mcp_server.evidence.bundle_format import BadManifest, Manifest
from mcp_server.evidence.bundle_glance import Glance
from mcp_server.evidence.checkpoint import Attestation, BadCheckpoint, Proof, Statement, text_of
from mcp_server.evidence.event_line import LARGEST, LONGEST, BadLine, from_line
from mcp_server.evidence.note import BadKey, PublicKey

ENOUGH = 1000
"""Findings after which a check gives up: by then it is no question whether, only how badly."""

_TOO_MUCH = f"more than {ENOUGH} findings: the rest is not checked"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


_MANY_LINES = 20
"""Lines that cannot be read, after which the others are not worth a try."""

_CHUNK = 1 << 16
_SMALL_FILE = 1 << 20
_REQUIRED = (form.EVENTS, form.MANIFEST, form.README)
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # a way of compressing that Python does not know
    RuntimeError,  # encrypted
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)


class _GivenUp(Exception):
    """What comes after this cannot be read; ``finding`` says why."""

    def __init__(self, field: str, what: str, position: int = 0) -> None:
        super().__init__(what)
        self.finding = Finding(position, field, what)


class _Sparing:
    """A file that never reads more than a megabyte at once, whatever the zip's directory claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(_SMALL_FILE + 1 if size < 0 else min(size, _SMALL_FILE + 1))
        if len(content) > _SMALL_FILE:
            raise zipfile.BadZipFile("its directory is too large")
        return content


def verify_bundle(
    path: Path, trusted: PublicKey | None = None, receipts: Sequence[Head] = ()
) -> Iterator[Finding]:
    """Yield what is wrong with the bundle at ``path``, nothing if it is intact.

    ``trusted``: the key that must have signed its checkpoint; without one, the key in the bundle
    must, which proves only that the two fit. ``receipts``: events that must be in it.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            for count, finding in enumerate(_verify(file, trusted, receipts), 1):
                yield finding
                if count == ENOUGH:
                    raise _GivenUp("bundle", _TOO_MUCH)
        except _GivenUp as end:
            yield end.finding
        except _ZIP_FAULTS as fault:
            yield Finding(0, "bundle", _damage(fault))


def describe(path: Path) -> Json:
    """Return what a bundle that ``verify_bundle`` found whole says of itself.

    The last three are of its checkpoint, None if it has none.
    """
    with zipfile.ZipFile(path) as archive:
        entries = _entries(archive)
        manifest = Manifest.from_bytes(_small(archive, entries[form.MANIFEST]))
        summary: Json = manifest.model_dump(exclude={"files", "format", "created_at"})
        summary |= dict.fromkeys(("checkpoint", "signed_through", "signed_by"))
        if form.CHECKPOINT in entries:
            note = _small(archive, entries[form.CHECKPOINT]).decode()
            summary["checkpoint"] = Statement.read(text_of(note)).number
            summary["signed_through"] = Proof.read(_small(archive, entries[form.PROOF])).position
            summary["signed_by"] = _small(archive, entries[form.KEY]).decode().strip()
    return summary


def _damage(fault: Exception) -> str:
    return f"is damaged ({_plain(str(fault))})"


def _plain(text: str) -> str:
    """Return a library's words on one short line, without what a file's name could smuggle in."""
    return re.sub(r"[^ -~]", "?", text)[:200]


def _verify(
    file: IO[bytes], trusted: PublicKey | None, receipts: Sequence[Head]
) -> Iterator[Finding]:
    with _opened(file) as archive:
        entries = _entries(archive)
        if not {form.EVENTS, form.MANIFEST} & entries.keys():
            what = f"is a zip, but no bundle: it has neither {form.EVENTS} nor {form.MANIFEST}"
            raise _GivenUp("bundle", what)
        changed = list(_check_seal(file))
        yield from changed
        yield from _check_names(archive, entries)
        manifest, finding = _manifest(archive, entries)
        if finding:
            yield finding
        anchors = [(receipt, "receipt") for receipt in receipts]
        if manifest:
            yield from _check_small_files(archive, entries, manifest)
        user_id = manifest.user if manifest else _user_of_first_line(archive, entries)
        try:
            signed = _attested(archive, entries, user_id, trusted)
            anchors += [(signed, "checkpoint")] if signed else []
        except (BadCheckpoint, BadKey) as fault:
            yield Finding(0, form.CHECKPOINT, str(fault))
        except _GivenUp as fault:
            if manifest is None:  # else it has been told
                yield fault.finding
        if form.EVENTS in entries:
            found = _check_events(archive, entries[form.EVENTS], manifest, anchors)
            yield from _told_briefly(found, bool(changed))


def _opened(file: IO[bytes]) -> zipfile.ZipFile:
    """Raises: _GivenUp: it is not a zip, or no longer one."""
    beginning = file.read(4)
    file.seek(0)
    try:
        return zipfile.ZipFile(_Sparing(file))
    except _ZIP_FAULTS as fault:
        what = f"is damaged, or was cut off ({_plain(str(fault))})"
        if not beginning:
            what = "is empty"
        elif beginning != b"PK\3\4":
            what = "is not a zip, and so no bundle"
        raise _GivenUp("bundle", what) from None


def _told_briefly(found: Iterator[Finding], changed: bool) -> Iterator[Finding]:
    """Yield what was ``found`` in the events; of damaged ones only the first.

    They are damaged where the zip's own checksum, which comes last, says so; or the whole file was
    ``changed`` and there is no end to what is found.
    """
    some: list[Finding] = []
    try:
        for finding in found:
            some.append(finding)
            if len(some) == ENOUGH:
                raise _GivenUp(form.EVENTS, _TOO_MUCH)
    except _ZIP_FAULTS as fault:
        yield from some[:1]
        yield Finding(0, form.EVENTS, _damage(fault))
    except _GivenUp as end:
        yield from some[:1] if changed else some
        yield Finding(0, form.EVENTS, _damage(end)) if changed else end.finding
    else:
        yield from some


def _user_of_first_line(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]
) -> str | None:
    """Return whose events they seem to be, None if that cannot be read."""
    if form.EVENTS not in entries:
        return None
    try:
        for line in _lines(archive, entries[form.EVENTS], sha256()):
            return from_line(line)[0]
    except (BadLine, _GivenUp, *_ZIP_FAULTS):
        pass
    return None


def _attested(
    archive: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    user_id: str | None,
    trusted: PublicKey | None,
) -> Head | None:
    """Return the head that the bundle's checkpoint signed, None if it has no checkpoint.

    Raises: BadCheckpoint, BadKey.
    """
    if not form.ATTESTATION & entries.keys():
        if trusted:
            raise BadCheckpoint("is missing: there is nothing that the key could have signed")
        return None
    if missing := form.ATTESTATION - entries.keys():
        raise BadCheckpoint(f"comes without {', '.join(sorted(missing))}")
    note, proof, key = (
        _small(archive, entries[name]) for name in (form.CHECKPOINT, form.PROOF, form.KEY)
    )
    try:
        attestation = Attestation(
            note.decode(), trusted or PublicKey.read(key.decode()), Proof.read(proof)
        )
    except UnicodeDecodeError:
        raise BadCheckpoint("is not text") from None
    if user_id is None:
        raise BadCheckpoint("cannot be checked: nothing says whose ledger this is")
    attestation.check(user_id)
    return attestation.proof.head


def _check_seal(file: IO[bytes]) -> Iterator[Finding]:
    """Compare the file with the seal in the zip's comment.

    A zip without any comment is what remains when somebody packs the same files anew. That is
    legal: the files account for themselves.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - form.COMMENT_BYTES - 22))
    tail = file.read()
    if tail[-22:].startswith(b"PK\5\6") and tail.endswith(b"\0\0"):
        return
    seal = tail[-64:]
    file.seek(0)
    digest, rest = sha256(), size - 64
    while rest > 0:
        chunk = file.read(min(rest, _SMALL_FILE))
        digest.update(chunk)
        rest -= len(chunk)
    if not tail[:-64].endswith(form.COMMENT_TAG) or digest.hexdigest().encode() != seal:
        yield Finding(0, "bundle", "the file was changed after it was written")


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {entry.filename: entry for entry in archive.infolist()}


def _check_names(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]
) -> Iterator[Finding]:
    if len(archive.infolist()) != len(entries):
        yield Finding(0, "bundle", "holds two files of the same name")
    for name in _REQUIRED:
        if name not in entries:
            yield Finding(0, name, "is missing")
    for name, entry in entries.items():
        if name not in form.FILES:
            yield Finding(0, "bundle", f"holds a file that does not belong to it: {_plain(name)}")
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _GivenUp(name, "is compressed in a way that bundles do not use")


def _manifest(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]
) -> tuple[Manifest | None, Finding | None]:
    if form.MANIFEST not in entries:
        return None, None
    try:
        return Manifest.from_bytes(_small(archive, entries[form.MANIFEST])), None
    except BadManifest as fault:
        return None, Finding(0, form.MANIFEST, str(fault))
    except _GivenUp as fault:
        return None, fault.finding


def _small(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of a file that is read whole. Raises: _GivenUp."""
    try:
        with archive.open(entry) as file:
            content = file.read(_SMALL_FILE + 1)
    except _ZIP_FAULTS as fault:
        raise _GivenUp(entry.filename, _damage(fault)) from None
    if len(content) > _SMALL_FILE:
        raise _GivenUp(entry.filename, "is too large")
    return content


def _check_small_files(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], manifest: Manifest
) -> Iterator[Finding]:
    """Compare all files but the events and the manifest itself with the manifest."""
    for name in sorted({*entries, *manifest.files} & form.FILES - {form.EVENTS, form.MANIFEST}):
        if name not in manifest.files:
            yield Finding(0, name, "is not in the manifest")
        elif name not in entries:
            if name not in _REQUIRED:  # of which it has been told
                yield Finding(0, name, "is missing")
        else:
            yield from _check_small_file(archive, entries[name], manifest.files[name])
    if set(manifest.files) - form.FILES:
        yield Finding(0, form.MANIFEST, "names files that do not belong to a bundle")


def _check_small_file(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, expected: str
) -> Iterator[Finding]:
    try:
        content = _small(archive, entry)
    except _GivenUp as fault:
        yield fault.finding
        return
    if sha256(content).hexdigest() != expected:
        yield Finding(0, entry.filename, "is not what the manifest says (SHA-256)")


def _check_events(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    manifest: Manifest | None,
    anchors: Sequence[tuple[Head, str]],
) -> Iterator[Finding]:
    """Check the chain and every event in it. Without a manifest, for the user of the first line.

    ``anchors``: heads that this ledger once had, and from where that is known. First all is looked
    at quickly; only where that leaves a doubt, it is read once more to say what is wrong.
    """
    if manifest and _are_right(archive, entry, manifest, [head for head, _ in anchors]):
        return
    digest = sha256()
    chain: Chain | None = Chain(manifest.user) if manifest else None
    user_id = manifest.user if manifest else ""
    erased_through: int | None = None
    missed = list(anchors)
    unreadable = 0
    for number, line in enumerate(_lines(archive, entry, digest), 1):
        try:
            owner, record = from_line(line)
        except BadLine as fault:
            yield Finding(number, "line", str(fault))
            unreadable += 1
            if unreadable == _MANY_LINES:
                what = f"{_MANY_LINES} lines cannot be read: the rest is not checked"
                raise _GivenUp(form.EVENTS, what) from None
            continue
        if chain is None:
            chain, user_id = Chain(owner), owner
        if owner != user_id:
            yield Finding(record.position, "user_id", "is another user's")
        yield from check_event(chain, record)
        erased_through = erased_through_by(record) or erased_through
        if missed:
            missed = [each for each in missed if each[0] != (record.position, record.hash)]
    for head, source in missed:
        yield Finding(head.position, source, "names an event that is not in the bundle")
    if manifest and chain:
        yield from chain.close(manifest.head)
        yield from _check_manifest(manifest, digest.hexdigest(), erased_through)


def _are_right(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, manifest: Manifest, anchors: Sequence[Head]
) -> bool:
    """Whether there is nothing to find in the events. No means perhaps."""
    digest = sha256()
    try:
        with closing(_lines(archive, entry, digest)) as lines:
            seen = Glance(manifest.user, lines, anchors)
    except (Doubt, _GivenUp, *_ZIP_FAULTS):
        return False
    if seen.missed or seen.head != manifest.head:
        return False
    return not any(_check_manifest(manifest, digest.hexdigest(), seen.erased_through))


def check_event(chain: Chain, record: Record) -> list[Finding]:
    """Add one event to the chain; return what is wrong with it."""
    chain.add(record)
    found, chain.findings = chain.findings, []
    if misfit := what_does_not_fold(record):
        found.append(Finding(record.position, *misfit))
    return found


def what_does_not_fold(record: Record) -> tuple[str, str] | None:
    """Return the field and the reason why an event cannot be replayed, None if it can."""
    begins = record.type in catalog.BEGINNINGS
    event_class = catalog.TYPES.get(record.type)
    if event_class is None:
        return "type", "is unknown: forged, or from a newer version of Tasktrail"
    if catalog.STREAM_TYPES[event_class] != record.stream_type:
        return "stream_type", "is not that of its type"
    if begins != (record.version == 1) or begins != (record.stream_id == record.position):
        return "stream_id", "does not begin where its stream was created"
    if record.body is None:
        return None
    if record.body.keys() != catalog.BODY_PARTS:
        return "body", "does not have data and reason"
    try:
        catalog.decode(record.type, record.schema_version, record.body["data"])
    except catalog.UnknownEvent:
        return "schema_version", "is unknown: forged, or from a newer version of Tasktrail"
    except ValidationError:
        return "body", "is not of the shape that its type has"
    return None


def erased_through_by(record: Record) -> int | None:
    """Return up to where this event says that the ledger was erased, None if it does not."""
    match record:
        case Record(type="LedgerErased", body={"data": {"through": through}}):
            return through if type(through) is int and 0 <= through <= LARGEST else None
    return None


def _check_manifest(
    manifest: Manifest, events_hash: str, erased_through: int | None
) -> Iterator[Finding]:
    if manifest.files.get(form.EVENTS) != events_hash:
        yield Finding(0, form.EVENTS, "is not what the manifest says (SHA-256)")
    if manifest.first_position != 1:
        yield Finding(0, form.MANIFEST, "does not begin at position 1")
    if manifest.erased_through != erased_through:
        yield Finding(0, form.MANIFEST, "says otherwise than the events up to where it was erased")


def _lines(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, digest: _Digest
) -> Generator[bytes, None, None]:
    """Yield the lines without their line feeds, and feed every byte to ``digest``."""
    rest = b""
    with archive.open(entry) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > LONGEST:
                raise _GivenUp(form.EVENTS, "has a line that is too long for an event")
    if rest:
        yield rest

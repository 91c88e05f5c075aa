"""Write a bundle (``bundle_format``) in one pass, in memory that does not grow with the ledger.

The same ledger and the same moment give the same bytes.
"""

import os
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from hashlib import sha256
from typing import BinaryIO

from events.ledger import Head, Record
from mcp_server.evidence import bundle_format as form
from mcp_server.evidence.bundle import erased_through_by
from mcp_server.evidence.bundle_format import Manifest
from mcp_server.evidence.checkpoint import Attestation
from mcp_server.evidence.event_line import to_line

_NEVER = (1980, 1, 1, 0, 0, 0)  # a zip has no earlier time: its entries carry none


async def write_bundle(
    file: BinaryIO,
    user_id: str,
    head: Head,
    pages: AsyncIterator[list[Record]],
    created_at: datetime,
    progress: Callable[[int], None],
    attestation: Attestation | None = None,
) -> Manifest:
    """Write a bundle of ``pages``, oldest event first; ``progress`` is told of each page's length.

    ``file`` must be empty, readable and seekable.
    """
    with zipfile.ZipFile(file, "w") as archive:
        erased_through, events_hash = await _write_events(archive, user_id, pages, progress)
        small = {form.README: _readme(user_id, head, erased_through).encode()}
        if attestation is not None:
            small[form.CHECKPOINT] = attestation.note.encode()
            small[form.PROOF] = attestation.proof.write()
            small[form.KEY] = f"{attestation.key}\n".encode()
        for name, content in small.items():
            _write(archive, name, content)
        hashes = {name: sha256(content).hexdigest() for name, content in small.items()}
        manifest = Manifest(
            user=user_id,
            first_position=1,
            last_position=head.position,
            head_hash=head.hash.hex(),
            erased_through=erased_through,
            files={form.EVENTS: events_hash, **hashes},
            created_at=created_at,
        )
        _write(archive, form.MANIFEST, manifest.to_bytes())
        archive.comment = form.COMMENT_TAG + b"0" * 64
    _seal(file)
    return manifest


async def _write_events(
    archive: zipfile.ZipFile,
    user_id: str,
    pages: AsyncIterator[list[Record]],
    progress: Callable[[int], None],
) -> tuple[int | None, str]:
    """Write the lines; return up to where the ledger was erased, and the SHA-256 of the file."""
    erased_through, digest = None, sha256()
    with archive.open(_entry(form.EVENTS), "w", force_zip64=True) as lines:
        async for page in pages:
            text = b"".join(to_line(user_id, record) + b"\n" for record in page)
            digest.update(text)
            lines.write(text)
            for record in page:
                erased_through = erased_through_by(record) or erased_through
            progress(len(page))
    return erased_through, digest.hexdigest()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _NEVER)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_entry(name), content)


def _seal(file: BinaryIO) -> None:
    """Put the SHA-256 of all that comes before it at the very end."""
    rest = file.seek(-64, os.SEEK_END)
    file.seek(0)
    digest = sha256()
    while rest:
        chunk = file.read(min(rest, 1 << 20))
        digest.update(chunk)
        rest -= len(chunk)
    file.write(digest.hexdigest().encode())


def _readme(user_id: str, head: Head, erased_through: int | None) -> str:
    erased = ""
    if erased_through is not None:
        erased = _ERASED.format(through=erased_through)
    shown = user_id.replace("`", "'")
    return _README.format(user=shown, last=head.position, hash=head.hash.hex(), erased=erased)


_ERASED = """
**Erased.** What people wrote up to position {through} was erased on request. Those events still
stand in the chain, with who did what and when, and with a commitment to the words; the words and
the salt that would let anyone guess them are gone. The event `LedgerErased` says so, and is itself
part of the chain.
"""

_README = """# The ledger of one user

All events of user `{user}`, from position 1 to {last}, as [Tasktrail](https://pypi.org/project/tasktrail/)
recorded them. The hash of the last one is

    {hash}
{erased}
## Check it

    pip install tasktrail
    tasktrail verify --bundle FILE

This needs no network, no database and no key. It recomputes every hash, and says at which position
and in which field something was changed, left out or added. It ends with 0 when all is well.

## What is in it

- `events.jsonl`: a line of JSON for each event, oldest first, split at line feeds only. The columns
  are those of the table `tasktrail.events`; bytes are hex, times are UTC with microseconds.
- `manifest.json`: whose ledger this is, where it begins and ends, and the SHA-256 of each file.
- `checkpoint.txt`, `checkpoint-proof.json`, `checkpoint-key.txt`, if they are there: a statement
  over all ledgers, signed with a key that the server never has, and the proof that this ledger is
  in it.

## Check it without Tasktrail

JCS is RFC 8785. For each event, oldest first:

    commitment   = HMAC-SHA-256(key = salt, "tasktrail/body/v1\\0" + JCS(body))
    header       = JCS({{"v": 1, event_id, command_id, type, schema_version, stream_type, actor,
                        commitment}})                          commitment as hex
    content_hash = SHA-256("tasktrail/event/v1\\0" + header)
    hash         = SHA-256(previous hash + content_hash + position + stream_id + version + time)

The last four are signed 64-bit big-endian integers, the time in microseconds since 1970 in UTC.
What stands for the first previous hash is SHA-256("tasktrail/ledger/v1\\0" + user_id). Positions
are 1, 2, 3 ... without a gap, and so are the versions within each (stream_type, stream_id). `body`
and `salt` may be null only where a later `LedgerErased` has `data.through` at or above that
position.

## What it proves, and what not

That nothing between the first and the last event was changed, left out, added or put in another
order since the last hash was fixed. Whoever holds the database could make a whole new chain, or
leave off the end of this one. Against that there is the checkpoint, if its key is one that you know
from elsewhere (`--key`), and the receipts of writes (`--receipt position:hash`). What came after
the checkpoint has only the chain.
"""

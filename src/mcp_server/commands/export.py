"""``tasktrail export``: one user's ledger as a file to take away."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from errno import EISDIR
from os import strerror
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from events.ledger import Json, Record
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import UserId, one_of
from mcp_server.commands.chain_watch import ChainWatch
from mcp_server.commands.export_formats import CSV_COLUMNS, csv_row, to_cloud_event, to_csv
from mcp_server.commands.printing import counted
from mcp_server.commands.progress import WorkProgress
from mcp_server.commands.recording import Access
from mcp_server.commands.snapshot import Snapshot
from mcp_server.evidence.bundle_writer import write_bundle
from mcp_server.evidence.checkpoint import Attestation, BadCheckpoint
from mcp_server.evidence.checkpoint_log import attest
from mcp_server.failure import Failure
from mcp_server.target import Target

Tell = Callable[[int], None]


class Unwritable(Failure):
    """The file to write cannot be written."""

    exit_code = 2


class Format(StrEnum):
    """What ``--format`` takes."""

    bundle = "bundle"
    csv = "csv"
    cloudevents = "cloudevents"


def export(
    user: UserId,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; - is standard output.")
    ],
    format_: Annotated[
        Format, one_of(Format, "bundle can be verified; the others cannot.", "--format")
    ] = Format.bundle,
    json: Annotated[bool, typer.Option("--json", help="Say what was written as JSON.")] = False,
) -> None:
    to_stdout = output == Path("-")
    if to_stdout and format_ is Format.bundle:
        raise typer.BadParameter("A bundle is a zip: give it a file.", param_hint="'--output'")
    with target.opened(settings.read()) as database:
        if to_stdout:
            asyncio.run(_export(database, user, format_, sys.stdout.buffer))
            return
        with replaced(output) as file:
            summary = asyncio.run(_export(database, user, format_, file))
    summary["file"] = str(output)
    _show(summary, json)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when all is written, and never half of it.

    Raises: Unwritable.
    """
    part = path.parent / f".{path.name or 'output'}.part"
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, strerror(EISDIR))
        file = part.open("w+b")
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with file:
            yield file
        there = path.exists() and path.stat().st_size > 0
        part.replace(path)
        if there:
            sys.stderr.write(f"tasktrail: {path} was there already, and was replaced.\n")
    finally:
        part.unlink(missing_ok=True)


async def _export(database: Target, user: str, format_: Format, file: BinaryIO) -> Json:
    """Write the ledger and return a summary of it."""
    looked = Access("export", {"format": format_.value}, 1)
    async with recording.opened(database, user, looked) as ledger:
        await recording.record(database, user, looked._replace(last=ledger.head.position))
        watch = ChainWatch(ledger)
        with WorkProgress("exporting", ledger.head.position) as progress:
            await _write(ledger, watch.pages(), format_, file, progress.advance)
        return {
            "user": user,
            "format": format_.value,
            "events": watch.events,
            "last_position": ledger.head.position,
            "head_hash": ledger.head.hash.hex(),
            "broken_at": await watch.told(),
        }


async def _write(
    ledger: Snapshot,
    pages: AsyncIterator[list[Record]],
    format_: Format,
    file: BinaryIO,
    tell: Tell,
) -> None:
    if format_ is Format.bundle:
        attestation = await attestation_of(ledger)
        now = datetime.now(UTC)
        await write_bundle(file, ledger.user_id, ledger.head, pages, now, tell, attestation)
        return
    if format_ is Format.csv:
        file.write(to_csv([CSV_COLUMNS]))
    async for page in pages:
        if format_ is Format.csv:
            file.write(to_csv(csv_row(record) for record in page))
        else:
            events = (to_cloud_event(ledger.user_id, record) for record in page)
            file.write(b"".join(orjson.dumps(event) + b"\n" for event in events))
        tell(len(page))


async def attestation_of(ledger: Snapshot) -> Attestation | None:
    """Return the latest checkpoint; a broken one is left out, and said."""
    try:
        return await attest(ledger.connection, ledger.user_id)
    except BadCheckpoint as fault:
        note = f"tasktrail: without a checkpoint, for the database's does not hold: {fault}"
        print(note, file=sys.stderr)  # noqa: T201 - this is the command line
        return None


def _show(summary: Json, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(summary).decode())  # noqa: T201 - this is the command line
        return
    lines = [
        f"{counted(summary['events'], 'events')} of {summary['user']!r} -> {summary['file']}",
        f"head: position {summary['last_position']}, hash {summary['head_hash']}",
    ]
    if summary["format"] == Format.bundle.value:
        lines.append(f"check it anywhere: tasktrail verify --bundle {summary['file']}")
    print("\n".join(lines))  # noqa: T201 - as above

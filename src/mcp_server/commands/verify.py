"""``tasktrail verify``: check ledgers, read tables and checkpoints in a database, or a bundle."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from events import ledger
from events.ledger import Head, Json
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import OptionalUserId
from mcp_server.commands.check_output import CheckOutput
from mcp_server.commands.jobs import (
    DEFAULT_JOBS,
    AsJson,
    Jobs,
    collect_garbage_seldom,
    connected,
    each,
    require_sight,
    span_by_span,
)
from mcp_server.commands.progress import WorkProgress
from mcp_server.commands.recording import Access
from mcp_server.evidence import checkpoint_log as log
from mcp_server.evidence.bundle import describe, verify_bundle
from mcp_server.evidence.checkpoint import BadCheckpoint
from mcp_server.evidence.note import PRIVATE, BadKey, PublicKey
from mcp_server.evidence.receipt import check_receipt, read_receipt
from mcp_server.failure import Failure, why
from mcp_server.reach import connect_async
from projections.finding import Finding
from projections.spans import UNCUT, plan
from projections.verify import verify as verify_span


class Kept(NamedTuple):
    """What contradicts the checkpoints and the receipts; how many checkpoints there are; and what
    was kept outside and ``compared``."""

    found: list[tuple[str | None, ledger.Finding]]
    totals: dict[str, int]
    compared: Json


class Unusable(Failure):
    """A file or a key that was named cannot be used."""

    exit_code = 2


def verify(
    user: OptionalUserId = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Check this exported file instead, offline.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The public key that must have signed the checkpoints, or its file."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept outside; may be repeated.")
    ] = None,
    receipt: Annotated[
        list[str] | None, typer.Option(help="position:hash of a write; may be repeated.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Derive anew what the full-text search finds, too.")
    ] = False,
    jobs: Jobs = DEFAULT_JOBS,
    as_json: AsJson = False,
) -> None:
    trusted = _read_key(key)
    receipts = [read_receipt(text) for text in receipt or []]
    notes = {str(path): _read(path) for path in checkpoint or []}
    if bundle is not None and not bundle.exists():
        raise Unusable(f"{bundle}: There is no such file.")
    if bundle is not None:
        if user is not None or checkpoint or words:
            raise typer.BadParameter("--bundle goes with --key and --receipt alone.")
    elif receipts and user is None:
        raise typer.BadParameter("A receipt is of one user's ledger: name the user.")
    with CheckOutput(as_json, "Nothing is wrong.") as output:
        if bundle is not None:
            _verify_bundle(bundle, trusted, receipts, output)
        else:
            _verify_database(user, trusted, notes, receipts, words, jobs, output)
    if output.findings:
        raise typer.Exit(1)


def _verify_bundle(
    path: Path, trusted: PublicKey | None, receipts: Sequence[Head], output: CheckOutput
) -> None:
    collect_garbage_seldom()
    started = time.perf_counter()
    try:
        for finding in verify_bundle(path, trusted, receipts):
            output.add([_of(path.name, finding)])
    except OSError as error:
        raise Unusable(f"{path}: {why(error)}.") from None
    if not output.findings:
        _tell_of(describe(path), trusted, receipts, output)
    output.end(time.perf_counter() - started)


def _tell_of(
    bundle: Json, trusted: PublicKey | None, receipts: Sequence[Head], output: CheckOutput
) -> None:
    remarks = {}
    if trusted is not None:
        bundle["signed_by"] = str(trusted)
    elif bundle["signed_by"] is not None:
        remarks["signed_by"] = "so says the bundle: --key compares it with the key that you know"
    if bundle["signed_through"] not in (None, bundle["last_position"]):
        remarks["signed_through"] = "what came after that has only the chain"
    compared = [receipt.position for receipt in receipts]
    output.say({**bundle, "receipts_compared": compared}, remarks)
    output.add([], events=bundle["last_position"])


def _verify_database(
    user: str | None,
    trusted: PublicKey | None,
    notes: Mapping[str, str],
    receipts: Sequence[Head],
    words: bool,
    jobs: int,
    output: CheckOutput,
) -> None:
    with target.opened(settings.read()) as database:
        looked = Access("verify", {"receipts": len(receipts)} if receipts else {}, 1)
        asyncio.run(recording.record(database, user or recording.EVERYBODY, looked))
        # Only the operator may derive words, of one user's tasks too.
        conninfo = database.admin if user is None or words else database.server
        with connected(conninfo) as connection:
            if user is None:
                require_sight(connection)
            events, spans = plan(connection, user, UNCUT)
            with WorkProgress("verifying", events) as progress:
                work = partial(span_by_span, partial(verify_span, words=words))
                for done in each(conninfo, work, spans, jobs):
                    progress.advance(done.events)
                    output.add(done.findings, users=done.users, events=done.events, rows=done.rows)
        # Of everybody: with the login that sees everybody's heads.
        reader = database.admin if user is None else database.reader
        kept = asyncio.run(_against_what_was_kept(reader, user, trusted, notes, receipts))
        output.add((_of(owner or "(all)", each) for owner, each in kept.found), **kept.totals)
        output.say(kept.compared)
        output.end(progress.seconds)


async def _against_what_was_kept(
    conninfo: str,
    user: str | None,
    trusted: PublicKey | None,
    notes: Mapping[str, str],
    receipts: Sequence[Head],
) -> Kept:
    """Compare with the checkpoints and the receipts: what contradicts them is a cut tail, or a
    rewritten chain. ``notes``: checkpoints kept outside, by the names of their files."""
    numbers: list[int] = []
    async with await connect_async(conninfo) as connection:
        found = [one async for one in log.verify_checkpoints(connection, user, trusted)]
        for name, note in notes.items():
            try:
                number, fault = await log.compare_outside(connection, note, trusted)
                numbers.append(number)
            except BadCheckpoint as error:
                fault = f"{name}: {error}"
            if fault is not None:
                found.append((None, ledger.Finding(0, "checkpoint", fault)))
        for receipt in receipts:
            finding = await check_receipt(connection, user or "", receipt)
            if finding is not None:
                found.append((user, finding))
        totals = {"checkpoints": await log.count(connection)}
    positions = [receipt.position for receipt in receipts]
    return Kept(found, totals, {"checkpoints_compared": numbers, "receipts_compared": positions})


def _of(owner: str, finding: ledger.Finding) -> Finding:
    table = "audit_access" if finding.field == "access" else "events"
    return Finding(owner, table, finding.position, "tampered", finding.field, finding.what)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path}: {why(error)}.") from None


def _read_key(text: str | None) -> PublicKey | None:
    """Return the key that ``text`` is, or that the file of that name holds. Raises: Unusable."""
    if text is None:
        return None
    said = _read(Path(text)) if Path(text).exists() else text
    try:
        return PublicKey.read(said)
    except BadKey as error:
        if said.startswith(PRIVATE):
            raise Unusable("That is the private key: give the public one, or its file.") from None
        raise Unusable(f"{text} is neither a file nor a public key: {error}.") from None

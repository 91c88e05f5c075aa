"""``tasktrail verify``: check ledgers, read tables and checkpoints in a database, or a bundle."""

import time
from pathlib import Path
from typing import Annotated

import typer

from events import ledger
from mcp_server import settings, target
from mcp_server.bundle import describe
from mcp_server.check_output import CheckOutput
from mcp_server.failure import Failure
from mcp_server.jobs import DEFAULT_JOBS, AsJson, Jobs, connected, each, require_sight
from mcp_server.progress import WorkProgress
from mcp_server.verify_evidence import BadEvidence, Evidence, bundle_findings, database_findings
from projections.spans import plan
from projections.verify import verify as verify_span

Found = list[tuple[str | None, ledger.Finding]]


class Unusable(Failure):
    """A file or a key that was named cannot be used."""

    exit_code = 2


def verify(
    user: Annotated[str | None, typer.Argument(help="Only this user's ledger.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Check this exported bundle instead, offline.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The public key (or its file) that signs the checkpoints.")
    ] = None,
    receipt: Annotated[
        list[str] | None, typer.Option(help="A write's position:hash; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept outside; may be repeated.")
    ] = None,
    jobs: Jobs = DEFAULT_JOBS,
    as_json: AsJson = False,
) -> None:
    """Check chains, gaps, heads and read tables; exit 1 if anything was tampered with."""
    evidence = Evidence.read(key, receipt or (), checkpoint or ())
    if bundle is not None and checkpoint:
        raise typer.BadParameter("It is compared with the database, not with a bundle.")
    if bundle is not None and not bundle.is_file():
        raise BadEvidence(f"There is no file {bundle}.")
    if bundle is None and evidence.receipts and user is None:
        raise typer.BadParameter("Say whose ledger the receipt is from.")
    output = CheckOutput(as_json)
    if bundle is not None:
        _verify_bundle(bundle, evidence, output)
    else:
        _verify_database(user, evidence, jobs, output)
    if output.findings:
        raise typer.Exit(1)


def _verify_bundle(bundle: Path, evidence: Evidence, output: CheckOutput) -> None:
    start = time.monotonic()
    output.add(bundle_findings(bundle, evidence))
    if not output.findings:
        said = describe(bundle)
        output.add((), events=said["last_position"])
        output.say(said)
    output.end(time.monotonic() - start)


def _verify_database(user: str | None, evidence: Evidence, jobs: int, output: CheckOutput) -> None:
    with target.opened(settings.read()) as database:
        conninfo = database.admin if user is None else database.server
        with connected(conninfo) as connection:
            if user is None:
                require_sight(connection)
            events, spans = plan(connection, user)
            with WorkProgress("verifying", events) as progress:
                for _, done in each(conninfo, verify_span, spans, jobs):
                    progress.advance(done.events)
                    output.add(done.findings, users=done.users, events=done.events, rows=done.rows)
            output.add(database_findings(conninfo, user, evidence))
            output.end(progress.seconds)

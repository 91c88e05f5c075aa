"""``tasktrail verify``: check ledgers and read tables in the database."""

from typing import Annotated

import typer

from mcp_server import settings, target
from mcp_server.check_output import CheckOutput
from mcp_server.jobs import DEFAULT_JOBS, AsJson, Jobs, connected, each, require_sight
from mcp_server.progress import WorkProgress
from projections.spans import plan
from projections.verify import verify as verify_span


def verify(
    user: Annotated[str | None, typer.Argument(help="Only this user's ledger.")] = None,
    jobs: Jobs = DEFAULT_JOBS,
    as_json: AsJson = False,
) -> None:
    """Check chains, gaps, heads and read tables; exit 1 if anything was tampered with."""
    with target.opened(settings.read()) as database:
        conninfo = database.admin if user is None else database.server
        with connected(conninfo) as connection:
            if user is None:
                require_sight(connection)
            events, spans = plan(connection, user)
            output = CheckOutput(as_json)
            with WorkProgress("verifying", events) as progress:
                for _, done in each(conninfo, verify_span, spans, jobs):
                    progress.advance(done.events)
                    output.add(done.findings, users=done.users, events=done.events, rows=done.rows)
            output.end(progress.seconds)
    if output.findings:
        raise typer.Exit(1)

"""``rebuild-projections``: replay the ledger into the read tables, or only compare."""

from functools import partial
from typing import Annotated, Any

import typer
from psycopg import Connection

from mcp_server import settings, target
from mcp_server.commands.check_output import CheckOutput
from mcp_server.commands.jobs import DEFAULT_JOBS, AsJson, Jobs, connected, each, require_sight
from mcp_server.commands.progress import WorkProgress
from mcp_server.failure import Failure
from projections.rebuild import MENDERS, rebuild
from projections.spans import plan

_ONE_AT_A_TIME = 7_461_736_275  # an arbitrary number that names this advisory lock

_ALL_WELL = "Nothing is wrong. Each row is as its ledger says."
"""That the ledgers' chains hold is not said: it is looked at only where rows differ."""


class AlreadyRunning(Failure):
    """Somebody else is rebuilding this database right now."""

    exit_code = 3


def rebuild_projections(
    user: Annotated[str | None, typer.Option(help="Only this user's rows.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare only; exit 1 if something differs.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="With --check: put right what differs.")
    ] = False,
    rewrite: Annotated[
        bool,
        typer.Option("--rewrite", help="Write every row, so that derived columns are made anew."),
    ] = False,
    jobs: Jobs = DEFAULT_JOBS,
    as_json: AsJson = False,
) -> None:
    if check and rewrite:
        raise typer.BadParameter("--check writes nothing: leave one out", param_hint="'--rewrite'")
    mending = fix or not check
    tell = check or fix
    with (
        target.opened(settings.read()) as database,
        connected(database.admin) as connection,
        CheckOutput(as_json, _ALL_WELL if tell else None) as output,
    ):
        require_sight(connection)
        if mending:
            _alone(connection)
        events, spans = plan(connection, user)
        work = partial(rebuild, fix=mending, rewrite=rewrite, tell=tell)
        with WorkProgress("rebuilding" if mending else "comparing", events) as progress:
            in_hand = MENDERS + 1 if mending else 1
            for done in each(database.admin, work, spans, jobs, in_hand):
                progress.advance(done.events)
                output.add(
                    done.findings,
                    users=done.users,
                    events=done.events,
                    rows=done.rows,
                    mended=done.mended,
                )
        output.end(progress.seconds)
    if output.unbelievable or (output.findings and not mending):
        raise typer.Exit(1)


def _alone(connection: Connection[Any]) -> None:
    """Raises: AlreadyRunning. The lock lasts as long as the connection."""
    cursor = connection.execute("SELECT pg_try_advisory_lock(%s)", (_ONE_AT_A_TIME,))
    if not cursor.fetchall()[0][0]:
        raise AlreadyRunning("Another rebuild is at work on this database: nothing was done.")

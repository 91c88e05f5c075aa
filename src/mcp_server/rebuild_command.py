"""``rebuild-projections``: replay the ledger into the read tables, or only compare."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
import psycopg
import typer
from psycopg import Connection

from mcp_server import settings, target
from mcp_server.failure import Failure
from projections.rebuild import Totals, rebuild
from projections.scan import Difference
from projections.spans import Span, of_all, of_user

_ONE_AT_A_TIME = 7_461_736_275  # an arbitrary number that names this advisory lock


class AlreadyRunning(Failure):
    """Somebody else is rebuilding this database right now."""

    exit_code = 3


def rebuild_projections(
    user: Annotated[str | None, typer.Option(help="Only this user's rows.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare only; exit 1 if not equal.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="With --check: put right what differs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay the ledger into the read tables, online; only what differs is written."""
    mending = fix or not check
    report = _Report(as_json, lines=check or fix)
    with (
        target.opened(settings.read()) as database,
        psycopg.connect(database.admin, autocommit=True) as connection,
    ):
        connection.execute("SET TIME ZONE 'UTC'")
        if mending:
            _alone(connection)
        rebuild(connection, _spans(connection, user), mending, report.found, report.done)
    report.end()
    if report.unreadable or (report.differences and check and not fix):
        raise typer.Exit(1)


def _alone(connection: Connection[Any]) -> None:
    cursor = connection.execute("SELECT pg_try_advisory_lock(%s)", (_ONE_AT_A_TIME,))
    if not cursor.fetchall()[0][0]:
        raise AlreadyRunning("Another rebuild is at work on this database.")


def _spans(connection: Connection[Any], user: str | None) -> Iterable[Span]:
    if user is None:
        return of_all(connection)
    cursor = connection.execute(
        "SELECT l.position FROM tasktrail.ledgers l WHERE l.user_id = %s", (user,)
    )
    row = cursor.fetchone()
    if row is None:
        raise typer.BadParameter(f"there is no ledger of {user!r}", param_hint="--user")
    return of_user(user, row[0])


class _Report:
    """What the operator sees."""

    def __init__(self, as_json: bool, lines: bool) -> None:
        self.differences = 0
        self.unreadable = 0
        self._totals = Totals()
        self._as_json = as_json
        self._lines = lines

    def found(self, differences: list[Difference]) -> None:
        for difference in differences:
            self.differences += 1
            self.unreadable += difference.kind == "unreadable"
            if self._lines and not self._as_json:
                sys.stdout.write(_line(difference) + "\n")

    def done(self, totals: Totals) -> None:
        self._totals = totals

    def end(self) -> None:
        if self._as_json:
            sys.stdout.write(orjson.dumps(self._totals._asdict()).decode() + "\n")


def _line(difference: Difference) -> str:
    field = f" {difference.field}" if difference.field else ""
    return f"{difference.user_id} {difference.table} {difference.id}{field}: {difference.what}"

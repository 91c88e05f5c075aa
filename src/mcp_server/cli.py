"""The command line: ``tasktrail`` and ``rebuild-projections``.

This file only lists the commands. Each is a function in a module of its own, which is imported when
it is asked for: a token should not wait for what a server needs. Failures that a person can act on
become a line on standard error and an exit code (``mcp_server.failure``).
"""

import sys
from collections.abc import Callable
from importlib import import_module, metadata
from io import TextIOWrapper
from typing import Annotated

import psycopg
import typer

from events.errors import Refused
from mcp_server.failure import Failure
from projections.spans import NoSuchUser

COMMANDS = {
    "serve": "mcp_server.commands.serve:serve",
    "token": "mcp_server.commands.token:token",
    "migrate": "mcp_server.commands.migrate:migrate_schema",
    "doctor": "mcp_server.commands.doctor:doctor",
    "rebuild-projections": "mcp_server.commands.rebuild:rebuild_projections",
    "history": "mcp_server.commands.history:history",
    "replay": "mcp_server.commands.replay:replay",
    "diff": "mcp_server.commands.diff:diff",
    "access": "mcp_server.commands.access:access",
    "verify": "mcp_server.commands.verify:verify",
    "export": "mcp_server.commands.export:export",
    "report": "mcp_server.commands.report:report",
    "checkpoint": "mcp_server.commands.checkpoint:checkpoint",
    "erase": "mcp_server.commands.erase:erase_command",
    "hold": "mcp_server.commands.hold:hold",
    "seed": "mcp_server.commands.seed:seed",
}


_NO_SCHEMA = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)
_AWAY = ("08", "28", "57P")
"""How SQLSTATEs begin: no connection, no entry, shut down or starting."""


def main() -> None:
    """Run ``tasktrail``."""
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    _run(_app([asked] if asked in COMMANDS else list(COMMANDS)), "tasktrail")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tasktrail {metadata.version('tasktrail')}")  # noqa: T201 - this is the command line
        raise typer.Exit


def rebuild_main() -> None:
    """Run ``rebuild-projections``."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(_load("rebuild-projections"))
    _run(app, "rebuild-projections")


def _app(names: list[str]) -> typer.Typer:
    app = typer.Typer(
        name="tasktrail",
        help="A task store for AI agents that never forgets who changed what.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_tasktrail)  # with one command alone typer would leave out its name
    for name in names:
        app.command(name)(_load(name))
    return app


def _tasktrail(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Print the version.", callback=_version),
    ] = False,
) -> None:
    pass


def _load(name: str) -> Callable[..., None]:
    module, _, function = COMMANDS[name].partition(":")
    command: Callable[..., None] = getattr(import_module(module), function)
    return command


def _run(app: typer.Typer, name: str) -> None:
    if isinstance(sys.stdout, TextIOWrapper):  # any text can be shown, and JSON is UTF-8
        terminal = sys.stdout.isatty()
        sys.stdout.reconfigure(encoding=None if terminal else "utf-8", errors="backslashreplace")
    try:
        app(prog_name=name)
    except Failure as failure:
        _fail(failure.exit_code, str(failure))
    except NoSuchUser as error:
        _fail(2, str(error))
    except Refused as refusal:
        if refusal.code == "unavailable":
            why = refusal.__cause__ or refusal.message
            _fail(3, f"The database cannot be reached: {why}\n`tasktrail doctor` says more.")
        _fail(1, f"{refusal.message} {refusal.hint}")
    except _NO_SCHEMA:
        _fail(3, "The database has no Tasktrail in it, or an older one. Run: tasktrail migrate")
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary
        _fail(3, f"This login may not do that: {said}.\n`tasktrail doctor` says more.")
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        _fail(3, _trouble(error))
    except OSError as error:
        _fail(2, f"{error.filename or 'output'}: {error.strerror or error}")


def _trouble(error: psycopg.Error) -> str:
    """Say whether the database is away, or is there and cannot do it: a full disk, a standby."""
    if (error.sqlstate or "08").startswith(_AWAY):
        return f"The database cannot be reached: {error}\n`tasktrail doctor` says more."
    return f"The database could not do it: {error.diag.message_primary}."


def _fail(code: int, text: str) -> None:
    print(f"tasktrail: {text}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(code)

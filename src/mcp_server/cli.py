"""The command line: ``tasktrail`` and ``rebuild-projections``.

Each command is a function in the module that does the work's edge; this file only lists them and
turns the failures a user can act on into a line on standard error and an exit code: 0 done, 1 the
check failed, 2 usage, 3 the system could not be reached.
"""

import sys
from collections.abc import Callable

import psycopg
import typer

from events.errors import Refused
from mcp_server import export_command, report_command
from mcp_server.migrate import NeedsAdministrator
from mcp_server.postgres import PostgresUnavailable
from mcp_server.settings import SettingsError

app = typer.Typer(
    name="tasktrail",
    help="A task store for AI agents that never forgets who changed what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("export")(export_command.export)
app.command("report")(report_command.report)


def main() -> None:
    """Run ``tasktrail``."""
    _run(app)


def _run(command: Callable[[], None]) -> None:
    try:
        command()
    except SettingsError as error:
        _fail(2, str(error))
    except Refused as refusal:
        _fail(3 if refusal.code == "unavailable" else 1, f"{refusal.message} {refusal.hint}")
    except NeedsAdministrator as error:
        _fail(3, f"{error}\nLet an administrator of the database run this, then try again:\n{error.sql}")
    except PostgresUnavailable as error:
        _fail(3, str(error))
    except psycopg.OperationalError as error:
        _fail(3, f"The database cannot be reached: {error}\n`tasktrail doctor` says more.")


def _fail(code: int, text: str) -> None:
    print(f"tasktrail: {text}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(code)

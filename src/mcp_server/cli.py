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
from mcp_server.export_command import export
from mcp_server.migrate import NeedsAdministrator
from mcp_server.postgres import PostgresUnavailable
from mcp_server.rebuild_command import AlreadyRunning, rebuild_projections
from mcp_server.seed_command import UsersExist, seed
from mcp_server.report_command import report
from mcp_server.selfcheck import Unsafe
from mcp_server.serve import serve
from mcp_server.settings import SettingsError
from mcp_server.token_command import token

app = typer.Typer(
    name="tasktrail",
    help="A task store for AI agents that never forgets who changed what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve)
app.command("token")(token)
app.command("rebuild-projections")(rebuild_projections)
app.command("seed")(seed)
app.command("export")(export)
app.command("report")(report)

_rebuild = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
_rebuild.command()(rebuild_projections)


def main() -> None:
    """Run ``tasktrail``."""
    _run(app)


def rebuild_main() -> None:
    """Run ``rebuild-projections``."""
    _run(_rebuild)


def _run(command: Callable[[], None]) -> None:
    try:
        command()
    except SettingsError as error:
        _fail(2, str(error))
    except Refused as refusal:
        _fail(3 if refusal.code == "unavailable" else 1, f"{refusal.message} {refusal.hint}")
    except NeedsAdministrator as error:
        _fail(3, f"{error}\nLet an administrator of the database run this, then try again:\n{error.sql}")
    except UsersExist as error:
        _fail(1, str(error))
    except (PostgresUnavailable, Unsafe, AlreadyRunning) as error:
        _fail(3, str(error))
    except psycopg.OperationalError as error:
        _fail(3, f"The database cannot be reached: {error}\n`tasktrail doctor` says more.")


def _fail(code: int, text: str) -> None:
    print(f"tasktrail: {text}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(code)

"""The command line: ``tasktrail`` and ``rebuild-projections``.

This file only lists the commands. Each is a function in a module of its own, which is imported when
it is asked for: neither a token nor a page of help should wait for what a server needs. Failures
that a person can act on become a line on standard error and an exit code (``mcp_server.failure``).
"""

import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from events.errors import NoSuchUser, Refused
from mcp_server.failure import Failure


class Command(NamedTuple):
    """The function that does it, as module:name, and what the help says of it."""

    function: str
    help: str


COMMANDS = {
    "serve": Command(
        "serve:serve",
        "Serve MCP; with an embedded Postgres when DATABASE_URL is not set.",
    ),
    "token": Command(
        "token:token",
        "Print a bearer token for a user, signed with the shared secret.",
    ),
    "migrate": Command(
        "migrate:migrate_schema",
        "Bring the database's schema up to date. Safe to repeat.",
    ),
    "doctor": Command(
        "doctor:doctor",
        "Say what is wrong with this configuration and how to mend it.",
    ),
    "rebuild-projections": Command(
        "rebuild:rebuild_projections",
        "Replay the ledger into the read tables, online: only what differs is written.",
    ),
    "history": Command(
        "history:history",
        "Tell what happened: each change with who, why, before and after, oldest first.",
    ),
    "replay": Command(
        "replay:replay",
        "Show one user's tasks and conversations as they were at a moment.",
    ),
    "diff": Command(
        "diff:diff",
        "Show what changed between two moments, field by field.",
    ),
    "access": Command(
        "access:access",
        "Show who looked at whose ledger, and check that no record was changed or removed.",
    ),
    "verify": Command(
        "verify:verify",
        "Check chains, gaps, heads, read tables and checkpoints; exit 1 if anything is wrong.",
    ),
    "export": Command(
        "export:export",
        "Write one user's whole ledger to a file that an auditor can take away.",
    ),
    "report": Command(
        "report:report",
        "Write a page with the timeline, the state at any moment, and the chain to verify.",
    ),
    "checkpoint": Command(
        "checkpoint:checkpoint",
        "Sign one statement over the heads of all ledgers, and keep it outside the database too.",
    ),
    "erase": Command(
        "erase:erase_command",
        "Erase everything a user wrote. The chain still verifies, and the user may go on.",
    ),
    "hold": Command(
        "hold:hold",
        "Prevent that a user's words are erased, until they are released.",
    ),
    "seed": Command(
        "seed:seed",
        "Make up users with their histories. Users that exist are never touched.",
    ),
}


def main() -> None:
    """Run ``tasktrail``."""
    _run(app, "tasktrail")


def rebuild_main() -> None:
    """Run ``rebuild-projections``."""
    _run(load("rebuild-projections"), "rebuild-projections")


class _Commands(TyperGroup):
    """Lists the commands by their names and their help; imports the one that is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            self.add_command(TyperCommand(name, help=command.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in COMMANDS:
            self.add_command(load(args[0]), args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="A task store for AI agents that never forgets who changed what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def load(name: str) -> Any:
    """Return a command with its options."""
    module, _, function = COMMANDS[name].function.partition(":")
    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(help=COMMANDS[name].help)(
        getattr(import_module(f"mcp_server.commands.{module}"), function)
    )
    return typer.main.get_command(alone)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # here: nothing else needs it

        print(f"tasktrail {metadata.version('tasktrail')}")  # noqa: T201 - this is the command line
        raise typer.Exit


@app.callback()
def _tasktrail(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Print the version.", callback=_version),
    ] = False,
) -> None:
    pass


def _run(program: Callable[..., Any], name: str) -> None:
    if isinstance(sys.stdout, TextIOWrapper):  # any text can be shown, and JSON is UTF-8
        terminal = sys.stdout.isatty()
        sys.stdout.reconfigure(encoding=None if terminal else "utf-8", errors="backslashreplace")
    try:
        program(prog_name=name)
    except Failure as failure:
        _fail(failure.exit_code, str(failure))
    except NoSuchUser as error:
        _fail(2, str(error))
    except Refused as refusal:
        _fail(1, f"{refusal.message} {refusal.hint}")
    except OSError as error:
        _fail(2, f"{error.filename or 'output'}: {error.strerror or error}")


def _fail(code: int, text: str) -> None:
    print(f"tasktrail: {text}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(code)

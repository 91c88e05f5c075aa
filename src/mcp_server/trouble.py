"""What goes wrong with a database, as a person reads it: what it is, and what to do about it.

The one place where the driver's errors become failures of a command. The server has its own
(``mcp_server.database``): an agent can do something else about them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import OperationalError
from psycopg.errors import (
    InsufficientPrivilege,
    InvalidSchemaName,
    ReadOnlySqlTransaction,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
)

from mcp_server.failure import Failure, Problem
from mcp_server.masking import Masking
from mcp_server.reach import OLDEST, TooOld, Unreachable, place
from mcp_server.settings import Settings

_AWAY = ("08", "28", "57P")
"""How SQLSTATEs begin: no connection, no entry, shut down or starting."""


class DatabaseTrouble(Failure):
    """The database is not there, or cannot do it, or may not for this login."""

    exit_code = 3

    def __init__(self, problem: Problem) -> None:
        super().__init__("\n".join(filter(None, problem)))
        self.problem = problem


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn what goes wrong with the database of ``settings`` into a failure.

    Raises: DatabaseTrouble.
    """
    try:
        yield
    except Unreachable as error:
        raise DatabaseTrouble(_not_reached(settings, error)) from error
    except psycopg.Error as error:
        if (problem := _problem(settings, error)) is None:
            raise  # a fault of ours
        raise DatabaseTrouble(problem) from error


def _not_reached(settings: Settings, error: Unreachable) -> Problem:
    setting = _setting(settings, error.place)
    cause = Masking(settings).of(error.cause)
    if isinstance(error, TooOld):
        return Problem(
            f"The database of {setting} is Postgres {cause}:"
            f" Tasktrail needs {OLDEST // 10_000} or newer.",
            f"Upgrade it, or put another one into {setting}.",
        )
    return Problem(
        f"The database of {setting} cannot be reached: {cause}",
        "Look whether it runs, and whether host, port, user, password and database are right in"
        f" {setting}.",
    )


def _problem(settings: Settings, error: psycopg.Error) -> Problem | None:
    """Return what the server refused, None if it was asked something senseless."""
    names = " or ".join(_settings(settings))
    match error:
        case InvalidSchemaName() | UndefinedTable() | UndefinedColumn() | UndefinedFunction():
            what = f"The database of {names} has no Tasktrail in it, or an older one."
            return Problem(what, "Run: tasktrail migrate")
        case InsufficientPrivilege():
            what = f"The login of {names} may not do that: {error.diag.message_primary}."
            return Problem(what, "`tasktrail doctor` says what it lacks.")
        case OperationalError() if (error.sqlstate or "08").startswith(_AWAY):
            said = Masking(settings).of(" ".join(str(error).split()))
            what = f"The database of {names} has gone away: {said}"
            return Problem(what, "Try again; `tasktrail doctor` says whether it is back.")
        case OperationalError() | ReadOnlySqlTransaction():  # a full disk, a standby
            what = f"The database of {names} could not do it: {error.diag.message_primary}."
            return Problem(what, "")
    return None


def _setting(settings: Settings, where: str) -> str:
    """Return the name of the setting that leads to the place ``where``."""
    admin = settings.admin_conninfo
    return _settings(settings)[-1 if admin is not None and place(admin) == where else 0]


def _settings(settings: Settings) -> list[str]:
    """Return the names of the settings that say where the database is: the server's first."""
    if settings.server_conninfo is None:
        return ["TASKTRAIL_HOME"]
    server = "NEON_DB_URL" if settings.database_url is None else "DATABASE_URL"
    return [server] if settings.admin_database_url is None else [server, "ADMIN_DATABASE_URL"]

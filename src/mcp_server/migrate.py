"""Bring the schema up to date: roles, then the Alembic migrations, as ``tasktrail_owner``."""

from pathlib import Path
from typing import Any

import psycopg

from mcp_server.failure import Failure

_PACKAGED = Path(__file__).parent / "migrations"
FOLDER = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[2] / "migrations"

_ONE_AT_A_TIME = 7_461_736_274  # an arbitrary number that names this advisory lock


class NeedsAdministrator(Failure):
    """The migrating login may not make roles; the text has what an administrator has to run."""

    exit_code = 3

    def __init__(self, login: str, sql: str) -> None:
        super().__init__(
            f"The login {login!r} may not create the roles that Tasktrail needs. Let an"
            f" administrator of the database run this, then try again:\n{sql}"
        )


def newest() -> str:
    """Return the revision that this program's migrations lead to: the last file's number."""
    return max(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def upgrade(admin_conninfo: str) -> None:
    """Run what is missing. Safe to repeat, and to start from several processes at once.

    Raises:
        NeedsAdministrator: the roles are not there and this login may not create them.
        psycopg.OperationalError: the database cannot be reached.
    """
    if _revision(admin_conninfo) != newest():
        _run_alembic(admin_conninfo)


def _revision(conninfo: str) -> str | None:
    with psycopg.connect(conninfo) as connection:
        try:
            row = connection.execute("SELECT version_num FROM tasktrail.alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return None
    return row[0] if row else None


def _run_alembic(admin_conninfo: str) -> None:
    # Imported here: they take longer than everything else at a start that has nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, pool

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _prepared(admin_conninfo),
        poolclass=pool.NullPool,
    )
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepared(conninfo: str) -> psycopg.Connection[Any]:
    """Connect, wait for other migrations to end, make roles and schema, become the owner."""
    connection = psycopg.connect(conninfo, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(%s)", (_ONE_AT_A_TIME,))
    roles = (FOLDER / "sql" / "roles.sql").read_text()
    try:
        connection.execute(roles)
    except psycopg.errors.InsufficientPrivilege as error:
        raise NeedsAdministrator(connection.info.user, roles) from error
    connection.execute((FOLDER / "sql" / "schema.sql").read_text())
    connection.execute("SET ROLE tasktrail_owner")
    connection.autocommit = False
    return connection

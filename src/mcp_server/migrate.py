"""Bring the schema up to date: roles, schema, then the Alembic migrations, as ``tasktrail_owner``.

All in one transaction, with nothing set for the session: it is done whole or not at all, and works
through a pooler that gives each transaction another connection.
"""

from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from mcp_server.failure import Failure
from mcp_server.reach import connect

_PACKAGED = Path(__file__).parent / "migrations"
FOLDER = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[2] / "migrations"

_ONE_AT_A_TIME = 7_461_736_274  # an arbitrary number that names this advisory lock
_ROLES = ("tasktrail_owner", "tasktrail_app", "tasktrail_operator", "tasktrail_auditor")
_MIGRATES_AS = ("tasktrail_owner", "tasktrail_operator")


class NeedsAdministrator(Failure):
    """The migrating login may not make what is needed; the text has what is to be run for it."""

    exit_code = 3

    def __init__(self, login: str, statements: str) -> None:
        super().__init__(
            f"The login {login!r} may not make the roles and the schema of Tasktrail. Let an"
            " administrator of the database run this in it, then run `tasktrail migrate` again:\n"
            f"{statements}"
        )


class Newer(Failure):
    """A newer Tasktrail has migrated this database."""

    exit_code = 3


class Upgrade(NamedTuple):
    """The schema's revision before (None: there was no schema) and after."""

    before: str | None
    after: str


def newest() -> str:
    """Return the revision that this program's migrations lead to: the last file's number."""
    return max(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def upgrade(admin_conninfo: str) -> Upgrade:
    """Run what is missing. Safe to repeat, and to start from several processes at once.

    Raises:
        NeedsAdministrator: something is not there that this login may not make.
        Newer: this program is too old for the database.
        Unreachable: the database cannot be reached.
    """
    before, after = _revision(admin_conninfo), newest()
    if before is not None and before > after:
        raise Newer(
            f"The schema is at revision {before}, which this program ({after}) does not know:"
            " a newer Tasktrail has migrated it. Upgrade this one."
        )
    if before != after:
        try:
            _run_alembic(admin_conninfo)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _needs_administrator(admin_conninfo) from error
    return Upgrade(before, after)


def _revision(conninfo: str) -> str | None:
    with connect(conninfo) as connection:
        try:
            row = connection.execute("SELECT version_num FROM tasktrail.alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return None
    return row[0] if row else None


def _run_alembic(admin_conninfo: str) -> None:
    # Imported here: they take longer than everything else at a start that has nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, exc, pool

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(admin_conninfo, prepare_threshold=None),
        poolclass=pool.NullPool,
    )
    try:
        with engine.begin() as connection:
            _become_owner(connection.connection.driver_connection)
            config = Config()
            config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except exc.DBAPIError as error:
        raise error.orig or error from None


def _become_owner(driver: Any) -> None:
    """Wait for other migrations to end, make roles and schema, and act as the owner from here."""
    driver.execute("SET LOCAL standard_conforming_strings = on")  # as these files are written
    driver.execute("SELECT pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
    for name in ("roles", "schema"):
        driver.execute((FOLDER / "sql" / f"{name}.sql").read_text())
    driver.execute("SET LOCAL ROLE tasktrail_owner")


def _needs_administrator(conninfo: str) -> NeedsAdministrator:
    """Say what an administrator has to run for this login: what is there already is left out."""
    with connect(conninfo) as connection:
        found = connection.execute(
            "SELECT current_user, current_database(), array_agg(rolname::text)"
            " FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)",
            (list(_ROLES),),
        ).fetchone()
        assert found is not None
        login, database, there = found
        statements = [
            *(
                sql.SQL("CREATE ROLE {}").format(sql.Identifier(role))
                for role in _ROLES
                if role not in (there or ())
            ),
            sql.SQL("GRANT {} TO {}").format(
                sql.SQL(", ").join(map(sql.Identifier, _MIGRATES_AS)), sql.Identifier(login)
            ),
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                sql.Identifier(database), sql.Identifier(login)
            ),
        ]
        text = "\n".join(f"  {statement.as_string(connection)};" for statement in statements)
    return NeedsAdministrator(login, text)

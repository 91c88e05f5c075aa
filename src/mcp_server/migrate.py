"""Bring the schema up to date: roles, then the Alembic migrations, as ``tasktrail_owner``."""

from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

_PACKAGED = Path(__file__).parent / "migrations"
FOLDER = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[2] / "migrations"

_ONE_AT_A_TIME = 7_461_736_274  # an arbitrary number that names this advisory lock


class NeedsAdministrator(Exception):
    """The migrating login may not make roles; ``sql`` is what an administrator has to run."""

    def __init__(self, login: str, sql: str) -> None:
        super().__init__(f"The login {login!r} may not create the roles that Tasktrail needs.")
        self.sql = sql


def newest() -> str:
    """Return the revision that this program's migrations lead to."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def upgrade(admin_conninfo: str) -> None:
    """Run what is missing. Safe to repeat, and to start from several processes at once.

    Raises:
        NeedsAdministrator: the roles are not there and this login may not create them.
        psycopg.OperationalError: the database cannot be reached.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _prepared(admin_conninfo),
        poolclass=pool.NullPool,
    )
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def _prepared(conninfo: str) -> psycopg.Connection[Any]:
    """Connect, wait for other migrations to end, make roles and schema, become the owner."""
    connection = psycopg.connect(conninfo, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(%s)", (_ONE_AT_A_TIME,))
    roles = (FOLDER / "sql" / "roles.sql").read_text()
    try:
        connection.execute(roles)  # type: ignore[call-overload] # a constant file
    except psycopg.errors.InsufficientPrivilege as error:
        raise NeedsAdministrator(connection.info.user, roles) from error
    connection.execute((FOLDER / "sql" / "schema.sql").read_text())  # type: ignore[call-overload]
    connection.execute("SET ROLE tasktrail_owner")
    connection.autocommit = False
    return connection

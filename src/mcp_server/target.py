"""Which Postgres: that of DATABASE_URL, or the embedded one, started, migrated and given logins."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from mcp_server import migrate
from mcp_server.embedded.cluster import Cluster, acquire
from mcp_server.embedded.home import has_data
from mcp_server.embedded.unavailable import NoDatabase
from mcp_server.settings import Settings
from mcp_server.trouble import explained

SERVER_LOGIN = "tasktrail_server"
ADMIN_LOGIN = "tasktrail_admin"
READER_LOGIN = "tasktrail_reader"
_LOGINS = {
    SERVER_LOGIN: ("tasktrail_app",),
    ADMIN_LOGIN: ("tasktrail_owner", "tasktrail_operator"),
    READER_LOGIN: ("tasktrail_auditor",),
}


@dataclass(frozen=True)
class Target:
    """Three libpq conninfos for one database: the server's, the operator's and the auditor's.

    ``cluster`` and ``migrated`` only for the embedded one, which is migrated whenever it is opened.
    """

    server: str
    admin: str
    reader: str
    cluster: Cluster | None = None
    migrated: migrate.Upgrade | None = None


@contextmanager
def opened(settings: Settings, *, create: bool = False) -> Iterator[Target]:
    """Yield where the database is; the embedded one runs at least as long as this lasts.

    ``create``: make the embedded one if there is none. Only what fills a database does that: a
    command that reads one would otherwise find nothing in a home that was mistyped, and say so.

    Raises:
        NoDatabase: there is no embedded one.
        PostgresUnavailable: it cannot be started.
        DatabaseTrouble: whatever goes wrong with it until it is closed (``mcp_server.trouble``).
    """
    with explained(settings):
        if settings.server_conninfo is not None:
            server = settings.server_conninfo
            yield Target(server, settings.admin_conninfo or server, server)
            return
        with _embedded(settings, create) as target:
            yield target


@contextmanager
def _embedded(settings: Settings, create: bool) -> Iterator[Target]:
    """Yield the embedded one, started, migrated and with its logins."""
    if not (create or has_data(settings.home)):
        raise NoDatabase(settings.home)
    with acquire(settings.home, bin_dir=settings.pg_bin) as cluster:
        superuser = cluster.conninfo("postgres")
        migrated = migrate.upgrade(superuser)
        _make_logins(superuser)
        yield Target(
            cluster.conninfo(SERVER_LOGIN),
            cluster.conninfo(ADMIN_LOGIN),
            cluster.conninfo(READER_LOGIN),
            cluster,
            migrated,
        )


def _make_logins(superuser: str) -> None:
    with psycopg.connect(superuser, autocommit=True) as connection:
        rows = connection.execute("SELECT rolname FROM pg_roles").fetchall()
        existing = {name for (name,) in rows}
        for login, groups in _LOGINS.items():
            if login in existing:
                continue
            statement = sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(
                sql.Identifier(login), sql.SQL(", ").join(map(sql.Identifier, groups))
            )
            # Another process may have opened it at the same moment.
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(statement)

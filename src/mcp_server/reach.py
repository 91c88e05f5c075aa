"""Reach a database, or learn within a bounded time why not; who waits is told for what.

Every connection begins here, but those of the server's pool, and those to the embedded Postgres
while it is being started.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mcp_server.failure import Failure

CONNECT_SECONDS = 10
"""For each address of a host, unless a connection string has a ``connect_timeout`` of its own."""

PATIENCE = 1.0
"""Seconds until it is said what is waited for."""

OLDEST = 150_000
"""Postgres 15: the oldest major version that is tested against."""


class Unreachable(Failure):
    """There is no database, or it lets nobody in."""

    exit_code = 3

    def __init__(self, place: str, cause: str) -> None:
        """``place``: as the function of that name says it; ``cause``: as libpq tells it."""
        super().__init__(place, cause)  # both, or no process could hand it to another
        self.place, self.cause = place, cause

    def __str__(self) -> str:
        return f"{self.place}: {self.cause}"


class TooOld(Unreachable):
    """There is one, older than ``OLDEST``; ``cause`` is its version."""


def connect(conninfo: str, **options: Any) -> Connection[Any]:
    """Return a connection; ``options`` are psycopg's. Raises: Unreachable, TooOld."""
    with _attempt(conninfo) as limit:
        connection = psycopg.connect(conninfo, **limit, **options)
    if version := _too_old(connection):
        connection.close()
        raise TooOld(place(conninfo), version)
    return connection


async def connect_async(conninfo: str, **options: Any) -> AsyncConnection[Any]:
    """Return a connection in autocommit mode. Raises: Unreachable, TooOld."""
    with _attempt(conninfo) as limit:
        connection = await AsyncConnection.connect(conninfo, autocommit=True, **limit, **options)
    if version := _too_old(connection):
        await connection.close()
        raise TooOld(place(conninfo), version)
    return connection


def place(conninfo: str) -> str:
    """Return where a database is and with which login, as ``key=value`` pairs without secrets."""
    known = conninfo_to_dict(conninfo)
    shown = ("host", "hostaddr", "port", "dbname", "user")
    return make_conninfo("", **{key: known[key] for key in shown if key in known})


@contextmanager
def _attempt(conninfo: str) -> Iterator[dict[str, Any]]:
    """Yield what bounds an attempt to connect; say meanwhile what it waits for.

    Raises: Unreachable.
    """
    bounded = "connect_timeout" in conninfo_to_dict(conninfo)
    notice = Timer(PATIENCE, _say_that_we_wait, [conninfo])
    notice.daemon = True
    notice.start()
    try:
        yield {} if bounded else {"connect_timeout": CONNECT_SECONDS}
    except psycopg.OperationalError as error:
        raise Unreachable(place(conninfo), " ".join(str(error).split())) from error
    finally:
        notice.cancel()


def _say_that_we_wait(conninfo: str) -> None:
    sys.stderr.write(f"tasktrail: waiting for the database ({place(conninfo)}) ...\n")


def _too_old(connection: Connection[Any] | AsyncConnection[Any]) -> str | None:
    """Return the server's version if it is older than it may be."""
    info = connection.info
    return None if info.server_version >= OLDEST else info.parameter_status("server_version")

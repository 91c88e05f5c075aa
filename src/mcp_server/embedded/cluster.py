"""The embedded Postgres: started by the first process that needs it, stopped by the last.

    with acquire(home) as cluster:
        psycopg.connect(cluster.conninfo("postgres"))

Who uses it is recorded in locks only (flock), which the kernel drops with a process, however that
ends. The lock files are in the home:
- ``postgres.users.lock``: shared while used. Whoever lets go and then gets it alone, stops it.
- ``postgres.change.lock``: alone, while somebody looks whether it runs, starts it or stops it.
- ``postgres.reaper.lock``: alone, by the reaper, which stops it when its last user was killed.
A server whose reaper was killed too runs on; the next user adopts it, and stops it in the end.
"""

import atexit
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg import pq

from mcp_server.embedded import process
from mcp_server.embedded.home import locate
from mcp_server.embedded.reaper import locked
from mcp_server.embedded.server import (
    DATABASE,
    PORT,
    RECOVERY_S,
    SETTINGS,
    Server,
    remark_on_space,
)
from mcp_server.embedded.unavailable import PostgresUnavailable
from mcp_server.failure import why

if sys.platform != "win32":
    import fcntl


def acquire(
    home: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None
) -> "Cluster":
    """Return the running server of ``home``, starting or even creating it first.

    ``settings`` are settings of Postgres; they matter only if this call is the one to start it.
    Raises: PostgresUnavailable.
    """
    if sys.platform == "win32":
        raise PostgresUnavailable(
            "The embedded Postgres runs on Linux and macOS only: set DATABASE_URL."
        )
    with _explained(home):
        return Cluster(Server(locate(home), bin_dir, {**SETTINGS, **(settings or {})}))


class Cluster:
    """A running server that this process uses until it calls ``release``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._use: int | None = None  # descriptor with the shared lock
        with self._change() as change:
            self._use = server.home.open("postgres.users.lock")
            fcntl.flock(self._use, fcntl.LOCK_SH)
            try:
                self._see_to_reaper()
                server.start_if_needed(change)
                server.create_database()
            except BaseException:
                self._leave()
                raise
        atexit.register(self.release)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def host(self) -> str:
        """The folder of the unix socket."""
        return str(self._server.home.sockets)

    @property
    def port(self) -> int:
        return PORT

    @property
    def data(self) -> Path:
        """The data directory; not always below the home when root uses it."""
        return self._server.home.data

    def conninfo(self, user: str, dbname: str = DATABASE) -> str:
        """Return libpq's connection string for ``user``, over the unix socket."""
        return self._server.conninfo(user, dbname)

    def ensure_running(self) -> bool:
        """Start the server again if it died; return whether it had to.

        Blocks for as long as recovery takes. Raises: PostgresUnavailable.
        """
        with _explained(self._server.home.base):
            self._server.bound_log()
            if self._server.ping() == pq.Ping.OK:
                return False
            with self._change() as change:
                return self._server.start_if_needed(change)

    def release(self) -> None:
        """Stop using the server; stop it, if nobody else uses it. Twice is as good as once."""
        if self._use is None:
            return
        atexit.unregister(self.release)
        with _explained(self._server.home.base), self._change():
            self._leave()

    def _leave(self) -> None:
        if self._use is not None:
            os.close(self._use)  # a forked child that still has it goes on using the server
            self._use = None
        alone = self._server.home.open("postgres.users.lock")
        try:
            if locked(alone) or _locked_after_reaper(alone):
                process.stop(self._server.home.data)
        finally:
            os.close(alone)

    def _see_to_reaper(self) -> None:
        """Start the reaper unless there is one."""
        home = self._server.home
        with ExitStack() as opened:
            users, change, own = (
                opened.enter_context(_descriptor(home.open(f"postgres.{name}.lock")))
                for name in ("users", "change", "reaper")
            )
            if locked(own):
                self._server.start_reaper(users, change, own)

    @contextmanager
    def _change(self) -> Iterator[int]:
        """Hold the lock under which the server is looked at, started and stopped.

        Yields its descriptor.
        """
        descriptor = self._server.home.open("postgres.change.lock")
        deadline = time.monotonic() + RECOVERY_S
        try:
            while not locked(descriptor):
                if time.monotonic() > deadline:
                    raise PostgresUnavailable(
                        "Another process has been starting or stopping the embedded Postgres of "
                        f"{self._server.home.base} for {RECOVERY_S:.0f} s: end it and try again."
                    )
                time.sleep(0.01)
            self._server.bound_log()
            yield descriptor
        finally:
            os.close(descriptor)


def _locked_after_reaper(users: int) -> bool:
    """Try again once the reaper cannot be what was in the way.

    When the last user lets go, the reaper, which waits for that, may be quicker. It lets go at
    once, and then wants the change that we hold: it cannot come in between a second time.
    """
    fcntl.flock(users, fcntl.LOCK_SH)
    return locked(users)


@contextmanager
def _descriptor(number: int) -> Iterator[int]:
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what the system or the driver refuses into PostgresUnavailable."""
    try:
        yield
    except OSError as error:
        raise PostgresUnavailable(
            f"{error.filename or home}: {why(error)}.{remark_on_space(home)} The embedded Postgres"
            " needs a folder that it can write in: set TASKTRAIL_HOME to one, or set DATABASE_URL."
        ) from error
    except psycopg.Error as error:
        raise PostgresUnavailable(f"{error}{remark_on_space(home)}") from error

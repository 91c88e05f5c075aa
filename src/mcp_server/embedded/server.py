"""One server process of the embedded Postgres: create its data, start it, ask it, stop it.

Whoever starts or stops holds the lock that cluster.py keeps; nothing here takes one.

Whether a server runs is asked over the socket first and of the operating system second.
postmaster.pid is only a hint: its process may be a zombie, or its number used again. A stale
number is passed to the new server as PG_GRANDPARENT_PID, pg_ctl's way to say "this one is not a
rival"; Postgres still checks by itself that nothing uses the old shared memory.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.errors import DuplicateDatabase, UniqueViolation

from mcp_server.embedded import process, reaper
from mcp_server.embedded.binaries import Binaries, choose
from mcp_server.embedded.home import PostgresHome
from mcp_server.embedded.unavailable import PostgresUnavailable

SOURCE = Path(__file__).parents[2]  # where this package can be imported from
PORT = 5432  # names the socket file; nothing listens on the network
SUPERUSER = "postgres"
DATABASE = "tasktrail"
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "shared_buffers": "128MB",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_checkpoints": "off",
    # What people wrote stays out of the log: statements, and rows that fail a constraint.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing of the caller's, PGPORT say, gets through
SILENCE_S = 60.0  # how long a server may say nothing before it is in trouble
RECOVERY_S = 600.0  # how long it may say that it is recovering
LEFTOVERS_S = 10.0  # how long a killed server's processes may hold on to its memory
LOG_BYTES = 1 << 20
SPACE_BYTES = 100 << 20  # a new data directory has 40 MB, its first log segments 32


@dataclass(frozen=True)
class Server:
    home: PostgresHome
    bin_dir: Path | None
    settings: Mapping[str, str]

    def conninfo(self, user: str, dbname: str) -> str:
        return make_conninfo(host=str(self.home.sockets), port=PORT, user=user, dbname=dbname)

    def ping(self) -> pq.Ping:
        """OK: takes connections, REJECT: starts, recovers or stops, NO_RESPONSE: is not there."""
        target = make_conninfo(self.conninfo(SUPERUSER, "postgres"), connect_timeout=2)
        return pq.Ping(pq.PGconn.ping(target.encode()))

    def alive(self) -> int | None:
        """Return the number of the living postmaster of our data, None if there is none."""
        return process.alive(self.home.data)

    def start_if_needed(self, change: int) -> bool:
        """Return whether it had to start the server.

        ``change`` is the descriptor of the lock that the caller holds. Raises: PostgresUnavailable.
        """
        if self._answers():
            return False
        binaries = choose(self.home, self.bin_dir)
        if self.home.major is None:
            self._create_data(binaries, change)
        process.end_leftovers(self.home.data)
        deadline = time.monotonic() + LEFTOVERS_S
        while not self._start(binaries):
            if process.recorded(self.home.data) is None or time.monotonic() > deadline:
                raise self._trouble("Postgres did not start.")
            time.sleep(0.2)
        return True

    def start_reaper(self, *locks: int) -> None:
        """Start what ends the server when its last user is killed; it inherits ``locks``."""
        command = [sys.executable, "-I", "-S", "-c", reaper.PROGRAM, str(SOURCE)]
        log = self.home.open(self.home.log.name, os.O_WRONLY | os.O_APPEND)
        try:
            reaping = subprocess.Popen(
                [*command, str(self.home.data), *map(str, locks)],
                pass_fds=locks,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
            process.keep(reaping)
        except OSError as error:  # no reason not to serve
            os.write(log, f"no reaper: {error}\n".encode())
        finally:
            os.close(log)

    def create_database(self) -> None:
        """Create the database, empty, if it is not there."""
        with psycopg.connect(self.conninfo(SUPERUSER, "postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if there.fetchone() is None:
                # Of a process that was killed, Postgres may be carrying the last wish out.
                with suppress(DuplicateDatabase, UniqueViolation):
                    connection.execute("CREATE DATABASE tasktrail")

    def bound_log(self) -> None:
        """Keep only the end of the log once it is too long; the server goes on appending."""
        if not self.home.log.exists() or self.home.log.stat().st_size <= LOG_BYTES:
            return
        descriptor = self.home.open(self.home.log.name, os.O_RDWR | os.O_APPEND)
        with os.fdopen(descriptor, "r+b", buffering=0) as log:
            log.seek(-LOG_BYTES // 16, os.SEEK_END)
            end = log.read()
            log.truncate(0)
            log.write(end)

    def _answers(self) -> bool:
        """Whether the server takes connections, once it neither starts nor stops any more."""
        started = time.monotonic()
        while (status := self.ping()) != pq.Ping.OK:
            if status == pq.Ping.NO_RESPONSE and self.alive() is None:
                return False
            self._lose_patience(status, started)
            time.sleep(0.01)
        return True

    def _create_data(self, binaries: Binaries, change: int) -> None:
        """Run initdb; the data directory appears whole or not at all.

        If we are killed meanwhile, initdb runs on for a moment: it holds the lock until it ends.
        """
        unfinished = self.home.base / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)  # of one that was killed
        if shutil.disk_usage(self.home.base).free < SPACE_BYTES:
            needed = f"A new database needs {SPACE_BYTES >> 20} MB."
            raise PostgresUnavailable(needed + remark_on_space(self.home.base))
        self.home.make_private(unfinished)
        command = [str(binaries.folder / "initdb"), "--pgdata", str(unfinished)]
        command += ["--username", SUPERUSER, "--auth-local=trust", "--auth-host=reject"]
        command += ["--encoding=UTF8", "--locale=C"]
        if binaries.major >= 17:  # texts in the same order on every machine
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings.get("fsync") == "off":
            command += ["--no-sync"]
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            env=ENVIRONMENT,
            pass_fds=(change,),
            **self.home.popen,
        )
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            said = done.stderr.decode(errors="replace").strip()
            raise PostgresUnavailable(f"initdb failed: {said}{remark_on_space(self.home.base)}")
        unfinished.rename(self.home.data)

    def _start(self, binaries: Binaries) -> bool:
        """Start the server and wait until it takes connections; return whether it did."""
        settings = {**self.settings, "unix_socket_directories": f'"{self.home.sockets}"'}
        command = [str(binaries.folder / "postgres"), "-D", str(self.home.data)]
        command += [part for pair in settings.items() for part in ("-c", "=".join(pair))]
        stale = process.recorded(self.home.data)
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):  # of a server that was killed
            (self.home.sockets / name).unlink(missing_ok=True)
        log = self.home.open(self.home.log.name, os.O_WRONLY | os.O_APPEND)
        try:
            postmaster = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT | ({"PG_GRANDPARENT_PID": str(stale)} if stale else {}),
                start_new_session=True,  # Ctrl-C on our terminal is not meant for it
                **self.home.popen,
            )
        finally:
            os.close(log)
        process.keep(postmaster)
        started = time.monotonic()
        while (status := self.ping()) != pq.Ping.OK:
            if postmaster.poll() is not None:
                return False
            self._lose_patience(status, started)
            time.sleep(0.01)
        return True

    def _lose_patience(self, status: pq.Ping, started: float) -> None:
        patience = RECOVERY_S if status == pq.Ping.REJECT else SILENCE_S
        if time.monotonic() > started + patience:
            raise self._trouble(f"Postgres (process {self.alive()}) does not answer.")

    def _trouble(self, what: str) -> PostgresUnavailable:
        log = self.home.log
        end = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
        said = "".join(f"\n    {line}" for line in end)
        space = remark_on_space(self.home.base)
        return PostgresUnavailable(f"{what}{space} The end of its log ({log}):{said}")


def remark_on_space(folder: Path) -> str:
    """Return a remark about the disk of ``folder`` if that is likely to be the trouble."""
    with suppress(OSError):
        free = shutil.disk_usage(folder).free >> 20
        if free < SPACE_BYTES >> 20:
            return f" The disk of {folder} has only {free} MB left: make room and try again."
    return ""

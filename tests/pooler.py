"""PgBouncer between a server and its database, in transaction mode, as an ordinary account."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SERVER_CONNECTIONS = 3  # so few that users share them all the time
PATIENCE = 20.0

_SETTINGS = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 1
server_check_delay = 1
admin_users = {login}
logfile = {log}
pidfile =
"""


def find() -> str | None:
    """Return where PgBouncer is, None if it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which("pgbouncer", path=path)


class Pooler:
    """PgBouncer before the server of ``conninfo``; ``conninfo`` then goes through it."""

    def __init__(self, conninfo: str, folder: Path) -> None:
        self._folder = folder
        parts = conninfo_to_dict(conninfo)
        self._host = str(parts["host"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        users = folder / "users.txt"
        users.write_text(f'"{parts["user"]}" "{parts.get("password") or ""}"\n')
        settings = _SETTINGS.format(
            host=self._host,
            port=parts.get("port") or 5432,
            listen=self._port,
            users=users,
            size=SERVER_CONNECTIONS,
            login=parts["user"],
            log=folder / "pgbouncer.log",
        )
        (folder / "pgbouncer.ini").write_text(settings)
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=str(self._port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens. It refuses to run as root."""
        binary = find()
        assert binary, "pgbouncer is not installed: apt install pgbouncer"
        command = [binary, "--quiet", str(self._folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **self._account())
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < end, self.log()
                time.sleep(0.02)

    def _account(self) -> dict[str, Any]:
        """As root, lend it an account: the one that may enter the folder of the server's socket."""
        if os.geteuid() != 0:
            return {}
        uid = Path(self._host).stat().st_uid if self._host.startswith("/") else 0
        found = pwd.getpwuid(uid) if uid else pwd.getpwnam("nobody")
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, found.pw_uid, found.pw_gid)
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def stop(self) -> None:
        """End it at once, and every connection with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def command(self, command: str) -> list[tuple[object, ...]]:
        """Give a command to its console."""
        console = make_conninfo(self.conninfo, dbname="pgbouncer")
        with psycopg.connect(console, autocommit=True) as connection:
            cursor = psycopg.ClientCursor(connection)
            cursor.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """Return what it says."""
        path = self._folder / "pgbouncer.log"
        return path.read_text() if path.exists() else "(no log)"


@contextmanager
def pooled(conninfo: str, folder: Path) -> Iterator[Pooler]:
    """Run PgBouncer before the server of ``conninfo``; its files are in ``folder``."""
    pooler = Pooler(conninfo, folder)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.stop()

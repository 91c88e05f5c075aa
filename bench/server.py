"""A fresh Postgres for one benchmark: the embedded one with its real, durable settings."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcp_server import target
from mcp_server.embedded.server import SUPERUSER
from mcp_server.settings import Settings

_PROC = Path("/proc")


@dataclass(frozen=True)
class Server:
    """A migrated, empty database; the three are libpq conninfos."""

    app: str
    admin: str
    superuser: str
    postmaster: int

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all its processes so far; None without /proc."""
        return process_seconds(self.postmaster)


@contextmanager
def started(home: Path | None = None) -> Iterator[Server]:
    """Start one in ``home``, or in a temporary folder that is removed afterwards."""
    with ExitStack() as stack:
        if home is None:
            folder = tempfile.TemporaryDirectory(prefix="tasktrail-bench-")
            home = Path(stack.enter_context(folder))
        home.mkdir(exist_ok=True)
        home.chmod(0o755)  # as root it is another account that runs Postgres in there
        database = stack.enter_context(target.opened(Settings(home=home), create=True))
        cluster = database.cluster
        assert cluster is not None
        pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
        yield Server(database.server, database.admin, cluster.conninfo(SUPERUSER), pid)


def process_seconds(pid: int) -> float | None:
    """Return the processor time of a process and its children so far; None without /proc."""
    if not _PROC.exists():
        return None
    ticks = sum(_ticks(path, pid) for path in _PROC.glob("[0-9]*/stat"))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(stat: Path, head: int) -> int:
    """Clock ticks of one process if it is ``head`` or its child (see proc_pid_stat(5))."""
    try:
        fields = stat.read_text().rpartition(") ")[2].split()
    except OSError:  # it has just ended: its parent counts it
        return 0
    parent, own, of_ended_children = int(fields[1]), fields[11:13], fields[13:15]
    if int(stat.parent.name) == head:
        return sum(map(int, own + of_ended_children))
    return sum(map(int, own)) if parent == head else 0

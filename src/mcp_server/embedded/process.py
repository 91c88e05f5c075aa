"""Server processes as the operating system sees them: Linux by /proc, macOS by ps.

A zombie counts as dead: after a crash it keeps its number until its parent reaps it,
which in a container without an init process is never.

The reaper uses this too, without site-packages: only the standard library is imported here.
"""

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

PROC = Path("/proc")
STOP_S = 30.0

# What this process started: kept so that its zombies can be buried.
_children: list[subprocess.Popen[bytes]] = []


def keep(child: subprocess.Popen[bytes]) -> None:
    """Remember a child that may outlive this process, or end long before it."""
    _children.append(child)


@atexit.register
def _let_go() -> None:
    """Keep the interpreter from warning, at its end, of children that are meant to go on."""
    for child in _children:
        child.returncode = child.poll() or 0


def recorded(data: Path) -> int | None:
    """Return the process that postmaster.pid names, which need not be alive."""
    try:
        first_line = (data / "postmaster.pid").read_text().partition("\n")[0]
    except FileNotFoundError:
        return None
    return int(first_line) if first_line.isdigit() else None


def alive(data: Path) -> int | None:
    """Return the number of the living postmaster of ``data``, None if there is none."""
    _children[:] = [child for child in _children if child.poll() is None]
    pid = recorded(data)
    return pid if pid is not None and is_server(pid, data) else None


def stop(data: Path) -> None:
    """End the server in order; if that takes too long, at once: the next start recovers it."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if (pid := alive(data)) is None:
            return
        _send(pid, number)
        deadline = time.monotonic() + STOP_S
        while alive(data) is not None and time.monotonic() < deadline:
            time.sleep(0.01)


def is_server(pid: int, data: Path) -> bool:
    """Whether ``pid`` is a living server of ``data``, not a zombie or a number used again."""
    if not PROC.exists():
        return _shows(_ps("-o", "command=", "-p", str(pid)), data)
    if _works_in(PROC / str(pid), data):  # root may be denied this look in a container
        return True
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:  # no such process, or it ended while we read
        return False
    return (b"-D", os.fsencode(data)) in pairwise(arguments)  # a zombie has none


def end_leftovers(data: Path) -> None:
    """End the processes that a killed postmaster left at work in ``data``.

    They end by themselves once idle; one in the middle of a long query does not look.
    Where they cannot be seen (macOS, root in a container) Postgres itself refuses to start
    beside them.
    """
    _end(partial(_leftovers, data))


def end_servers(data: Path) -> None:
    """End whatever is there, even a postmaster that has not come to write its number yet."""
    _end(partial(_servers, data))


def _end(find: Callable[[], list[int]], patience: float = 5.0) -> None:
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in find():
            _send(pid, number)
        deadline = time.monotonic() + patience
        while find() and time.monotonic() < deadline:
            time.sleep(0.02)


def _leftovers(data: Path) -> list[int]:
    processes = PROC.glob("[0-9]*")
    return [int(process.name) for process in processes if _works_in(process, data)]


def _servers(data: Path) -> list[int]:
    if PROC.exists():
        pids = [int(process.name) for process in PROC.glob("[0-9]*")]
        return [pid for pid in pids if is_server(pid, data)]
    lines = _ps("-A", "-o", "pid=,command=").splitlines()
    return [int(line.split()[0]) for line in lines if _shows(line, data)]


def _ps(*arguments: str) -> bytes:
    return subprocess.run(["/bin/ps", "-ww", *arguments], capture_output=True, check=False).stdout


def _shows(command: bytes, data: Path) -> bool:
    return b" -D " + os.fsencode(data) + b" " in command  # more arguments follow


def _works_in(process: Path, data: Path) -> bool:
    """Whether it is a Postgres process, which has its data directory as its working directory."""
    try:
        at_home = (process / "cwd").readlink() == data
        return at_home and (process / "comm").read_text().strip() == "postgres"
    except OSError:  # it ended, is a zombie, or belongs to someone else
        return False


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # ended by itself
        return

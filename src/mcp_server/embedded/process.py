"""Server processes as the operating system sees them: Linux by /proc, macOS by ps.

A zombie counts as dead: after a crash it keeps its number until its parent reaps it,
which in a container without an init process is never.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")


def is_server(pid: int, data: Path) -> bool:
    """Whether ``pid`` is a living server of ``data``, not a zombie or a number used again."""
    if not PROC.exists():
        shown = subprocess.run(
            ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        return os.fsencode(data) in shown.stdout
    if _works_in(PROC / str(pid), data):  # root may be denied this look in a container
        return True
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:  # no such process, or it ended while we read
        return False
    return os.fsencode(data) in arguments  # a zombie has none


def end_leftovers(data: Path, patience: float = 5.0) -> None:
    """End the processes that a killed postmaster left at work in ``data``.

    They end by themselves once idle; one in the middle of a long query does not look.
    Where they cannot be seen (macOS, root in a container) Postgres itself refuses to start
    beside them.
    """
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in _leftovers(data):
            _send(pid, number)
        deadline = time.monotonic() + patience
        while _leftovers(data) and time.monotonic() < deadline:
            time.sleep(0.02)


def _leftovers(data: Path) -> list[int]:
    processes = PROC.glob("[0-9]*")
    return [int(process.name) for process in processes if _works_in(process, data)]


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

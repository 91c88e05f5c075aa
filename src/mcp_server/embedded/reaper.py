"""The reaper: a small process beside the server that ends it when its last user was killed.

Users that end in order stop the server themselves, under the locks that cluster.py explains.
The reaper waits for the moment when nobody uses the server, asleep in the kernel, and then does
what the killed user could not: it takes the same locks and stops it. So whether somebody came in
between is decided by a lock and by nothing else.

There is one as long as the server is used; it lives exactly as long as ``postgres.reaper.lock`` is
held. It has a session of its own (Ctrl-C is not meant for it) and none of the files of who started
it, so that nobody waits for the end of an output that the reaper keeps open.

It starts beside every server, so it starts fast: without site-packages, and what it needs in the
end is imported in the end.
"""

import os
import sys

if sys.platform != "win32":
    import fcntl

# What it runs, by ``python -I -S -c``; where to find this package is the first argument.
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from mcp_server.embedded.reaper import main; main(*sys.argv[1:])"
)


def main(data: str, *locks: str) -> None:
    """Wait until nobody uses the server of ``data``, stop it, end.

    ``locks`` are the descriptors of postgres.users.lock, postgres.change.lock, and
    postgres.reaper.lock, which is locked already.
    """
    users, change, own = map(int, locks)
    _wait_until_unused(users)
    from pathlib import Path  # only now, and not yet with others waiting for the change

    from mcp_server.embedded import process

    fcntl.flock(change, fcntl.LOCK_EX)
    while not locked(users):
        fcntl.flock(change, fcntl.LOCK_UN)
        _wait_until_unused(users)
        fcntl.flock(change, fcntl.LOCK_EX)
    if os.fstat(users).st_nlink:  # else the home was removed, and what is there now is another
        process.stop(Path(data))
        process.end_servers(Path(data))
    os.close(own)  # before the change is over: who comes next then starts another reaper


def _wait_until_unused(users: int) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    fcntl.flock(users, fcntl.LOCK_UN)  # who holds the change may want it


def locked(descriptor: int) -> bool:
    """Take the lock for us alone; return whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

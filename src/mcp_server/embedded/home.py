"""Where the embedded Postgres keeps its files, and as whom it runs.

Below a home:
    postgres/              the data directory (0700)
    postgres.run/          the unix socket (0700: all that stands between a stranger and ``trust``)
    postgres.log           what the server says, bounded
    postgres.users.lock    held shared by everyone who uses the server
    postgres.change.lock   held while someone starts or stops it
    postgres.reaper.lock   held by the reaper
    postgres.elsewhere     a link to the folder that holds all these instead (root only)

Postgres refuses to run as root. So root runs it as the owner of the home, or as ``postgres``, or
as ``nobody``, who must be able to reach the files. A home below /root they cannot reach, and to
open /root to them is not for us to do: then the files lie in a folder of /var/lib/tasktrail.
"""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mcp_server.embedded.unavailable import PostgresUnavailable

if sys.platform != "win32":
    import pwd

FOR_ROOT = Path("/var/lib/tasktrail")
ACCOUNTS = ("postgres", "nobody")
# A socket's path has 108 bytes on Linux, 104 on macOS; ours ends in "/.s.PGSQL.5432".
SOCKET_FOLDER_BYTES = 88


@dataclass(frozen=True)
class Account:
    """An ordinary account that root lends to Postgres."""

    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Whether it may pass through ``folder`` and everything above it."""
        attempt = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", folder],
            check=False,
            cwd="/",
            stderr=subprocess.DEVNULL,
            **self.popen,
        )
        return attempt.returncode == 0

    @property
    def popen(self) -> dict[str, Any]:
        """What subprocess needs to run something as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class PostgresHome:
    base: Path  # absolute, without symbolic links
    account: Account | None  # None: as whoever we are

    @property
    def data(self) -> Path:
        return self.base / "postgres"

    @property
    def log(self) -> Path:
        return self.base / "postgres.log"

    @property
    def major(self) -> int | None:
        """The version of Postgres that the data belongs to, None if there is no data yet."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    @cached_property
    def sockets(self) -> Path:
        """The same folder for every process that uses this home; made if it is not there."""
        folder = self.base / "postgres.run"
        if len(os.fsencode(folder)) > SOCKET_FOLDER_BYTES or "," in str(folder):
            digest = hashlib.sha256(os.fsencode(self.base)).hexdigest()[:12]
            folder = Path("/tmp") / f"tasktrail-{digest}"  # noqa: S108  make_private checks it
        self.make_private(folder)
        return folder

    @property
    def popen(self) -> dict[str, Any]:
        """What subprocess needs to run something as the right account, seeing nothing of ours."""
        account = self.account.popen if self.account else {}
        return {"cwd": "/", "stdin": subprocess.DEVNULL, **account}

    def make_private(self, folder: Path) -> None:
        """Make ``folder``, which only the account can enter, or check that it is so.

        Raises: PostgresUnavailable: someone else made it.
        """
        owner = self.account.uid if self.account else os.getuid()
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
                raise PostgresUnavailable(
                    f"{folder} should be a folder that only {_name(owner)} can enter: remove it."
                ) from None
        else:
            if self.account:
                os.chown(folder, owner, self.account.gid, follow_symlinks=False)

    def open(self, name: str, flags: int = os.O_RDWR) -> int:
        """Open a file of ours below the home; the account may open it too."""
        descriptor = os.open(self.base / name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if self.account:
            os.fchown(descriptor, self.account.uid, self.account.gid)
        return descriptor


def has_data(home: Path) -> bool:
    """Whether there is a database in ``home``, or it cannot be told; nothing is made by asking."""
    try:
        return (home / "postgres.elsewhere").is_symlink() or (home / "postgres").is_dir()
    except OSError:
        return True


def locate(home: Path) -> PostgresHome:
    """Return where the files of ``home`` are or will be; ``home`` is made if it is not there.

    Raises: PostgresUnavailable: it belongs to someone else, or nobody we may run as reaches it.
    """
    as_root = os.geteuid() == 0
    home.mkdir(parents=True, exist_ok=True, mode=0o755 if as_root else 0o700)
    home = home.resolve()
    if as_root:
        return _locate_for_root(home)
    place = PostgresHome(home, None)
    owner = place.data.stat().st_uid if place.data.exists() else os.getuid()
    if owner != os.getuid():
        raise PostgresUnavailable(
            f"The data in {place.data} belongs to {_name(owner)}: run this command as that user, "
            "or set TASKTRAIL_HOME to a folder of your own."
        )
    return place


def _locate_for_root(home: Path) -> PostgresHome:
    link = home / "postgres.elsewhere"
    if not link.is_symlink():
        place = _for_root(home)
        if place.account and place.account.can_enter(home):
            return place
        if place.data.exists():
            raise PostgresUnavailable(
                f"The data in {place.data} belongs to {_name(place.data.stat().st_uid)}, who "
                f"cannot enter {home} any more: allow it (chmod o+x) on the folders above."
            )
        _make_elsewhere(link)
    elsewhere = link.readlink()
    if link.lstat().st_uid != 0:
        raise PostgresUnavailable(f"{link} was not made by root: remove it.")
    if not elsewhere.is_dir():
        raise PostgresUnavailable(
            f"The data of {home} was in {elsewhere}, which is gone. Put it back, or remove {link} "
            "to start a new database."
        )
    return _for_root(elsewhere)


def _make_elsewhere(link: Path) -> None:
    """Make a folder that every account can enter, and link to it; the first to do so wins."""
    FOR_ROOT.mkdir(parents=True, exist_ok=True)
    FOR_ROOT.chmod(0o755)  # whatever the umask; the data directory inside is private
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=FOR_ROOT))
    folder.chmod(0o755)
    try:
        link.symlink_to(folder)
    except FileExistsError:
        folder.rmdir()


def _for_root(base: Path) -> PostgresHome:
    """Return ``base`` with the account to use: the data's owner, the folder's, or a spare one."""
    for path in (base / "postgres", base):
        if path.exists() and (owner := path.stat().st_uid):
            found = pwd.getpwuid(owner)
            return PostgresHome(base, Account(found.pw_name, found.pw_uid, found.pw_gid))
    for name in ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return PostgresHome(base, Account(found.pw_name, found.pw_uid, found.pw_gid))
    raise PostgresUnavailable(
        "Postgres does not run as root, and there is neither an account `postgres` nor `nobody`: "
        "run this command as an ordinary user, or set DATABASE_URL."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

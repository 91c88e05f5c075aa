"""Where a checkpoint is kept outside the database: the more hands it is in, the more it proves.

/srv/checkpoints       a folder: a new file for each, never written over
git:/srv/checkpoints   the same in a git repository: committed, and pushed if it has an upstream
command:CMD ARGS       the note on a command's standard input (a mailer, an object store); no shell
                       runs it
"""

import shlex
import subprocess
from pathlib import Path

from mcp_server.failure import why

TIMEOUT_S = 60
_SHELLS_OWN = {"|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1"}


class PlaceFailed(Exception):
    """A place could not be written to; the text says which and why."""


def put(place: str, number: int, note: str) -> None:
    """Keep ``note`` at ``place``. Repeating it is harmless.

    Raises:
        PlaceFailed: it is not there now.
    """
    kind, _, rest = place.partition(":")
    try:
        if kind == "git":
            _put_in_git(Path(rest), number, note)
        elif kind == "command":
            _run(_words(rest), note)
        else:
            _put_in_folder(Path(place), number, note)
    except (OSError, ValueError, subprocess.SubprocessError) as fault:
        raise PlaceFailed(f"{place}: {why(fault)}") from fault


def _put_in_folder(folder: Path, number: int, note: str) -> Path:
    file = folder / f"checkpoint-{number:08}.txt"
    if file.exists():
        if file.read_text() != note:
            raise FileExistsError(f"{file} holds another checkpoint of that number")
        return file
    with file.open("x") as new:
        new.write(note)
    return file


def _put_in_git(repository: Path, number: int, note: str) -> None:
    file = _put_in_folder(repository, number, note)
    git = ["git", "-C", str(repository)]
    _run([*git, "add", "--", file.name])
    _run([*git, "commit", "--quiet", "-m", f"Checkpoint {number}", "--", file.name])
    upstream = [*git, "rev-parse", "--verify", "--quiet", "@{upstream}"]
    if (
        subprocess.run(upstream, capture_output=True, timeout=TIMEOUT_S, check=False).returncode
        == 0
    ):
        _run([*git, "push", "--quiet"])


def _words(command: str) -> list[str]:
    """Split a command. Raises: ValueError: it is meant for a shell, and would seem to work."""
    words = shlex.split(command)
    for word in words:
        if word in _SHELLS_OWN:
            raise ValueError(f"no shell runs it, so {word!r} does nothing: write sh -c '...'")
    return words


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(
        command, input=text, text=True, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise OSError(f"ended with {done.returncode}: {said}")

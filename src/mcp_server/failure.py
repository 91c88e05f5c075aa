"""Failures that the person at the command line can act on: said in a line, with an exit code."""

from typing import NamedTuple


class Failure(Exception):
    """Ends a command. The text says what is wrong and what to do; ``exit_code`` is for scripts.

    0 done, 1 the check failed, 2 usage, 3 the system could not be reached.
    """

    exit_code = 1


def why(error: Exception) -> str:
    """Return what went wrong in words: of what the system refused without its number."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


class Problem(NamedTuple):
    """One thing that is wrong, and what to do about it; neither quotes a secret."""

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what} {self.mend}"

"""Failures that the person at the command line can act on: said in a line, with an exit code."""


class Failure(Exception):
    """Ends a command. The text says what is wrong and what to do; ``exit_code`` is for scripts.

    0 done, 1 the check failed, 2 usage, 3 the system could not be reached.
    """

    exit_code = 1

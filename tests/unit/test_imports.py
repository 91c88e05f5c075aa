"""What is imported before a command can answer: what it needs, and no more."""

import os
import subprocess
import sys

import pytest

from mcp_server.cli import COMMANDS

PROGRAM = """
import atexit, sys
atexit.register(lambda: print("", *sys.modules, file=sys.stderr))
from mcp_server.cli import main
main()
"""
COMPLETING = {"_TASKTRAIL_COMPLETE": "complete_bash"}
LISTS = [
    pytest.param(["--help"], {}, id="help"),
    pytest.param(["--version"], {}, id="version"),
    pytest.param([], {}, id="no command"),
    pytest.param(["histroy"], {}, id="no such command"),
    pytest.param([], {**COMPLETING, "COMP_WORDS": "tasktrail ", "COMP_CWORD": "1"}, id="names"),
]


def imported(*arguments: str, **environment: str) -> set[str]:
    """Return the modules that ``tasktrail`` with these arguments has imported when it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(ended.stderr.splitlines()[-1].split())


def commands(modules: set[str]) -> set[str]:
    """Return which modules of commands are among ``modules``."""
    ours = {command.function.partition(":")[0] for command in COMMANDS.values()}
    return {name for name in ours if f"mcp_server.commands.{name}" in modules}


@pytest.mark.parametrize(("arguments", "environment"), LISTS)
def test_the_commands_are_listed_without_any_of_them(
    arguments: list[str], environment: dict[str, str]
) -> None:
    assert commands(imported(*arguments, **environment)) == set()


def test_a_command_is_explained_without_the_others() -> None:
    assert commands(imported("history", "--help")) == {"history"}


def test_options_are_completed_without_the_other_commands() -> None:
    words = "tasktrail history --"
    modules = imported(**COMPLETING, COMP_WORDS=words, COMP_CWORD="2")
    assert commands(modules) == {"history"}

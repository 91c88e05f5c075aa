"""What is imported before a command can answer: what it needs, and no more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.cli import COMMANDS
from mcp_server.settings import NAMES

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


NOWHERE = "postgresql://127.0.0.1:1/tasks"


def imported(*arguments: str, **environment: str) -> set[str]:
    """Return the modules that ``tasktrail`` with these arguments has imported when it ends."""
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES.values()}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return set(ended.stderr.splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    """Return the packages that ``modules`` are in."""
    return {module.partition(".")[0] for module in modules}


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


def test_the_list_needs_nothing_but_what_shows_it() -> None:
    assert not packages(imported("--help")) & {"psycopg", "pydantic", "projections"}
    assert not packages(imported("--version")) & {"psycopg", "pydantic", "projections", "rich"}


def test_a_token_needs_no_database(tmp_path: Path) -> None:
    modules = imported("token", "--user", "ann", TASKTRAIL_HOME=str(tmp_path))
    assert "jwt" in modules
    assert not packages(modules) & {"psycopg", "mcp", "rich"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--port", "0"], ["--transport", "stdio"]], ids=" ".join
)
def test_the_sdk_is_not_imported_before_there_is_a_database(arguments: list[str]) -> None:
    modules = imported("serve", *arguments, DATABASE_URL=NOWHERE)
    assert "mcp_server.commands.serve" in modules
    assert "mcp" not in modules

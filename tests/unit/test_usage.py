"""What a command says of an argument that it cannot take: what is wrong, and what it takes."""

from enum import Enum
from importlib import import_module
from typing import get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from mcp_server import cli


def said(*words: str) -> str:
    """Return what is said of a usage error, on one line without its frame."""
    result = CliRunner().invoke(cli.app, words)
    assert (result.exit_code, result.stdout) == (2, ""), (words, result.output, result.exception)
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_numbers_and_choices_are_read_by_what_says_what_it_takes(name: str) -> None:
    """Left to the library, they are refused in the words of another library."""
    module, _, function = cli.COMMANDS[name].function.partition(":")
    command = getattr(import_module(f"mcp_server.commands.{module}"), function)
    hints = get_type_hints(command, include_extras=True)
    for parameter, hint in hints.items():
        if parameter == "return":
            continue
        type_, option = get_args(hint)[:2]
        for each in get_args(type_) or (type_,):
            if each is int or (isinstance(each, type) and issubclass(each, Enum)):
                assert option.parser is not None, parameter


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["serve", "--port", "abc"], "'--port': 'abc' is not a whole number from 0 to 65535"),
        (["serve", "--port", "65536"], "'--port': '65536' is not a whole number from 0 to 65535"),
        (["serve", "--workers", "0"], "'--workers': '0' is not a whole number from 1 to 64"),
        (["serve", "--transport", "ftp"], "'ftp' is not one of http, stdio, http+stdio"),
        (["verify", "--jobs", "x"], "'--jobs': 'x' is not a whole number from 1 to 256"),
        (["verify", "--jobs", "5000000"], "'5000000' is not a whole number from 1 to 256"),
        (["rebuild-projections", "--jobs", "0"], "'0' is not a whole number from 1 to 256"),
        (["history", "ann", "--last", "0"], "'--last': '0' is not a whole number, 1 or more"),
        (["history", "ann", "--task", "9" * 22], f"'{'9' * 22}' is too large"),
        (["history", "ann", "--outcome", "x"], "'x' is not one of done, undone, erased"),
        (["history", "ann", "--type", "x"], "'--type': 'x' is no type of event. There are: Task"),
        (["export", "ann", "-o", "x", "--format", "pdf"], "not one of bundle, csv, cloudevents"),
        (["seed", "--events", "1", "--users", "2"], "every user needs an event: give --events"),
        (["seed", "--events", "2", "--users", "1", "--seed", "x"], "'x' is not a whole number"),
        (
            ["replay", "ann", "--as-of", "nonsense"],
            "'nonsense' is neither a position (17) nor a time with offset (2026-12-01T09:00:00Z)",
        ),
        (["replay", "ann", "--as-of", "-5"], "'-5' is neither a position (17) nor a time"),
        (
            ["diff", "ann", "--from", "2026-01-01"],
            "'--from': '2026-01-01' has no offset. In UTC it is 2026-01-01T00:00:00Z",
        ),
        (["token", "--user", "ann", "--scope", "x"], "'x' is no scope. There are: tasks:read"),
        (["token", "--user", "ann", "--ttl", "x"], "'--ttl': must be a time such as 90s, 15m"),
    ],
)
def test_it_says_what_is_wrong_and_what_is_taken(words: list[str], told: str) -> None:
    assert told in said(*words)

"""docs/cli.md names every command and every option, and none that does not exist."""

import re
from pathlib import Path

import pytest
import typer.main

from mcp_server import cli

DOCUMENT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = dict(
    re.findall(r"^## tasktrail (\S+)[^\n]*\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
)


def test_every_command_has_its_section() -> None:
    assert set(SECTIONS) == set(cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_a_section_names_exactly_the_options_that_there_are(name: str) -> None:
    app = typer.Typer()
    app.command()(cli._load(name))
    parameters = typer.main.get_command(app).params
    options = {option for each in parameters for option in each.opts if option.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)`", SECTIONS[name])) == options - {
        "--install-completion",
        "--show-completion",
    }

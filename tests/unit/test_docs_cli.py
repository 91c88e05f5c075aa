"""docs/cli.md says what the commands and their options are, and nothing else."""

import re
from pathlib import Path

import pytest

from mcp_server import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "cli.md").read_text(encoding="utf-8")
SECTIONS = {
    name.removeprefix("tasktrail "): text
    for name, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


def options(name: str) -> set[str]:
    """Return the options of a command, however they are spelt."""
    spelt = {spelling for param in cli.load(name).params for spelling in param.opts}
    return {spelling for spelling in spelt if spelling.startswith("-")}


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    assert set(SECTIONS) == set(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_there_and_none_that_is_not(name: str) -> None:
    documented = re.findall(r"^\|(.+?)\|", SECTIONS[name], re.MULTILINE)
    assert set(re.findall(r"`(--?[a-z-]+)`", "".join(documented))) == options(name)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    (example,) = re.findall(r"```sh\n(.*?)```", SECTIONS[name], re.DOTALL)
    assert re.search(rf"(tasktrail )?{name}\b", example)
    used = re.findall(r"(?<= )(--?[a-z-]+)", example.replace("jq -r", "").replace("psql -h", ""))
    assert set(used) - {"-U"} <= options(name)


def test_the_table_of_contents_leads_to_every_section() -> None:
    anchors = {
        (name if name == "rebuild-projections" else f"tasktrail {name}").replace(" ", "-")
        for name in cli.COMMANDS
    }
    assert set(re.findall(r"\]\(#([a-z-]+)\)", PAGE)) == anchors

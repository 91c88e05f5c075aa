"""What the MCP registry is told about us is true."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mcp_server.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def entry() -> dict[str, Any]:
    """The registry's entry."""
    found: dict[str, Any] = json.loads((ROOT / "server.json").read_text())
    return found


def test_the_version_is_the_packages(entry: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = entry["packages"]
    assert package["identifier"] == project["name"]
    assert entry["version"] == package["version"] == project["version"]


def test_the_readme_proves_whose_the_package_is(entry: dict[str, Any]) -> None:
    assert f"mcp-name: {entry['name']}" in (ROOT / "README.md").read_text()


def test_the_description_fits_the_registry(entry: dict[str, Any]) -> None:
    assert len(entry["description"]) <= 100


def test_every_variable_is_a_setting(entry: dict[str, Any]) -> None:
    known = {field.alias for field in Settings.model_fields.values()}
    (package,) = entry["packages"]
    assert {variable["name"] for variable in package["environmentVariables"]} <= known


def test_the_command_line_is_ours(entry: dict[str, Any]) -> None:
    (package,) = entry["packages"]
    verb, *options = package["packageArguments"]
    command = [str(Path(sys.executable).with_name("tasktrail")), verb["value"], "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(option["name"] in shown for option in options)

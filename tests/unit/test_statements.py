"""Every statement that the server can send, or that runs for it in the database, names the user.

Read from the source: each mention of a table with users in it has its own `user_id = ...` beside
it. (tests/integration/test_isolation.py looks at the statements that are really sent.) Rebuild,
verify of all and the like look at many users: they are other programs, with another login, and the
server does not import them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
FUNCTIONS = ROOT / "migrations" / "sql"
THE_SERVER = "mcp_server.http"

# Tells every login the hashes of all users' heads, and no user's name (its file says why).
ABOUT_EVERYBODY = {"checkpoint_leaves"}

TABLES = {
    name
    for path in FUNCTIONS.glob("*.sql")
    for name in re.findall(r"protect\('tasktrail\.(\w+)'\)", path.read_text())
}
_MENTION = re.compile(rf"\btasktrail\.(?:{'|'.join(TABLES)})\b")
_OF_THE_USER = re.compile(r"\b(?:\w+\.)?user_id = u\b")
_OF_ONE_USER = re.compile(
    r"\buser_id = (?:[pv]_user|u\.user_id)\b|(?:VALUES \(\s*|SELECT\s+)[pv]_user\b"
    r"|SELECT\s+set_config\('tasktrail\.user_id', (?P<row>\w+)\.user_id, true\)(?! AS)"
)
_TYPE = re.compile(r"v_\w+\s+tasktrail\.\w+(?:\[\])?(?: :=|;)|::tasktrail\.\w+")


def path_of(module: str) -> Path | None:
    """Return where a module of ours is, None if it is not ours."""
    path = SOURCE / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, wherever in it, and what of it could be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_the_server() -> dict[str, ast.Module]:
    """Return all modules of ours that the server needs, directly or not."""
    found: dict[str, ast.Module] = {}
    left = [THE_SERVER]
    while left:
        module = left.pop()
        path = path_of(module)
        if module not in found and path is not None:
            found[module] = ast.parse(path.read_text())
            left.extend(imported(found[module]))
    return found


def texts(node: ast.AST) -> str:
    """Return all text constants below ``node`` but docstrings, one a line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(inner.body[0].value)
        for inner in ast.walk(node)
        if isinstance(inner, documented) and inner.body and isinstance(inner.body[0], ast.Expr)
    }
    return "\n".join(
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant)
        and isinstance(part.value, str)
        and id(part) not in docstrings
    )


MODULES = of_the_server()


def test_the_server_has_statements_in_the_places_that_are_looked_at() -> None:
    with_statements = {name for name, tree in MODULES.items() if _MENTION.search(texts(tree))}
    assert with_statements >= {
        "events.store",
        "projections.current",
        "projections.history",
        "projections.tasks",
        "projections.conversations",
        "projections.messages",
    }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_mention_of_a_table_is_bound_to_the_user(module: str) -> None:
    for statement in MODULES[module].body:
        sql = "" if isinstance(statement, ast.Expr) else texts(statement)
        assert len(_OF_THE_USER.findall(sql)) == len(_MENTION.findall(sql)), sql


def with_rights_of_their_own() -> list[Path]:
    """Return the functions that may see more than who calls them, and those that they call."""
    return sorted(
        path
        for path in FUNCTIONS.glob("*.sql")
        if "SECURITY DEFINER" in path.read_text() or path.stem.startswith("write_")
        if path.stem not in ABOUT_EVERYBODY
    )


@pytest.mark.parametrize("path", with_rights_of_their_own(), ids=lambda path: str(path.stem))
def test_functions_that_see_more_than_their_caller_ask_for_one_user(path: Path) -> None:
    """At a time: where rows of several are written, row-level security is told with each whose."""
    sql = _TYPE.sub("", re.sub(r"--.*", "", path.read_text()))
    assert len(_OF_ONE_USER.findall(sql)) == len(_MENTION.findall(sql))

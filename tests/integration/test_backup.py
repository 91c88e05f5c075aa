"""What docs/operations.md says of backups is done here, with Postgres' own programs."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_server import migrate
from mcp_server.embedded.cluster import acquire
from mcp_server.embedded.server import DATABASE, SUPERUSER
from tests.conftest import temporary_home
from tests.integration.command_line import Run
from tests.integration.faults import Agents, Service

USER = "demo-1-00001"


class Place:
    """A TASKTRAIL_HOME and the commands that work on it."""

    def __init__(self, home: Path, tasktrail: Run) -> None:
        self.home = home
        self._tasktrail = tasktrail
        self._database: Any = None

    def says(self, *words: str, code: int = 0) -> str:
        """Return what a command prints; it has to end with ``code``."""
        said = self._tasktrail(*words, TASKTRAIL_HOME=str(self.home))
        assert said.code == code, said.out + said.err
        return said.out

    def run(
        self, program: str, *words: str, user: str = SUPERUSER
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Postgres' own programs on the database."""
        if self._database is None:  # once: whatever opens the database migrates it
            self._database = orjson.loads(self.says("doctor", "--json"))["database"]
        host, port = self._database["host"], str(self._database["port"])
        command = [f"{self._database['binaries']}/{program}", "--host", host, "--port", port]
        command += ["--username", user, *words]
        with acquire(self.home):
            return subprocess.run(command, capture_output=True, text=True, check=False)

    def dump(self, file: Path) -> None:
        """Dump the database."""
        done = self.run("pg_dump", "--format", "custom", "--file", str(file), DATABASE)
        assert (done.returncode, done.stderr) == (0, "")

    def restore(self, file: Path) -> None:
        """Make the roles, and everything else from a dump."""
        self.says("migrate")
        drop = ["--quiet", "--command", "DROP SCHEMA tasktrail CASCADE"]
        into = ["--single-transaction", "--dbname", DATABASE]
        with acquire(self.home):
            for program, words in (("psql", [*drop, DATABASE]), ("pg_restore", [*into, str(file)])):
                done = self.run(program, *words)
                assert (done.returncode, done.stdout) == (0, ""), done.stderr
        self.says("migrate")

    def is_whole(self) -> None:
        """Check every chain and every row."""
        self.says("verify")
        self.says("rebuild-projections", "--check")


@pytest.fixture
def place(home: Path, tasktrail: Run) -> Place:
    """A place with three users."""
    found = Place(home, tasktrail)
    found.says("seed", "--events", "300", "--users", "3")
    return found


@contextmanager
def another(tasktrail: Run) -> Iterator[Place]:
    with temporary_home() as home:
        yield Place(home, tasktrail)


def test_what_was_dumped_can_be_restored_elsewhere_and_work_goes_on(
    place: Place, tasktrail: Run, tmp_path: Path
) -> None:
    dump = tmp_path / "tasktrail.dump"
    place.dump(dump)
    with another(tasktrail) as restored:
        restored.restore(dump)
        restored.is_whole()
        history = ["history", USER, "--json"]
        assert restored.says(*history) == place.says(*history)
        with Service(restored.home) as service:
            asyncio.run(add_and_find(service))
        restored.is_whole()


async def add_and_find(service: Service) -> None:
    agents = Agents(service)
    added = await agents.insist(USER, "add_task", {"title": "afterwards"})
    found = await agents.insist(USER, "list_tasks", {"query": "afterwards"})
    await agents.close()
    assert [task["id"] for task in found["tasks"]] == [added["task_id"]]


def test_a_checkpoint_kept_elsewhere_tells_what_an_old_backup_lacks(
    place: Place, tasktrail: Run, tmp_path: Path
) -> None:
    dump, key = tmp_path / "tasktrail.dump", str(tmp_path / "signing.key")
    notes = [tmp_path / "before", tmp_path / "after"]
    place.says("checkpoint", "--new-key", key)
    for note in notes:
        note.mkdir()
        place.says("checkpoint", "--key", key, "--to", str(note))
        if note is notes[0]:
            place.dump(dump)
            place.says("seed", "--events", "300", "--users", "3", "--seed", "2")
    before, after = (str(next(note.glob("*.txt"))) for note in notes)
    with another(tasktrail) as restored:
        restored.restore(dump)
        restored.says("verify", "--checkpoint", before)
        assert "is missing" in restored.says("verify", "--checkpoint", after, code=1)
        restored.says("checkpoint", "--key", key, "--after-restore", "--to", str(notes[1]))
        assert "lost when a backup" in restored.says("verify", "--checkpoint", after, code=1)
        restored.says("verify")


def test_a_dump_of_an_older_version_is_brought_up_to_date(
    home: Path, tasktrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, dump, folder = Place(home, tasktrail), tmp_path / "dump", tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, folder)
    for later in (folder / "versions").glob("000[2-9]_*.py"):
        later.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "FOLDER", folder)
        assert "0001" in old.says("migrate")
        old.dump(dump)
    with another(tasktrail) as restored:
        restored.restore(dump)
        assert migrate.newest() in restored.says("migrate")
        restored.says("seed", "--events", "300", "--users", "3")
        restored.is_whole()


def test_whoever_may_not_see_every_row_dumps_none(place: Place, tmp_path: Path) -> None:
    file = str(tmp_path / "tasktrail.dump")
    for login, why in (
        ("tasktrail_server", "permission denied"),
        ("tasktrail_admin", "query would be affected by row-level security policy"),
    ):
        done = place.run("pg_dump", "--file", file, DATABASE, user=login)
        assert done.returncode == 1
        assert why in done.stderr


def test_the_folder_of_a_server_that_is_stopped_may_be_copied(place: Place, tasktrail: Run) -> None:
    history = ["history", USER, "--json"]
    said = place.says(*history)
    with another(tasktrail) as copied:
        subprocess.run(["/bin/cp", "--archive", f"{place.home}/.", str(copied.home)], check=True)
        copied.is_whole()
        assert copied.says(*history) == said

"""docs/evolution.md, followed: its diffs are applied to a copy of the source, which then runs on a
database that people lived in before, side by side with the version that is here."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from psycopg import Connection

from events.task import ReopenTask
from mcp_server.selfcheck import find_problems
from projections.spans import of_all
from tests.conftest import Database
from tests.integration.history import User, connect
from tests.integration.rebuilding import rebuild
from tests.mcp.agent import MODERN
from tests.mcp.process import environment, serve
from tests.mcp.raw import Wire
from tests.mcp.serving import token

ROOT = Path(__file__).parents[2]

PRELUDE = """
import asyncio, json, os
from pathlib import Path
from mcp_server.commands.jobs import connected
from mcp_server.migrate import upgrade
from projections.spans import of_all
from projections.verify import verify
from tests.integration.history import User, connect
from tests.integration.rebuilding import rebuild

def differing(fix=False):
    with connected(os.environ["OPERATOR"]) as connection:
        reports = rebuild(connection, of_all(connection), fix)
    found = [f for report in reports for f in report.findings]
    return sorted(f"{f.table} {f.id} {f.field or f.kind}" for f in found)

def tampered():
    with connected(os.environ["OPERATOR"]) as connection:
        return [f.line() for span in of_all(connection) for f in verify(connection, span).findings]

def select(query):
    with connected(os.environ["OPERATOR"]) as connection:
        return [list(row) for row in connection.execute(query)]

def as_ann(act):
    async def acting():
        async with await connect(os.environ["APP"]) as connection:
            await act(User(connection, "ann"))
    asyncio.run(acting())
"""


class NewVersion:
    """The source as it is after one section of the document."""

    def __init__(self, folder: Path, section: str, database: Database) -> None:
        for part in ("src", "migrations"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        for file, hunks in diffs(section):
            apply(folder / file, hunks)
        self.path = os.pathsep.join([str(folder / "src"), str(ROOT)])
        self._environment = {
            **os.environ,
            "PYTHONPATH": self.path,
            "ADMIN": database.admin,
            "APP": database.app,
            "OPERATOR": database.operator,
        }

    def runs(self, program: str) -> Any:
        """Return what the expression at the end of ``program`` comes to."""
        *statements, last = program.strip().splitlines()
        source = "\n".join([PRELUDE, *statements, f"print(json.dumps({last}))"])
        ran = subprocess.run(
            [sys.executable, "-c", source],
            env=self._environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        return json.loads(ran.stdout.splitlines()[-1])


def diffs(section: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each file that the section changes, with its hunks."""
    document = (ROOT / "docs" / "evolution.md").read_text(encoding="utf-8")
    text = re.split(r"^## ", document, flags=re.MULTILINE)
    (chosen,) = [each for each in text if each.startswith(section)]
    for block in re.findall(r"^```diff\n(.*?)^```", chosen, re.MULTILINE | re.DOTALL):
        for change in re.split(r"^--- .*\n", block, flags=re.MULTILINE)[1:]:
            name, _, rest = change.partition("\n")
            yield name.removeprefix("+++ "), re.split(r"^@@\n", rest, flags=re.MULTILINE)[1:]


def apply(file: Path, hunks: list[str]) -> None:
    """Change ``file``; what a hunk replaces must be there, once."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert old.rstrip("\n") in text, f"docs/evolution.md is out of date: {file.name}\n{old}"
        text = text.replace(old.rstrip("\n"), new.rstrip("\n"), 1) if old else new
    file.write_text(text, encoding="utf-8")


@pytest.fixture
async def ann(database: Database) -> AsyncIterator[User]:
    """She lives under the old version: tasks 1 and 2, conversation 3 with message 4, ..."""
    async with await connect(database.app) as connection:
        ann = User(connection, "ann")
        await ann.add_task("Buy milk", tags=["home"])
        await ann.add_task("Call the bank")
        await ann.create_conversation("Plans")
        await ann.add_message(3, "Hello there")
        await ann.complete_task(1)
        await ann.change_task(1, ReopenTask())
        yield ann


def old_version_says(operator: Connection[Any]) -> list[str]:
    found = [f for report in rebuild(operator, of_all(operator)) for f in report.findings]
    return [finding.line() for finding in found]


async def test_a_new_type_of_event(
    tmp_path: Path, database: Database, operator: Connection[Any], ann: User
) -> None:
    new = NewVersion(tmp_path, "A new type of event", database)
    assert new.runs("differing() + tampered()") == []
    tags = new.runs(
        """
from events.task import TagTask
as_ann(lambda ann: ann.change_task(1, TagTask(tag="shop")))
as_ann(lambda ann: ann.change_task(1, TagTask(tag="shop")))
select("SELECT tags, position FROM tasktrail.tasks WHERE id = 1")
"""
    )
    assert tags == [[["home", "shop"], 7]]  # and the second wish added nothing
    assert new.runs("differing() + tampered()") == []
    expected = "ann events 7: cannot be read: there is no TaskTagged version 1"
    assert old_version_says(operator) == [expected]
    await ann.complete_task(2)
    assert new.runs("differing() + tampered()") == []


@pytest.mark.usefixtures("ann")
async def test_a_new_version_of_an_event(
    tmp_path: Path, database: Database, operator: Connection[Any]
) -> None:
    new = NewVersion(tmp_path, "A new version of an event", database)
    words = new.runs(
        """
from events.catalog import decode
as_ann(lambda ann: ann.add_message(3, "One two three"))
added = "SELECT schema_version, body->'data' FROM tasktrail.events WHERE type = 'MessageAdded'"
[[version, decode("MessageAdded", version, data).words] for version, data in select(added)]
"""
    )
    assert words == [[1, 2], [2, 3]]
    assert new.runs("differing() + tampered()") == []
    expected = "ann events 7: cannot be read: there is no MessageAdded version 2"
    assert old_version_says(operator) == [expected]
    golden = new.runs(
        f"""
from events.catalog import decode
files = list(Path({str(ROOT / "tests/golden/events")!r}).iterdir())
read = [json.loads(file.read_text()) for file in files]
[each["type"] for each in read for data in each["data"] if decode(each["type"], 1, data) is None]
"""
    )
    assert golden == []


async def test_a_new_column_of_a_read_table(
    tmp_path: Path, database: Database, operator: Connection[Any], ann: User
) -> None:
    new = NewVersion(tmp_path, "A new column of a read table", database)
    new.runs('upgrade(os.environ["ADMIN"])')
    assert new.runs("differing()") == ["tasks 1 reopened"]
    async with await connect(database.app) as connection:  # an older server that starts now
        assert "schema" not in " ".join(map(str, await find_problems(connection)))
    await ann.complete_task(2)  # the old version works on, side by side
    await ann.change_task(2, ReopenTask())
    assert old_version_says(operator) == []
    new.runs("differing(fix=True)")
    assert new.runs("differing() + tampered()") == []
    await ann.complete_task(2)  # it puts 0 back: so rebuild when the last of them has gone
    assert new.runs("differing(fix=True)") == ["tasks 2 reopened"]
    counts = new.runs(
        """
from events.task import ReopenTask
as_ann(lambda ann: ann.change_task(2, ReopenTask()))
select("SELECT id, reopened FROM tasktrail.tasks ORDER BY id")
"""
    )
    assert counts == [[1, 1], [2, 2]]
    assert new.runs("differing() + tampered()") == []


async def test_a_new_read_table(
    tmp_path: Path, database: Database, operator: Connection[Any], ann: User
) -> None:
    new = NewVersion(tmp_path, "A new read table", database)
    new.runs('upgrade(os.environ["ADMIN"])')
    assert new.runs("differing()") == ["titles 1 missing", "titles 2 missing"]
    await ann.update_task(2, title="Call the other bank")  # the old version keeps it up to date
    assert new.runs("differing(fix=True)") == ["titles 1 missing"]
    await ann.complete_task(await ann.add_task("Sell the boat"))
    titles = "SELECT id, title FROM tasktrail.titles ORDER BY id"
    assert new.runs(f'differing() + tampered() + select("{titles}")') == [
        [1, "Buy milk"],
        [2, "Call the other bank"],
        [8, "Sell the boat"],
    ]
    assert old_version_says(operator) == []


def test_servers_of_both_versions_go_on_while_the_new_one_rebuilds(
    tmp_path: Path, database: Database
) -> None:
    new = NewVersion(tmp_path, "A new column of a read table", database)
    env = environment(database.app)
    with serve("--port", "0", env=env) as older:
        before = Speaker(older.url())
        reopened(before, 0)
        new.runs('upgrade(os.environ["ADMIN"])')
        with (
            serve("--port", "0", env=env) as restarted,
            serve("--port", "0", env=env | {"PYTHONPATH": new.path}) as newer,
            ThreadPoolExecutor(1) as thread,
        ):
            servers = [before, Speaker(restarted.url()), Speaker(newer.url())]
            rebuilding = thread.submit(new.runs, "differing(fix=True)")
            turns = 0
            while turns < 2 or not rebuilding.done():
                for speaker in servers:
                    assert speaker.ready() == {"status": "ok"}
                    reopened(speaker, turns := turns + 1)
            assert "tasks 1 reopened" in rebuilding.result()
    new.runs("differing(fix=True)")  # the last of the older servers has gone
    counts = new.runs('select("SELECT reopened FROM tasktrail.tasks")')
    assert counts == [[1]] * (turns + 1)
    assert new.runs("differing() + tampered()") == []


class Speaker(Wire):
    """Ann's agent at one of several servers; ``url`` ends in the path of the endpoint."""

    def __init__(self, url: str) -> None:
        super().__init__(url, MODERN, token("ann"))

    def ready(self) -> Any:
        return httpx2.get(self.url.replace("/mcp", "/readyz")).json()


def reopened(speaker: Speaker, number: int) -> None:
    """Add a task, complete it, and reopen it."""
    id_ = speaker.call("add_task", title=f"Task {number}")["task_id"]
    assert speaker.call("complete_task", task_id=id_)["status"] == "completed"
    assert speaker.call("complete_task", task_id=id_, completed=False)["status"] == "pending"
    assert id_ in [task["id"] for task in speaker.call("list_tasks")["tasks"]]

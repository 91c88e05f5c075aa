"""``tasktrail export``: a real ledger becomes a file that can be checked, or read by others."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from typer.testing import CliRunner, Result

from events.conversation import AddMessage, CreateConversation
from events.task import Changes, CompleteTask, CreateTask, UpdateTask
from mcp_server import cli
from mcp_server.commands.export import Unwritable
from mcp_server.commands.snapshot import NoLedger
from mcp_server.evidence.bundle import verify_bundle
from projections.current import Wanted
from tests.conftest import Database
from tests.integration.commands import act

FORMULA = '=HYPERLINK("http://evil.example","x")'


@pytest.fixture
async def ada(database: Database) -> str:
    """A user with six events, one of them hostile to spreadsheets."""

    async def do(decision: Any, reads: Wanted | None = None, reason: str | None = None) -> None:
        await act(database.app, "ada", decision, reads, reason)

    await do(lambda d: d.change_task(None, CreateTask(title="Book a van", tags=["move"])))
    await do(
        lambda d: d.change_task(1, UpdateTask(changes=Changes(description="large\u2028one"))),
        Wanted(task_ids=(1,)),
        FORMULA,
    )
    await do(lambda d: d.change_task(1, CompleteTask()), Wanted(task_ids=(1,)))
    await do(lambda d: d.change_conversation(None, CreateConversation(title="-1+1")))
    await do(
        lambda d: d.change_conversation(4, AddMessage(role="user", content="Grüße 👋\n\t\x7e")),
        Wanted(conversation_ids=(4,)),
    )
    await do(lambda d: d.change_task(None, CreateTask(title="@SUM(A1)")))
    await act(database.app, "eve", lambda d: d.change_task(None, CreateTask(title="Eve's")))
    return "ada"


def run(database: Database, login: str, *arguments: str) -> Result:
    environment = {"DATABASE_URL": getattr(database, login)}
    return CliRunner().invoke(cli.app, ["export", *arguments], env=environment)


@pytest.mark.parametrize("login", ["app", "auditor"])
def test_a_bundle_of_a_real_ledger_is_clean(
    database: Database, ada: str, tmp_path: Path, login: str
) -> None:
    file = tmp_path / "ada.zip"
    result = run(database, login, ada, "-o", str(file), "--json")
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["last_position"] == 6
    assert list(verify_bundle(file)) == []
    assert b"Eve's" not in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["ada.zip"]


def test_csv_holds_no_formula(database: Database, ada: str) -> None:
    result = run(database, "app", ada, "-o", "-", "--format", "csv")
    rows = list(csv.DictReader(StringIO(result.stdout)))
    assert [row["position"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[1]["reason"] == f"'{FORMULA}"
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_cloud_events_have_the_required_attributes(database: Database, ada: str) -> None:
    result = run(database, "app", ada, "-o", "-", "--format", "cloudevents")
    events = [orjson.loads(line) for line in result.stdout.rstrip("\n").split("\n")]
    assert [event["sequence"] for event in events] == ["1", "2", "3", "4", "5", "6"]
    for event in events:
        assert event["specversion"] == "1.0"
        assert unquote(event["source"]) == "/ledgers/ada"
        assert all(name.isalnum() and name.islower() for name in event)
    assert events[0]["type"] == "tasktrail.TaskCreated.v1"
    assert events[0]["data"]["fields"] == {"title": "Book a van", "tags": ["move"]}


def test_a_user_without_a_ledger_is_a_failure_and_leaves_no_file(
    database: Database, tmp_path: Path
) -> None:
    result = run(database, "app", "nobody", "-o", str(tmp_path / "x.zip"))
    assert isinstance(result.exception, NoLedger)
    assert result.exception.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_needs_a_file(database: Database, ada: str) -> None:
    assert run(database, "app", ada, "-o", "-").exit_code == 2


@pytest.mark.parametrize("output", [".", "/", ""])
def test_a_folder_is_no_file_to_write(database: Database, ada: str, output: str) -> None:
    result = run(database, "app", ada, "-o", output)
    assert isinstance(result.exception, Unwritable)
    assert "Is a directory" in str(result.exception)

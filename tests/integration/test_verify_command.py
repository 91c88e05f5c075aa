"""``tasktrail verify`` as an auditor runs it: databases, checkpoints, receipts and bundles."""

from pathlib import Path

import psycopg
import pytest
from typer import Typer
from typer.testing import CliRunner

from mcp_server.commands.checkpoint import checkpoint
from mcp_server.commands.export import export
from mcp_server.commands.seed import seed
from mcp_server.commands.verify import verify
from tests.conftest import Database

app = Typer()
for command in (verify, checkpoint, export, seed):
    app.command()(command)
USER = "demo-1-00001"


@pytest.fixture(autouse=True)
def seeded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.auditor)
    monkeypatch.setenv("ADMIN_DATABASE_URL", database.admin)
    monkeypatch.setenv("TASKTRAIL_ALLOW_UNSAFE_DATABASE", "1")
    run("seed", "--events", "60", "--users", "2")


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.stdout


def forge(database: Database, *statements: str) -> None:
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


def receipt_of_the_last_event(database: Database) -> str:
    with psycopg.connect(database.admin) as connection:
        row = connection.execute(
            "SELECT position, encode(hash, 'hex') FROM tasktrail.ledgers WHERE user_id = %s",
            (USER,),
        ).fetchone()
    assert row is not None
    return f"{row[0]}:{row[1]}"


def cut_the_tail(database: Database) -> None:
    """Take the last event away as carefully as a forger would: head and rows fit what is left."""
    forge(
        database,
        f"DELETE FROM tasktrail.tasks WHERE user_id = '{USER}' AND position ="
        f" (SELECT position FROM tasktrail.ledgers WHERE user_id = '{USER}')",
        "DELETE FROM tasktrail.events e USING tasktrail.ledgers l"
        f" WHERE e.user_id = '{USER}' AND l.user_id = e.user_id AND e.position = l.position",
        "UPDATE tasktrail.ledgers l SET position = e.position, hash = e.hash FROM (SELECT * FROM"
        f" tasktrail.events WHERE user_id = '{USER}' ORDER BY position DESC LIMIT 1) e"
        f" WHERE l.user_id = '{USER}'",
    )


def test_what_nobody_touched_is_clean() -> None:
    said = run("verify").splitlines()
    assert said[0] == "Nothing is wrong."
    assert said[1].startswith("2 users, 60 events")


def test_what_is_wrong_is_counted(database: Database) -> None:
    forge(database, f"UPDATE tasktrail.ledgers SET hash = 'x' WHERE user_id = '{USER}'")
    said = run("verify", code=1)
    assert "1 finding: see above." in said
    assert "Nothing is wrong" not in said


def test_a_cut_tail_shows_against_a_receipt(database: Database) -> None:
    receipt = receipt_of_the_last_event(database)
    run("verify", USER, "--receipt", receipt)
    cut_the_tail(database)
    found = run("verify", USER, "--receipt", receipt, code=1)
    assert "names an event that is not in the ledger" in found


def test_a_cut_tail_shows_against_a_checkpoint(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.admin)
    key = str(tmp_path / "key")
    public = run("checkpoint", "--new-key", key).split()[1]
    run("checkpoint", "--key", key)
    assert "60 events" in run("verify", "--key", public)
    cut_the_tail(database)
    assert "which checkpoint 1 signed" in run("verify", "--key", public, code=1)


def test_a_bundle_is_checked_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ledger.zip"
    run("export", USER, "-o", str(file))
    monkeypatch.setenv("DATABASE_URL", "host=127.0.0.1 port=1")
    said = run("verify", "--bundle", str(file))
    assert f"user: {USER}" in said
    assert "Nothing is wrong." in said
    file.write_bytes(file.read_bytes()[:-9])
    run("verify", "--bundle", str(file), code=1)


def test_a_receipt_needs_a_user_and_a_bundle_needs_a_file(tmp_path: Path) -> None:
    run("verify", "--receipt", f"1:{'a' * 64}", code=2)
    result = CliRunner().invoke(app, ["verify", "--bundle", str(tmp_path / "none.zip")])
    assert result.exit_code == 1
    assert "There is no such file" in str(result.exception)

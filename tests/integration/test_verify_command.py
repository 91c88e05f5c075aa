"""``tasktrail verify`` as an auditor runs it: databases, checkpoints, receipts and bundles."""

from pathlib import Path

import orjson
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


def lines_of(said: str) -> dict[str, str]:
    """Return what is told as ``name: value``, and the last line as that of ``counts``."""
    *lines, counts = said.splitlines()
    return {**dict(line.split(": ", 1) for line in lines if ": " in line), "counts": counts}


def test_of_a_bundle_it_tells_up_to_where_it_was_signed_and_by_whom(
    database: Database, tmp_path: Path
) -> None:
    file, key = str(tmp_path / "ledger.zip"), str(tmp_path / "key")
    run("export", USER, "-o", file)
    told = lines_of(run("verify", "--bundle", file))
    assert (told["checkpoint"], told["signed through"], told["signed by"]) == ("-", "-", "-")
    public = run("checkpoint", "--new-key", key).split()[1]
    run("checkpoint", "--key", key)
    run("export", USER, "-o", file)
    last = receipt_of_the_last_event(database)
    position = last.partition(":")[0]
    told = lines_of(run("verify", "--bundle", file))
    assert (told["checkpoint"], told["signed through"]) == ("1", position)
    assert told["signed by"].startswith(public)
    assert "--key" in told["signed by"], "so far it is only the bundle that says so"
    assert told["counts"].startswith(f"{position} events in ")
    assert "receipts" not in told
    told = lines_of(run("verify", "--bundle", file, "--key", public, "--receipt", last))
    assert told["signed by"] == public
    assert told["receipts compared"] == position
    said = orjson.loads(run("verify", "--bundle", file, "--receipt", last, "--json"))
    assert (said["checkpoint"], said["signed_through"], said["signed_by"], said["events"]) == (
        *(1, int(position), public),
        int(position),
    )
    assert said["receipts_compared"] == [int(position)]


def test_what_is_wrong_with_a_whole_file_has_no_position(tmp_path: Path) -> None:
    file = tmp_path / "dear.txt"
    file.write_text("Dear auditor,\n")
    told = run("verify", "--bundle", str(file), code=1).splitlines()
    assert told == ["dear.txt bundle: is not a zip, and so no bundle", "1 finding: see above."]


def test_what_was_kept_elsewhere_is_said_to_have_been_compared(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.admin)
    assert lines_of(run("verify"))["counts"].count(", 0 checkpoints in ") == 1
    key, notes = str(tmp_path / "key"), [tmp_path / f"checkpoint-0000000{n}.txt" for n in (1, 2)]
    run("checkpoint", "--new-key", key)
    for _ in notes:
        run("checkpoint", "--key", key, "--to", str(tmp_path))
    told = lines_of(run("verify"))
    assert ", 2 checkpoints in " in told["counts"]
    assert not any("compared" in name for name in told)
    kept = [word for note in notes for word in ("--checkpoint", str(note))]
    told = lines_of(run("verify", *kept))
    assert told["checkpoints compared"] == "1, 2"
    receipt = receipt_of_the_last_event(database)
    told = lines_of(run("verify", USER, *kept[:2], "--receipt", receipt))
    assert told["checkpoints compared"] == "1"
    assert told["receipts compared"] == receipt.partition(":")[0]
    said = orjson.loads(run("verify", *kept[2:], "--json"))
    assert (said["checkpoints"], said["checkpoints_compared"]) == (2, [2])


def test_a_file_that_holds_no_checkpoint_is_named(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.admin)
    note = tmp_path / "dear.txt"
    note.write_text("Dear auditor,\n")
    told = run("verify", "--checkpoint", str(note), code=1)
    assert f"(all) checkpoint: {note}: it is not the text of a checkpoint" in told.splitlines()
    assert "compared" not in told


def test_a_folder_is_not_said_to_be_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "--bundle", str(tmp_path)])
    assert str(result.exception) == f"{tmp_path}: Is a directory."


def test_a_receipt_needs_a_user_and_a_bundle_needs_a_file(tmp_path: Path) -> None:
    run("verify", "--receipt", f"1:{'a' * 64}", code=2)
    result = CliRunner().invoke(app, ["verify", "--bundle", str(tmp_path / "none.zip")])
    assert result.exit_code == 1
    assert "There is no such file" in str(result.exception)

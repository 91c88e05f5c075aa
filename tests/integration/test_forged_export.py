"""What a forger left in a ledger can be taken away all the same: it is evidence."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from events.ledger import hash_content, link, microseconds
from mcp_server.commands.seed import fill
from mcp_server.evidence.bundle import verify_bundle
from tests.conftest import Database
from tests.integration.command_line import Run, Said

USER = "demo-1-00001"

FORGED = {
    "a body without what it should hold": "body = '{}'",
    "a body that is no object": "body = '[1]'",
    "a body with a fraction": """body = '{"data": {"n": 1.5}, "reason": null}'""",
    "a body with a number beyond all": "body = jsonb_build_object('data', ('1e' || 5000)::numeric)",
    "a body with deep nests": "body = (repeat('[', 1500) || repeat(']', 1500))::jsonb",
    "a body with nests less deep": "body = (repeat('[', 400) || repeat(']', 400))::jsonb",
    "an actor that is no object": "actor = '7'",
    "an actor with a fraction": """actor = '{"tool": 1.5}'""",
    "an erasure up to before the beginning": """stream_type = 'ledger', type = 'LedgerErased',
        body = '{"data": {"through": -1}, "reason": null}'""",
    "an erasure up to yes": """stream_type = 'ledger', type = 'LedgerErased',
        body = '{"data": {"through": true}, "reason": null}'""",
    "an erasure up to nowhere": """stream_type = 'ledger', type = 'LedgerErased', body = '[]'""",
    "a time beyond the calendar": "recorded_at = 'infinity'",
    "a time before it": "recorded_at = '4000-01-01 BC'",
}


@pytest.fixture
def superuser(database: Database) -> Any:
    """Whoever gets past the database's own guards."""
    with psycopg.connect(database.admin) as connection:
        fill(connection, events=30, users=1, seed=1, done=lambda _: None)
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def forge(superuser: Connection[Any], change: str) -> None:
    superuser.execute(
        f"UPDATE tasktrail.events SET {change} WHERE user_id = %s AND position = 3", [USER]
    )


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("format_", ["bundle", "csv", "cloudevents"])
def test_an_export_has_every_event_whatever_was_put_into_one(
    database: Database,
    tasktrail: Run,
    superuser: Connection[Any],
    tmp_path: Path,
    forged: str,
    format_: str,
) -> None:
    forge(superuser, FORGED[forged])
    file = tmp_path / "evidence"
    said = tasktrail(
        "export", USER, "-o", str(file), "--format", format_, DATABASE_URL=database.auditor
    )
    assert said.code == 0, said.err
    if format_ == "bundle":
        assert 3 in {finding.position for finding in verify_bundle(file)}
    else:
        assert len(file.read_text().splitlines()) == (31 if format_ == "csv" else 30)


@pytest.mark.parametrize("forged", FORGED)
def test_a_report_has_every_event_too(
    database: Database,
    tasktrail: Run,
    superuser: Connection[Any],
    tmp_path: Path,
    forged: str,
) -> None:
    forge(superuser, FORGED[forged])
    file = tmp_path / "evidence.html"
    said = tasktrail("report", USER, "-o", str(file), DATABASE_URL=database.auditor)
    assert said.code == 0, said.err
    assert file.read_text().count('"position":30') == 2, "the last event, and the head"


def written(database: Database, tasktrail: Run, file: Path, *command: str) -> Said:
    """Export or report; return what was said, in words and as JSON."""
    json = tasktrail(
        command[0], USER, "-o", str(file), *command[1:], "--json", DATABASE_URL=database.auditor
    )
    assert json.code == 0, json.err
    file.unlink()
    said = tasktrail(command[0], USER, "-o", str(file), *command[1:], DATABASE_URL=database.auditor)
    assert (said.code, said.err) == (0, json.err)
    return json


TAKEN_AWAY = [["export"], ["export", "--format", "csv"], ["export", "--format", "cloudevents"]]


@pytest.mark.parametrize("command", [*TAKEN_AWAY, ["report"]])
@pytest.mark.parametrize(
    ("forgery", "position"),
    [
        pytest.param(
            "UPDATE tasktrail.events SET body = jsonb_set(body, '{reason}', '\"x\"')"
            " WHERE position = 7",
            7,
            id="other words",
        ),
        pytest.param(
            "UPDATE tasktrail.events SET hash = sha256(hash) WHERE position = 5", 5, id="a hash"
        ),
        pytest.param(
            "UPDATE tasktrail.events SET actor = '{}' WHERE position >= 29", 29, id="who it was"
        ),
        pytest.param("DELETE FROM tasktrail.events WHERE position = 4", 5, id="left out"),
        pytest.param("DELETE FROM tasktrail.events WHERE position = 30", 30, id="cut off"),
        pytest.param(
            "UPDATE tasktrail.events SET body = NULL, salt = NULL WHERE position = 2",
            2,
            id="words taken away",
        ),
    ],
)
def test_who_takes_a_forged_ledger_away_is_told_where_its_chain_does_not_hold(
    database: Database,
    tasktrail: Run,
    superuser: Connection[Any],
    tmp_path: Path,
    command: list[str],
    forgery: str,
    position: int,
) -> None:
    superuser.execute(forgery)
    said = written(database, tasktrail, tmp_path / "evidence", *command)
    assert said.json["broken_at"] == position
    assert said.json["events"] == 30 - forgery.startswith("DELETE"), "what was written"
    (line,) = said.err.splitlines()
    assert f"the chain of {USER} does not hold at position {position} (" in line
    assert f"`tasktrail verify {USER}` says more." in line


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("command", [*TAKEN_AWAY, ["report"]])
def test_who_takes_an_honest_ledger_away_is_told_nothing(
    database: Database, tasktrail: Run, tmp_path: Path, command: list[str]
) -> None:
    said = written(database, tasktrail, tmp_path / "evidence", *command)
    assert (said.json["broken_at"], said.err) == (None, "")


def test_an_event_of_a_newer_version_breaks_no_chain(
    database: Database, tasktrail: Run, superuser: Connection[Any], tmp_path: Path
) -> None:
    row = superuser.execute(
        "SELECT event_id::text, command_id::text, stream_type, actor, commitment, position,"
        " stream_id, version, recorded_at FROM tasktrail.events WHERE position = 30"
    ).fetchone()
    assert row is not None
    event_id, command_id, stream_type, actor, commitment, position, stream_id, version, at = row
    content_hash = hash_content(
        event_id, command_id, "TaskPainted", 1, stream_type, actor, commitment
    )
    before = superuser.execute("SELECT hash FROM tasktrail.events WHERE position = 29").fetchall()
    hash_ = link(before[0][0], content_hash, position, stream_id, version, microseconds(at))
    superuser.execute(
        "UPDATE tasktrail.events SET type = 'TaskPainted', content_hash = %s, hash = %s"
        " WHERE position = 30",
        [content_hash, hash_],
    )
    superuser.execute("UPDATE tasktrail.ledgers SET hash = %s", [hash_])
    said = written(database, tasktrail, tmp_path / "evidence", "export")
    assert (said.json["broken_at"], said.err) == (None, "")


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("command", [["history"], ["replay"], ["diff", "--from", "2"]])
def test_what_is_told_of_such_a_ledger_ends_with_a_line_and_no_traceback(
    database: Database,
    tasktrail: Run,
    superuser: Connection[Any],
    forged: str,
    command: list[str],
) -> None:
    forge(superuser, FORGED[forged])
    said = tasktrail(command[0], USER, *command[1:], DATABASE_URL=database.auditor)
    if said.code != 0:
        assert said.code == 1
        assert "cannot be read" in said.err
        assert "`tasktrail verify` says more." in said.err

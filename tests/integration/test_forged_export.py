"""What a forger left in a ledger can be taken away all the same: it is evidence."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from mcp_server.commands.seed import fill
from mcp_server.evidence.bundle import verify_bundle
from tests.conftest import Database
from tests.integration.command_line import Run

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

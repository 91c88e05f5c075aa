"""Who looked at whose ledger is on record, before anything is shown, and stays there."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from mcp_server.tools.tasks import AddTask
from tests.conftest import Database
from tests.integration.agents import Agent, Inspector
from tests.integration.command_line import Run, Said

LOOKS = {
    "history": (["--task", "1"], {"task": 1}, (1, 2)),
    "replay": (["--as-of", "1"], {"as_of": 1}, (1, 1)),
    "diff": (["--from", "1"], {"from": 1}, (2, 2)),
    "export": (["-o", "-", "--format", "csv"], {"format": "csv"}, (1, 2)),
}


@pytest.fixture
async def lived(agent: Agent) -> None:
    await agent(AddTask(title="One"))
    await agent(AddTask(title="Two"))


@pytest.fixture
def run(tasktrail: Run, lived: None) -> Any:  # noqa: ARG001
    async def run(*arguments: str, **environment: str) -> Said:
        return await asyncio.to_thread(tasktrail, *arguments, **environment)

    return run


@pytest.mark.parametrize("command", LOOKS)
async def test_each_look_is_recorded(run: Any, database: Database, command: str) -> None:
    options, filters, (first, last) = LOOKS[command]
    looked = await run(command, "user-1", *options, DATABASE_URL=database.auditor)
    assert (looked.code, looked.err) == (0, "")
    (record,) = (await run("access", "--json", DATABASE_URL=database.auditor)).lines
    assert (record["user"], record["number"], record["command"]) == ("user-1", 1, command)
    assert record["login"] == "tasktrail_test_auditor"
    assert (record["filters"], record["first"], record["last"]) == (filters, first, last)
    assert record["os_user"]
    assert record["host"]


async def test_a_report_is_a_look_too(run: Any, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    looked = await run("report", "user-1", "-o", str(file), DATABASE_URL=database.auditor)
    assert looked.code == 0
    (record,) = (await run("access", "user-1", "--json", DATABASE_URL=database.auditor)).lines
    assert (record["command"], record["last"]) == ("report", 2)


async def test_a_check_of_one_or_of_all_is_a_look_too(run: Any, database: Database) -> None:
    for arguments in (["user-1"], ["user-1", "--receipt", f"2:{'0' * 64}"], []):
        await run("verify", *arguments, DATABASE_URL=database.operator)
    records = (await run("access", "--json", DATABASE_URL=database.auditor)).lines
    assert [(each["user"], each["command"], each["first"]) for each in records] == [
        ("tasktrail:everybody", "verify", 1),
        ("user-1", "verify", 1),
        ("user-1", "verify", 1),
    ]
    assert records[2]["filters"] == {"receipts": 1}


async def test_erasing_and_holding_are_on_record_too(
    run: Any, database: Database, tmp_path: Path
) -> None:
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    await run("hold", "user-1", "--reason", "case 12", **urls)
    refused = await run("erase", "user-1", "--yes", "--reason", "request 17", **urls)
    assert refused.code == 1
    await run("hold", "user-1", "--release", **urls)
    erased = await run("erase", "user-1", "--yes", **urls)
    assert erased.code == 0
    (tmp_path / "list.json").write_text((await run("erase", "--list", "--json", **urls)).out)
    await run("erase", "--replay", str(tmp_path / "list.json"), **urls)
    await run("hold", "--list", **urls)
    records = (await run("access", "--json", DATABASE_URL=database.auditor)).lines
    assert [(each["user"], each["command"], each["filters"]) for each in records] == [
        ("tasktrail:everybody", "erase", {"list": True}),
        ("tasktrail:everybody", "hold", {"list": True}),
        ("user-1", "hold", {"reason": "case 12"}),
        ("user-1", "erase", {"reason": "request 17"}),
        ("user-1", "hold", {"release": True}),
        ("user-1", "erase", {}),
    ]
    assert {each["login"] for each in records} == {"tasktrail_test_operator"}


async def test_asking_for_a_user_who_is_not_there_is_a_look_too(
    run: Any, database: Database
) -> None:
    await run("history", "nobody", DATABASE_URL=database.auditor)
    (record,) = (await run("access", "nobody", "--json", DATABASE_URL=database.auditor)).lines
    assert (record["command"], record["first"], record["last"]) == ("history", None, None)


async def test_people_read_the_records_too(run: Any, database: Database) -> None:
    await run("history", "user-1", "--last", "1", DATABASE_URL=database.auditor)
    said = await run("access", DATABASE_URL=database.auditor)
    assert "user-1" in said.out
    assert "last=1" in said.out


async def test_the_servers_login_records_with_the_operators(run: Any, database: Database) -> None:
    looked = await run(
        "history", "user-1", DATABASE_URL=database.app, ADMIN_DATABASE_URL=database.operator
    )
    assert (looked.code, looked.err) == (0, "")
    (record,) = (await run("access", "--json", DATABASE_URL=database.auditor)).lines
    assert record["login"] == "tasktrail_test_operator"


async def test_the_servers_login_alone_says_that_it_is_not_on_record(
    run: Any, database: Database
) -> None:
    looked = await run("history", "user-1", DATABASE_URL=database.app)
    assert looked.code == 0
    assert len(looked.out.splitlines()) == 2
    assert "not on record" in looked.err
    assert (await run("access", DATABASE_URL=database.auditor)).out == ""


async def test_who_may_record_but_does_not_succeed_sees_nothing(
    run: Any, database: Database
) -> None:
    """As on a replica, or when somebody would rather not be on record."""
    evasive = psycopg.conninfo.make_conninfo(
        database.auditor, options="-c default_transaction_read_only=on"
    )
    looked = await run("history", "user-1", DATABASE_URL=evasive)
    assert (looked.code, looked.out) == (3, "")
    assert "nothing is shown" in looked.err


async def test_the_server_may_neither_write_nor_read_records(run: Any, database: Database) -> None:
    assert (await run("access", DATABASE_URL=database.app)).code == 3
    with psycopg.connect(database.app, autocommit=True) as connection:
        for statement in (
            "SELECT tasktrail.record_access('user-1', '{}')",
            "SELECT * FROM tasktrail.audit_access",
            "INSERT INTO tasktrail.audit_access VALUES ('user-1', 1, 'x', '{}', now(), '')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tasktrail.audit_access SET login = 'x'",
        "DELETE FROM tasktrail.audit_access",
        "TRUNCATE tasktrail.audit_access",
        "INSERT INTO tasktrail.audit_access VALUES ('user-1', 9, 'x', '{}', now(), '')",
    ],
)
@pytest.mark.parametrize("role", ["tasktrail_owner", "tasktrail_operator", "tasktrail_auditor"])
async def test_nobody_changes_or_removes_a_record(
    run: Any, database: Database, inspector: Inspector, role: str, statement: str
) -> None:
    await run("history", "user-1", DATABASE_URL=database.auditor)
    inspector.run(f"SET ROLE {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        inspector.run(statement)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE tasktrail.audit_access SET login = 'somebody' WHERE number = 2", 2),
        ("UPDATE tasktrail.audit_access SET details = '{}' WHERE number = 1", 1),
        ("UPDATE tasktrail.audit_access SET at = at + interval '1 second' WHERE number = 3", 3),
        ("UPDATE tasktrail.audit_access SET hash = sha256('x') WHERE number = 2", 2),
        ("DELETE FROM tasktrail.audit_access WHERE number = 1", 2),
        ("DELETE FROM tasktrail.audit_access WHERE number = 2", 3),
    ],
)
async def test_what_a_superuser_changed_shows(
    run: Any, database: Database, inspector: Inspector, statement: str, number: int
) -> None:
    for _ in range(3):
        await run("history", "user-1", DATABASE_URL=database.auditor)
    before = await run("access", DATABASE_URL=database.auditor)
    assert (before.code, before.err) == (0, "")
    inspector.run("ALTER TABLE tasktrail.audit_access DISABLE TRIGGER append_only")
    inspector.run(statement)
    after = await run("access", DATABASE_URL=database.auditor)
    assert after.code == 1
    assert f"user-1 record {number}:" in after.err


def test_records_made_at_once_are_all_kept_in_one_chain(tasktrail: Run, database: Database) -> None:
    def look(number: int) -> None:
        with psycopg.connect(database.auditor, autocommit=True) as connection:
            details = orjson.dumps({"command": f"look {number}", "filters": {}}).decode()
            connection.execute("SELECT tasktrail.record_access('ann', %s)", (details,))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(40)))
    said = tasktrail("access", "ann", "--json", DATABASE_URL=database.auditor)
    assert said.code == 0
    assert [record["number"] for record in said.lines] == list(range(1, 41))
    assert {record["command"] for record in said.lines} == {f"look {n}" for n in range(40)}


@pytest.mark.parametrize("details", ["x" * 20_000, "not json"])
def test_a_record_of_nonsense_is_refused_or_shown_as_such(
    tasktrail: Run, database: Database, details: str
) -> None:
    with psycopg.connect(database.auditor, autocommit=True) as connection:
        try:
            connection.execute("SELECT tasktrail.record_access('ann', %s)", (details,))
        except psycopg.errors.CheckViolation:
            assert len(details) > 16_384
    assert tasktrail("access", DATABASE_URL=database.auditor).code == 0


def test_the_embedded_database_has_a_login_for_it(tasktrail: Run, home: Path) -> None:
    environment = {"TASKTRAIL_HOME": str(home)}
    tasktrail("seed", "--events", "5", "--users", "1", **environment)
    looked = tasktrail("history", "demo-1-00001", **environment)
    assert (looked.code, looked.err) == (0, "")
    (record,) = tasktrail("access", "--json", **environment).lines
    assert (record["login"], record["last"]) == ("tasktrail_reader", 5)

"""``tasktrail erase``: no trace of the words, and the chain still verifies.

Every word that must be gone holds the canary, so that one search finds any of them.
"""

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from events.catalog import LedgerErased
from events.conversation import AddMessage, CreateConversation
from events.draft import Draft, Entry
from events.erasure import erase
from events.ledger import Head, verify
from events.store import read_ledger, sealed
from events.task import Changes, CompleteTask, CreateTask, UpdateTask
from mcp_server import cli
from mcp_server.commands.erase import BadList, Held, NotConfirmed
from mcp_server.commands.snapshot import NoLedger
from mcp_server.evidence.bundle import verify_bundle
from projections.current import Wanted
from tests.conftest import Database
from tests.integration.command_line import Run
from tests.integration.commands import act
from tests.integration.history import NOBODY, connect

CANARY = "xylophonecanary"
TABLES = ("events", "tasks", "conversations", "messages", "idempotency")


async def live(database: Database, user: str) -> None:
    """Write the canary wherever a user's words can go."""

    async def do(decision: Any, reads: Wanted | None = None, key: str | None = None) -> None:
        await act(database.app, user, decision, reads, f"because {CANARY}", key)

    create = CreateTask(
        title=f"Call {CANARY}", description=f"more {CANARY} " * 150, tags=[f"tag-{CANARY}"]
    )
    await do(lambda d: d.change_task(None, create), key=CANARY)
    await do(
        lambda d: d.change_task(1, UpdateTask(changes=Changes(title=f"Ring {CANARY}"))),
        Wanted(task_ids=(1,)),
    )
    await do(lambda d: d.change_task(1, CompleteTask()), Wanted(task_ids=(1,)))
    await do(lambda d: d.change_conversation(None, CreateConversation(title=f"On {CANARY}")))
    message = AddMessage(
        role="user",
        content=f"Tell me of {CANARY}. " * 300,
        metadata=f'{{"{CANARY}":1}}',
        external_id=f"external-{CANARY}",
    )
    await do(lambda d: d.change_conversation(4, message), Wanted(conversation_ids=(4,)))


@pytest.fixture
async def ada(database: Database) -> str:
    """A user whose words hold the canary, also where the planner has looked."""
    await live(database, "ada")
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return "ada"


def run_now(database: Database, *arguments: str) -> Any:
    """Run a command as the operator does; return what it says, or raise what it raised."""
    result = CliRunner().invoke(
        cli.app,
        [*arguments, "--json"],
        env={"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator},
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return orjson.loads(result.stdout)


async def run(database: Database, *arguments: str) -> Any:
    return await asyncio.to_thread(run_now, database, *arguments)


def everything(database: Database) -> bytes:
    """What a dump of the whole database holds, the catalogs and their statistics included."""
    dump = b""
    with psycopg.connect(database.admin) as connection:
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')"
        ).fetchall()
        for table in tables:
            query = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*table))
            with connection.cursor().copy(query) as rows:
                dump += b"".join(bytes(row) for row in rows)
    return dump


def files(database: Database) -> dict[str, bytes]:
    """The bytes on disk of every table that held words, with its indexes and its TOAST table."""
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        rows = connection.execute(
            "SELECT c.oid::regclass::text, pg_read_binary_file(pg_relation_filepath(c.oid))"
            " FROM pg_class c WHERE c.relkind IN ('r', 'i', 't') AND pg_relation_size(c.oid) > 0"
            " AND c.relfilenode <> 0 AND c.oid >= 16384"
        ).fetchall()
    return dict(rows)


def log_of_the_server(database: Database) -> bytes:
    """The log of the embedded Postgres; another server's is not ours to read."""
    with psycopg.connect(database.admin) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        logs = [*Path(row[0]).glob("*.log"), *Path(row[0]).parent.glob("*.log")]
    return b"".join(log.read_bytes() for log in logs)


async def chain_findings(database: Database, user: str) -> list[Any]:
    with psycopg.connect(database.admin) as connection:
        head = connection.execute(
            "SELECT position, hash FROM tasktrail.ledgers WHERE user_id = %s", (user,)
        ).fetchone()
    assert head is not None
    async with await connect(database.app) as reader:
        records = [record async for page in read_ledger(reader, user) for record in page]
    return list(verify(user, records, Head(*head)))


@pytest.mark.usefixtures("ada")
async def test_the_canary_is_everywhere_before(database: Database) -> None:
    assert everything(database).count(CANARY.encode()) > 10


async def test_no_trace_is_left_in_a_dump_or_in_the_log(database: Database, ada: str) -> None:
    (done,) = await run(database, "erase", ada, "--yes")
    assert done == {"user": "ada", "status": "erased", "position": 6, "events": 5}
    dump = everything(database)
    assert CANARY.encode() not in dump
    assert CANARY.encode().hex().encode() not in dump
    assert CANARY.encode() not in log_of_the_server(database)
    assert await chain_findings(database, "ada") == []


async def test_rewriting_leaves_no_trace_in_the_files_of_the_tables(
    database: Database, ada: str
) -> None:
    """Before that, the pages still hold what nobody can select (docs/erasure.md says so)."""
    await run(database, "erase", ada, "--yes")
    assert any(CANARY.encode() in content for content in files(database).values())
    with psycopg.connect(database.admin, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"VACUUM FULL tasktrail.{table}")
    left = [name for name, content in files(database).items() if CANARY.encode() in content]
    assert left == []


@pytest.mark.usefixtures("ada")
async def test_the_planner_keeps_no_samples_of_words(database: Database) -> None:
    """They would outlive an erasure, and other roles may see them."""
    for user in ("bob", "cyd"):
        await live(database, user)  # what is there once only is no sample
    query = "COPY pg_catalog.pg_statistic TO STDOUT"
    with psycopg.connect(database.admin, autocommit=True) as connection:

        def samples() -> bytes:
            connection.execute("ANALYZE")
            with connection.cursor().copy(query) as rows:
                return b"".join(bytes(row) for row in rows)

        assert CANARY.encode() not in samples()
        connection.execute("ALTER TABLE tasktrail.tasks ALTER COLUMN title SET STATISTICS 100")
        assert CANARY.encode() in samples(), "the search would not have found any"


async def test_other_users_keep_their_words(database: Database, ada: str) -> None:
    await live(database, "bob")
    await run(database, "erase", ada, "--yes")
    assert await chain_findings(database, "bob") == []
    with psycopg.connect(database.admin) as connection:
        for table in TABLES:
            query = sql.SQL("SELECT DISTINCT user_id FROM {}").format(
                sql.Identifier("tasktrail", table)
            )
            users = {user for (user,) in connection.execute(query).fetchall()}
            assert users == ({"ada", "bob"} if table == "events" else {"bob"})


async def test_the_user_goes_on_afterwards(database: Database, ada: str) -> None:
    await run(database, "erase", ada, "--yes")
    assert (
        await act(database.app, ada, lambda d: d.change_task(None, CreateTask(title="Anew")))
    ) == 7
    assert await chain_findings(database, "ada") == []
    (done,) = await run(database, "erase", ada, "--yes")
    assert (done["position"], done["events"]) == (8, 1)
    assert await chain_findings(database, "ada") == []


async def test_repeating_is_harmless(database: Database, ada: str) -> None:
    await run(database, "erase", ada, "--yes")
    (done,) = await run(database, "erase", ada, "--yes")
    assert (done["status"], done["position"]) == ("unchanged", 6)
    assert len(await run(database, "erase", "--list")) == 1


async def test_a_bundle_of_an_erased_ledger_is_clean(
    database: Database, ada: str, tmp_path: Path
) -> None:
    await run(database, "erase", ada, "--yes")
    bundle = tmp_path / "ada.zip"
    await run(database, "export", ada, "-o", str(bundle))
    assert list(verify_bundle(bundle)) == []
    assert CANARY.encode() not in bundle.read_bytes()


async def test_an_idempotency_key_can_be_used_again(database: Database, ada: str) -> None:
    await run(database, "erase", ada, "--yes")
    create = CreateTask(title="Anew")
    position = await act(
        database.app, ada, lambda d: d.change_task(None, create), idempotency_key=CANARY
    )
    assert position == 7


async def test_a_hold_prevents_it_until_it_is_released(database: Database, ada: str) -> None:
    (held,) = await run(database, "hold", ada, "--reason", "case 12")
    assert (held["user"], held["reason"]) == ("ada", "case 12")
    with pytest.raises(Held):
        await run(database, "erase", ada, "--yes")
    assert CANARY.encode() in everything(database)
    assert await run(database, "hold", ada, "--release") == []
    assert await run(database, "hold", "--list") == []
    (done,) = await run(database, "erase", ada, "--yes")
    assert done["status"] == "erased"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("case 12\x1b[2J", "case 12\N{REPLACEMENT CHARACTER}[2J"), ("", "no reason was given")],
)
def test_whoever_meets_a_hold_is_told_why_it_is_there(
    tasktrail: Run, database: Database, ada: str, reason: str, told: str
) -> None:
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    given = ["--reason", reason] if reason else []
    since = tasktrail("hold", ada, *given, "--json", **urls).json[0]["since"]
    again = tasktrail("hold", ada, "--reason", "case 13", **urls)
    assert again.code == 0
    assert "stays as it is" in again.err
    assert "case 13" not in again.out
    refused = tasktrail("erase", ada, "--yes", **urls)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"tasktrail: A hold is on user 'ada' since {since}: {told}."
        " `tasktrail hold ada --release` ends it.\n"
    )
    released = tasktrail("hold", ada, "--release", **urls)
    assert (released.code, released.err) == (0, "")
    assert released.out == f"ada: released. It was held since {since}: {told}.\n"


def test_a_list_of_nothing_is_said_to_be_one(tasktrail: Run, database: Database) -> None:
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    said = tasktrail("hold", "--list", **urls)
    assert (said.code, said.out, said.err) == (0, "", "tasktrail: there is no hold.\n")
    said = tasktrail("erase", "--list", **urls)
    assert (said.code, said.out, said.err) == (0, "", "tasktrail: nothing was ever erased.\n")


def test_a_hold_is_on_a_user_who_is_there(tasktrail: Run, database: Database, ada: str) -> None:
    urls = {"DATABASE_URL": database.operator}
    for arguments in (["hold", "adda", "--reason", "case 12"], ["hold", ada, "--release"]):
        said = tasktrail(*arguments, **urls)
        assert (said.code, said.out) == (1, "")
    assert said.err == "tasktrail: There is no hold on user 'ada'.\n"
    assert tasktrail("hold", "--list", "--json", **urls).json == []


def test_lists_are_plain_lines_where_there_is_no_terminal(
    tasktrail: Run, database: Database, ada: str
) -> None:
    urls = {"DATABASE_URL": database.operator}
    reason = "case [bold]12[/bold] " + "of many words " * 20
    for listed in (
        tasktrail("hold", ada, "--reason", f"{reason}\x1b[2J", **urls),
        tasktrail("hold", "--list", **urls),
    ):
        (line,) = listed.out.splitlines()
        assert line.startswith("ada ")
        assert line.endswith(f"{reason}\N{REPLACEMENT CHARACTER}[2J")
    tasktrail("hold", ada, "--release", **urls)
    assert tasktrail("hold", "--list", **urls).out == ""
    tasktrail("erase", ada, "--yes", **urls)
    assert re.fullmatch(r"ada +6 +5  20\S+Z\n", tasktrail("erase", "--list", **urls).out)


async def test_a_list_of_erasures_is_replayed_after_restoring_a_backup(
    database: Database, ada: str, tmp_path: Path
) -> None:
    await live(database, "bob")
    await run(database, "erase", "bob", "--yes")
    await run(database, "erase", ada, "--yes", "--reason", "request 17")
    list_ = tmp_path / "erasures.json"
    list_.write_bytes(orjson.dumps(await run(database, "erase", "--list")))
    restore_ada(database)
    await live(database, "ada")  # as a backup from before has her
    done = await run(database, "erase", "--replay", str(list_))
    assert [(each["user"], each["status"]) for each in done] == [("ada", "erased")]
    assert CANARY.encode() not in everything(database)
    assert await run(database, "erase", "--replay", str(list_)) == []
    said = {each["user"]: each["reason"] for each in await run(database, "erase", "--list")}
    assert said == {"ada": "request 17", "bob": None}


def restore_ada(database: Database) -> None:
    with psycopg.connect(database.admin) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM tasktrail.events WHERE user_id = 'ada'")
        connection.execute("DELETE FROM tasktrail.ledgers WHERE user_id = 'ada'")


async def test_nobody_asks_for_a_user_who_never_was(database: Database) -> None:
    with pytest.raises(NoLedger):
        await run(database, "erase", "nobody", "--yes")


async def test_without_a_terminal_it_wants_to_be_told_yes(database: Database, ada: str) -> None:
    with pytest.raises(NotConfirmed, match="--yes"):
        await run(database, "erase", ada)
    assert CANARY.encode() in everything(database)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"user": "ada"}]', '[{"user":1,"at":2}]'])
async def test_what_is_no_list_is_refused(database: Database, tmp_path: Path, text: str) -> None:
    list_ = tmp_path / "list.json"
    list_.write_text(text)
    with pytest.raises(BadList):
        await run(database, "erase", "--replay", str(list_))


def _add(create: CreateTask, draft: Draft) -> None:
    draft.change_task(None, create)


async def test_erasing_while_the_user_keeps_writing(database: Database, ada: str) -> None:
    async def write() -> None:
        for number in range(10):
            create = CreateTask(title=f"{CANARY} {number}")
            await act(database.app, ada, partial(_add, create))

    writing = asyncio.create_task(write())
    async with await connect(database.operator) as connection:
        for _ in range(3):
            assert (await erase(connection, ada, NOBODY, None)).status in ("erased", "unchanged")
            await asyncio.sleep(0.02)
        await writing
        await erase(connection, ada, NOBODY, None)
    assert await chain_findings(database, "ada") == []
    assert CANARY.encode() not in everything(database)


NULL_ONE = "UPDATE tasktrail.events SET body = NULL, salt = NULL WHERE position = 2"
ILLEGAL = {
    "words without an erasure": NULL_ONE,
    "the salt alone": "UPDATE tasktrail.events SET salt = NULL WHERE position = 2",
    "another body": "UPDATE tasktrail.events SET body = '{}' WHERE position = 2",
    "a hash": "UPDATE tasktrail.events SET hash = sha256('x')",
    "a deletion": "DELETE FROM tasktrail.events",
    "a truncation": "TRUNCATE tasktrail.events",
}


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("what", ILLEGAL)
def test_even_a_superuser_is_stopped_by_the_trigger(database: Database, what: str) -> None:
    with (
        psycopg.connect(database.admin) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(ILLEGAL[what])


AFTERWARDS = {
    "the erasure itself": "UPDATE tasktrail.events SET body = NULL, salt = NULL WHERE position = 6",
    "what came after it": "UPDATE tasktrail.events SET body = NULL, salt = NULL WHERE position = 7",
    "another column": "UPDATE tasktrail.events SET body = NULL, salt = NULL, actor = '{}'",
    "words put back": "UPDATE tasktrail.events SET body = '{}', salt = '' WHERE position = 2",
}


@pytest.mark.parametrize("what", AFTERWARDS)
async def test_an_erasure_lets_nothing_else_through(
    database: Database, ada: str, what: str
) -> None:
    await run(database, "erase", ada, "--yes")
    await act(database.app, ada, lambda d: d.change_task(None, CreateTask(title="Anew")))
    with (
        psycopg.connect(database.admin) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(AFTERWARDS[what])


@pytest.mark.usefixtures("ada")
async def test_only_the_operator_may_erase_and_hold(database: Database) -> None:
    entry = Entry("ledger", 6, 1, LedgerErased(through=5))
    event = orjson.dumps(sealed(entry, "00000000-0000-4000-8000-000000000001", NOBODY, None))
    call = (
        "SELECT tasktrail.erase_ledger('ada', 5, '00000000-0000-4000-8000-000000000001', '{}', %s)"
    )
    for login in (database.app, database.auditor):
        for query, values in (
            (call, (event.decode(),)),
            ("INSERT INTO tasktrail.holds VALUES ('ada', '')", ()),
            ("DELETE FROM tasktrail.holds", ()),
        ):
            with (
                psycopg.connect(login) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(query, values)


def test_a_draft_is_never_an_erasure() -> None:
    """The server's way in cannot make one: its drafts hold task and conversation events only."""
    draft = Draft()
    draft.change_task(None, CreateTask(title="x"))
    assert not any(isinstance(entry.event, LedgerErased) for entry in draft.entries)

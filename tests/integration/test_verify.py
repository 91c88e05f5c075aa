"""``tasktrail verify``: whoever changes anything behind the ledger's back is found and named.

Each trial is one forgery by a superuser on two users' lived histories; it says what must be found.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from events.ledger import Record
from mcp_server.commands.jobs import connected
from mcp_server.commands.seed import fill
from projections import spans
from projections.read_tables import READ_TABLES, ReadTable
from projections.spans import plan
from projections.verify import verify
from tests.conftest import Database
from tests.integration.command_line import Run
from tests.integration.history import User, connect


@pytest.fixture
def forger(database: Database) -> Iterator[Connection[Any]]:
    """A superuser who has switched the protection off."""
    with psycopg.connect(database.admin, autocommit=True) as connection:
        connection.execute("ALTER TABLE tasktrail.events DISABLE TRIGGER ALL")
        yield connection


@pytest.fixture
async def ann(database: Database) -> AsyncIterator[User]:
    async with await connect(database.app) as connection:
        ann = User(connection, "ann")
        await live(ann)
        await live(User(connection, "bob"))
        yield ann


async def live(user: User) -> None:
    """Tasks 1, 2 and 3, conversation 4 with the messages 5 and 6; ten events."""
    await user.add_task("Buy milk", description="Oats", tags=["home"], due="2026-12-01")
    await user.add_task("Call the bank", priority="high")
    await user.add_task("Sell the boat")
    conversation = await user.create_conversation("Plans")
    message = await user.add_message(
        conversation, "Hello", metadata='{"x":1.5}', external_id="turn-1"
    )
    await user.add_message(conversation, "Bye")
    await user.complete_task(1)
    await user.update_task(2, title="Call the other bank", due="2026-12-01T09:00:00Z")
    await user.delete_task(3)
    await user.edit_message(message, "Hi")


def verified(
    connection: Connection[Any], user_id: str | None = None, words: bool = False
) -> set[tuple[Any, ...]]:
    """Return what is found: user, table, position or id, field."""
    found: set[tuple[Any, ...]] = set()
    for span in plan(connection, user_id)[1]:
        for finding in verify(connection, span, words).findings:
            found.add((finding.user_id, finding.table, finding.id, finding.field))
    return found


async def test_lived_histories_are_clean(
    operator: Connection[Any], ann: User, database: Database
) -> None:
    assert verified(operator) == set()
    with connected(database.auditor) as auditor:
        assert verified(auditor, words=True) == set()
    assert verified(operator, ann.user_id) == set()


def test_a_seeded_database_is_clean(database: Database, operator: Connection[Any]) -> None:
    with psycopg.connect(database.admin) as connection:
        fill(connection, events=3000, users=40, seed=1, done=lambda _: None)
    assert verified(operator) == set()


@pytest.mark.usefixtures("ann")
async def test_what_is_right_is_seen_at_a_glance(
    database: Database, operator: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(database.app) as app, await connect(database.operator) as erasing:
        bob = User(app, "bob", erasing)
        await bob.erase()
        await bob.add_task("Begin anew")
    monkeypatch.setattr("projections.verify.Verifier", None)  # who looks for words
    assert verified(operator) == set()
    monkeypatch.setattr(spans, "BIG", 3)
    assert verified(operator) == set()


@pytest.mark.usefixtures("ann")
async def test_the_encoding_that_a_login_asks_for_does_not_matter(database: Database) -> None:
    async with await connect(database.app) as connection:
        await User(connection, "zoë").add_task("Café \U0001f6d2")
    with connected(f"{database.operator} client_encoding=LATIN1") as operator:
        assert verified(operator) == set()


EDITS = {
    "user_id": ("user_id = 'zoe'", "position"),
    "position": ("position = 99", "position"),
    "stream_type": ("stream_type = 'ledger'", "content_hash"),
    "stream_id": ("stream_id = 9", "hash"),
    "version": ("version = 7", "version"),
    "type": ("type = 'TaskReopened'", "content_hash"),
    "schema_version": ("schema_version = 2", "content_hash"),
    "event_id": ("event_id = gen_random_uuid()", "content_hash"),
    "command_id": ("command_id = gen_random_uuid()", "content_hash"),
    "actor": ("""actor = actor || '{"tool": "other"}'""", "content_hash"),
    "commitment": ("commitment = sha256('x')", "content_hash"),
    "body": ("""body = body || '{"reason": "He told me to."}'""", "body"),
    "salt": ("salt = sha256('x')", "salt"),
    "content_hash": ("content_hash = sha256('x')", "content_hash"),
    "hash": ("hash = sha256('x')", "hash"),
    "recorded_at": ("recorded_at = recorded_at + interval '1 microsecond'", "hash"),
}


@pytest.mark.parametrize("column", EDITS)
@pytest.mark.usefixtures("ann")
async def test_an_edit_of_any_column_of_an_event_is_found(
    operator: Connection[Any], forger: Connection[Any], column: str
) -> None:
    edit, field = EDITS[column]
    forger.execute(f"UPDATE tasktrail.events SET {edit} WHERE user_id = 'ann' AND position = 7")
    found = {(position, field) for _, table, position, field in verified(operator, "ann")}
    place = {"user_id": 8, "position": 8}.get(column, 7)  # of a hole the next event tells
    assert (place, field) in found
    assert {user for user, *_ in verified(operator)} <= {"ann", "zoe"}


def test_there_is_a_trial_for_every_column_of_events() -> None:
    assert set(EDITS) == {"user_id", *Record._fields}


@pytest.mark.parametrize(
    ("forgery", "position", "field"),
    [
        pytest.param("body = NULL, salt = NULL", 7, "body", id="erased without an erasure"),
        pytest.param("body = NULL", 7, "body", id="no body"),
        pytest.param("salt = NULL", 7, "body", id="no salt"),
        pytest.param("body = '[1]'", 7, "body", id="a list for a body"),
        pytest.param("body = '7'", 7, "body", id="a number for a body"),
        pytest.param("body = '{}'", 7, "body", id="nothing in the body"),
        pytest.param("body = to_jsonb(1e500::numeric)", 7, "body", id="a number beyond all"),
        pytest.param("actor = '[]'", 7, "content_hash", id="a list for an actor"),
        pytest.param("recorded_at = 'infinity'", 7, "hash", id="at the end of time"),
        pytest.param("recorded_at = '-infinity'", 7, "recorded_at", id="before all time"),
        pytest.param("recorded_at = 'epoch'", 7, "recorded_at", id="earlier than before"),
        pytest.param("schema_version = 0", 7, "content_hash", id="version 0"),
        pytest.param("stream_id = -(2^62)::bigint", 7, "hash", id="a huge stream"),
    ],
)
@pytest.mark.usefixtures("ann")
async def test_odd_values_are_findings_and_not_failures(
    operator: Connection[Any],
    forger: Connection[Any],
    forgery: str,
    position: int,
    field: str,
) -> None:
    forger.execute(f"UPDATE tasktrail.events SET {forgery} WHERE user_id = 'ann' AND position = 7")
    assert ("ann", "events", position, field) in verified(operator)


HEADS = {
    "user_id": ("user_id = 'zoe'", ("zoe", "ledgers", 10, "head")),
    "position": ("position = 9", ("ann", "ledgers", 9, "head")),
    "hash": ("hash = sha256('x')", ("ann", "ledgers", 10, "head")),
    "last_recorded_at": (
        "last_recorded_at = now() + interval '1 day'",
        ("ann", "ledgers", 10, "last_recorded_at"),
    ),
}


@pytest.mark.parametrize("column", HEADS)
@pytest.mark.usefixtures("ann")
async def test_an_edit_of_any_column_of_a_head_is_found(
    operator: Connection[Any], forger: Connection[Any], column: str
) -> None:
    edit, finding = HEADS[column]
    forger.execute(f"UPDATE tasktrail.ledgers SET {edit} WHERE user_id = 'ann'")
    assert finding in verified(operator)


def test_there_is_a_trial_for_every_column_of_ledgers(forger: Connection[Any]) -> None:
    columns = forger.execute(
        """
        SELECT column_name FROM information_schema.columns
        WHERE table_schema = 'tasktrail' AND table_name = 'ledgers'
        """
    )
    assert {name for (name,) in columns} == set(HEADS)


COPY_OF_6 = """
    INSERT INTO tasktrail.events
    SELECT {user}, {position}, stream_type, {stream}, {version}, type, schema_version, event_id,
           command_id, actor, commitment, body, salt, content_hash, hash, recorded_at
    FROM tasktrail.events WHERE user_id = {source} AND position = 6
    """


def copied(user: str, position: int, stream: int, version: int, source: str) -> str:
    return COPY_OF_6.format(
        user=f"'{user}'",
        position=position,
        stream=stream,
        version=version,
        source=f"'{source}'",
    )


@pytest.mark.parametrize(
    ("forgeries", "finding"),
    [
        pytest.param(
            ["DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position = 7"],
            ("events", 8, "position"),
            id="delete one",
        ),
        pytest.param(
            ["DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position = 1"],
            ("events", 2, "position"),
            id="delete the first",
        ),
        pytest.param(
            [
                "DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position = 7",
                *(
                    f"UPDATE tasktrail.events SET position = {p - 1}"
                    f" WHERE user_id = 'ann' AND position = {p}"
                    for p in (8, 9, 10)
                ),
            ],
            ("events", 7, "hash"),
            id="delete one and close the gap",
        ),
        pytest.param(
            ["DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position > 8"],
            ("ledgers", 10, "head"),
            id="cut the tail",
        ),
        pytest.param(
            [
                "DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position > 8",
                """
                UPDATE tasktrail.ledgers l SET position = 8, hash = e.hash,
                last_recorded_at = e.recorded_at FROM tasktrail.events e
                WHERE l.user_id = 'ann' AND e.user_id = 'ann' AND e.position = 8
                """,
            ],
            ("tasks", 3, "deleted"),
            id="cut the tail and move the head back",
        ),
        pytest.param(
            ["DELETE FROM tasktrail.events WHERE user_id = 'ann'"],
            ("ledgers", 10, "head"),
            id="delete all events",
        ),
        pytest.param(
            ["DELETE FROM tasktrail.ledgers WHERE user_id = 'ann'"],
            ("ledgers", 0, "head"),
            id="delete the head",
        ),
        pytest.param(
            [
                "DELETE FROM tasktrail.ledgers WHERE user_id = 'ann'",
                "DELETE FROM tasktrail.events WHERE user_id = 'ann'",
            ],
            ("tasks", 1, None),
            id="delete a whole ledger",
        ),
        pytest.param(
            [copied("ann", 11, 4, 9, "ann")], ("events", 11, "hash"), id="insert at the end"
        ),
        pytest.param(
            [
                *(
                    f"UPDATE tasktrail.events SET position = {p + 1}"
                    f" WHERE user_id = 'ann' AND position = {p}"
                    for p in (10, 9, 8, 7)
                ),
                copied("ann", 7, 9, 1, "ann"),
            ],
            ("events", 7, "hash"),
            id="insert in the middle",
        ),
        pytest.param(
            [
                "UPDATE tasktrail.events SET position = 99 WHERE user_id='ann' AND position = 7",
                "UPDATE tasktrail.events SET position = 7 WHERE user_id='ann' AND position = 8",
                "UPDATE tasktrail.events SET position = 8 WHERE user_id='ann' AND position = 99",
            ],
            ("events", 7, "hash"),
            id="swap two",
        ),
        pytest.param(
            [
                "DELETE FROM tasktrail.events WHERE user_id = 'ann' AND position = 6",
                copied("ann", 6, 4, 3, "bob"),
            ],
            ("events", 6, "hash"),
            id="splice one of another user's in",
        ),
        pytest.param(
            [
                "DELETE FROM tasktrail.events WHERE user_id = 'ann'",
                "UPDATE tasktrail.events SET user_id = 'ann' WHERE user_id = 'bob'",
            ],
            ("events", 1, "hash"),
            id="put another user's ledger in its place",
        ),
    ],
)
@pytest.mark.usefixtures("ann")
async def test_every_operation_on_rows_is_found(
    operator: Connection[Any],
    forger: Connection[Any],
    forgeries: list[str],
    finding: tuple[Any, ...],
) -> None:
    for forgery in forgeries:
        forger.execute(forgery)
    assert ("ann", *finding) in verified(operator)
    assert ("ann", *finding) in verified(operator, "ann")


ALTERED = {
    "int8": "coalesce({0}, 0) + 1000",
    "text": "coalesce({0}, '') || 'x'",
    "bool": "NOT {0}",
    "timestamptz": "coalesce({0}, now()) + interval '1 microsecond'",
    "text[]": "{0} || ARRAY['x']",
}
CELLS = [
    pytest.param(table, field, type_, id=f"{table.name}.{field}")
    for table in READ_TABLES
    for field, type_ in zip(table.fields, table.types, strict=True)
]


@pytest.mark.parametrize(("table", "field", "type_"), CELLS)
@pytest.mark.usefixtures("ann")
async def test_an_edit_of_any_column_of_a_read_table_is_found(
    operator: Connection[Any],
    forger: Connection[Any],
    table: ReadTable,
    field: str,
    type_: str,
) -> None:
    id_ = {"tasks": 1, "conversations": 4, "messages": 6}[table.name]
    forger.execute(
        f"""
        UPDATE tasktrail.{table.name} SET {field} = {ALTERED[type_].format(field)}
        WHERE user_id = 'ann' AND id = {id_}
        """
    )
    expected: set[tuple[Any, ...]] = {("ann", table.name, id_, field)}
    if field == "id":
        expected = {("ann", table.name, id_, None), ("ann", table.name, id_ + 1000, None)}
    assert verified(operator) == expected
    assert verified(operator, "ann") == expected


@pytest.mark.parametrize(
    "edit",
    [
        "status = 2",
        "urgency = 3",
        "due_order = due_order + interval '1 day'",
        "title_key = 'x'",
        "search = ''",
        "search = search || to_tsvector('simple', 'boat')",
    ],
)
@pytest.mark.usefixtures("ann")
async def test_an_edit_of_what_lists_are_sorted_and_searched_by_is_found(
    operator: Connection[Any], forger: Connection[Any], edit: str
) -> None:
    words = edit.startswith("search")
    forger.execute("ALTER TABLE tasktrail.tasks DISABLE TRIGGER ALL")
    forger.execute(f"UPDATE tasktrail.tasks SET {edit} WHERE user_id = 'ann' AND id = 1")
    forger.execute("ALTER TABLE tasktrail.tasks ENABLE TRIGGER ALL")
    assert verified(operator, words=words) == {("ann", "tasks", 1, edit.split()[0])}
    assert verified(operator, "ann", words) == {("ann", "tasks", 1, edit.split()[0])}


def test_there_is_a_trial_for_every_column_of_the_read_tables(forger: Connection[Any]) -> None:
    tried = {(table.name, field) for table in READ_TABLES for field in (*table.fields, "user_id")}
    tried |= {("tasks", name) for name in DERIVED}
    columns = forger.execute(
        """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'tasktrail' AND table_name = ANY (%s)
        """,
        [[table.name for table in READ_TABLES]],
    )
    assert set(columns) == tried


DERIVED = ("status", "urgency", "due_order", "title_key", "search")


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC"])
@pytest.mark.parametrize("field", ["created_at", "due_at", "completed_at"])
@pytest.mark.usefixtures("ann")
async def test_a_time_that_python_cannot_hold_is_a_finding(
    operator: Connection[Any], forger: Connection[Any], field: str, moment: str
) -> None:
    forger.execute(
        f"UPDATE tasktrail.tasks SET {field} = %s WHERE user_id = 'ann' AND id = 2", [moment]
    )
    assert verified(operator) == {("ann", "tasks", 2, field)}


@pytest.mark.parametrize("table", READ_TABLES, ids=lambda table: table.name)
@pytest.mark.usefixtures("ann")
async def test_rows_that_are_missing_added_or_moved_are_found(
    operator: Connection[Any], forger: Connection[Any], table: ReadTable
) -> None:
    id_ = {"tasks": 1, "conversations": 4, "messages": 6}[table.name]
    rest = ", ".join(table.fields[1:])
    copy = f"INSERT INTO tasktrail.{table.name} (user_id, id, {rest}) SELECT %s, %s, {rest}"
    copy = f"{copy} FROM tasktrail.{table.name} WHERE user_id = 'ann' AND id = {id_}"
    forger.execute(copy, ["ann", 77])
    forger.execute(copy, ["zoe", 5])
    forger.execute(f"DELETE FROM tasktrail.{table.name} WHERE user_id = 'ann' AND id = {id_}")
    assert verified(operator) == {
        ("ann", table.name, id_, None),
        ("ann", table.name, 77, None),
        ("zoe", table.name, 5, None),
    }


async def test_an_erased_ledger_is_clean_and_goes_on(
    database: Database, operator: Connection[Any], ann: User, tasktrail: Run
) -> None:
    said = await asyncio.to_thread(
        tasktrail,
        "erase",
        "ann",
        "--yes",
        DATABASE_URL=database.app,
        ADMIN_DATABASE_URL=database.operator,
    )
    assert said.code == 0
    await ann.add_task("A new start")
    assert verified(operator) == set()


async def test_what_is_appended_meanwhile_is_no_false_alarm(
    operator: Connection[Any], ann: User
) -> None:
    async def write() -> None:
        for number in range(150):
            await ann.add_task(f"Task {number}")
            await ann.complete_task(1 if number % 2 else 2)
            await ann.update_task(2, description=f"{number}")

    ann_reopened = asyncio.create_task(write())
    rounds = 0
    while not ann_reopened.done():
        assert await asyncio.to_thread(verified, operator) == set()
        rounds += 1
    await ann_reopened
    assert rounds > 1


@pytest.fixture
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is big: users are cut into parts, and few fit into a span."""
    monkeypatch.setattr(spans, "EVENTS", 2)
    monkeypatch.setattr(spans, "BIG", 3)
    monkeypatch.setattr(spans, "_PAGE", 1)


@pytest.mark.usefixtures("small_spans", "ann")
async def test_a_big_user_is_verified_in_parts(
    operator: Connection[Any], forger: Connection[Any]
) -> None:
    assert verified(operator) == set()
    forger.execute("UPDATE tasktrail.events SET hash = 'x' WHERE user_id = 'ann' AND position = 7")
    forger.execute("UPDATE tasktrail.tasks SET title = 'x' WHERE user_id = 'bob' AND id = 2")
    forger.execute("UPDATE tasktrail.messages SET conversation_id = 2 WHERE id = 6")
    assert {
        ("ann", "events", 7, "hash"),
        ("bob", "tasks", 2, "title"),
        ("bob", "messages", 6, None),
    } <= verified(operator)


@pytest.mark.usefixtures("small_spans", "ann")
@pytest.mark.parametrize("user_id", ["ann", None])
def test_a_user_with_few_enough_events_stays_whole(
    operator: Connection[Any], user_id: str | None
) -> None:
    uncut = list(plan(operator, user_id, uncut=10)[1])
    assert all(span.whole for span in uncut)
    reports = [verify(operator, span) for span in uncut]
    assert sum(report.events for report in reports) == (10 if user_id else 20)
    assert not any(report.findings for report in reports)
    assert not all(span.whole for span in plan(operator, user_id, uncut=9)[1])


@pytest.mark.usefixtures("ann")
async def test_the_command_names_what_it_found(
    database: Database, forger: Connection[Any], tasktrail: Run
) -> None:
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    said = await asyncio.to_thread(tasktrail, "verify", **urls)
    totals = said.out.splitlines()[-1]
    assert said.code == 0
    assert totals.startswith("2 users, 20 events, 12 rows, 0 checkpoints in ")
    forger.execute("UPDATE tasktrail.tasks SET title = 'x', version = 9 WHERE user_id = 'bob'")
    said = await asyncio.to_thread(tasktrail, "verify", **urls)
    assert said.code == 1
    assert "bob tasks 1 title: is not as in the ledger" in said.out.splitlines()
    assert "bob tasks 1 version: is not as in the ledger: 9, not 2" in said.out.splitlines()
    said = await asyncio.to_thread(tasktrail, "verify", "bob", "--json", **urls)
    assert (said.code, len(said.json["findings"]), said.json["events"]) == (1, 6, 10)
    said = await asyncio.to_thread(tasktrail, "verify", "ann", **urls)
    assert said.code == 0


@pytest.mark.usefixtures("ann")
async def test_the_words_of_one_user_are_looked_at_with_the_login_that_may(
    database: Database, forger: Connection[Any], tasktrail: Run
) -> None:
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator}
    said = await asyncio.to_thread(tasktrail, "verify", "bob", "--words", **urls)
    assert said.code == 0
    forger.execute("ALTER TABLE tasktrail.tasks DISABLE TRIGGER USER")
    forger.execute("UPDATE tasktrail.tasks SET search = '' WHERE user_id = 'bob'")
    said = await asyncio.to_thread(tasktrail, "verify", "bob", "--words", **urls)
    assert said.code == 1
    assert (
        "bob tasks 1 search: is not as the other columns say:"
        " rebuild-projections --rewrite derives it anew"
    ) in said.out.splitlines()


@pytest.mark.usefixtures("ann")
async def test_an_auditor_verifies_and_a_server_may_verify_one_user_only(
    database: Database, tasktrail: Run
) -> None:
    said = await asyncio.to_thread(tasktrail, "verify", DATABASE_URL=database.auditor)
    assert said.code == 0
    said = await asyncio.to_thread(tasktrail, "verify", DATABASE_URL=database.app)
    assert (said.code, said.out) == (3, "")
    assert "ADMIN_DATABASE_URL" in said.err
    said = await asyncio.to_thread(tasktrail, "verify", "nobody", DATABASE_URL=database.app)
    assert said.code == 2

"""``tasktrail checkpoint``: what was signed once cannot be taken back unseen.

The tamperer in these tests is a superuser: there is nothing in the database that
they cannot change.
"""

import asyncio
import shlex
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from events.ledger import Finding, Head
from mcp_server import cli
from mcp_server.commands.checkpoint import KeyTrouble, NotKept, NotSigned, make_key
from mcp_server.evidence.bundle import verify_bundle
from mcp_server.evidence.checkpoint import BadCheckpoint, checked, text_of
from mcp_server.evidence.checkpoint_log import compare_outside, verify_checkpoints
from mcp_server.evidence.note import PrivateKey, PublicKey
from mcp_server.evidence.receipt import BadReceipt, check_receipt, read_receipt, write_receipt
from mcp_server.failure import Failure
from tests.conftest import Database
from tests.integration.history import User, connect

pytestmark = pytest.mark.usefixtures("users")

# What a superuser can do: leave the triggers out, rewrite, and make the chain fit again.
CUT_TAIL = """
DELETE FROM tasktrail.events WHERE user_id = 'ada' AND position > 2;
UPDATE tasktrail.ledgers l SET position = 2, hash = e.hash, last_recorded_at = e.recorded_at
FROM tasktrail.events e WHERE l.user_id = 'ada' AND e.user_id = 'ada' AND e.position = 2;
"""
REMOVE_ADA = """
DELETE FROM tasktrail.events WHERE user_id = 'ada';
DELETE FROM tasktrail.ledgers WHERE user_id = 'ada';
"""
BREAK_NEW_LINK = """
UPDATE tasktrail.events SET hash = sha256('x') WHERE user_id = 'ada' AND position = 4;
"""
MOVE_HEAD = "UPDATE tasktrail.ledgers SET hash = sha256('x') WHERE user_id = 'ada'"
FORGET = """
DELETE FROM tasktrail.checkpoint_heads; DELETE FROM tasktrail.checkpoint_access;
DELETE FROM tasktrail.checkpoints
"""
REPLACE_HEADS = "UPDATE tasktrail.checkpoint_heads SET hash = sha256('x') WHERE user_id = 'ada'"


@pytest.fixture
async def users(database: Database) -> AsyncIterator[dict[str, User]]:
    """Three users with three events each."""
    async with await connect(database.app) as connection:
        users = {name: User(connection, name) for name in ("ada", "bob", "eve")}
        for user in users.values():
            for number in range(3):
                await user.add_task(f"Task {number}")
        yield users


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "signing.key"
    make_key(file, "example.org/test")
    return file


def public(key: Path) -> PublicKey:
    return PrivateKey.read(key.read_text()).public


def signed(database: Database, key: Path, *arguments: str) -> Any:
    """Run the command as the operator does; return what it says, or raise what it raised."""
    result = CliRunner().invoke(
        cli.app,
        ["checkpoint", "--key", str(key), "--json", *arguments],
        env={"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": database.operator},
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return orjson.loads(result.stdout)


async def sign(database: Database, key: Path, *arguments: str) -> Any:
    return await asyncio.to_thread(signed, database, key, *arguments)


def tamper(database: Database, sql: str) -> None:
    with psycopg.connect(database.admin) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(sql)


async def findings(database: Database, **more: Any) -> list[tuple[str | None, Finding]]:
    async with await connect(database.operator) as connection:
        return [each async for each in verify_checkpoints(connection, **more)]


async def test_checkpoints_follow_one_another(
    database: Database, users: dict[str, User], key: Path
) -> None:
    first = await sign(database, key)
    assert (first["number"], first["ledgers"]) == (1, 3)
    await users["ada"].add_task("More")
    second = await sign(database, key)
    assert second["number"] == 2
    assert second["root"] != first["root"]
    assert await findings(database) == []
    assert await findings(database, trusted=public(key)) == []
    assert await findings(database, user_id="ada") == []


async def test_a_checkpoint_keeps_only_the_heads_that_moved(
    database: Database, users: dict[str, User], key: Path
) -> None:
    await sign(database, key)
    await users["ada"].add_task("More")
    await sign(database, key)
    with psycopg.connect(database.admin) as connection:
        rows = connection.execute(
            "SELECT number, user_id, position FROM tasktrail.checkpoint_heads ORDER BY 1, 2"
        ).fetchall()
    assert rows == [(1, "ada", 3), (1, "bob", 3), (1, "eve", 3), (2, "ada", 4)]


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(CUT_TAIL, id="a tail cut off, cleanly"),
        pytest.param(REMOVE_ADA, id="a ledger removed, cleanly"),
        pytest.param(BREAK_NEW_LINK, id="a link broken since"),
        pytest.param(MOVE_HEAD, id="a head moved"),
        pytest.param(REPLACE_HEADS, id="the signed heads replaced"),
        pytest.param(FORGET, id="the checkpoints removed"),
    ],
)
async def test_the_signer_refuses_what_does_not_go_on(
    database: Database, users: dict[str, User], key: Path, sql: str
) -> None:
    await sign(database, key)
    await users["ada"].add_task("More")
    tamper(database, sql)
    with pytest.raises(NotSigned):
        await sign(database, key)
    with psycopg.connect(database.admin) as connection:
        row = connection.execute("SELECT count(*) FROM tasktrail.checkpoints").fetchone()
    assert row is not None
    assert row[0] <= 1


@pytest.mark.parametrize(
    ("sql", "position"),
    [
        pytest.param(
            "SET hash = sha256(hash) WHERE user_id = 'ada' AND position = 5", 5, id="hash"
        ),
        pytest.param(
            "SET recorded_at = 'infinity' WHERE user_id = 'ada' AND position = 6",
            6,
            id="a time beyond the calendar",
        ),
    ],
)
async def test_the_signer_says_where_a_new_event_does_not_follow(
    database: Database, users: dict[str, User], key: Path, sql: str, position: int
) -> None:
    await sign(database, key)
    for _ in range(4):
        await users["ada"].add_task("More")
    tamper(database, f"UPDATE tasktrail.events {sql}")
    with pytest.raises(NotSigned) as refusal:
        await sign(database, key)
    assert f"\nada: the chain does not hold at position {position}\n" in str(refusal.value)
    assert "`tasktrail verify` says more." in str(refusal.value)


async def test_a_wholly_new_chain_is_refused(
    database: Database, users: dict[str, User], key: Path
) -> None:
    await sign(database, key)
    tamper(database, REMOVE_ADA + "DELETE FROM tasktrail.tasks WHERE user_id = 'ada'")
    for number in range(5):
        await users["ada"].add_task(f"Another story {number}")
    with pytest.raises(NotSigned, match="ada: position 3 has another hash"):
        await sign(database, key)


async def test_a_database_put_back_to_an_earlier_state_is_refused(
    database: Database, users: dict[str, User], key: Path
) -> None:
    await sign(database, key)
    await users["ada"].add_task("More")
    await sign(database, key)
    tamper(database, CUT_TAIL.replace("2", "3") + FORGET_SECOND)
    with pytest.raises(NotSigned, match="does not have checkpoint 2 as this key signed it"):
        await sign(database, key)


FORGET_SECOND = """
DELETE FROM tasktrail.checkpoint_heads WHERE number > 1;
DELETE FROM tasktrail.checkpoint_access WHERE number > 1;
DELETE FROM tasktrail.checkpoints WHERE number > 1;
"""


async def test_after_a_restore_the_signer_goes_on_and_says_what_was_lost(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path
) -> None:
    keep = ("--to", str(tmp_path))
    await sign(database, key, *keep)
    await users["ada"].add_task("More")
    await sign(database, key, *keep)
    tamper(database, CUT_TAIL.replace("2", "3") + FORGET_SECOND)
    with pytest.raises(NotSigned, match="say so with --after-restore"):
        await sign(database, key, *keep)
    told = await sign(database, key, *keep, "--after-restore")
    assert (told["number"], told["restored"]) == (3, 1)
    await users["bob"].add_task("Work goes on")
    assert (await sign(database, key, *keep))["number"] == 4
    for trusted in (None, public(key)):
        assert await findings(database, trusted=trusted) == []
    notes = [(tmp_path / f"checkpoint-0000000{each}.txt").read_text() for each in (1, 2, 3, 4)]
    async with await connect(database.operator) as connection:
        said = [await compare_outside(connection, note, public(key)) for note in notes]
    lost = "was kept outside, and lost when a backup was restored: checkpoint 3 says that it goes"
    assert said == [(1, None), (2, f"2: {lost} on from 1"), (3, None), (4, None)]


async def test_nobody_but_the_signer_can_say_that_a_backup_was_restored(
    database: Database, key: Path
) -> None:
    await sign(database, key)
    note = (key.parent / f"{key.name}.last").read_text()
    second = note.replace("number 1", "number 2")
    forged = second.replace("number 2", "number 3").replace(
        "access ", f"restored 1 {'0' * 64}\naccess "
    )
    with psycopg.connect(database.admin) as connection:
        connection.execute(
            "INSERT INTO tasktrail.checkpoints (number, note, key) VALUES (3, %s, %s)",
            (forged, str(public(key))),
        )
    async with await connect(database.operator) as connection:
        told = await compare_outside(connection, second, None)
    assert told == (2, "2: was kept outside, and is missing in the database")


async def test_what_is_said_of_a_restore_is_part_of_the_chain(
    database: Database, users: dict[str, User], key: Path
) -> None:
    for _ in range(2):
        await users["ada"].add_task("More")
        await sign(database, key)
    tamper(database, CUT_TAIL.replace("2", "4") + FORGET_SECOND)
    await sign(database, key, "--after-restore")
    tamper(database, f"{FORGET_SECOND.replace('> 1', '= 1')}")
    assert [each.what for _, each in await findings(database)] == [
        "3: expected checkpoint 1, which is missing"
    ]


async def test_nothing_was_restored_where_nothing_is_missing(database: Database, key: Path) -> None:
    with pytest.raises(NotSigned, match="leave --after-restore out"):
        await sign(database, key, "--after-restore")
    await sign(database, key)
    with pytest.raises(NotSigned, match="Leave --after-restore out"):
        await sign(database, key, "--after-restore")


async def test_another_key_does_not_go_on_unless_it_is_told_of_the_one_before(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path
) -> None:
    await sign(database, key)
    new, other = tmp_path / "new.key", tmp_path / "other.key"
    for each in (new, other):
        make_key(each, "example.org/test")
    with pytest.raises(NotSigned, match=r"Checkpoint 1 in the database.*--old-key"):
        await sign(database, new)
    with pytest.raises(NotSigned, match="Checkpoint 1 in the database"):
        await sign(database, new, "--old-key", str(other))
    await sign(database, new, "--old-key", str(key), "--to", str(tmp_path))
    note = (tmp_path / "checkpoint-00000002.txt").read_text()
    assert checked(note, public(key)) == checked(note, public(new))
    await users["ada"].add_task("More")
    await sign(database, new)
    for trusted in (None, public(new)):
        assert await findings(database, trusted=trusted) == []
    assert [each.what[:25] for _, each in await findings(database, trusted=public(key))] == [
        "3: it is not signed with "
    ]


async def test_the_key_before_cannot_forget_what_it_signed(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path
) -> None:
    await sign(database, key)
    await users["ada"].add_task("More")
    await sign(database, key, "--to", str(tmp_path))
    second = (tmp_path / "checkpoint-00000002.txt").read_text()
    tamper(database, CUT_TAIL.replace("2", "3") + FORGET_SECOND)
    new = tmp_path / "new.key"
    make_key(new, "example.org/test")
    with pytest.raises(NotSigned, match="does not have checkpoint 2"):
        await sign(database, new, "--old-key", str(key))
    told = await sign(database, new, "--old-key", str(key), "--after-restore")
    assert (told["number"], told["restored"]) == (3, 1)
    async with await connect(database.operator) as connection:
        number, lost = await compare_outside(connection, second, public(new))
        assert (number, "lost when a backup was restored" in str(lost)) == (2, True)
        forged = PrivateKey.new("example.org/test").sign(text_of(second))
        with pytest.raises(BadCheckpoint, match="not signed"):
            await compare_outside(connection, forged, public(new))
    assert await findings(database, trusted=public(new)) == []
    tamper(database, FORGET_SECOND)
    with pytest.raises(NotSigned, match="does not have checkpoint 3"):  # before what key it was
        await sign(database, new)


async def test_a_new_key_vouches_only_for_what_it_goes_on_from(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path
) -> None:
    """What a forger signed before or after it, and what is changed before it, is found."""
    for _ in range(2):
        await sign(database, key)
        await users["ada"].add_task("More")
    new = tmp_path / "new.key"
    make_key(new, "example.org/test")
    await sign(database, new, "--old-key", str(key))
    tamper(database, "UPDATE tasktrail.checkpoints SET note = note || 'x' WHERE number = 1")
    assert [each.what[:2] for _, each in await findings(database, trusted=public(new))] == [
        "1:",
        "2:",
    ]


@pytest.mark.parametrize(
    ("sql", "user"),
    [
        pytest.param(CUT_TAIL, "ada", id="a tail cut off"),
        pytest.param(REMOVE_ADA, "ada", id="a ledger removed"),
        pytest.param(REPLACE_HEADS, None, id="the signed heads replaced"),
        pytest.param(
            "UPDATE tasktrail.checkpoints SET note = replace(note, 'number 1', 'number 2')",
            None,
            id="a note changed",
        ),
    ],
)
async def test_verify_finds_what_contradicts_a_checkpoint(
    database: Database, key: Path, sql: str, user: str | None
) -> None:
    await sign(database, key)
    tamper(database, sql)
    assert user in [each for each, _ in await findings(database)]


def look(database: Database, *user_ids: str) -> None:
    with psycopg.connect(database.auditor, autocommit=True) as connection:
        for user_id in user_ids:
            connection.execute("SELECT tasktrail.record_access(%s, '{}')", (user_id,))


LAST_LOOK = "WHERE user_id = 'ada' AND number = 2"
LOOKS = {
    "the last record cut off": f"DELETE FROM tasktrail.audit_access {LAST_LOOK}",
    "all records removed": "DELETE FROM tasktrail.audit_access WHERE user_id = 'ada'",
    "a record changed": f"UPDATE tasktrail.audit_access SET details = '[]' {LAST_LOOK}",
    "the last record made anew": f"""
        DELETE FROM tasktrail.audit_access {LAST_LOOK};
        SELECT tasktrail.record_access('ada', '{{"another": 1}}')
        """,
    "the signed end changed": "UPDATE tasktrail.checkpoint_access SET record = 1 "
    "WHERE user_id = 'ada'",
    "the signed ends removed": "DELETE FROM tasktrail.checkpoint_access",
}


@pytest.mark.parametrize("forgery", LOOKS)
async def test_what_was_signed_of_the_records_of_access_cannot_be_taken_back(
    database: Database, key: Path, forgery: str
) -> None:
    look(database, "ada", "bob", "ada")
    await sign(database, key)
    look(database, "bob", "eve")
    assert await findings(database) == []
    tamper(database, LOOKS[forgery])
    assert await findings(database) != []
    with pytest.raises(NotSigned):
        await sign(database, key)


def resigned(key: Path, text: str) -> str:
    """Return a note that the signer takes for the last one it signed."""
    note = PrivateKey.read(key.read_text()).sign(text)
    key.with_name(f"{key.name}.last").write_text(note)
    return note


async def test_checkpoints_from_before_they_covered_access_still_hold(
    database: Database, key: Path
) -> None:
    look(database, "ada")
    await sign(database, key)
    with psycopg.connect(database.admin) as connection:
        row = connection.execute("SELECT note FROM tasktrail.checkpoints").fetchone()
    assert row is not None
    statement = checked(row[0], public(key))
    assert statement.access is not None
    older = resigned(key, statement._replace(access=None).write())
    assert "access" not in older
    tamper(
        database,
        "DELETE FROM tasktrail.checkpoint_access;"
        f"UPDATE tasktrail.checkpoints SET note = '{older}'",
    )
    assert await findings(database, trusted=public(key)) == []
    assert (await sign(database, key))["number"] == 2
    assert await findings(database, trusted=public(key)) == []


async def test_a_note_kept_outside_finds_checkpoints_replaced_wholesale(
    database: Database, key: Path, tmp_path: Path
) -> None:
    await sign(database, key, "--to", str(tmp_path))
    note = (tmp_path / "checkpoint-00000001.txt").read_text()
    assert checked(note, public(key)).size == 3
    async with await connect(database.operator) as connection:
        for trusted in (None, public(key)):
            assert await compare_outside(connection, note, trusted) == (1, None)
    tamper(database, CUT_TAIL + FORGET)
    make_key(tmp_path / "forger.key", "example.org/test")
    await sign(database, tmp_path / "forger.key")
    assert await findings(database) == []
    async with await connect(database.operator) as connection:
        told = (1, "1: is not the one that was kept outside")
        assert await compare_outside(connection, note, None) == told
    assert len(await findings(database, trusted=public(key))) == 1


def test_every_place_gets_the_note(database: Database, key: Path, tmp_path: Path) -> None:
    repository, copy = tmp_path / "repository", tmp_path / "copy.txt"
    git = ["git", "-C", str(repository)]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)  # noqa: S607
    for setting in (("user.name", "signer"), ("user.email", "signer@example.org")):
        subprocess.run([*git, "config", *setting], check=True)
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", script, str(copy)])
    signed(database, key, "--to", f"git:{repository}", "--to", f"command:{command}")
    log = subprocess.run([*git, "log", "--format=%s"], check=True, capture_output=True, text=True)
    assert log.stdout == "Checkpoint 1\n"
    assert copy.read_text() == (repository / "checkpoint-00000001.txt").read_text()


def test_a_place_that_fails_is_said_and_the_others_are_served(
    database: Database, key: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(NotKept, match="missing"):
        signed(database, key, "--to", str(missing), "--to", str(tmp_path))
    assert (tmp_path / "checkpoint-00000001.txt").exists()


@pytest.mark.parametrize("more", ["| cat", "> {tmp}/kept", ">> {tmp}/kept", "&& true", "; true"])
def test_a_command_that_needs_a_shell_is_refused_and_says_how_to_have_one(
    database: Database, key: Path, tmp_path: Path, more: str
) -> None:
    sign = more.split()[0]
    with pytest.raises(NotKept, match="sh -c") as missed:
        signed(database, key, "--to", f"command:cat {more}".format(tmp=tmp_path))
    assert f"'{sign}'" in str(missed.value)
    kept = tmp_path / "kept"
    signed(database, key, "--to", f"command:sh -c 'cat > {kept}'")
    assert kept.read_text().startswith("example.org/test\n")


def test_what_the_system_refuses_is_said_in_words(
    database: Database, key: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyTrouble) as trouble:
        signed(database, tmp_path / "none.key")
    assert str(trouble.value) == f"{tmp_path / 'none.key'}: No such file or directory."
    with pytest.raises(KeyTrouble) as trouble:
        make_key(key, "example.org/test")
    assert str(trouble.value) == f"{key}: File exists."
    with pytest.raises(NotKept) as missed:
        signed(database, key, "--to", str(tmp_path / "nowhere"))
    assert "Errno" not in str(missed.value)


def test_a_key_that_others_can_read_is_refused(database: Database, key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(KeyTrouble, match="chmod"):
        signed(database, key)


async def test_the_server_can_neither_add_nor_change_a_checkpoint(
    database: Database, key: Path
) -> None:
    await sign(database, key)
    for login in (database.app, database.auditor):
        for sql in (
            "INSERT INTO tasktrail.checkpoints VALUES (2, '', '')",
            "INSERT INTO tasktrail.checkpoint_heads VALUES ('ada', 2, 1, '')",
            "DELETE FROM tasktrail.checkpoints",
            "UPDATE tasktrail.checkpoint_heads SET number = 9",
        ):
            with (
                psycopg.connect(login) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(sql)
    with (
        psycopg.connect(database.admin) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="checkpoints is append-only"),
    ):
        connection.execute("DELETE FROM tasktrail.checkpoints")


async def export(database: Database, file: Path, login: str = "app") -> Path:
    result = await asyncio.to_thread(
        CliRunner().invoke,
        cli.app,
        ["export", "ada", "-o", str(file)],
        env={"DATABASE_URL": getattr(database, login)},
    )
    assert result.exit_code == 0, result.output
    return file


@pytest.mark.parametrize("login", ["app", "auditor"])
async def test_a_bundle_carries_the_checkpoint_and_its_proof(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path, login: str
) -> None:
    await sign(database, key)
    await users["ada"].add_task("Since then")
    bundle = await export(database, tmp_path / "ada.zip", login)
    assert list(verify_bundle(bundle)) == []
    assert list(verify_bundle(bundle, public(key))) == []
    make_key(tmp_path / "other.key", "example.org/test")
    other = public(tmp_path / "other.key")
    assert [finding.field for finding in verify_bundle(bundle, other)] == ["checkpoint.txt"]


async def test_a_manifest_that_cannot_be_read_says_nothing_against_the_checkpoint(
    database: Database, key: Path, tmp_path: Path
) -> None:
    await sign(database, key)
    bundle = await export(database, tmp_path / "ada.zip")
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["manifest.json"] = files["manifest.json"].replace(b" ", b"")
    for left_out in (None, "events.jsonl"):
        files.pop(left_out or "", None)
        with zipfile.ZipFile(bundle, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        told = {finding.field: finding.what for finding in verify_bundle(bundle, public(key))}
        assert told["manifest.json"]
        unknown = "cannot be checked: nothing says whose ledger this is" if left_out else None
        assert told.get("checkpoint.txt") == unknown


async def test_a_bundle_of_a_ledger_whose_end_was_cut_off_contradicts_its_checkpoint(
    database: Database, key: Path, tmp_path: Path
) -> None:
    await sign(database, key)
    tamper(database, CUT_TAIL)
    bundle = await export(database, tmp_path / "ada.zip")
    found = list(verify_bundle(bundle, public(key)))
    assert [(finding.position, finding.field) for finding in found] == [(3, "checkpoint")]


async def test_a_bundle_without_a_checkpoint_is_clean_unless_a_key_is_trusted(
    database: Database, key: Path, tmp_path: Path
) -> None:
    bundle = await export(database, tmp_path / "ada.zip")
    assert list(verify_bundle(bundle)) == []
    assert len(list(verify_bundle(bundle, public(key)))) == 1


async def test_a_receipt_is_found_in_the_ledger_and_in_a_bundle(
    database: Database, tmp_path: Path
) -> None:
    with psycopg.connect(database.admin) as connection:
        row = connection.execute(
            "SELECT position, hash FROM tasktrail.events WHERE user_id = 'ada' AND position = 3"
        ).fetchone()
    assert row is not None
    receipt = read_receipt(write_receipt(Head(*row)))
    bundle = await export(database, tmp_path / "ada.zip")
    async with await connect(database.app) as connection:
        assert await check_receipt(connection, "ada", receipt) is None
        assert await check_receipt(connection, "bob", receipt)
        assert await check_receipt(connection, "ada", receipt._replace(position=9))
    assert list(verify_bundle(bundle, receipts=[receipt])) == []
    assert len(list(verify_bundle(bundle, receipts=[receipt._replace(position=2)]))) == 1


def verified(database: Database, *arguments: str, login: str = "auditor") -> tuple[int, Any]:
    """Run ``tasktrail verify`` with the operator's login and another; return its exit code and what
    it says."""
    result = CliRunner().invoke(
        cli.app,
        ["verify", "--json", "--jobs", "1", *arguments],
        env={"DATABASE_URL": getattr(database, login), "ADMIN_DATABASE_URL": database.operator},
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, orjson.loads(result.stdout)


def test_the_command_verifies_with_all_that_was_kept(
    database: Database, key: Path, tmp_path: Path
) -> None:
    signed(database, key, "--to", str(tmp_path))
    note = str(tmp_path / "checkpoint-00000001.txt")
    more = ("--key", str(public(key)), "--checkpoint", note)
    assert verified(database, *more)[0] == 0
    assert verified(database, "ada", *more, "--receipt", f"3:{hash_at(database, 3)}")[0] == 0
    code, said = verified(database, "ada", "--receipt", f"2:{hash_at(database, 3)}")
    assert (code, [(each["id"], each["field"]) for each in said["findings"]]) == (
        1,
        [(2, "receipt")],
    )
    tamper(database, CUT_TAIL + CUT_ROWS)
    for whose in ((), ("ada",)):
        code, said = verified(database, *whose)
        assert (code, [(each["id"], each["field"]) for each in said["findings"]]) == (
            1,
            [(3, "checkpoint")],
        )


CUT_ROWS = "DELETE FROM tasktrail.tasks WHERE user_id = 'ada' AND id > 2"


def hash_at(database: Database, position: int) -> str:
    with psycopg.connect(database.admin) as connection:
        row = connection.execute(
            "SELECT encode(hash, 'hex') FROM tasktrail.events"
            " WHERE user_id = 'ada' AND position = %s",
            (position,),
        ).fetchone()
    assert row is not None
    return str(row[0])


async def test_the_command_verifies_a_bundle(database: Database, key: Path, tmp_path: Path) -> None:
    await sign(database, key)
    bundle = await export(database, tmp_path / "ada.zip")
    code, said = verified(database, "--bundle", str(bundle), "--key", str(public(key)))
    assert (code, said["findings"], said["user"], said["checkpoint"]) == (0, [], "ada", 1)
    content = bundle.read_bytes()
    bundle.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    assert verified(database, "--bundle", str(bundle))[0] == 1


async def test_of_a_bundle_that_goes_on_after_its_checkpoint_that_is_said(
    database: Database, users: dict[str, User], key: Path, tmp_path: Path
) -> None:
    await sign(database, key)
    runner = CliRunner()
    bundle = await export(database, tmp_path / "ada.zip")
    said = runner.invoke(cli.app, ["verify", "--bundle", str(bundle)]).stdout
    assert "signed through: 3\n" in said
    await users["ada"].add_task("Since then")
    bundle = await export(database, tmp_path / "ada.zip")
    said = runner.invoke(cli.app, ["verify", "--bundle", str(bundle)]).stdout
    assert "signed through: 3 (what came after that has only the chain)\n" in said


@pytest.mark.parametrize("sql", [CUT_TAIL, REMOVE_ADA], ids=["a tail", "a ledger"])
def test_with_the_server_s_login_and_the_operator_s_all_is_found_that_was_signed(
    database: Database, key: Path, tmp_path: Path, sql: str
) -> None:
    signed(database, key, "--to", str(tmp_path))
    tamper(database, sql)
    for name in ("tasks", "idempotency"):
        tamper(database, f"DELETE FROM tasktrail.{name} WHERE user_id = 'ada'")
    note = str(tmp_path / "checkpoint-00000001.txt")
    code, said = verified(database, "--key", str(public(key)), "--checkpoint", note, login="app")
    assert code == 1
    assert ("ada", "checkpoint") in [(each["user_id"], each["field"]) for each in said["findings"]]


async def test_what_a_function_in_the_database_says_of_the_heads_is_not_believed(
    database: Database, users: dict[str, User], key: Path
) -> None:
    """Whoever rewrites a ledger and the heads can also make the function say what they were."""
    await sign(database, key)
    with psycopg.connect(database.admin) as connection:
        leaves = connection.execute("SELECT tasktrail.checkpoint_leaves(1)").fetchall()
    told = ", ".join(f"('\\x{leaf.hex()}'::bytea)" for (leaf,) in leaves)
    tamper(
        database,
        "CREATE OR REPLACE FUNCTION tasktrail.checkpoint_leaves(p_number bigint)"
        f" RETURNS SETOF bytea LANGUAGE sql STABLE AS $$ SELECT * FROM (VALUES {told}) AS v $$",
    )
    assert await findings(database) == []
    tamper(database, REMOVE_ADA + "DELETE FROM tasktrail.tasks WHERE user_id = 'ada'")
    for number in range(3):
        await users["ada"].add_task(f"Another story {number}")
    tamper(
        database,
        "UPDATE tasktrail.checkpoint_heads h SET hash = e.hash FROM tasktrail.events e"
        " WHERE e.user_id = h.user_id AND e.position = h.position",
    )
    what = "1: the heads in the database are not those that were signed"
    assert (None, Finding(0, "checkpoint", what)) in await findings(database, trusted=public(key))
    with pytest.raises(NotSigned, match="not those that were signed"):
        await sign(database, key)


async def test_that_the_records_of_access_cannot_be_compared_is_a_finding(
    database: Database, key: Path
) -> None:
    await sign(database, key)
    with psycopg.connect(database.admin) as connection:
        connection.execute("REVOKE SELECT ON tasktrail.audit_access FROM tasktrail_operator")
    what = "this login may not read the records of access, which were signed too"
    assert await findings(database) == [(None, Finding(0, "access", what))]


async def test_of_two_keys_the_one_that_signed_last_is_asked(
    database: Database, key: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    make_key(other, "example.org/test")
    await sign(database, key)
    await sign(database, other, "--old-key", str(key))
    await sign(database, other)
    tamper(database, FORGET_SECOND.replace("> 1", "> 2"))
    with pytest.raises(NotSigned, match="does not have checkpoint 3"):
        await sign(database, key, "--old-key", str(other))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bundle", "/nowhere.zip"),
        ("--key", "no key"),
        ("--checkpoint", "/nowhere.txt"),
        ("ada", "--receipt", "17"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(
    database: Database, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(Failure) as failure:
        verified(database, *arguments)
    assert failure.value.exit_code == 2


def test_the_private_key_given_for_the_public_one_is_called_that(
    database: Database, key: Path
) -> None:
    with pytest.raises(Failure, match="That is the private key") as failure:
        verified(database, "--key", str(key))
    assert key.read_text().strip() not in str(failure.value)


@pytest.mark.parametrize("text", ["", "17", "17:", "0:" + "a" * 64, "17:" + "g" * 64, ":" * 65])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(BadReceipt):
        read_receipt(text)

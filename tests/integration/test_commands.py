"""Every command: what goes wrong is a line and an exit code, never a traceback, never half a file.

Exit codes: 0 done, 1 the check failed, 2 usage, 3 the system could not be reached.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import orjson
import psycopg
import pytest

from mcp_server.cli import COMMANDS
from mcp_server.commands.seed import fill
from mcp_server.settings import NAMES
from tests.conftest import Database, Server
from tests.integration.command_line import Run, Said

AWAY = "postgresql://ann:pa55word@127.0.0.1:1/tasks"
SECRET = "qZ7vX1pLw9sB3nKd5tRf8yHj2mGc4aEu"

# Each command that talks to a database, as somebody would call it. {folder} is one to write in.
CALLS = {
    "migrate": "",
    "doctor": "",
    "rebuild-projections": "--check",
    "history": "ann",
    "replay": "ann --as-of 1",
    "diff": "ann --from 1",
    "access": "",
    "export": "ann -o {folder}/ann.zip",
    "report": "ann -o {folder}/ann.html",
    "erase": "ann --yes",
    "hold": "ann --reason because",
    "seed": "--events 5 --users 1",
    "verify": "",
    "serve": "--transport stdio",
}
WITHOUT_A_DATABASE = {"token", "checkpoint"}
MAIN = "from mcp_server.cli import main; main()"
READING = ("history", "replay", "diff", "export", "report")


def call(tasktrail: Run, command: str, folder: Path, **environment: str) -> Said:
    arguments = CALLS[command].format(folder=folder).split()
    return tasktrail(command, *arguments, TASKTRAIL_HOME=str(folder / "home"), **environment)


def is_tidy(said: Said) -> bool:
    return "Traceback" not in said.err and "pa55word" not in said.out + said.err


def test_these_tests_know_every_command() -> None:
    assert {*CALLS, *WITHOUT_A_DATABASE} == {*COMMANDS}


@pytest.mark.parametrize("command", CALLS)
def test_a_database_that_is_away_ends_with_3(tasktrail: Run, tmp_path: Path, command: str) -> None:
    said = call(tasktrail, command, tmp_path, DATABASE_URL=AWAY, BETTER_AUTH_SECRET=SECRET)
    assert said.code == 3
    assert is_tidy(said)
    assert said.err or command == "doctor"
    assert not list(tmp_path.glob("ann*"))
    assert not list(tmp_path.glob(".ann*"))


@pytest.mark.parametrize("command", sorted({*CALLS} - {"migrate", "doctor"}))
def test_a_database_without_tasktrail_ends_with_3_and_says_what_to_do(
    tasktrail: Run, server: Server, tmp_path: Path, command: str
) -> None:
    said = call(tasktrail, command, tmp_path, DATABASE_URL=server.conninfo("template1"))
    assert (said.code, said.out) == (3, "")
    assert is_tidy(said)
    assert "tasktrail migrate" in said.err
    assert not list(tmp_path.glob("ann*"))


@pytest.mark.parametrize("command", sorted({*CALLS} - {"doctor"}))
def test_a_login_without_any_rights_ends_with_3(
    tasktrail: Run, server: Server, database: Database, tmp_path: Path, command: str
) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
        superuser.execute("DROP ROLE IF EXISTS test_stranger")
        superuser.execute("CREATE ROLE test_stranger LOGIN PASSWORD 'pa55word'")
        url = psycopg.conninfo.make_conninfo(
            server.conninfo(database.name), user="test_stranger", password="pa55word"
        )
        try:
            said = call(tasktrail, command, tmp_path, DATABASE_URL=url)
        finally:
            superuser.execute("DROP ROLE test_stranger")
    assert (said.code, said.out) == (3, "")
    assert is_tidy(said)
    assert said.err


@pytest.mark.parametrize("command", READING)
def test_a_user_nobody_wrote_for_ends_with_1(
    tasktrail: Run, database: Database, tmp_path: Path, command: str
) -> None:
    said = call(tasktrail, command, tmp_path, DATABASE_URL=database.auditor)
    assert (said.code, said.out) == (1, "")
    assert "Nothing was ever written for user 'ann' in this database" in said.err
    assert not list(tmp_path.glob("*ann*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_not_there_is_a_usage_error(tasktrail: Run, command: str) -> None:
    said = tasktrail(command, "--no-such-option", DATABASE_URL=AWAY)
    assert (said.code, said.out) == (2, "")
    assert is_tidy(said)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_explains_itself(tasktrail: Run, command: str) -> None:
    said = tasktrail(command, "--help")
    assert (said.code, said.err) == (0, "")
    assert "Usage: tasktrail" in said.out


def test_no_command_at_all_shows_them_all(tasktrail: Run) -> None:
    said = tasktrail()
    assert said.code == 2
    assert all(command in said.out + said.err for command in COMMANDS)


@pytest.mark.parametrize("command", ["forget", "--version-of-something", "histroy"])
def test_a_command_that_is_not_there_is_a_usage_error(tasktrail: Run, command: str) -> None:
    said = tasktrail(command)
    assert said.code == 2
    assert is_tidy(said)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"doctor"}))
def test_settings_that_are_wrong_are_a_usage_error(tasktrail: Run, command: str) -> None:
    arguments = CALLS.get(command, "--user ann" if command == "token" else "--key x --to y")
    said = tasktrail(
        command,
        *arguments.format(folder="/nowhere").split(),
        DATABASE_URL=AWAY,
        BETTER_AUTH_SECRET="pa55word",
    )
    assert (said.code, said.out) == (2, "")
    assert is_tidy(said)


@pytest.mark.parametrize("taken", [True, False])
def test_where_it_cannot_listen_is_said_with_what_to_change(tasktrail: Run, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        host = "127.0.0.1" if taken else "192.0.2.1"  # an address that no machine has (RFC 5737)
        said = tasktrail("serve", "--host", host, "--port", port, BETTER_AUTH_SECRET=SECRET)
    assert (said.code, said.out) == (3, "")
    assert f"Cannot listen on {host}:{port}: " in said.err
    assert f"Try another --{'port' if taken else 'host'}." in said.err


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("TASKTRAIL_TOOLS", "half", "must be 'full' or 'core'"),
        ("TASKTRAIL_RATE_LIMIT", "many", "must be a valid number"),
        ("TASKTRAIL_RATE_LIMIT", "-1", "must be greater than or equal to 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    tasktrail: Run, setting: str, value: str, what: str
) -> None:
    said = tasktrail("token", "--user", "ann", **{setting: value})
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"tasktrail: {setting}: {what}")


def test_the_server_warns_of_a_setting_that_is_mistyped(tasktrail: Run, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": AWAY, "BETTER_AUTH_SECRET": SECRET}
    said = call(tasktrail, "serve", tmp_path, **environment, TASKTRAIL_RATELIMIT="5")
    (line,) = (orjson.loads(line) for line in said.err.splitlines() if line.startswith("{"))
    assert (line["event"], line["level"]) == ("unknown_setting", "warning")
    assert line["problem"] == (
        "TASKTRAIL_RATELIMIT is set, but there is no such setting: it does nothing."
        " Did you mean TASKTRAIL_RATE_LIMIT?"
    )


@pytest.mark.parametrize("command", ["export", "report"])
@pytest.mark.parametrize("place", ["no/such/folder/file", "."])
def test_a_file_that_cannot_be_written_is_a_usage_error(
    tasktrail: Run, seeded: str, tmp_path: Path, command: str, place: str
) -> None:
    said = tasktrail(command, "demo-1-00001", "-o", str(tmp_path / place), DATABASE_URL=seeded)
    assert (said.code, said.out) == (2, "")
    assert is_tidy(said)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("erase --replay {folder}/gone.json", "gone.json: No such file or directory."),
        ("verify --key {folder}/gone.pub", "gone.pub is neither a file nor a public key:"),
        ("verify --checkpoint {folder}/gone.txt", "gone.txt: No such file or directory."),
        ("checkpoint --key {folder}/gone.key", "gone.key: No such file or directory."),
    ],
)
def test_a_file_that_is_not_there_is_a_usage_error(
    tasktrail: Run, database: Database, tmp_path: Path, call: str, what: str
) -> None:
    said = tasktrail(*call.format(folder=tmp_path).split(), DATABASE_URL=database.operator)
    assert (said.code, said.out) == (2, "")
    assert f"tasktrail: {tmp_path}/{what}" in said.err


@pytest.mark.parametrize("command", [*READING, "erase", "hold", "verify", "access"])
def test_what_can_be_no_user_is_a_usage_error(tasktrail: Run, tmp_path: Path, command: str) -> None:
    options = CALLS[command].format(folder=tmp_path).split()[1:]
    said = tasktrail(command, " ann", *options, DATABASE_URL=AWAY)
    assert (said.code, said.out) == (2, "")
    assert "must not begin or end with white space" in said.err


MAKES_A_DATABASE = {"migrate", "seed", "serve"}


@pytest.mark.parametrize("command", sorted({*CALLS} - MAKES_A_DATABASE - {"doctor"}))
def test_who_only_looks_makes_no_database_in_a_home_that_was_mistyped(
    tasktrail: Run, tmp_path: Path, command: str
) -> None:
    said = call(tasktrail, command, tmp_path)
    assert (said.code, said.out) == (3, "")
    assert f"There is no database in {tmp_path / 'home'}." in said.err
    assert "TASKTRAIL_HOME" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", sorted({*CALLS} - MAKES_A_DATABASE - {"doctor"}))
def test_it_says_so_in_a_home_that_is_empty_too(
    tasktrail: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "home").mkdir()
    said = call(tasktrail, command, tmp_path)
    assert (said.code, said.out) == (3, "")
    assert list((tmp_path / "home").iterdir()) == []


def test_it_says_its_version(tasktrail: Run) -> None:
    said = tasktrail("--version")
    assert (said.code, said.out) == (0, f"tasktrail {metadata.version('tasktrail')}\n")


@pytest.mark.parametrize("command", ["export", "report"])
def test_what_is_written_over_is_said(
    tasktrail: Run, seeded: str, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "file"
    arguments = (command, "demo-1-00001", "-o", str(file))
    file.touch()  # as mktemp does: there is nothing to lose
    assert "replaced" not in tasktrail(*arguments, DATABASE_URL=seeded).err
    said = tasktrail(*arguments, DATABASE_URL=seeded)
    assert said.code == 0
    assert f"{file} was there already, and was replaced." in said.err


@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null/home"])
def test_a_home_that_cannot_be_used_is_said(tasktrail: Run, home: str) -> None:
    for command in ("migrate", "doctor"):
        said = tasktrail(command, TASKTRAIL_HOME=home)
        assert said.code == 3
        assert is_tidy(said)
        assert home in said.out + said.err
        assert "TASKTRAIL_HOME" in said.out + said.err
        assert "Errno" not in said.out + said.err


# --- real processes ----------------------------------------------------------------------------


@pytest.fixture
def seeded(database: Database) -> str:
    """An auditor's conninfo for a database with demo-1-00001 in it."""
    with psycopg.connect(database.admin) as connection:
        fill(connection, 20_000, 1, 1, lambda _: None)
    return database.auditor


def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_server_refuses_a_database_that_would_not_keep_its_promises(
    database: Database, tmp_path: Path, transport: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES.values()}
    ours = {"DATABASE_URL": database.admin, "TASKTRAIL_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, "serve", "--transport", transport, "--port", "0"],
        env=environment | ours,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "is a superuser: users would not be isolated" in ended.stderr
    assert "TASKTRAIL_ALLOW_UNSAFE_DATABASE=1" in ended.stderr


def test_a_process_ends_with_the_code_too() -> None:
    process = start(AWAY, "history", "ann")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, b"")
    assert err.startswith(b"tasktrail: The database of DATABASE_URL cannot be reached: ")
    assert b"Traceback" not in err


def test_ctrl_c_ends_it_at_once_and_quietly(seeded: str) -> None:
    process = start(seeded, "history", "demo-1-00001", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "command", ["history demo-1-00001", "history demo-1-00001 --json", "replay demo-1-00001 --json"]
)
def test_a_reader_who_has_seen_enough_is_no_failure(seeded: str, command: str) -> None:
    process = start(seeded, *command.split())
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert err == b""


def test_any_locale_can_show_any_text(seeded: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "history", "demo-1-00001", "--last", "1000"],
        env={**os.environ, "DATABASE_URL": seeded, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "“" in done.stdout.decode()

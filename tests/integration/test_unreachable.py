"""A database that cannot be worked with: each command soon says why, and where that is set."""

import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from mcp_server import reach
from tests.conftest import Database, Server
from tests.integration.command_line import Run
from tests.integration.odd_servers import old, silent
from tests.integration.test_commands import AWAY, CALLS, MAIN, SECRET, call, is_tidy


@pytest.mark.parametrize("command", CALLS)
def test_the_cause_is_told_and_where_it_is_set(
    tasktrail: Run, tmp_path: Path, command: str
) -> None:
    said = call(tasktrail, command, tmp_path, DATABASE_URL=AWAY, BETTER_AUTH_SECRET=SECRET)
    told = said.out + said.err
    assert said.code == 3
    assert "The database of DATABASE_URL cannot be reached: " in told
    assert 'connection to server at "127.0.0.1", port 1 failed: Connection refused' in told
    assert "host, port, user, password and database are right in DATABASE_URL." in told
    assert "pool" not in told
    assert is_tidy(said)


@pytest.mark.parametrize("command", ["doctor", "history", "migrate", "serve"])
def test_a_host_that_never_answers_is_given_up_and_meanwhile_named(
    tasktrail: Run, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(reach, "PATIENCE", 0.1)
    with silent() as url:
        said = call(tasktrail, command, tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET)
    assert said.code == 3
    assert said.err.startswith("tasktrail: waiting for the database (host=127.0.0.1 port=")
    assert "The database of DATABASE_URL cannot be reached: connection timeout" in (
        said.out + said.err
    )
    assert is_tidy(said)


def test_whoever_sets_a_longer_time_waits_for_longer(
    tasktrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 3600)
    with silent() as url:
        said = call(tasktrail, "migrate", tmp_path, DATABASE_URL=f"{url}?connect_timeout=2")
    assert said.code == 3


@pytest.mark.parametrize("command", CALLS)
def test_a_server_that_is_too_old_is_named(tasktrail: Run, tmp_path: Path, command: str) -> None:
    with old() as url:
        said = call(tasktrail, command, tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET)
    assert said.code == 3
    told = said.out + said.err
    assert "The database of DATABASE_URL is Postgres 12.3: Tasktrail needs 15 or newer." in told
    assert "Upgrade it, or put another one into DATABASE_URL." in told
    assert is_tidy(said)


@pytest.mark.parametrize("command", ["history", "serve", "verify"])
@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"dbname": "not_there"}, 'database "not_there" does not exist'),
        ({"host": "host.invalid", "hostaddr": None}, "failed to resolve host 'host.invalid'"),
    ],
)
def test_what_is_wrong_in_an_address_is_told(
    tasktrail: Run,
    server: Server,
    tmp_path: Path,
    command: str,
    wrong: dict[str, str | None],
    cause: str,
) -> None:
    url = make_conninfo(server.conninfo(), **wrong)
    said = call(tasktrail, command, tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET)
    assert (said.code, said.out) == (3, "")
    assert "The database of DATABASE_URL cannot be reached: " in said.err
    assert cause in said.err


def test_it_is_the_setting_in_use_that_is_named(
    tasktrail: Run, database: Database, tmp_path: Path
) -> None:
    said = call(tasktrail, "history", tmp_path, NEON_DB_URL=AWAY)
    assert "The database of NEON_DB_URL cannot be reached: " in said.err
    urls = {"DATABASE_URL": database.app, "ADMIN_DATABASE_URL": AWAY}
    said = call(tasktrail, "seed", tmp_path, **urls)
    assert "The database of ADMIN_DATABASE_URL cannot be reached: " in said.err
    said = call(tasktrail, "doctor", tmp_path, **urls)
    assert "The database of ADMIN_DATABASE_URL cannot be reached: " in said.out


def test_a_login_without_rights_is_told_in_which_setting_it_is(
    tasktrail: Run, database: Database, tmp_path: Path
) -> None:
    said = call(tasktrail, "seed", tmp_path, DATABASE_URL=database.app)
    assert said.code == 3
    assert "The login of DATABASE_URL may not do that: permission denied" in said.err


def test_two_transports_say_it_once(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, "serve", "--transport", "http+stdio", "--port", "0"],
        env={"DATABASE_URL": AWAY, "BETTER_AUTH_SECRET": SECRET, "TASKTRAIL_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("tasktrail: The database of DATABASE_URL cannot be reached: ")
    assert len(ended.stderr.splitlines()) == 2

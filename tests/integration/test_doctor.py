"""``tasktrail doctor``: everything that is wrong, how to mend it, and never a secret."""

import asyncio
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from psycopg import sql

from mcp_server import masking
from mcp_server.settings import read_what_can_be
from tests.conftest import PASSWORD, Database, Server
from tests.integration.command_line import Run, Said
from tests.unit.issuer import Issuer

GOOD_SECRET = "qZ7vX1pLw9sB3nKd5tRf8yHj2mGc4aEu"
NOWHERE = "postgresql://ann:pa55word@127.0.0.1:1/tasks"


def whats(said: Said) -> str:
    return "\n".join(problem["what"] for problem in said.json["problems"])


def mends(said: Said) -> str:
    return "\n".join(problem["mend"] for problem in said.json["problems"])


def test_the_embedded_database_needs_no_mending(tasktrail: Run, home: Path) -> None:
    tasktrail("migrate", TASKTRAIL_HOME=str(home))
    said = tasktrail("doctor", "--json", TASKTRAIL_HOME=str(home))
    assert (said.code, said.json["problems"]) == (0, [])
    database = said.json["database"]
    assert database["embedded"]
    assert Path(database["data"], "PG_VERSION").exists()
    assert Path(database["host"]).is_dir()
    assert (database["port"], database["dbname"]) == (5432, "tasktrail")


def test_its_address_leads_to_its_superuser_while_somebody_uses_it(
    tasktrail: Run, home: Path
) -> None:
    from mcp_server.embedded.cluster import acquire

    tasktrail("migrate", TASKTRAIL_HOME=str(home))
    with acquire(home):
        found = tasktrail("doctor", "--json", TASKTRAIL_HOME=str(home)).json["database"]
        address = {name: found[name] for name in ("host", "port", "dbname")}
        with psycopg.connect(**address, user="postgres") as connection:
            row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = user")
            assert row.fetchone() == (True,)


def test_people_read_the_same(tasktrail: Run, home: Path) -> None:
    tasktrail("migrate", TASKTRAIL_HOME=str(home))
    said = tasktrail("doctor", TASKTRAIL_HOME=str(home))
    assert said.code == 0
    assert "Nothing is wrong." in said.out


def test_every_problem_is_named_not_only_the_first(tasktrail: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    said = tasktrail(
        "doctor",
        "--json",
        DATABASE_URL=NOWHERE,
        BETTER_AUTH_SECRET="short",
        TASKTRAIL_JWKS_URL="http://keys.example/jwks",
        TASKTRAIL_TOOLS="most",
        TASKTRAIL_RATE_LIMITS="5",
        TASKTRAIL_HOME=str(tmp_path),
    )
    assert said.code == 3
    told = whats(said)
    for name in (
        *("BETTER_AUTH_SECRET and TASKTRAIL_JWKS_URL", "shorter than 32", "TASKTRAIL_AUDIENCE"),
        *("https", "TASKTRAIL_TOOLS", "TASKTRAIL_RATE_LIMITS", "DATABASE_URL cannot be reached"),
        "others may write",
    ):
        assert name in told
    assert "TASKTRAIL_RATE_LIMIT?" in mends(said)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DATABASE_URL", NOWHERE, "pa55word"),
        ("ADMIN_DATABASE_URL", "host=127.0.0.1 port=1 password='pa55 word'", "pa55 word"),
        ("DATABASE_URL", "postgresql://ann@127.0.0.1:1/x?password=pa55word", "pa55word"),
        ("DATABASE_URL", "postgresql://ann:pa55%40word@127.0.0.1:1/x", "55"),
        ("DATABASE_URL", "postgresql+asyncpg://ann:pa55word@127.0.0.1:1/x", "pa55word"),
        ("DATABASE_URL", "postgresql://ann:pa55/word@127.0.0.1:1/x", "pa55"),
        ("DATABASE_URL", "postgresql://ann:pa55 word@127.0.0.1:1/x", "pa55"),
        ("DATABASE_URL", "postgresql://ann:pa55@w0rd@127.0.0.1:1/x", "w0rd"),
        ("BETTER_AUTH_SECRET", GOOD_SECRET, GOOD_SECRET),
        ("BETTER_AUTH_SECRET", "pa55word", "pa55word"),
        ("TASKTRAIL_JWKS_URL", "http://ann:pa55word@127.0.0.1:1/jwks?key=pa55word", "pa55word"),
        ("TASKTRAIL_JWKS_URL", "http://[ann:pa55word@", "pa55word"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "migrate", "token"])
def test_no_secret_is_ever_shown(
    tasktrail: Run, tmp_path: Path, command: str, name: str, value: str, secret: str
) -> None:
    environment = {"DATABASE_URL": NOWHERE, "TASKTRAIL_HOME": str(tmp_path), name: value}
    arguments = {"doctor": ["--json"], "token": ["--user", "ann"]}.get(command, [])
    said = tasktrail(command, *arguments, **environment)
    assert secret not in said.out + said.err
    assert "Traceback" not in said.err


def test_what_libpq_says_is_searched_for_secrets() -> None:
    given = {"DATABASE_URL": NOWHERE, "BETTER_AUTH_SECRET": GOOD_SECRET}
    mask = masking.Masking(read_what_can_be(given).settings)
    assert (
        mask.of(f"cannot connect with pa55word or {GOOD_SECRET}!")
        == "cannot connect with *** or ***!"
    )


@pytest.mark.parametrize(
    "secret",
    [
        "a" * 40,
        "abcabcabc" * 5,
        "better-auth-secret-for-production",
        "please-changeme-12345678901234567",
    ],
)
def test_a_secret_that_could_be_guessed_is_a_problem(
    tasktrail: Run, tmp_path: Path, secret: str
) -> None:
    environment = {"DATABASE_URL": NOWHERE, "TASKTRAIL_HOME": str(tmp_path)}
    said = tasktrail("doctor", "--json", BETTER_AUTH_SECRET=secret, **environment)
    assert "could be guessed" in whats(said)


def test_the_servers_login_is_fit(tasktrail: Run, database: Database) -> None:
    """But for fsync, which is off in tests."""
    said = tasktrail("doctor", "--json", DATABASE_URL=database.app)
    assert whats(said) == (
        "fsync and full_page_writes and synchronous_commit are off:"
        " a power cut would lose or break what was acknowledged."
    )
    assert said.code == 1
    found: Any = said.json["database"]
    assert (found["login"], found["dbname"], found["embedded"]) == (
        "tasktrail_server",
        database.name,
        False,
    )
    assert "tasktrail_server" in found["logins"]["tasktrail_app"]
    assert PASSWORD not in said.out


@pytest.mark.parametrize(
    ("login", "what"),
    [
        ("admin", "is a superuser"),
        ("operator", "may read every ledger"),
        ("auditor", "may read every ledger"),
    ],
)
def test_a_login_that_sees_all_users_is_no_servers(
    tasktrail: Run, database: Database, login: str, what: str
) -> None:
    said = tasktrail("doctor", "--json", DATABASE_URL=getattr(database, login))
    assert what in whats(said)
    assert "CREATE ROLE tasktrail_server LOGIN" in mends(said)


def test_a_login_that_bypasses_row_level_security_is_no_servers(
    tasktrail: Run, server: Server, database: Database
) -> None:
    """As Neon's default owner does."""
    url = server.conninfo(database.name, "test_bypassing")
    create = "CREATE ROLE test_bypassing LOGIN BYPASSRLS PASSWORD {} IN ROLE tasktrail_app"
    server.run(sql.SQL(create).format(sql.Literal(PASSWORD)))
    try:
        said = tasktrail("doctor", "--json", DATABASE_URL=url)
    finally:
        server.run(sql.SQL("DROP ROLE test_bypassing"))
    assert "'test_bypassing' bypasses row-level security" in whats(said)
    assert "CREATE ROLE tasktrail_server LOGIN" in mends(said)


@pytest.mark.parametrize("off", ["DISABLE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"])
def test_a_table_without_row_level_security_is_found(
    tasktrail: Run, database: Database, off: str
) -> None:
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(f"ALTER TABLE tasktrail.messages {off}".encode())
    said = tasktrail("doctor", "--json", DATABASE_URL=database.app)
    assert "not forced on messages" in whats(said)
    assert "ALTER TABLE tasktrail.messages ENABLE ROW LEVEL SECURITY, FORCE" in mends(said)


def test_a_login_that_is_no_member_is_told_what_it_lacks(
    tasktrail: Run, server: Server, database: Database
) -> None:
    url = server.conninfo(database.name, "test_nobody")
    server.run(sql.SQL("CREATE ROLE test_nobody LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
    try:
        said = tasktrail("doctor", "--json", DATABASE_URL=url)
    finally:
        server.run(sql.SQL("DROP ROLE test_nobody"))
    assert 'GRANT tasktrail_app TO "test_nobody"' in mends(said)
    assert "tasktrail migrate" not in mends(said)


async def test_published_keys_are_fetched(tasktrail: Run, tmp_path: Path) -> None:
    issuer = Issuer()
    await issuer.start()
    environment = {
        "DATABASE_URL": NOWHERE,
        "TASKTRAIL_HOME": str(tmp_path),
        "TASKTRAIL_AUDIENCE": "https://tasks.example/mcp",
        "TASKTRAIL_JWKS_URL": issuer.url,
    }
    empty = await asyncio.to_thread(tasktrail, "doctor", "--json", **environment)
    assert "no EdDSA, ES256 or RS256 key" in whats(empty)
    private = ed25519.Ed25519PrivateKey.generate()
    public = jwt.get_algorithm_by_name("EdDSA").to_jwk(private.public_key(), as_dict=True)
    issuer.document = {"keys": [{**public, "kid": "one"}]}
    good = await asyncio.to_thread(tasktrail, "doctor", "--json", **environment)
    assert "TASKTRAIL_JWKS_URL" not in whats(good)
    assert good.json["authentication"]["mode"] == "jwks"
    await issuer.stop()
    away = await asyncio.to_thread(tasktrail, "doctor", "--json", **environment)
    assert "TASKTRAIL_JWKS_URL cannot be used" in whats(away)


def test_a_secret_that_others_can_read_is_a_problem(tasktrail: Run, tmp_path: Path) -> None:
    tasktrail("token", "--user", "ann", TASKTRAIL_HOME=str(tmp_path))
    environment = {"DATABASE_URL": NOWHERE, "TASKTRAIL_HOME": str(tmp_path)}
    assert "auth.secret" not in tasktrail("doctor", "--json", **environment).out
    (tmp_path / "auth.secret").chmod(0o644)
    assert "can be read by others" in whats(tasktrail("doctor", "--json", **environment))


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_binaries_that_are_not_there_are_a_problem(
    tasktrail: Run, tmp_path: Path, where: str
) -> None:
    environment = {"DATABASE_URL": NOWHERE, "TASKTRAIL_HOME": str(tmp_path)}
    said = tasktrail("doctor", "--json", PG_BIN=str(tmp_path / where), **environment)
    assert f"PG_BIN: there is no Postgres that runs in {tmp_path / where}" in whats(said)


def test_a_home_without_a_database_is_said_and_left_as_it_is(
    tasktrail: Run, tmp_path: Path
) -> None:
    said = tasktrail("doctor", "--json", TASKTRAIL_HOME=str(tmp_path / "typo"))
    assert said.code == 3
    assert f"There is no database in {tmp_path / 'typo'}." in whats(said)
    assert "tasktrail serve" in mends(said)
    assert not (tmp_path / "typo").exists()


def test_an_operators_login_must_be_an_operators(tasktrail: Run, database: Database) -> None:
    said = tasktrail("doctor", "--json", DATABASE_URL=database.app, ADMIN_DATABASE_URL=database.app)
    assert "may not do what migrate" in whats(said)
    assert 'TO "tasktrail_server"' in mends(said)


def test_a_database_without_tasktrail_is_told_from_one_that_is_away(
    tasktrail: Run, server: Any
) -> None:
    said = tasktrail("doctor", "--json", DATABASE_URL=server.conninfo("template1"))
    assert said.code == 1
    assert "no Tasktrail in it yet" in whats(said)
    assert "tasktrail migrate" in mends(said)

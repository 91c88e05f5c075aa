"""Tokens of our own making: the development secret and ``tasktrail token``."""

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcp_server.auth.identity import MAX_LIFETIME
from mcp_server.auth.issue import development_secret, parse_ttl
from mcp_server.auth.verifier import verifier
from mcp_server.cli import app
from mcp_server.settings import Settings, SettingsError
from tests.unit.forge import SECRET


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "not yet there"
    secret = development_secret(home)
    assert len(secret) >= 32
    assert development_secret(home) == secret
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_homes_have_two_secrets(tmp_path: Path) -> None:
    assert development_secret(tmp_path / "a") != development_secret(tmp_path / "b")


def test_processes_that_race_get_the_same_secret(tmp_path: Path) -> None:
    homes = [tmp_path / str(number // 8) for number in range(80)]
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        secrets = list(pool.map(development_secret, homes))
    assert len(set(secrets)) == 10
    assert all(len(list(home.iterdir())) == 1 for home in set(homes))


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    development_secret(tmp_path)
    (file,) = tmp_path.iterdir()
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="read by others"):
        development_secret(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"\n" * 50])
def test_a_file_that_is_no_secret_is_not_used(tmp_path: Path, content: bytes) -> None:
    development_secret(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="not a secret"):
        development_secret(tmp_path)


def test_a_home_that_is_a_file_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"TASKTRAIL_HOME.*Set it to a folder"):
        development_secret(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("60", 60), (" 2h ", 7200)],
)
def test_times_are_read(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "-1h", "1.5h", "1w", "h", "1h30m", "٣h", "1 h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15m, 1h or 7d"):
        parse_ttl(text)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the command sees of the environment: a fresh home and nothing else of ours."""
    for name in os.environ:
        if name.startswith(("TASKTRAIL_", "BETTER_AUTH_", "DATABASE_")):
            monkeypatch.delenv(name)
    return {"TASKTRAIL_HOME": str(tmp_path)}


async def identify(environment: dict[str, str], token: str) -> tuple[str, frozenset[str]]:
    settings = Settings.model_validate(environment)
    verify = verifier(settings, development_secret(settings.home))
    identity = await verify.identify(token)
    return identity.user_id, identity.scopes


async def test_the_command_prints_a_token_and_nothing_else(environment: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["token", "--user", "ada"], env=environment)
    assert result.exit_code == 0
    assert result.stderr == ""
    token = result.stdout.removesuffix("\n")
    assert len(token.split(".")) == 3
    user, scopes = await identify(environment, token)
    assert (user, len(scopes)) == ("ada", 3)


@pytest.mark.parametrize(
    "given",
    [
        ["--scope", "tasks:read", "--scope", "history:read"],
        ["--scope", "tasks:read history:read"],
        ["--scope", "tasks:read,history:read"],
    ],
)
async def test_the_token_has_the_scopes_asked_for(
    environment: dict[str, str], given: list[str]
) -> None:
    result = CliRunner().invoke(app, ["token", "--user", "ada", *given], env=environment)
    _, scopes = await identify(environment, result.stdout.strip())
    assert scopes == {"tasks:read", "history:read"}


async def test_the_token_fits_the_server_of_the_same_settings(environment: dict[str, str]) -> None:
    environment |= {
        "BETTER_AUTH_SECRET": SECRET.decode(),
        "TASKTRAIL_ISSUER": "https://issuer.example",
        "TASKTRAIL_AUDIENCE": "https://tasks.example/mcp",
    }
    result = CliRunner().invoke(app, ["token", "--user", "ada"], env=environment)
    user, _ = await identify(environment, result.stdout.strip())
    assert user == "ada"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--user"),
        (["--user", ""], "1 to 255"),
        (["--user", "tasktrail:audit"], "system"),
        (["--user", "ada", "--scope", "admin"], "tasks:read"),
        (["--user", "ada", "--scope", ""], "tasks:read"),
        (["--user", "ada", "--ttl", "soon"], "90s"),
        (["--user", "ada", "--ttl", f"{MAX_LIFETIME + 1}"], "366d"),
    ],
)
def test_what_cannot_be_a_token_is_a_usage_error(
    environment: dict[str, str], arguments: list[str], says: str
) -> None:
    result = CliRunner().invoke(app, ["token", *arguments], env=environment)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr


def test_with_published_keys_only_the_issuer_makes_tokens(environment: dict[str, str]) -> None:
    environment |= {"TASKTRAIL_JWKS_URL": "https://issuer.example/jwks", "TASKTRAIL_AUDIENCE": "x"}
    result = CliRunner().invoke(app, ["token", "--user", "ada"], env=environment)
    assert result.stdout == ""
    assert isinstance(result.exception, SettingsError)  # main() makes it exit code 2
    assert "TASKTRAIL_JWKS_URL" in str(result.exception)

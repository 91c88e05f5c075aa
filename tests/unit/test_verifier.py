"""What a verifier trusts, what it remembers and for how long."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from mcp_server.auth import verifier as auth
from mcp_server.auth.identity import BadToken
from mcp_server.auth.issue import issue
from mcp_server.auth.verifier import SharedSecret, Verifier, verifier
from mcp_server.settings import Settings, SettingsError
from tests.unit.forge import NOW, SECRET, claims, token


def bearing(**changes: Any) -> str:
    return token(claims(**changes))


class _Breaks:
    async def key(self, kid: object) -> jwt.PyJWK | None:
        raise ZeroDivisionError(kid)


async def test_what_nobody_foresaw_lets_nobody_in() -> None:
    with pytest.raises(BadToken, match="cannot be read"):
        await Verifier(_Breaks(), clock=lambda: NOW).identify(token())


class _Counts(SharedSecret):
    asked = 0

    async def key(self, kid: object) -> jwt.PyJWK:
        self.asked += 1
        return await super().key(kid)


async def test_a_good_token_is_remembered_for_a_minute() -> None:
    now = float(NOW)
    keys = _Counts(SECRET)
    verify = Verifier(keys, clock=lambda: now)
    await verify.identify(token())
    now = NOW + 59.9
    await verify.identify(token())
    assert keys.asked == 1
    now = NOW + 60
    await verify.identify(token())
    assert keys.asked == 2


async def test_a_remembered_token_still_expires() -> None:
    now = float(NOW)
    verify = Verifier(SharedSecret(SECRET), clock=lambda: now)
    soon = bearing(exp=NOW + 5)
    await verify.identify(soon)
    now = NOW + 34.9
    await verify.identify(soon)
    now = NOW + 35
    with pytest.raises(BadToken, match="expired"):
        await verify.identify(soon)


async def test_a_bad_token_is_not_remembered() -> None:
    keys = _Counts(SECRET)
    verify = Verifier(keys, clock=lambda: NOW)
    for _ in range(2):
        with pytest.raises(BadToken):
            await verify.identify(bearing(exp=NOW - 100))
    assert keys.asked == 2


async def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHED_TOKENS", 3)
    keys = _Counts(SECRET)
    verify = Verifier(keys, clock=lambda: NOW)
    for name in "abcd":
        await verify.identify(bearing(sub=name))
    await verify.identify(bearing(sub="d"))
    assert (keys.asked, len(verify._seen)) == (4, 3)
    await verify.identify(bearing(sub="a"))
    assert keys.asked == 5


@pytest.mark.parametrize("reserved", ["short", "x" * 31])
def test_a_short_secret_is_refused_at_the_start(reserved: str) -> None:
    with pytest.raises(ValueError, match="shorter than 32 bytes"):
        Settings.model_validate({"BETTER_AUTH_SECRET": reserved})


def test_without_any_way_to_check_tokens_there_is_no_verifier() -> None:
    with pytest.raises(SettingsError):
        verifier(Settings.model_validate({}), None)


async def test_the_configured_secret_is_used_and_not_the_development_one(tmp_path: Path) -> None:
    configured = Settings.model_validate(
        {"BETTER_AUTH_SECRET": SECRET.decode(), "TASKTRAIL_HOME": tmp_path}
    )
    other = b"the development secret, quite long enough"
    verify = verifier(configured, other)
    mine = issue(SECRET, "ada", ["tasks:read"], 60, None, None, "desk")
    identity = await verify.identify(mine)
    assert identity[:3] == ("ada", "desk", frozenset({"tasks:read"}))
    assert abs(identity.expires_at - time.time() - 60) < 5
    with pytest.raises(BadToken):
        await verify.identify(issue(other, "ada", None, 60, None, None))

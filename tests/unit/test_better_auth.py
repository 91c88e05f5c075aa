"""Tokens and keys that Better Auth's JWT plugin made, recorded: see docs/better-auth.md."""

import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_server.auth.identity import SCOPES, BadToken
from mcp_server.auth.verifier import Verifier, verifier
from mcp_server.settings import Settings
from tests.unit.issuer import Issuer

RECORDED = json.loads((Path(__file__).parent / "recorded/better_auth_1_7_24.json").read_text())
BASE = "http://localhost:3000"
RESOURCE = "http://localhost:8000/mcp"
AUDIENCES = {"default": BASE, "audience": RESOURCE, "es256": BASE, "rs256": BASE}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    server = Issuer()
    await server.start()
    yield server
    await server.stop()


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def configured(issuer: Issuer, audience: str, age: float) -> Verifier:
    """Return the verifier for these settings, as it is ``age`` seconds after the recording."""
    settings = Settings.model_validate(
        {
            "TASKTRAIL_JWKS_URL": issuer.url,
            "TASKTRAIL_ISSUER": BASE,
            "TASKTRAIL_AUDIENCE": audience,
        }
    )
    verify = verifier(settings, None)
    moment = claims_of(RECORDED["recordings"]["default"]["token"])["iat"] + age
    verify._clock = lambda: moment
    return verify


@pytest.mark.parametrize("how", AUDIENCES)
async def test_its_tokens_are_accepted_as_shipped(issuer: Issuer, how: str) -> None:
    recording = RECORDED["recordings"][how]
    issuer.document = recording["jwks"]
    identity = await configured(issuer, AUDIENCES[how], 10).identify(recording["token"])
    claims = claims_of(recording["token"])
    assert identity.user_id == claims["sub"] == claims["id"]
    assert identity.scopes == set(SCOPES)
    assert identity.expires_at == claims["iat"] + 15 * 60


async def test_they_live_for_fifteen_minutes(issuer: Issuer) -> None:
    recording = RECORDED["recordings"]["default"]
    issuer.document = recording["jwks"]
    with pytest.raises(BadToken, match="expired"):
        await configured(issuer, BASE, 15 * 60 + 31).identify(recording["token"])


async def test_one_for_the_application_itself_is_not_one_for_us(issuer: Issuer) -> None:
    recording = RECORDED["recordings"]["default"]
    issuer.document = recording["jwks"]
    with pytest.raises(BadToken, match="audience"):
        await configured(issuer, RESOURCE, 10).identify(recording["token"])

"""Published keys, fetched from a real server on loopback that rotates, fails, lies and dawdles."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mcp_server.auth import jwks
from mcp_server.auth.identity import BadToken
from mcp_server.auth.jwks import (
    MAX_AGE,
    PAUSE_SECONDS,
    REFRESH_AGE,
    KeysUnavailable,
    PublishedKeys,
    usable_keys,
)
from mcp_server.auth.verifier import Verifier
from tests.unit.forge import NOW, b64, token
from tests.unit.issuer import Issuer

Json = dict[str, Any]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    server = Issuer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> PublishedKeys:
    return PublishedKeys(issuer.url, clock)


def ed(kid: str, **fields: Any) -> tuple[ed25519.Ed25519PrivateKey, Json]:
    """Return a private key, and its public half as a member of a JWK set."""
    private = ed25519.Ed25519PrivateKey.generate()
    public = json.loads(jwt.get_algorithm_by_name("EdDSA").to_jwk(private.public_key()))
    return private, {**public, "kid": kid, **fields}


OLD, OLD_JWK = ed("old")
NEW, NEW_JWK = ed("new")


async def settle(keys: PublishedKeys) -> None:
    """Wait for the fetch that nobody waited for."""
    if keys._fetching is not None:
        await keys._fetching


async def test_keys_are_fetched_once_for_many(issuer: Issuer, keys: PublishedKeys) -> None:
    issuer.document, issuer.delay = {"keys": [OLD_JWK]}, 0.05
    found = await asyncio.gather(*(keys.key("old") for _ in range(50)))
    assert all(key is not None for key in found)
    assert issuer.asked == ["/api/auth/jwks"]


async def test_a_rotated_key_is_found_at_once(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.document = {"keys": [NEW_JWK, OLD_JWK]}
    clock.now += PAUSE_SECONDS
    assert await keys.key("new") is not None
    assert await keys.key("old") is not None
    assert len(issuer.asked) == 2


async def test_a_withdrawn_key_is_forgotten_in_passing(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.document = {"keys": [NEW_JWK]}
    clock.now += REFRESH_AGE + 1
    assert await keys.key("old") is not None  # nobody waits for a refresh that is due
    await settle(keys)
    assert await keys.key("old") is None


async def test_a_withdrawn_key_is_not_used_after_ten_minutes_not_even_once(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.document = {"keys": [NEW_JWK]}
    clock.now += MAX_AGE + 1
    assert await keys.key("old") is None


async def test_an_issuer_that_hangs_delays_one_call_and_not_all(
    issuer: Issuer, keys: PublishedKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.delay = 5
    clock.now += MAX_AGE + 1
    assert await keys.key("old") is not None
    for _ in range(3):
        clock.now += PAUSE_SECONDS
        asked = asyncio.ensure_future(keys.key("old"))
        await asyncio.sleep(0)
        assert asked.done()
        assert await asked is not None
        await settle(keys)


async def test_a_flood_of_unknown_key_ids_costs_the_issuer_nothing(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    for number in range(1000):
        clock.now += 0.01
        assert await keys.key(f"made up {number}") is None
    assert len(issuer.asked) <= 2


async def test_keys_stay_good_while_the_issuer_is_down(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    await issuer.stop()
    for _ in range(5):
        clock.now += MAX_AGE + 1
        assert await keys.key("old") is not None
        await settle(keys)
    assert await keys.key("new") is None
    await issuer.start()
    issuer.document = {"keys": [NEW_JWK]}
    clock.now += PAUSE_SECONDS
    assert await keys.key("new") is not None


async def test_before_the_first_fetch_nobody_can_tell(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    await issuer.stop()
    verify = Verifier(keys, clock=lambda: NOW)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            await verify.identify(token(key=OLD, algorithm="EdDSA", kid="old"))
    await issuer.start()
    issuer.document = {"keys": [OLD_JWK]}
    clock.now += PAUSE_SECONDS
    await verify.identify(token(key=OLD, algorithm="EdDSA", kid="old"))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(issuer: Issuer, keys: PublishedKeys, status: str) -> None:
    issuer.document, issuer.status = {"keys": [OLD_JWK]}, status
    issuer.headers = f"Location: http://127.0.0.1:{issuer.port}/elsewhere\r\n"
    with pytest.raises(KeysUnavailable):
        await keys.key("old")
    assert issuer.asked == ["/api/auth/jwks"]


@pytest.mark.parametrize(
    ("status", "document"),
    [
        pytest.param("500 Oops", {"keys": [NEW_JWK]}, id="an error"),
        pytest.param("404 Not Found", {"keys": [NEW_JWK]}, id="not found"),
        pytest.param("204 No Content", "", id="nothing"),
        pytest.param("200 OK", "<html>", id="a page"),
        pytest.param("200 OK", "[" * 100_000, id="nested without end"),
        pytest.param("200 OK", [NEW_JWK], id="a list"),
        pytest.param("200 OK", {"keys": {"new": NEW_JWK}}, id="keys that are no list"),
        pytest.param("200 OK", {"keys": []}, id="no keys"),
        pytest.param("200 OK", {"keys": [None, 1, "x", {}]}, id="keys that are none"),
        pytest.param("200 OK", {"keys": [NEW_JWK], "x": "y" * jwks.MAX_BYTES}, id="too long"),
    ],
)
async def test_an_answer_of_no_use_changes_nothing(
    issuer: Issuer, keys: PublishedKeys, clock: Clock, status: str, document: Any
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.status, issuer.document = status, document
    clock.now += PAUSE_SECONDS
    assert await keys.key("new") is None
    assert await keys.key("old") is not None


async def test_a_slow_issuer_is_given_up(
    issuer: Issuer, keys: PublishedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jwks.FETCH_SECONDS == 3.0
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    issuer.document, issuer.delay = {"keys": [OLD_JWK]}, 1.0
    begun = asyncio.get_running_loop().time()
    with pytest.raises(KeysUnavailable):
        await keys.key("old")
    assert asyncio.get_running_loop().time() - begun < 0.9


async def test_a_caller_who_leaves_does_not_stop_the_fetch_for_others(
    issuer: Issuer, keys: PublishedKeys
) -> None:
    issuer.document, issuer.delay = {"keys": [OLD_JWK]}, 0.1
    leaves, stays = (asyncio.create_task(keys.key("old")) for _ in range(2))
    await asyncio.sleep(0.01)
    leaves.cancel()
    assert await stays is not None
    assert len(issuer.asked) == 1


async def test_others_are_served_while_keys_are_fetched(
    issuer: Issuer, keys: PublishedKeys, clock: Clock
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    await keys.key("old")
    issuer.delay = 0.3
    clock.now += PAUSE_SECONDS
    waits = asyncio.create_task(keys.key("new"))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(keys.key("old"), 0.1) is not None
    assert await waits is None


@pytest.mark.parametrize("header", ["jku", "x5u"])
async def test_an_address_in_a_token_is_never_called(
    issuer: Issuer, keys: PublishedKeys, header: str
) -> None:
    issuer.document = {"keys": [OLD_JWK]}
    stranger, stranger_jwk = ed("evil")
    evil = Issuer()
    evil.document = {"keys": [stranger_jwk]}
    await evil.start()
    address: Json = {header: evil.url}
    forged = token(key=stranger, algorithm="EdDSA", kid="evil", **address)
    with pytest.raises(BadToken):
        await Verifier(keys, clock=lambda: NOW).identify(forged)
    assert evil.asked == []
    await evil.stop()


RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short on purpose
RS256, ES256 = jwt.get_algorithm_by_name("RS256"), jwt.get_algorithm_by_name("ES256")
RSA_JWK = json.loads(RS256.to_jwk(RSA.public_key()))
EC_JWK = json.loads(ES256.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"kty": "oct", "k": b64(bytes(32))}, id="symmetric"),
        pytest.param({"kty": "oct", "k": b64(bytes(32)), "alg": "RS256"}, id="symmetric, lying"),
        pytest.param({**OLD_JWK, "alg": "HS256"}, id="Ed25519 for HS256"),
        pytest.param({**OLD_JWK, "alg": "ES256"}, id="Ed25519 for ES256"),
        pytest.param({**RSA_JWK, "alg": "HS256"}, id="RSA for HS256"),
        pytest.param({**RSA_JWK, "alg": "PS256"}, id="RSA for PS256"),
        pytest.param({**RSA_JWK, "alg": "none"}, id="RSA for none"),
        pytest.param({**RSA_JWK, "use": "enc"}, id="for encryption"),
        pytest.param(json.loads(RS256.to_jwk(SHORT_RSA.public_key())), id="RSA of 1024 bits"),
        pytest.param(json.loads(RS256.to_jwk(RSA)), id="with its private half"),
        pytest.param({**EC_JWK, "crv": "P-384"}, id="on a curve that it is not on"),
        pytest.param({**EC_JWK, "crv": "P-999"}, id="on an unknown curve"),
        pytest.param({**EC_JWK, "crv": ["P-256"]}, id="on a list of curves"),
        pytest.param({**EC_JWK, "x": b64(bytes(32)), "y": b64(bytes(32))}, id="not on its curve"),
        pytest.param({**OLD_JWK, "crv": "X25519"}, id="for key agreement"),
        pytest.param({**OLD_JWK, "x": "%%%"}, id="not base64"),
        pytest.param({**OLD_JWK, "x": 7}, id="a number"),
        pytest.param({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, id="of a kind yet to come"),
        pytest.param({"kty": ["RSA"]}, id="of a list of kinds"),
        pytest.param({}, id="empty"),
    ],
)
def test_a_key_of_no_use_is_passed_over_and_harms_no_other(entry: Json) -> None:
    found = usable_keys({"keys": [{**entry, "kid": "odd"}, NEW_JWK]})
    assert list(found) == ["new"]


@pytest.mark.parametrize("kid", [None, 7, ["new"], {"new": 1}])
def test_a_key_without_a_proper_id_is_passed_over(kid: Any) -> None:
    assert list(usable_keys({"keys": [{**OLD_JWK, "kid": kid}, NEW_JWK]})) == ["new"]


def test_each_key_checks_the_algorithm_of_its_kind() -> None:
    listed = [{**RSA_JWK, "kid": "r"}, {**EC_JWK, "kid": "e"}, OLD_JWK]
    found = usable_keys({"keys": listed})
    assert {kid: key.algorithm_name for kid, key in found.items()} == {
        "r": "RS256",
        "e": "ES256",
        "old": "EdDSA",
    }


def test_of_two_keys_of_one_name_the_first_counts() -> None:
    found = usable_keys({"keys": [OLD_JWK, {**RSA_JWK, "kid": "old"}]})
    assert found["old"].algorithm_name == "EdDSA"

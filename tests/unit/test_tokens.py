"""No bad token gets in. Each is bad in one way, and one that is not bad in that way does."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.auth.identity import MAX_LIFETIME, SCOPES, BadToken, Identity
from mcp_server.auth.jwks import usable_keys
from mcp_server.auth.verifier import SharedSecret, Verifier
from tests.unit.forge import (
    ABSENT,
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    NOW,
    SECRET,
    b64,
    claims,
    hmac,
    part,
    raw,
    sign,
    token,
    unb64,
)

GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")
GOOD_HEADER = json.dumps(HEADER).encode()
ED = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)
STRANGER = ed25519.Ed25519PrivateKey.generate()
OKP, ECA, RSAA = (jwt.get_algorithm_by_name(name) for name in ("EdDSA", "ES256", "RS256"))
JWKS = {
    "keys": [
        {**json.loads(OKP.to_jwk(ED.public_key())), "kid": "ed", "alg": "EdDSA"},
        {**json.loads(ECA.to_jwk(EC.public_key())), "kid": "ec", "use": "sig"},
        {**json.loads(RSAA.to_jwk(RSA.public_key())), "kid": "rsa", "alg": "RS256"},
        {"kty": "oct", "kid": "oct", "k": b64(SECRET), "alg": "HS256"},
    ]
}


class Published:
    """A JWK set that needs no network."""

    def __init__(self, document: Any) -> None:
        self._keys = usable_keys(document)

    async def key(self, kid: object) -> jwt.PyJWK | None:
        return self._keys.get(kid) if isinstance(kid, str) else None


def shared() -> Verifier:
    return Verifier(SharedSecret(SECRET), ISSUER, AUDIENCE, lambda: NOW)


def published() -> Verifier:
    return Verifier(Published(JWKS), ISSUER, AUDIENCE, lambda: NOW)


def signed(**changes: Any) -> str:
    return token(claims(**changes))


def payload(text: str | bytes) -> str:
    """Return a truly signed token with this payload."""
    return raw(GOOD_HEADER, text.encode() if isinstance(text, str) else text)


def changed(text: str) -> str:
    """Return good claims as JSON with ``text`` put in as their first member."""
    return "{" + text + "," + json.dumps(CLAIMS)[1:]


def without(name: str, text: str) -> str:
    """Return good claims as JSON where ``text`` stands for the member ``name``."""
    rest = json.dumps(claims(**{name: ABSENT}))
    return "{" + text + "," + rest[1:]


def flipped(part: str, place: int) -> str:
    turned = "A" if part[place] != "A" else "B"
    return part[:place] + turned + part[place + 1 :]


def loose_end(part: str) -> str:
    """Return base64url text for the same bytes whose unused last bits are not zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = part[:-1] + alphabet[alphabet.index(part[-1]) + 1]
    assert unb64(loose) == unb64(part)
    return loose


def padded_body() -> str:
    """Return a payload whose length is not a multiple of three, so that it has unused bits."""
    body = json.dumps(CLAIMS)
    return body + " " * (1 + -len(body) % 3)


LOOSE_BODY = payload(padded_body()).split(".")[1]

TEXT = {
    "empty": "",
    "white space": "   ",
    "no dots": HEAD,
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "five parts, as encrypted ones have": f"{HEAD}.{BODY}.{SIGNATURE}.{BODY}.{SIGNATURE}",
    "only dots": "..",
    "longer than 8 KiB": payload(json.dumps(claims(note="x" * 9000))),
    "a lone surrogate": f"{GOOD}\ud800",
    "a letter that is not ASCII": GOOD.replace("e", "е"),  # noqa: RUF001 - Cyrillic
    "NUL at the end": f"{GOOD}\0",
    "a line feed at the end": f"{GOOD}\n",
    "a space in front": f" {GOOD}",
    "padding": f"{GOOD}=",
    "two of padding": f"{HEAD}==.{BODY}.{SIGNATURE}",
    "ordinary base64": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}+",
    "an impossible length of base64": f"{HEAD}.{BODY}.{SIGNATURE}AA",
    "loose last bits in the signature": f"{HEAD}.{BODY}.{loose_end(SIGNATURE)}",
    "the word Bearer": f"Bearer {GOOD}",
    "two tokens": f"{GOOD},{GOOD}",
    "the JSON form of a JWS": json.dumps(
        {"payload": BODY, "protected": HEAD, "signature": SIGNATURE}
    ),
    "undefined": "undefined",
    "a session id": "0" * 32,
}
SIGNED_WRONG = {
    "no signature": f"{HEAD}.{BODY}.",
    "the first character of the signature": f"{HEAD}.{BODY}.{flipped(SIGNATURE, 0)}",
    "the last character of the signature": f"{HEAD}.{BODY}.{flipped(SIGNATURE, -1)}",
    "a truncated signature": f"{HEAD}.{BODY}.{SIGNATURE[:22]}",
    "a signature of zeros": f"{HEAD}.{BODY}.{b64(bytes(32))}",
    "the signature of another token": f"{HEAD}.{BODY}.{signed(sub='eve').split('.')[2]}",
    "a changed payload": f"{HEAD}.{part(claims(sub='eve'))}.{SIGNATURE}",
    "a changed header": f"{part({'alg': 'HS256'})}.{BODY}.{SIGNATURE}",
    "another secret": token(key=b"another secret, just as long as the first"),
    "the secret and a line feed": token(key=SECRET + b"\n"),
    "no secret": hmac(b"", HEADER),
    "five bytes of the secret": hmac(SECRET[:5], HEADER),
    "the audience for a secret": hmac(AUDIENCE.encode(), HEADER),
}
HEADERS = {
    "a header that is no JSON": raw(b"{alg:HS256}", json.dumps(CLAIMS).encode()),
    "a header that is a list": raw(b'["HS256"]', json.dumps(CLAIMS).encode()),
    "a header that is null": raw(b"null", json.dumps(CLAIMS).encode()),
    "a header in UTF-16": raw(GOOD_HEADER.decode().encode("utf-16"), json.dumps(CLAIMS).encode()),
    "no alg": token(alg=ABSENT),
    "alg null": token(alg=None),
    "alg a list": token(alg=["HS256"]),
    "alg empty": token(alg=""),
    "alg given twice": raw(b'{"alg":"none","alg":"HS256"}', json.dumps(CLAIMS).encode()),
    "alg none": f"{part({'alg': 'none'})}.{BODY}.",
    "alg none with a signature": token(alg="none"),
    "alg NonE": token(alg="NonE"),
    "alg hs256": token(alg="hs256"),
    "HS384": token(algorithm="HS384"),
    "HS512": token(algorithm="HS512"),
    "RS256 written over HS256": token(alg="RS256"),
    "EdDSA written over HS256": token(alg="EdDSA"),
    "EdDSA by a stranger": token(key=STRANGER, algorithm="EdDSA"),
    "a key in its own header": token(
        key=STRANGER, algorithm="EdDSA", jwk=json.loads(OKP.to_jwk(STRANGER.public_key()))
    ),
    "crit that nobody knows": token(crit=["exp"], exp=NOW),
    "crit that is empty": token(crit=[]),
    "crit that is a text": token(crit="exp"),
    "b64 false": token(b64=False, crit=["b64"]),
    "kid that is a list": token(kid=["a"]),
    "kid that is a number": token(kid=1),
    "an encrypted token's header": token(alg="dir", enc="A256GCM"),
}
PAYLOADS = {
    "a payload that is no JSON": payload("{sub:ada}"),
    "a payload that is a list": payload(json.dumps([CLAIMS])),
    "a payload that is a text": payload('"ada"'),
    "a payload that is null": payload("null"),
    "a payload of two objects": payload(json.dumps(CLAIMS) * 2),
    "a payload in UTF-16": payload(json.dumps(CLAIMS).encode("utf-16")),
    "a payload with a byte order mark": payload(b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode()),
    "bytes that are not UTF-8": payload(changed('"x":"\udcff"').encode("utf-8", "surrogateescape")),
    "loose last bits in the payload": sign(f"{HEAD}.{loose_end(LOOSE_BODY)}"),
    "sub given twice": payload(changed('"sub":"eve"')),
    "exp given twice": payload(changed(f'"exp":{NOW + 5}')),
    "a key given twice further down": payload(changed('"x":{"a":1,"a":2}')),
    "NaN for exp": payload(without("exp", '"exp":NaN')),
    "Infinity for exp": payload(without("exp", '"exp":Infinity')),
    "-Infinity for nbf": payload(changed('"nbf":-Infinity')),
    "NaN where nobody looks": payload(changed('"x":NaN')),
    "a number of 5,000 digits": payload(without("exp", f'"exp":{"9" * 5000}')),
    "nested 3,000 deep": payload(changed('"x":' + "[" * 3000 + "]" * 3000)),
}
TIMES = {
    "no exp": signed(exp=ABSENT),
    "exp null": signed(exp=None),
    "exp a text": signed(exp=str(NOW + 600)),
    "exp a date": signed(exp="2100-01-01T00:00:00Z"),
    "exp a float": signed(exp=NOW + 600.5),
    "exp a whole float": signed(exp=float(NOW + 600)),
    "exp true": signed(exp=True),
    "exp a list": signed(exp=[NOW + 600]),
    "exp 0": signed(exp=0),
    "exp below 0": signed(exp=-1),
    "expired 30 seconds ago": signed(exp=NOW - 30),
    "expired long ago": signed(exp=NOW - 86400, iat=NOW - 90000),
    "exp in milliseconds": signed(exp=(NOW + 600) * 1000),
    "exp 2^53": signed(exp=2**53),
    "exp 10^30": signed(exp=10**30),
    "exp 1e300": payload(without("exp", '"exp":1e300')),
    "a life of more than 366 days": signed(iat=NOW, exp=NOW + MAX_LIFETIME + 1),
    "a life of more than 366 days, almost over": signed(iat=NOW + 600 - MAX_LIFETIME - 1),
    "no iat and an end more than 366 days away": signed(iat=ABSENT, exp=NOW + MAX_LIFETIME + 1),
    "iat null": signed(iat=None),
    "iat a text": signed(iat=str(NOW)),
    "iat true": signed(iat=True),
    "iat a float": signed(iat=NOW - 0.5),
    "iat below 0": signed(iat=-5),
    "iat 31 seconds from now": signed(iat=NOW + 31),
    "nbf 31 seconds from now": signed(nbf=NOW + 31),
    "nbf a text": signed(nbf="0"),
    "nbf true": signed(nbf=True),
    "nbf 10^30": signed(nbf=10**30),
}
SUBJECTS = {
    "no sub": signed(sub=ABSENT),
    "sub null": signed(sub=None),
    "sub a number": signed(sub=17),
    "sub true": signed(sub=True),
    "sub a list": signed(sub=["ada"]),
    "sub an object": signed(sub={"id": "ada"}),
    "sub empty": signed(sub=""),
    "sub blank": signed(sub="   "),
    "sub of 256 characters": signed(sub="a" * 256),
    "sub with NUL": signed(sub="ada\0"),
    "sub with a line feed": signed(sub="ada\neve"),
    "sub with a tab": signed(sub="ada\teve"),
    "sub with DEL": signed(sub="ada\x7f"),
    "sub with a C1 control": signed(sub="ada\x85"),
    "sub with a bidirectional override": signed(sub="ada\u202eeve"),
    "sub with a bidirectional isolate": signed(sub="ada\u2066eve"),
    "sub with a tag character": signed(sub="ada\U000e0041"),
    "sub with a line separator": signed(sub="ada\u2028"),
    "sub with a lone surrogate": payload(without("sub", r'"sub":"ada\ud800"')),
    "sub that is not NFC": signed(sub="jose\u0301"),
    "sub with a space before": signed(sub=" ada"),
    "sub with a no-break space after": signed(sub="ada\u00a0"),
    "sub of the system": signed(sub="tasktrail:audit"),
}
OTHER_CLAIMS = {
    "no iss": signed(iss=ABSENT),
    "iss null": signed(iss=None),
    "another iss": signed(iss="https://evil.example"),
    "iss with a slash more": signed(iss=ISSUER + "/"),
    "iss in capitals": signed(iss=ISSUER.upper()),
    "iss a list": signed(iss=[ISSUER]),
    "no aud": signed(aud=ABSENT),
    "aud null": signed(aud=None),
    "another aud": signed(aud="https://other.example/mcp"),
    "aud a beginning of ours": signed(aud=AUDIENCE[:-1]),
    "aud longer than ours": signed(aud=AUDIENCE + "/admin"),
    "aud an empty list": signed(aud=[]),
    "aud a list without ours": signed(aud=["https://other.example/mcp"]),
    "aud a list with a number": signed(aud=[AUDIENCE, 1]),
    "aud an object": signed(aud={AUDIENCE: 1}),
    "scope a number": signed(scope=1),
    "scope null": signed(scope=None),
    "scope a list of numbers": signed(scope=[1]),
    "scope an object": signed(scope={"tasks:read": True}),
    "scp a number": signed(scp=1),
    "client_id a number": signed(client_id=7),
    "client_id empty": signed(client_id=""),
    "client_id too long": signed(client_id="c" * 256),
    "client_id with a control character": signed(client_id="a\x1b[31m"),
    "azp a list": signed(azp=["a"]),
}
SHARED = {**TEXT, **SIGNED_WRONG, **HEADERS, **PAYLOADS, **TIMES, **SUBJECTS, **OTHER_CLAIMS}

ED_RAW = ED.public_key().public_bytes_raw()
HS_ED = {"alg": "HS256", "typ": "JWT", "kid": "ed"}


def encoded(encoding: Encoding, form: PublicFormat) -> bytes:
    return RSA.public_key().public_bytes(encoding, form)


KEYS = {
    "no kid": token(key=ED, algorithm="EdDSA"),
    "kid null": token(key=ED, algorithm="EdDSA", kid=None),
    "kid empty": token(key=ED, algorithm="EdDSA", kid=""),
    "kid an object": token(key=ED, algorithm="EdDSA", kid={}),
    "kid of no key": token(key=ED, algorithm="EdDSA", kid="nobody"),
    "kid a path": token(key=ED, algorithm="EdDSA", kid="../../../dev/null"),
    "kid an SQL injection": token(key=ED, algorithm="EdDSA", kid="' UNION SELECT 'secret"),
    "kid an address": token(key=ED, algorithm="EdDSA", kid="http://127.0.0.1:1/key"),
    "kid of another key": token(key=ED, algorithm="EdDSA", kid="ec"),
    "kid of a symmetric key": token(kid="oct"),
    "a stranger under a known kid": token(key=STRANGER, algorithm="EdDSA", kid="ed"),
    "a stranger with jku": token(
        key=STRANGER, algorithm="EdDSA", kid="evil", jku="https://evil.example/jwks"
    ),
    "a stranger with x5u": token(
        key=STRANGER, algorithm="EdDSA", kid="evil", x5u="https://evil.example/key.pem"
    ),
    "a stranger with its jwk": token(
        key=STRANGER, algorithm="EdDSA", kid="ed", jwk=json.loads(OKP.to_jwk(STRANGER.public_key()))
    ),
    "HS256 by the raw Ed25519 key": hmac(ED_RAW, HS_ED),
    "HS256 by the Ed25519 key in base64": hmac(b64(ED_RAW).encode(), HS_ED),
    "HS256 by the Ed25519 key as JWK": hmac(json.dumps(JWKS["keys"][0]).encode(), HS_ED),
    "EdDSA header over HMAC by the raw key": hmac(ED_RAW, {"alg": "EdDSA", "kid": "ed"}),
    "HS256 by the RSA key as PEM": hmac(
        encoded(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), {"alg": "HS256", "kid": "rsa"}
    ),
    "HS256 by the RSA key as PKCS 1": hmac(
        encoded(Encoding.PEM, PublicFormat.PKCS1), {"alg": "HS256", "kid": "rsa"}
    ),
    "HS256 by the RSA key as DER": hmac(
        encoded(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), {"alg": "HS256", "kid": "rsa"}
    ),
    "HS256 by the secret of the other mode": token(kid="ed"),
    "none under a known kid": f"{part({'alg': 'none', 'kid': 'ed'})}.{BODY}.",
    "PS256 by the RSA key": token(key=RSA, algorithm="PS256", kid="rsa"),
    "RS512 by the RSA key": token(key=RSA, algorithm="RS512", kid="rsa"),
    "RS384 by the RSA key": token(key=RSA, algorithm="RS384", kid="rsa"),
    "RS256 header over RS512": token(key=RSA, algorithm="RS512", kid="rsa", alg="RS256"),
    "ES384 under the kid of ES256": token(key=EC384, algorithm="ES384", kid="ec"),
    "ES256 header over ES384": token(key=EC384, algorithm="ES384", kid="ec", alg="ES256"),
    "an ECDSA signature of zeros": ".".join(
        [*token(key=EC, algorithm="ES256", kid="ec").split(".")[:2], b64(bytes(64))]
    ),
    "an Ed25519 signature of zeros": ".".join(
        [*token(key=ED, algorithm="EdDSA", kid="ed").split(".")[:2], b64(bytes(64))]
    ),
}


def named(tokens: dict[str, str]) -> pytest.MarkDecorator:
    assert len(set(tokens.values())) == len(tokens)
    return pytest.mark.parametrize("bad", [pytest.param(v, id=k) for k, v in tokens.items()])


@named(SHARED)
async def test_a_bad_token_is_refused(bad: str) -> None:
    with pytest.raises(BadToken) as refusal:
        await shared().identify(bad)
    reason = refusal.value.reason
    assert reason.isascii()
    assert reason.isprintable()
    assert not set(reason) & set('"\\')


@named(KEYS)
async def test_a_token_signed_with_the_wrong_key_is_refused(bad: str) -> None:
    with pytest.raises(BadToken):
        await published().identify(bad)


def test_there_are_enough_ways_to_be_bad() -> None:
    assert len(SHARED) + len(KEYS) >= 60


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(GOOD, id="as it should be"),
        pytest.param(signed(exp=NOW - 29), id="expired within the leeway"),
        pytest.param(signed(iat=NOW + 30, nbf=NOW + 30), id="from a clock that is ahead"),
        pytest.param(signed(iat=NOW, exp=NOW + MAX_LIFETIME), id="for 366 days"),
        pytest.param(signed(iat=ABSENT), id="without iat"),
        pytest.param(signed(aud=["https://other.example", AUDIENCE]), id="for several audiences"),
        pytest.param(signed(typ="at+jwt", jti="1", extra={"deep": [1.5, None]}), id="more claims"),
        pytest.param(token(kid="whatever"), id="a kid that a shared secret needs not"),
        pytest.param(payload(padded_body()), id="white space in the JSON"),
    ],
)
async def test_a_good_token_is_accepted(good: str) -> None:
    assert (await shared().identify(good)).user_id == "ada"


@pytest.mark.parametrize("subject", ["a" * 255, "josé", "auth0|5f7c8ec7", "a b", "🙂", "tasktrail"])
async def test_a_subject_is_any_ordinary_text(subject: str) -> None:
    assert (await shared().identify(signed(sub=subject))).user_id == subject


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(ED, "EdDSA", "ed"), (EC, "ES256", "ec"), (RSA, "RS256", "rsa")]
)
async def test_each_published_key_checks_its_own_algorithm(
    key: Any, algorithm: str, kid: str
) -> None:
    good = token(key=key, algorithm=algorithm, kid=kid)
    assert await published().identify(good) == Identity("ada", None, frozenset(SCOPES), NOW + 600)


@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        pytest.param({}, set(SCOPES), id="no claim: all"),
        pytest.param({"scope": "tasks:read"}, {"tasks:read"}, id="one"),
        pytest.param({"scope": "openid tasks:read tasks:write"}, {"tasks:read", "tasks:write"}),
        pytest.param({"scope": ""}, set(), id="none"),
        pytest.param({"scope": "openid email"}, set(), id="none of ours"),
        pytest.param({"scope": ["history:read"]}, {"history:read"}, id="a list"),
        pytest.param({"scp": "tasks:read"}, {"tasks:read"}, id="scp"),
        pytest.param({"scp": ["tasks:read", "openid"]}, {"tasks:read"}, id="scp as a list"),
        pytest.param({"scp": []}, set(), id="scp empty"),
        pytest.param({"scope": "TASKS:READ"}, set(), id="in capitals"),
    ],
)
async def test_scopes_are_those_of_ours_that_the_token_names(
    said: dict[str, Any], scopes: set[str]
) -> None:
    assert (await shared().identify(signed(**said))).scopes == scopes


async def test_the_client_is_the_one_that_the_token_names() -> None:
    identify = shared().identify
    assert (await identify(signed(client_id="desk", azp="other"))).client_id == "desk"
    assert (await identify(signed(azp="other"))).client_id == "other"
    assert (await identify(signed(azp=None))).client_id is None


async def test_issuer_and_audience_are_not_asked_for_when_none_is_configured() -> None:
    lax = Verifier(SharedSecret(SECRET), clock=lambda: NOW)
    assert (await lax.identify(signed(iss=ABSENT, aud=ABSENT))).user_id == "ada"


async def test_a_short_secret_lets_nobody_in_wherever_it_came_from() -> None:
    with pytest.raises(BadToken, match="well-formed"):
        await Verifier(SharedSecret(b"short"), clock=lambda: NOW).identify(hmac(b"short", HEADER))


# What follows is generated: 300 tokens, with TASKTRAIL_THOROUGH=1 12,000.
many = settings(max_examples=3 * settings().max_examples)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([NOW, NOW + 60, "ada", ISSUER, AUDIENCE, "tasks:read", 2**53]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf", "scope", "scp", "client_id"])


async def outcome(verify: Verifier, text: str) -> Identity | BadToken:
    """Return what comes of ``text``; anything else than these two fails the test."""
    try:
        return await verify.identify(text)
    except BadToken as bad:
        return bad


@many
@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,80}(\.[\w-]{0,80}){0,4}"))
async def test_no_text_that_we_did_not_sign_gets_in(text: str) -> None:
    assert isinstance(await outcome(shared(), text), BadToken)
    assert isinstance(await outcome(published(), text), BadToken)


@many
@given(st.data())
async def test_no_changed_token_gets_in(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([GOOD, token(key=ED, algorithm="EdDSA", kid="ed")]))
    place = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(place, min(len(good), place + 4)))
    bad = good[:place] + data.draw(st.text(max_size=4) | st.from_regex(r"[\w.-]{0,4}")) + good[end:]
    if bad != good:
        assert isinstance(await outcome(shared(), bad), BadToken)
        assert isinstance(await outcome(published(), bad), BadToken)


@many
@given(st.dictionaries(names, json_values, max_size=3))
async def test_only_sound_claims_get_in_however_they_are_signed(odd: dict[str, Any]) -> None:
    said = {**CLAIMS, **odd}
    result = await outcome(shared(), token(said))
    if isinstance(result, Identity):
        sound(said)
        assert result.user_id == said["sub"]
        assert result.scopes <= set(SCOPES)


def sound(said: dict[str, Any]) -> None:
    """Check in other words than the code's that these claims may pass."""
    assert all(type(said[name]) is int for name in ("exp", "iat", "nbf") if name in said)
    assert NOW - 30 < said["exp"] <= said["iat"] + MAX_LIFETIME
    assert max(said["iat"], said.get("nbf", 0)) <= NOW + 30
    assert said["iss"] == ISSUER
    assert said["aud"] == AUDIENCE or AUDIENCE in said["aud"]
    assert isinstance(said["sub"], str)
    assert 1 <= len(said["sub"]) <= 255
    assert said["sub"].isprintable() or max(said["sub"]) >= "\u200b"


@many
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), json_values))
async def test_no_odd_header_gets_in_but_one_that_says_the_truth(odd: dict[str, Any]) -> None:
    text = token(**odd)
    result = await outcome(shared(), text)
    if isinstance(result, Identity):
        assert odd.get("alg", "HS256") == "HS256"
        assert "crit" not in odd
    assert isinstance(await outcome(published(), text), BadToken)

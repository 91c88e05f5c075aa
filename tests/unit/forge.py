"""Tokens good and bad for the tests: any header, any payload, any signature."""

import base64
import json
from hmac import digest
from typing import Any

import jwt

NOW = 1_800_000_000
SECRET = b"a secret that only the tests know, 32+ bytes"
ISSUER = "https://issuer.example"
AUDIENCE = "https://tasks.example/mcp"
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "ada",
    "iat": NOW - 60,
    "exp": NOW + 600,
}
ABSENT = object()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with ``changes``; ABSENT leaves one out."""
    merged = {**CLAIMS, **changes}
    return {name: value for name, value in merged.items() if value is not ABSENT}


def part(value: Any) -> str:
    """Return ``value`` as a part of a token."""
    return b64(json.dumps(value).encode())


def sign(signing_input: str, key: Any = SECRET, algorithm: str = "HS256") -> str:
    """Return ``signing_input`` with its signature."""
    signer = jwt.get_algorithm_by_name(algorithm)
    signature = signer.sign(signing_input.encode(), signer.prepare_key(key))
    return f"{signing_input}.{b64(signature)}"


def raw(header: bytes, payload: bytes) -> str:
    """Return a token made of these very bytes, truly signed with the secret."""
    return sign(f"{b64(header)}.{b64(payload)}")


def token(
    payload: dict[str, Any] | None = None,
    key: Any = SECRET,
    algorithm: str = "HS256",
    **header: Any,
) -> str:
    """Return a token for ``payload`` (default: good claims) with other header fields."""
    head = {"alg": algorithm, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not ABSENT}
    return sign(f"{part(head)}.{part(CLAIMS if payload is None else payload)}", key, algorithm)


def hmac(secret: bytes, header: dict[str, Any]) -> str:
    """Return a token signed with HMAC by any bytes, also by those that PyJWT would refuse."""
    signing_input = f"{part(header)}.{part(CLAIMS)}"
    return f"{signing_input}.{b64(digest(secret, signing_input.encode(), 'sha256'))}"

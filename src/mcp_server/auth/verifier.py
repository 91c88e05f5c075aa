"""Who is calling: a bearer token in, an identity out, or ``BadToken``.

    length -> seen in the last minute? -> key -> signature -> claims -> Identity

A verifier trusts one family of keys: a shared secret (HS256) or published keys (jwks.py), never
both, so that a public key can never be taken for a secret. PyJWT checks the signature and nothing
else: what the claims must be is said in identity.py.
"""

import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NoReturn, Protocol

import jwt
import structlog

from mcp_server.auth.identity import LEEWAY, BadToken, Identity, read_claims
from mcp_server.auth.jwks import KeysUnavailable, PublishedKeys
from mcp_server.settings import Settings, SettingsError

MAX_TOKEN_LENGTH = 8 * 1024
CACHE_SECONDS = 60
CACHED_TOKENS = 10_000

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

log = structlog.get_logger()


class Keys(Protocol):
    """Where the key that checks a token comes from."""

    async def key(self, kid: object) -> jwt.PyJWK | None:
        """Return the key for a token whose header says ``kid``, None if there is no such key.

        Raises: KeysUnavailable: nobody can tell.
        """


class SharedSecret:
    """One secret for everybody who may issue tokens, whatever key id they write."""

    def __init__(self, secret: bytes) -> None:
        encoded = urlsafe_b64encode(secret).decode()
        self._key = jwt.PyJWK({"kty": "oct", "k": encoded}, "HS256")

    async def key(self, kid: object) -> jwt.PyJWK:  # noqa: ARG002 - the protocol's
        return self._key


def verifier(settings: Settings, development_secret: bytes | None) -> "Verifier":
    """Return the verifier that ``settings`` ask for; without any, one for ``development_secret``.

    Raises: SettingsError: neither says how tokens are checked.
    """
    keys: Keys
    if settings.jwks_url is not None:
        keys = PublishedKeys(settings.jwks_url)
    elif settings.secret is not None:
        keys = SharedSecret(settings.secret.get_secret_value().encode())
    elif development_secret is not None:
        keys = SharedSecret(development_secret)
    else:
        raise SettingsError("Set BETTER_AUTH_SECRET or TASKTRAIL_JWKS_URL to say who may call.")
    return Verifier(keys, settings.issuer, settings.audience)


class Verifier:
    """Checks tokens and remembers the good ones for a minute, at most 10,000 of them."""

    def __init__(
        self,
        keys: Keys,
        issuer: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})
        self._seen: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    async def identify(self, token: str) -> Identity:
        """Return whose token this is.

        Raises:
            BadToken: it is not a good one; the reason may be shown.
            KeysUnavailable: the issuer's keys have never been fetched, so nobody can tell.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise BadToken("The token is not a signed JWT of at most 8 KiB.")
        digest = sha256(token.encode()).digest()
        now = self._clock()
        identity, until = self._seen.get(digest, (None, 0.0))
        if identity is not None and now < until:
            self._seen.move_to_end(digest)
            return identity
        identity = await self._verify(token, now)
        self._seen[digest] = identity, min(now + CACHE_SECONDS, identity.expires_at + LEEWAY)
        if len(self._seen) > CACHED_TOKENS:
            self._seen.popitem(last=False)
        return identity

    async def _verify(self, token: str, now: float) -> Identity:
        try:
            return read_claims(await self._signed(token), now, self._issuer, self._audience)
        except (BadToken, KeysUnavailable):
            raise
        except jwt.InvalidAlgorithmError:
            raise BadToken("The token's algorithm is not the one of its key.") from None
        except jwt.InvalidSignatureError:
            raise BadToken("The token's signature is wrong.") from None
        except jwt.PyJWTError:
            raise BadToken("The token is not a well-formed signed JWT.") from None
        except Exception as error:  # noqa: BLE001 - what nobody foresaw must not let anybody in
            log.warning("token_unreadable", error=type(error).__name__)
            raise BadToken("The token cannot be read.") from None

    async def _signed(self, token: str) -> dict[str, Any]:
        """Return the claims of ``token`` if the signature is right. Nothing else is checked."""
        compact = _COMPACT.fullmatch(token)
        if compact is None:
            raise BadToken("The token is not a signed JWT of at most 8 KiB.")
        header = _json_object(urlsafe_b64decode(compact[1] + "=" * (-len(compact[1]) % 4)))
        key = await self._keys.key(header.get("kid"))
        if key is None:
            raise BadToken("The token was signed with no key that is known here.")
        return _json_object(self._jws.decode(token, key, [key.algorithm_name]))


def _json_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in ``text``: UTF-8, each key once, no NaN or Infinity."""
    try:
        found = json.loads(
            text.decode(), object_pairs_hook=_each_key_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise BadToken("The token is not made of well-formed JSON.") from None
    if not isinstance(found, dict):
        raise BadToken("The token is not made of JSON objects.")
    return found


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

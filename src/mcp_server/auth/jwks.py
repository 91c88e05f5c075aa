"""An issuer's published keys (RFC 7517): fetched from one configured address, kept, and refreshed.

A token can name a key, never an address: its jku, x5u, jwk and x5c headers are not even read. Each
key checks one algorithm, that of its own type. What we cannot use (symmetric, unknown, for
encryption, published with its private half) is passed over and does no harm to the others.

- A key id that we do not know, or keys older than five minutes, are a reason to fetch again, at
  most every ten seconds, so that a flood of made-up key ids costs the issuer nothing.
- Nobody waits for that fetch whose key we know, unless the keys are older than ten minutes: so a
  withdrawn key is good for no longer, however seldom it is used.
- When the fetch fails, the keys that we have stay good for as long as it takes.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import structlog

FETCH_SECONDS = 3.0
PAUSE_SECONDS = 10.0
REFRESH_AGE = 300.0
MAX_AGE = 600.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 100

_ALGORITHMS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}

log = structlog.get_logger()

UNFETCHABLE = (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RecursionError)
"""What ``fetch`` raises."""


class KeysUnavailable(Exception):
    """The issuer's keys have never been fetched: whether a token is good cannot be said yet."""


class PublishedKeys:
    """The usable keys at ``url``, by key id. Belongs to one event loop."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: object) -> jwt.PyJWK | None:
        """Return the key called ``kid``, None if there is none.

        Raises: KeysUnavailable: not a single key was ever fetched.
        """
        if not isinstance(kid, str):
            return None
        age = self._clock() - self._fetched_at
        if kid not in self._keys or age > REFRESH_AGE:
            fetching = self._refresh()
            waits = kid not in self._keys or (age > MAX_AGE and not self._failing)
            if fetching is not None and waits:
                await asyncio.shield(fetching)  # others wait for it too
        if not self._keys:
            raise KeysUnavailable
        return self._keys.get(kid)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Return the fetch that is under way or begins now, None if the last is too recent."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._tried_at < PAUSE_SECONDS:
            return None
        self._tried_at = self._clock()
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = await fetch(self._url)
        except UNFETCHABLE as error:
            log.warning("keys_not_fetched", url=self._url, error=f"{type(error).__name__}: {error}")
            self._failing = True
            return
        self._failing = False
        self._keys = keys
        self._fetched_at = self._clock()


async def fetch(url: str) -> dict[str, jwt.PyJWK]:
    """Return the usable keys at ``url``, by key id. Raises: UNFETCHABLE."""
    return usable_keys(await _download(url))


async def _download(url: str) -> Any:
    """Return the JSON at ``url``, and not at an address it redirects to, within three seconds.

    Raises: ValueError: it is not what we asked for. OSError, httpx2.HTTPError: it is not there.
    """
    proxies = urlsplit(url).scheme == "https"  # plain http is loopback only
    client = httpx2.AsyncClient(
        timeout=FETCH_SECONDS, follow_redirects=False, trust_env=proxies, max_redirects=0
    )
    body = bytearray()
    async with (
        asyncio.timeout(FETCH_SECONDS),
        client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            raise ValueError(f"the answer's status is {response.status_code}")
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError("the answer is too long")
    return json.loads(body)


def usable_keys(document: Any) -> dict[str, jwt.PyJWK]:
    """Return the keys of a JWK set that may check a token, by key id; of two alike the first.

    Raises: ValueError: there is none.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is not a JWK set")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in listed[:MAX_KEYS]:
        if isinstance(entry, dict) and isinstance(kid := entry.get("kid"), str):
            key = _usable(entry)
            if key is not None:
                keys.setdefault(kid, key)
    if not keys:
        raise ValueError("it holds no EdDSA, ES256 or RS256 key with a kid")
    return keys


def _usable(entry: dict[str, Any]) -> jwt.PyJWK | None:
    kty, crv = entry.get("kty"), entry.get("crv")
    if not isinstance(kty, str) or not isinstance(crv, str | None):
        return None
    algorithm = _ALGORITHMS.get((kty, crv))
    if algorithm is None or entry.get("alg") not in (None, algorithm):
        return None
    if entry.get("use") not in (None, "sig") or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    too_short = key.Algorithm.check_key_length(key.key)
    return None if too_short else key

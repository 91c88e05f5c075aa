"""Who a verified token says is calling. Pure: claims and a moment in, an identity out.

PyJWT's own checks let through what these must not: a missing exp or sub, numbers as text, lives of
centuries, subjects with control characters.
"""

import unicodedata
from typing import Any, NamedTuple

from events.text import safe_line

SCOPES = ("tasks:read", "tasks:write", "history:read")
MAX_LIFETIME = 366 * 24 * 3600
LEEWAY = 30  # seconds that clocks may differ
MAX_NAME_LENGTH = 255
RESERVED = "tasktrail:"  # the system's own ledgers

_LATEST = 2**53 - 1


class BadToken(Exception):
    """The token proves nothing. ``reason`` is ASCII, quotes nothing of it and may be shown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Identity(NamedTuple):
    """The verified caller. ``scopes`` are ours; ``expires_at`` is in seconds since 1970."""

    user_id: str
    client_id: str | None
    scopes: frozenset[str]
    expires_at: int


def read_claims(
    claims: dict[str, Any], now: float, issuer: str | None, audience: str | None
) -> Identity:
    """Return the identity that signed ``claims`` state. Raises: BadToken."""
    expires_at = _check_times(claims, now)
    if issuer is not None and claims.get("iss") != issuer:
        raise BadToken("The token is from another issuer.")
    if audience is not None and audience not in _texts("aud", claims.get("aud")):
        raise BadToken("The token is for another audience.")
    try:
        user_id = check_user_id(claims.get("sub"))
    except ValueError:
        raise BadToken("The token has no sub that can be a user.") from None
    return Identity(user_id, _client_id(claims), _scopes(claims), expires_at)


def check_user_id(name: object) -> str:
    """Return ``name`` if it can be a user: 1-255 characters, NFC, no control characters or white
    space around it, and not one of the system's own.

    Raises: ValueError: saying which.
    """
    user_id = _check_name(name)
    if user_id.startswith(RESERVED):
        raise ValueError(f"names that begin with {RESERVED} are the system's own")
    return user_id


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"must be a text of 1 to {MAX_NAME_LENGTH} characters")
    if name != name.strip():
        raise ValueError("must not begin or end with white space")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError("must be in Unicode normalisation form C")
    return safe_line(name)


def _check_times(claims: dict[str, Any], now: float) -> int:
    expires_at, issued_at = _moment(claims, "exp"), _moment(claims, "iat")
    not_before = _moment(claims, "nbf")
    if expires_at is None:
        raise BadToken("The token has no exp.")
    if expires_at + LEEWAY <= now:
        raise BadToken("The token has expired.")
    if max(issued_at or 0, not_before or 0) - LEEWAY > now:
        raise BadToken("The token is not valid yet.")
    if expires_at - (now if issued_at is None else issued_at) > MAX_LIFETIME:
        raise BadToken("The token is made to live longer than 366 days.")
    return expires_at


def _moment(claims: dict[str, Any], name: str) -> int | None:
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is not int or not 0 <= value <= _LATEST:  # a bool is an int too
        raise BadToken(f"The token's {name} is not a whole number of seconds.")
    return value


def _client_id(claims: dict[str, Any]) -> str | None:
    for name in ("client_id", "azp"):
        if claims.get(name) is not None:
            try:
                return _check_name(claims[name])
            except ValueError:
                raise BadToken(f"The token's {name} is not a name.") from None
    return None


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    for name in ("scope", "scp"):
        if name in claims:
            words = (word for text in _texts(name, claims[name]) for word in text.split(" "))
            return frozenset(SCOPES).intersection(words)
    return frozenset(SCOPES)


def _texts(name: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise BadToken(f"The token's {name} is neither a text nor a list of texts.")
    return texts

"""Settings as they may be shown: without secrets, also without those inside addresses."""

from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from events.ledger import Json
from mcp_server.settings import NAMES, Settings

MASK = "***"
_CONNECTIONS = ("database_url", "neon_db_url", "admin_database_url")
_ADDRESSES = ("jwks_url", "issuer", "audience")
_HARMLESS = (
    *("host", "hostaddr", "port", "dbname", "user", "sslmode", "channel_binding", "options"),
    *("application_name", "connect_timeout", "target_session_attrs", "sslrootcert"),
)
SHORTEST = 4
"""Characters of a secret that is looked for in texts: a shorter one would be found by chance."""


def masked_settings(settings: Settings) -> Json:
    """Return each setting by its name in the environment."""
    return {name: _masked(field, getattr(settings, field)) for field, name in NAMES.items()}


def _masked(field: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if field in _CONNECTIONS:
        return _masked_connection(value.get_secret_value())
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return list(value)
    return _masked_address(str(value)) if field in _ADDRESSES else str(value)


def _masked_connection(conninfo: str) -> str:
    """Return ``key=value`` pairs; every value that could be a secret is masked."""
    pairs = conninfo_to_dict(conninfo).items()
    return " ".join(f"{key}={value if key in _HARMLESS else MASK}" for key, value in pairs)


def _masked_address(address: str) -> str:
    """Return ``address`` without user, password and query."""
    try:
        url = urlsplit(address)
    except ValueError:
        return MASK
    place = url.netloc.rpartition("@")[2]
    hidden = url._replace(
        netloc=f"{MASK}@{place}" if "@" in url.netloc else place,
        query=MASK if url.query else "",
    )
    return hidden.geturl()


class Masking:
    """Finds the secrets of some settings in any text."""

    def __init__(self, settings: Settings) -> None:
        found = {
            form
            for secret in _secrets(settings)
            for form in (secret, unquote(secret), quote(secret, safe=""), quote_plus(secret))
            if len(form) >= SHORTEST
        }
        self._secrets = sorted(found, key=len, reverse=True)

    def of(self, text: str) -> str:
        """Return ``text`` with the secrets in it masked."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _secrets(settings: Settings) -> list[str]:
    secrets = [settings.secret.get_secret_value()] if settings.secret else []
    for field in _CONNECTIONS:
        url = getattr(settings, field)
        if url is not None:
            pairs = conninfo_to_dict(url.get_secret_value()).items()
            secrets += [str(value) for key, value in pairs if key not in _HARMLESS]
    if settings.jwks_url is not None:
        try:
            url = urlsplit(settings.jwks_url)
            secrets += [url.password or "", url.query]
        except ValueError:
            secrets.append(settings.jwks_url)
    return secrets

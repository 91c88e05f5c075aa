"""Make tokens, where the secret is ours: for development and for ``tasktrail token``."""

import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import jwt

from mcp_server.settings import SECRET_BYTES, SettingsError

_FILE = "auth.secret"
_TTL = re.compile(r"([1-9][0-9]{0,8})([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def development_secret(home: Path) -> bytes:
    """Return the secret kept in ``home``, made when it is not there, readable by its owner only.

    Raises: SettingsError: what lies there is not such a secret, or it cannot be written.
    """
    path = home / _FILE
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise SettingsError(
            f"TASKTRAIL_HOME: {path} cannot be used: {error.strerror}. Set it to a folder that this"
            " user can write in, or set BETTER_AUTH_SECRET."
        ) from error


def check_development_secret(home: Path) -> None:
    """Look at the secret kept in ``home``, if there is one. Raises: as ``development_secret``."""
    if (home / _FILE).exists():
        development_secret(home)


def _make(path: Path) -> None:
    """Write a new secret beside ``path`` and link it there: whoever is second keeps the first's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read(path: Path) -> bytes:
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES:
        raise SettingsError(f"{path} is not a secret of ours: delete it, and a new one is made.")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError(
            f"{path} can be read by others, who could make tokens with it: delete it, and a new"
            " one is made."
        )
    return secret


def issue(
    secret: bytes,
    user_id: str,
    scopes: Collection[str] | None,
    ttl_seconds: int,
    issuer: str | None,
    audience: str | None,
    client_id: str | None = None,
) -> str:
    """Return a token for ``user_id``, signed with HS256. ``scopes`` None: all, by naming none."""
    now = int(time.time())
    claims = {
        "sub": user_id,
        "iat": now,
        "exp": now + ttl_seconds,
        "scope": None if scopes is None else " ".join(sorted(scopes)),
        "iss": issuer,
        "aud": audience,
        "client_id": client_id,
    }
    said = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(said, secret, "HS256")


def parse_ttl(text: str) -> int:
    """Return the seconds that ``text`` means: ``90s``, ``15m``, ``1h``, ``7d``, or seconds.

    Raises: ValueError.
    """
    found = _TTL.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a time such as 90s, 15m, 1h or 7d")
    return int(found[1]) * _UNITS[found[2]]

"""What the environment says: read once, checked once, and passed on as values.

Nothing else reads the environment. docs/settings.md lists every name; a test compares.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from mcp_server.failure import Failure

SECRET_BYTES = 32
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingsError(Failure):
    """The environment contradicts itself or the contract; the text says what to change."""

    exit_code = 2


def _listed(value: Any) -> Any:
    """Split at commas."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Settings(BaseModel):
    """One field for each setting; the alias is its name in the environment."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    neon_db_url: SecretStr | None = Field(None, alias="NEON_DB_URL")
    admin_database_url: SecretStr | None = Field(None, alias="ADMIN_DATABASE_URL")
    allow_unsafe_database: bool = Field(False, alias="TASKTRAIL_ALLOW_UNSAFE_DATABASE")
    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("tasktrail"), alias="TASKTRAIL_HOME"
    )
    pg_bin: Path | None = Field(None, alias="PG_BIN")
    secret: SecretStr | None = Field(None, alias="BETTER_AUTH_SECRET")
    jwks_url: str | None = Field(None, alias="TASKTRAIL_JWKS_URL")
    issuer: str | None = Field(None, alias="TASKTRAIL_ISSUER")
    audience: str | None = Field(None, alias="TASKTRAIL_AUDIENCE")
    rate_limit: float = Field(500, ge=0, alias="TASKTRAIL_RATE_LIMIT")
    address_rate_limit: float = Field(0, ge=0, alias="TASKTRAIL_ADDRESS_RATE_LIMIT")
    allowed_hosts: Listed = Field((), alias="TASKTRAIL_ALLOWED_HOSTS")
    allowed_origins: Listed = Field((), alias="TASKTRAIL_ALLOWED_ORIGINS")
    tools: Literal["full", "core"] = Field("full", alias="TASKTRAIL_TOOLS")
    log: Literal["json", "console"] | None = Field(None, alias="TASKTRAIL_LOG")

    @property
    def server_conninfo(self) -> str | None:
        """The server's database, None for the embedded one."""
        url = self.database_url or self.neon_db_url
        return url.get_secret_value() if url else None

    @property
    def admin_conninfo(self) -> str | None:
        """The database for migrations and operators, None for the embedded one."""
        url = self.admin_database_url
        return url.get_secret_value() if url else self.server_conninfo

    @property
    def authenticates(self) -> bool:
        """Whether the environment says how tokens are checked."""
        return self.secret is not None or self.jwks_url is not None

    @model_validator(mode="after")
    def _one_family_of_keys(self) -> Self:
        if self.secret is not None and self.jwks_url is not None:
            raise ValueError(
                "BETTER_AUTH_SECRET and TASKTRAIL_JWKS_URL are both set: a token is checked with a"
                " shared secret or with published keys, never with either. Unset one."
            )
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < SECRET_BYTES:
            raise ValueError(
                f"BETTER_AUTH_SECRET is shorter than {SECRET_BYTES} bytes and could be guessed."
                " Make one with: openssl rand -base64 32"
            )
        return self

    @model_validator(mode="after")
    def _published_keys(self) -> Self:
        if self.jwks_url is None:
            return self
        if self.audience is None:
            raise ValueError(
                "TASKTRAIL_AUDIENCE is not set: with TASKTRAIL_JWKS_URL the tokens of other"
                " services would be accepted. Set it to this server's URL, as in the tokens."
            )
        url = urlsplit(self.jwks_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise ValueError(
                "TASKTRAIL_JWKS_URL must begin with https:// (plain http only on loopback)."
            )
        return self


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of ``environment`` (default: the process's). An empty value is unset.

    Raises:
        SettingsError: naming the setting and what to do.
    """
    source = os.environ if environment is None else environment
    given = {name: value for name, value in source.items() if value != ""}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(item) for item in error.errors())) from None


def pass_on(name: str, value: str) -> None:
    """Set a variable for the processes that this one will start."""
    os.environ[name] = value


def _problem(error: Any) -> str:
    """The setting's name and what is wrong, never its value: it may be a secret."""
    text = str(error["msg"]).removeprefix("Value error, ")
    names = ".".join(str(part) for part in error["loc"])
    return f"{names}: {text}" if names else text

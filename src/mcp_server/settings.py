"""What the environment says: read once, checked once, and passed on as values.

Nothing else reads the environment. docs/settings.md lists every name; a test compares.
"""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mcp_server.failure import Failure, Problem

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


def _conninfo(url: SecretStr) -> SecretStr:
    """Refuse here what libpq cannot read, or misreads: its complaint would quote the password."""
    import psycopg  # here: without an address of a database nobody may need it
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url.get_secret_value())
    except psycopg.ProgrammingError:
        parts = {"port": "unreadable"}
    ports, hosts = (str(parts.get(name, "")).split(",") for name in ("port", "host"))
    # A socket's folder begins with a slash, and a socket without a file with an @.
    split = any("@" in host[1:] and not host.startswith("/") for host in hosts)
    if split or not all(port == "" or port.isdecimal() for port in ports):
        raise ValueError(
            "is no Postgres URL. Write postgresql://user:password@host:5432/database, and"
            " characters such as @ : / ? # % in a password as %40 and so on."
        )
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_conninfo)]
_LENIENT = "lenient"


class Settings(BaseModel):
    """One field for each setting; the alias is its name in the environment."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    database_url: DatabaseUrl | None = Field(None, alias="DATABASE_URL")
    neon_db_url: DatabaseUrl | None = Field(None, alias="NEON_DB_URL")
    admin_database_url: DatabaseUrl | None = Field(None, alias="ADMIN_DATABASE_URL")
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
    def _authentication(self, info: ValidationInfo) -> Self:
        if info.context is not _LENIENT and (problems := list(_problems_of_authentication(self))):
            raise ValueError("\n".join(map(str, problems)))
        return self


def _problems_of_authentication(settings: Settings) -> Iterator[Problem]:
    if settings.secret is not None and settings.jwks_url is not None:
        yield Problem(
            "BETTER_AUTH_SECRET and TASKTRAIL_JWKS_URL are both set: a token is checked with a"
            " shared secret or with published keys, never with either.",
            "Unset one.",
        )
    if (
        settings.secret is not None
        and len(settings.secret.get_secret_value().encode()) < SECRET_BYTES
    ):
        yield Problem(
            f"BETTER_AUTH_SECRET is shorter than {SECRET_BYTES} bytes and could be guessed.",
            "Make one with: openssl rand -base64 32",
        )
    if settings.jwks_url is None:
        return
    if settings.audience is None:
        yield Problem(
            "TASKTRAIL_AUDIENCE is not set: with TASKTRAIL_JWKS_URL the tokens of other"
            " services would be accepted.",
            "Set it to this server's URL, as in the tokens.",
        )
    if not _is_safe(settings.jwks_url):
        yield Problem(
            "TASKTRAIL_JWKS_URL does not begin with https://.",
            "Plain http is for loopback only.",
        )


def _is_safe(address: str) -> bool:
    try:
        url = urlsplit(address)
    except ValueError:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK)


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of ``environment`` (default: the process's). An empty value is unset.

    Raises:
        SettingsError: naming the setting and what to do.
    """
    try:
        return Settings.model_validate(_given(environment))
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(item) for item in error.errors())) from None


class Reading(NamedTuple):
    """Settings as far as they can be read, what is wrong, and the names of those left out."""

    settings: Settings
    problems: list[Problem]
    left_out: set[str]


def read_what_can_be(environment: Mapping[str, str] | None = None) -> Reading:
    """Return the settings without those that are wrong: for ``doctor``."""
    given = _given(environment)
    problems = mistyped(environment)
    left_out = set()
    try:
        settings = Settings.model_validate(given, context=_LENIENT)
    except ValidationError as error:
        for fault in error.errors():
            name = str(fault["loc"][0])
            left_out.add(name)
            problems.append(
                Problem(f"{_problem(fault).rstrip('.')}.", f"Change {name}, or unset it.")
            )
        given = {name: value for name, value in given.items() if name not in left_out}
        settings = Settings.model_validate(given, context=_LENIENT)
    return Reading(settings, [*problems, *_problems_of_authentication(settings)], left_out)


def _given(environment: Mapping[str, str] | None) -> dict[str, str]:
    source = os.environ if environment is None else environment
    return {name: value for name, value in source.items() if value != ""}


NAMES = {field: str(info.alias) for field, info in Settings.model_fields.items()}
"""The name in the environment of each field."""


def mistyped(environment: Mapping[str, str] | None = None) -> list[Problem]:
    """Return which names look like settings of ours and are none: they do nothing."""
    ours = (name for name in _given(environment) if name.startswith("TASKTRAIL_"))
    return [_unknown(name) for name in ours if name not in NAMES.values()]


def _unknown(name: str) -> Problem:
    like = get_close_matches(name, NAMES.values(), 1)
    hint = f"Did you mean {like[0]}?" if like else "docs/settings.md lists them all."
    return Problem(f"{name} is set, but there is no such setting: it does nothing.", hint)


def pass_on(name: str, value: str) -> None:
    """Set a variable for the processes that this one will start."""
    os.environ[name] = value


def _problem(error: Any) -> str:
    """The setting's name and what is wrong, never its value: it may be a secret."""
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    names = ".".join(str(part) for part in error["loc"])
    return f"{names}: {text}" if names else text

"""``tasktrail doctor``: what is wrong with this configuration, and how to mend it.

It looks at everything, whatever it finds on the way: settings, database, login, durability, schema,
authentication, home. It never prints a secret: settings are shown masked, and whatever libpq or an
issuer says is searched for the secrets once more before it is shown.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import psycopg
import typer
from psycopg import AsyncConnection

from events.ledger import Json
from mcp_server import selfcheck, target
from mcp_server.auth import jwks
from mcp_server.auth.issue import check_development_secret
from mcp_server.embedded.binaries import choose, version_in
from mcp_server.embedded.home import has_data, locate
from mcp_server.embedded.server import DATABASE, PORT
from mcp_server.failure import Failure, Problem, why
from mcp_server.masking import Masking, masked_settings
from mcp_server.reach import connect_async
from mcp_server.settings import Reading, Settings, read_what_can_be
from mcp_server.trouble import DatabaseTrouble, explained

_LOGINS = """
SELECT g.rolname::text, array_agg(r.rolname::text ORDER BY r.rolname)
FROM pg_catalog.pg_roles g JOIN pg_catalog.pg_roles r
ON r.rolcanlogin AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
WHERE g.rolname IN ('tasktrail_owner', 'tasktrail_app', 'tasktrail_operator', 'tasktrail_auditor')
GROUP BY g.rolname ORDER BY g.rolname
"""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    examination = Examination(read_what_can_be())
    asyncio.run(examination.examine())
    report = examination.report()
    if as_json:
        sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("\n".join(_lines(report)) + "\n")
    if not examination.reached:
        raise typer.Exit(3)
    if examination.problems:
        raise typer.Exit(1)


class Examination:
    """Everything that was found out so far."""

    def __init__(self, reading: Reading) -> None:
        self.settings = reading.settings
        self.problems = list(reading.problems)
        self.reached = False
        unknown = dict.fromkeys(("host", "port", "dbname", "data"))
        self.database: Json = {"embedded": False, **unknown}
        self._masking = Masking(self.settings)
        self._unreadable = bool(reading.left_out & {"DATABASE_URL", "NEON_DB_URL"})

    async def examine(self) -> None:
        """Look at everything."""
        if self.settings.server_conninfo is not None:
            await self._examine_configured(self.settings.server_conninfo)
        elif not self._unreadable:
            await self._examine_embedded()
        await self._examine_authentication()
        self.problems += _problems_of_binaries(self.settings)
        self.problems += _problems_of_home(self.settings)

    def report(self) -> Json:
        """Return what ``--json`` prints, secrets of the settings masked."""
        return {
            "settings": masked_settings(self.settings),
            "database": self.database,
            "authentication": _authentication(self.settings),
            "problems": [problem._asdict() for problem in self.problems],
        }

    async def _examine_embedded(self) -> None:
        self.database |= {"port": PORT, "dbname": DATABASE, "embedded": True}
        if self.settings.admin_database_url is not None:
            self.problems.append(
                Problem(
                    "ADMIN_DATABASE_URL is set and DATABASE_URL is not: the embedded database is"
                    " used, and that other one never.",
                    "Set DATABASE_URL too, or unset ADMIN_DATABASE_URL.",
                )
            )
        if not has_data(self.settings.home):
            self.problems.append(
                Problem(
                    f"There is no database in {self.settings.home}.",
                    "If one should be there, set TASKTRAIL_HOME or DATABASE_URL to where it is;"
                    " `tasktrail serve` or `tasktrail migrate` makes a new one.",
                )
            )
            return
        with self._noted("Postgres could not be started here", "Mend that, or set DATABASE_URL."):
            place = await asyncio.to_thread(locate, self.settings.home)
            self.database |= {"host": str(place.sockets), "data": str(place.data)}
            opening = target.opened(self.settings)
            found = await asyncio.to_thread(opening.__enter__)
            try:
                binaries = await asyncio.to_thread(choose, place, self.settings.pg_bin)
                self.database["binaries"] = str(binaries.folder)
                await self._examine_server(found.server)
            finally:
                await asyncio.to_thread(opening.__exit__, None, None, None)

    async def _examine_configured(self, conninfo: str) -> None:
        info = psycopg.conninfo.conninfo_to_dict(conninfo)
        self.database |= {
            "host": info.get("host") or info.get("hostaddr"),
            "port": _port(info.get("port")),
            "dbname": info.get("dbname") or info.get("user"),
        }
        with self._noted("The database cannot be examined", _POSTGRES):
            await self._examine_server(conninfo)
        if self.settings.admin_database_url is not None:
            admin = self.settings.admin_database_url.get_secret_value()
            with self._noted("The database of ADMIN_DATABASE_URL cannot be examined", _POSTGRES):
                await self._examine_admin(admin)

    @contextmanager
    def _noted(self, what: str, mend: str) -> Iterator[None]:
        """Make a problem of what goes wrong, and go on."""
        try:
            with explained(self.settings):
                yield
        except DatabaseTrouble as trouble:
            self.problems.append(trouble.problem)
        except (Failure, psycopg.Error, OSError, *jwks.UNFETCHABLE) as error:
            said = self._masking.of(" ".join(why(error).split())) or type(error).__name__
            self.problems.append(Problem(f"{what}: {said}", mend))

    async def _examine_server(self, conninfo: str) -> None:
        async with await connect_async(conninfo, prepare_threshold=None) as connection:
            self.reached = True
            info = connection.info
            self.database |= {"host": info.host or None, "port": info.port, "dbname": info.dbname}
            facts = await selfcheck.learn(connection)
            self.database |= {
                "login": facts.login,
                "server_version": facts.server_version,
                "revision": await selfcheck.migrated_to(connection),
                "logins": dict(await (await connection.execute(_LOGINS)).fetchall()),
            }
            self.problems += await selfcheck.find_problems(connection)
            self.problems += await _missing_limits(connection, facts.login)

    async def _examine_admin(self, conninfo: str) -> None:
        async with await connect_async(conninfo, prepare_threshold=None) as connection:
            facts = await selfcheck.learn(connection)
            self.database["admin_login"] = facts.login
            if facts.there and not {"tasktrail_owner", "tasktrail_operator"} <= {*facts.groups}:
                self.problems.append(
                    Problem(
                        f"The login {facts.login!r} of ADMIN_DATABASE_URL may not do what migrate,"
                        " rebuild-projections and verify do.",
                        "Let an administrator of the database run:\n  GRANT tasktrail_owner,"
                        f" tasktrail_operator TO {selfcheck.quoted(facts.login)};",
                    )
                )

    async def _examine_authentication(self) -> None:
        secret, url = self.settings.secret, self.settings.jwks_url
        if secret is not None and _is_guessable(secret.get_secret_value()):
            self.problems.append(
                Problem(
                    "BETTER_AUTH_SECRET looks made up by hand, and could be guessed.",
                    "Make one with: openssl rand -base64 32",
                )
            )
        if url is None:
            return
        with self._noted(
            "The issuer's keys at TASKTRAIL_JWKS_URL cannot be used",
            "Look whether the address is right and this machine may reach it.",
        ):
            await jwks.fetch(url)


_POSTGRES = "Look whether it is a Postgres."

_LIMITS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}


async def _missing_limits(connection: AsyncConnection[Any], login: str) -> list[Problem]:
    """Through a pooler the server sets none for its sessions (``mcp_server.database``)."""
    columns = ", ".join(f"current_setting('{name}')" for name in _LIMITS)
    cursor = await connection.execute(f"SELECT pg_backend_pid(), {columns}")
    pid, *limits = await cursor.fetchone()  # type: ignore[misc] # there is a row
    missing = [name for name, limit in zip(_LIMITS, limits, strict=True) if limit == "0"]
    if pid == connection.info.backend_pid or not missing:
        return []
    role = selfcheck.quoted(login)
    commands = [f"  ALTER ROLE {role} SET {name} = '{_LIMITS[name]}';" for name in missing]
    return [
        Problem(
            f"There is a pooler before the database, and no {' or '.join(missing)} for {login!r}:"
            " what takes too long is not ended.",
            "Let an administrator of the database run:\n" + "\n".join(commands),
        )
    ]


def _port(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else PORT


def _authentication(settings: Settings) -> Json:
    if settings.jwks_url is not None:
        return {"mode": "jwks", "algorithms": ["EdDSA", "ES256", "RS256"]}
    if settings.secret is not None:
        return {"mode": "secret", "algorithms": ["HS256"]}
    return {"mode": "development", "algorithms": ["HS256"]}


def _is_guessable(secret: str) -> bool:
    """Whether it has few different characters, or words that stand for a secret."""
    words = ("secret", "password", "changeme", "change-me", "change_me", "example", "replace")
    return len(set(secret)) < 10 or any(word in secret.lower() for word in words)


def _problems_of_binaries(settings: Settings) -> Iterator[Problem]:
    if settings.pg_bin is not None and version_in(settings.pg_bin) is None:
        yield Problem(
            f"PG_BIN: there is no Postgres that runs in {settings.pg_bin}.",
            "Point it at a folder with initdb and postgres, or unset it.",
        )


def _problems_of_home(settings: Settings) -> Iterator[Problem]:
    home = settings.home
    try:
        mode = home.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        yield Problem(
            f"TASKTRAIL_HOME: {home} cannot be used: {error.strerror}.", "Choose another folder."
        )
        return
    if not stat.S_ISDIR(mode):
        yield Problem(f"TASKTRAIL_HOME: {home} is no folder.", "Choose another.")
        return
    if os.name == "posix" and mode & 0o022:
        yield Problem(
            f"TASKTRAIL_HOME: others may write in {home}, and put a secret of theirs there.",
            f"Run: chmod go-w {home}",
        )
    if not os.access(home, os.W_OK | os.X_OK):
        yield Problem(
            f"TASKTRAIL_HOME: this user may not write in {home}.",
            "Run as its owner, or choose another folder.",
        )
    elif not settings.authenticates:
        try:
            check_development_secret(home)
        except Failure as failure:
            yield Problem(f"{failure}", "Then run this again.")


def _lines(report: Json) -> Iterator[str]:
    """Yield the report for people."""
    yield "Settings"
    for name, value in report["settings"].items():
        yield f"  {name:<32} {_shown(value)}"
    for title in ("database", "authentication"):
        yield title.capitalize()
        for name, value in report[title].items():
            for inner, one in value.items() if isinstance(value, dict) else ((name, value),):
                yield f"  {inner:<32} {_shown(one)}"
    problems = report["problems"]
    yield "" if problems else "\nNothing is wrong."
    for number, problem in enumerate(problems, start=1):
        yield f"{number}. {problem['what']}"
        yield "   " + problem["mend"].replace("\n", "\n   ")


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value)) or "-"
        case _:
            return str(value)

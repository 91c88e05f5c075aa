"""What the server looks at before it serves, and refuses to start without; `doctor` looks too."""

from typing import Any, NamedTuple

import psycopg

from events.store import Connection
from mcp_server import migrate
from mcp_server.failure import Failure, Problem


class Unsafe(Failure):
    """The database would not keep its promises; the text says why and what to do."""

    exit_code = 3


class Facts(NamedTuple):
    """What the database says of itself and of the login.

    ``groups``: whose rights the login has; ``open_tables``: where users are not kept apart.
    """

    login: str
    superuser: bool
    bypasses: bool
    groups: list[str]
    there: bool
    server_version: int
    risky: list[str]
    open_tables: list[str]


_FACTS = """
SELECT current_user::text, r.rolsuper, r.rolbypassrls,
    ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_roles g
          WHERE g.rolname IN
              ('tasktrail_owner', 'tasktrail_app', 'tasktrail_operator', 'tasktrail_auditor')
          AND pg_catalog.pg_has_role(g.oid, 'USAGE') ORDER BY g.rolname),
    EXISTS (SELECT FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'tasktrail' AND c.relname = 'alembic_version'),
    current_setting('server_version_num')::int,
    ARRAY(SELECT s.name FROM pg_catalog.pg_settings s
          WHERE s.name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND s.setting = 'off'
          ORDER BY s.name),
    ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'tasktrail'
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
          WHERE c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
          ORDER BY c.relname)
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


async def refuse_unsafe(connection: Connection, *, allowed: bool) -> None:
    """Raises: Unsafe, unless that is ``allowed``: isolation or durability would not hold."""
    if not allowed and (problems := await find_problems(connection)):
        raise Unsafe(
            "\n".join(map(str, problems))
            + "\nOr set TASKTRAIL_ALLOW_UNSAFE_DATABASE=1 to go on all the same."
        )


async def find_problems(connection: Connection) -> list[Problem]:
    """Return what is wrong; nothing if this login and this server are fit."""
    facts = await learn(connection)
    found = [
        _isolation(facts),
        _walls(facts),
        _rights(facts),
        _durability(facts),
    ]
    if facts.superuser or facts.groups or not facts.there:
        found.append(_schema(await migrated_to(connection)))
    return [problem for problem in found if problem is not None]


async def learn(connection: Connection) -> Facts:
    """Return what the database says."""
    cursor = await connection.execute(_FACTS)
    return Facts(*await cursor.fetchone())  # type: ignore[misc] # there is a row of this login


def _isolation(facts: Facts) -> Problem | None:
    others = [group for group in facts.groups if group != "tasktrail_app"]
    if facts.superuser:
        what = "is a superuser"
    elif facts.bypasses:
        what = "bypasses row-level security"
    elif "tasktrail_owner" in others:
        what = "may act as the owner of the tables"
    elif others:
        what = f"has the rights of {' and '.join(others)} and may read every ledger"
    else:
        return None
    return Problem(
        f"The login {facts.login!r} {what}: users would not be isolated from each other by the"
        " database.",
        "Make one that may only do what the server does, and put it in DATABASE_URL (keep this one"
        " as ADMIN_DATABASE_URL):\n"
        "  CREATE ROLE tasktrail_server LOGIN PASSWORD '...' IN ROLE tasktrail_app;",
    )


def _walls(facts: Facts) -> Problem | None:
    if not facts.open_tables:
        return None
    return Problem(
        f"Row-level security is not forced on {' and '.join(facts.open_tables)}: users would not be"
        " isolated from each other by the database.",
        "Find out who switched it off. For each of these tables let its owner run:\n"
        f"  ALTER TABLE tasktrail.{facts.open_tables[0]}"
        " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;",
    )


def _rights(facts: Facts) -> Problem | None:
    if facts.superuser or facts.bypasses or facts.groups or not facts.there:
        return None
    return Problem(
        f"The login {facts.login!r} is no member of tasktrail_app: it may not do what the server"
        " does.",
        "Let an administrator of the database run:\n"
        f"  GRANT tasktrail_app TO {quoted(facts.login)};",
    )


def _durability(facts: Facts) -> Problem | None:
    if not facts.risky:
        return None
    return Problem(
        f"{' and '.join(facts.risky)} {'is' if len(facts.risky) == 1 else 'are'} off: a power cut"
        " would lose or break what was acknowledged.",
        "Switch on in postgresql.conf what is off, or set it on the role or the database.",
    )


def _schema(revision: str | None) -> Problem | None:
    """A newer schema is no problem: a migration lets older servers go on (docs/evolution.md)."""
    newest = migrate.newest()
    if revision is None:
        return Problem("The database has no Tasktrail in it yet.", "Run: tasktrail migrate")
    if revision < newest:
        return Problem(
            f"The schema is at revision {revision}, this program needs {newest}.",
            "Run: tasktrail migrate",
        )
    return None


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def migrated_to(connection: Connection) -> str | None:
    """Return the schema's revision, None if there is no schema that this login can see."""
    try:
        cursor = await connection.execute("SELECT version_num FROM tasktrail.alembic_version")
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.InsufficientPrivilege,
    ):
        return None
    row: Any = await cursor.fetchone()
    return row[0] if row else None

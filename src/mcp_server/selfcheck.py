"""What the server looks at before it serves, and refuses to start without."""

from typing import Any

import psycopg

from events.store import Connection
from mcp_server import migrate
from mcp_server.failure import Failure

OLDEST = 150_000
"""Postgres 15: the oldest major version that is tested against."""


class Unsafe(Failure):
    """The database would not keep its promises; the text says why and what to do."""

    exit_code = 3


_FACTS = """
SELECT r.rolsuper, r.rolbypassrls, current_user::text,
    pg_has_role(current_user, 'tasktrail_owner', 'USAGE'),
    current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('server_version_num')::int
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


async def refuse_unsafe(connection: Connection, *, allowed: bool) -> None:
    """Raises: Unsafe, unless that is ``allowed``: isolation or durability would not hold."""
    if not allowed and (problems := await find_problems(connection)):
        raise Unsafe("\n".join(problems))


async def find_problems(connection: Connection) -> list[str]:
    """Return what is wrong, a line each; nothing if this login and this server are fit."""
    if not await _has_roles(connection):
        return ["The database has no Tasktrail in it yet. Run: tasktrail migrate"]
    cursor = await connection.execute(_FACTS)
    row: Any = await cursor.fetchone()
    superuser, bypasses, login, owner, fsync, full_page_writes, server_version = row
    problems = []
    if superuser or bypasses or owner:
        what = "is a superuser" if superuser else "bypasses row-level security"
        what = "may act as the owner of the tables" if not superuser and not bypasses else what
        problems.append(
            f"The login {login!r} {what}: users would not be isolated from each other by the"
            " database. Make one that may only do what the server does, and put it in"
            " DATABASE_URL (keep this one as ADMIN_DATABASE_URL):\n"
            "  CREATE ROLE tasktrail_server LOGIN PASSWORD '...' IN ROLE tasktrail_app;\n"
            "Or set TASKTRAIL_ALLOW_UNSAFE_DATABASE=1 to go on all the same."
        )
    if fsync != "on" or full_page_writes != "on":
        problems.append(
            "fsync or full_page_writes is off: a power cut would lose or break what was"
            " acknowledged. Switch both on in postgresql.conf."
        )
    if server_version < OLDEST:
        problems.append(f"The server is older than Postgres {OLDEST // 10_000}: upgrade it.")
    revision = await migrated_to(connection)
    if revision != migrate.newest():
        problems.append(
            f"The schema is at revision {revision or 'none'}, this program needs"
            f" {migrate.newest()}. Run: tasktrail migrate"
        )
    return problems


async def _has_roles(connection: Connection) -> bool:
    cursor = await connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = 'tasktrail_owner'"
    )
    row: Any = await cursor.fetchone()
    return bool(row[0])


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

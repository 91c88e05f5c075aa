"""``tasktrail migrate``: bring the schema up to date, and say what was done."""

import sys
from typing import Annotated

import orjson
import typer

from mcp_server import migrate, settings, target
from mcp_server.migrate import Upgrade
from mcp_server.reach import connect

_SERVER_LOGINS = """
SELECT count(*) FROM pg_catalog.pg_roles r
WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, 'tasktrail_app', 'MEMBER')
"""


def migrate_schema(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    with target.opened(settings.read(), create=True) as database:
        done = database.migrated or migrate.upgrade(database.admin)
        needs_login = not as_json and not _has_server_login(database.admin)
    if as_json:
        sys.stdout.write(orjson.dumps(done._asdict()).decode() + "\n")
        return
    sys.stdout.write(_told(done) + "\n")
    if needs_login:
        sys.stdout.write(
            "No login for the server is there yet. Make one, and put it in DATABASE_URL:\n"
            "  CREATE ROLE tasktrail_server LOGIN PASSWORD '...' IN ROLE tasktrail_app;\n"
        )


def _has_server_login(conninfo: str) -> bool:
    with connect(conninfo) as connection:
        return bool(connection.execute(_SERVER_LOGINS).fetchall()[0][0])


def _told(done: Upgrade) -> str:
    if done.before is None:
        return f"Made the schema: it is at revision {done.after}."
    if done.before != done.after:
        return f"Migrated the schema from revision {done.before} to {done.after}."
    return f"Nothing to do: the schema is at revision {done.after}."

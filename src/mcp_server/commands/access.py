"""``tasktrail access``: who looked at whose ledger."""

import asyncio
import sys
from typing import Annotated

import orjson
import typer

from events.ledger import Json
from events.stamp import iso
from mcp_server import settings, target
from mcp_server.commands.arguments import OptionalUserId
from mcp_server.commands.printing import Column, Rows, pages, printable, shown_at
from mcp_server.evidence.access_log import AccessRecord, Chain, read_records
from mcp_server.reach import connect_async

COLUMNS = (
    Column("user", 20),
    Column("number", 6, number=True),
    Column("at", 20),
    Column("login", 18),
    Column("who", 24),
    Column("command", 7),
    Column("positions", 15),
    Column("filters"),
)


def access(
    user: OptionalUserId = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    with target.opened(settings.read()) as database:
        faults = asyncio.run(_show(database.reader, user, as_json))
    if faults:
        raise typer.Exit(1)


async def _show(conninfo: str, user: str | None, as_json: bool) -> int:
    """Print the records; return how many are not as they were written."""
    chain, rows, faults = Chain(), Rows(COLUMNS), 0
    async with await connect_async(conninfo) as connection:
        async for page in pages(read_records(connection, user)):
            for record in page:
                faults += _complain(record, chain.add(record))
                if as_json:
                    sys.stdout.write(orjson.dumps(_json(record)).decode() + "\n")
            if not as_json:
                rows.add(map(_row, page))
    return faults


def _complain(record: AccessRecord, fault: str | None) -> bool:
    if fault is not None:
        where = f"{printable(record.user_id)} record {record.number}"
        sys.stderr.write(f"tasktrail: {where}: {fault}.\n")
    return fault is not None


def _details(record: AccessRecord) -> Json:
    try:
        details = orjson.loads(record.details)
    except orjson.JSONDecodeError:
        details = None
    return details if isinstance(details, dict) else {"unreadable": True}


def _json(record: AccessRecord) -> Json:
    return {
        "user": record.user_id,
        "number": record.number,
        "at": iso(record.at),
        "login": record.login,
        **_details(record),
        "hash": record.hash.hex(),
    }


def _row(record: AccessRecord) -> list[str]:
    details = _details(record)
    first, last = details.get("first"), details.get("last")
    filters = details.get("filters")
    told = filters.items() if isinstance(filters, dict) else ()
    cells = (
        record.login,
        f"{details.get('os_user', '-')}@{details.get('host', '-')}",
        str(details.get("command", "-")),
        "-" if first is None else f"{first}-{'' if last is None else last}",
        "  ".join(f"{name}={value}" for name, value in told),
    )
    head = (printable(record.user_id), str(record.number), shown_at(record.at))
    return [*head, *map(printable, cells)]

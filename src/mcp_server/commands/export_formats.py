"""Events as lines of other programs' formats: CSV for spreadsheets, CloudEvents 1.0 for pipelines.

Neither can be verified: the hash chain needs all columns, exactly. That is what bundles are for.
"""

import csv
from collections.abc import Iterable
from io import StringIO
from typing import Any
from urllib.parse import quote

import orjson

from events.ledger import Json, Record
from mcp_server.evidence.event_line import to_time

ACTOR = (
    "client_id",
    "client_name",
    "client_version",
    "tool",
    "transport",
    "conversation_id",
    "message_id",
    "trace_id",
)
CSV_COLUMNS = (
    "position",
    "recorded_at",
    "type",
    "stream_type",
    "stream_id",
    "version",
    *ACTOR,
    "reason",
    "data",
    "event_id",
    "command_id",
    "hash",
)
_SIGNS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
_SPACE = tuple("\t\r\n")


def to_csv(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return RFC 4180 lines in UTF-8, every cell in quotes and none of them a formula."""
    text = StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [_harmless(cell) for cell in row] for row in rows
    )
    return text.getvalue().encode()


def _harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: such text begins with an apostrophe.

    White space before a sign may be dropped, and a full-width sign be taken for the ordinary one.
    """
    if isinstance(cell, str) and (cell[:1] in _SPACE or cell.lstrip()[:1] in _SIGNS):
        return f"'{cell}"
    return cell


def csv_row(record: Record) -> list[Any]:
    """Return the cells of ``CSV_COLUMNS``."""
    body, actor = _object(record.body), _object(record.actor)
    return [
        record.position,
        to_time(record.recorded_at),
        record.type,
        record.stream_type,
        record.stream_id,
        record.version,
        *(actor.get(name) for name in ACTOR),
        body.get("reason"),
        _text(body.get("data", record.body)),
        str(record.event_id),
        str(record.command_id),
        record.hash.hex(),
    ]


def _object(value: Any) -> Json:
    """Return a body or an actor as it should be, whatever a forger made of it."""
    return value if isinstance(value, dict) else {}


def _text(data: Any) -> str | None:
    return None if data is None else orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def to_cloud_event(user_id: str, record: Record) -> Json:
    """Return a CloudEvent (1.0.2, JSON format). Erased words are missing, not null.

    ``sequence`` is the ledger position as text, in the shape of the documented extension.
    """
    words: Json = {}
    if record.body is not None:
        body = _object(record.body)
        words = {"fields": body.get("data", record.body), "reason": body.get("reason")}
    return {
        "specversion": "1.0",
        "id": str(record.event_id),
        "source": f"/ledgers/{quote(user_id, safe='')}",
        "type": f"tasktrail.{record.type}.v{record.schema_version}",
        "subject": f"{record.stream_type}/{record.stream_id}",
        "time": to_time(record.recorded_at),
        "datacontenttype": "application/json",
        "sequence": str(record.position),
        "data": {
            **words,
            "actor": record.actor,
            "version": record.version,
            "hash": record.hash.hex(),
        },
    }

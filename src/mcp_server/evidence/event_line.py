"""One event as a line of JSON, as bundles and reports carry it.

A line holds the columns of ``tasktrail.events``: bytes as lower-case hex, times as ISO 8601 in UTC
with microseconds and a ``Z``. It is in canonical form (RFC 8785), so there is exactly one line for
an event: whatever reads back to the same event but looks different has been tampered with.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from events.ledger import Json, NotOurs, Record, jcs

LONGEST = 1 << 20
"""Bytes of a line at most: several times the longest that the tools' limits allow."""

LARGEST = 2**63 - 1
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Hash = Annotated[bytes, Field(min_length=32, max_length=32)]
HexHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_HexSalt = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Uuid = Annotated[
    str, Field(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
_Time = Annotated[
    str, Field(pattern=r"^[0-9-]{10}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$")
]

_Object = InstanceOf[dict[str, Any]]  # as it was parsed: a dict[str, Any] would be copied


class BadLine(Exception):
    """A line is not one that ``to_line`` writes; the text says why and quotes nothing."""


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: str
    position: Whole
    stream_type: str
    stream_id: Whole
    version: Whole
    type: str
    schema_version: Whole
    event_id: _Uuid
    command_id: _Uuid
    actor: _Object
    commitment: HexHash
    body: _Object | None
    salt: _HexSalt | None
    content_hash: HexHash
    hash: HexHash
    recorded_at: _Time


def to_line(user_id: str, record: Record) -> bytes:
    """Return the event's line, without a line feed.

    A forger may have put in what has no canonical form: whoever checks the line will find that.
    """
    columns = to_json(user_id, record)
    try:
        return jcs(columns)
    except NotOurs:
        return orjson.dumps(columns, option=orjson.OPT_SORT_KEYS)


def to_json(user_id: str, record: Record) -> Json:
    """Return the event's columns as JSON values."""
    return {
        "user_id": user_id,
        **record._asdict(),
        "event_id": str(record.event_id),
        "command_id": str(record.command_id),
        "commitment": record.commitment.hex(),
        "salt": None if record.salt is None else record.salt.hex(),
        "content_hash": record.content_hash.hex(),
        "hash": record.hash.hex(),
        "recorded_at": to_time(record.recorded_at),
    }


def to_time(at: datetime) -> str:
    """Return ``at`` as ISO 8601 in UTC, always with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_line(line: bytes) -> tuple[str, Record]:
    """Return the user and the event of a line.

    Raises:
        BadLine: it is not JSON, not an event, or not in canonical form.
    """
    try:
        columns = orjson.loads(line)
        if orjson.dumps(columns, option=orjson.OPT_SORT_KEYS) != line:
            raise BadLine("is not in canonical form")
        row = _Line.model_validate(columns)
        return row.user_id, _record(row)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"][:1])
        raise BadLine(f"{where}: {problem['type']}" if where else "is no object") from None
    except orjson.JSONDecodeError:
        raise BadLine("is not JSON") from None
    except (ValueError, TypeError):
        raise BadLine("holds a value that no event can hold") from None


def _record(row: _Line) -> Record:
    return Record(
        row.position,
        row.stream_type,
        row.stream_id,
        row.version,
        row.type,
        row.schema_version,
        row.event_id,
        row.command_id,
        row.actor,
        bytes.fromhex(row.commitment),
        row.body,
        None if row.salt is None else bytes.fromhex(row.salt),
        bytes.fromhex(row.content_hash),
        bytes.fromhex(row.hash),
        datetime.fromisoformat(row.recorded_at),
    )

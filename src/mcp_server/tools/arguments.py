"""What the arguments of several tools are made of. The schema that agents see comes from here."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from events.errors import Refused
from events.ledger import Json
from events.text import OneLine

LARGEST = 2**53 - 1


def _digits(value: Any) -> Any:
    """Design B's clients send ids as strings."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        return int(value)
    return value


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isdigit():
        return _digits(value)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a position (integer) or a time with offset (2026-12-01T09:00:00Z)")


# Not a list of types: models that take their tools in OpenAPI's dialect cannot have that.
_INTEGER_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}

Id = Annotated[
    int, BeforeValidator(_digits), Field(ge=1, le=LARGEST), WithJsonSchema(_INTEGER_OR_STRING)
]
Position = Annotated[
    int, BeforeValidator(_digits), Field(ge=0, le=LARGEST), WithJsonSchema(_INTEGER_OR_STRING)
]
Moment = Annotated[
    Annotated[int, Field(ge=0, le=LARGEST)] | datetime,
    BeforeValidator(_moment),
    WithJsonSchema(_INTEGER_OR_STRING),
]
Version = Annotated[int, Field(ge=1, le=LARGEST)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), OneLine]
IdempotencyKey = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128), OneLine
]
Cursor = Annotated[str, StringConstraints(max_length=500)]


def says(text: str) -> Any:
    """Return what an agent is told about an argument: a few words, it pays for each."""
    return Field(description=text)


DATE = "date, or date-time with offset"
THEN = "position or time: as it was after that"
NEXT = "next_cursor of the page before"


class Arguments(BaseModel):
    """The arguments of one tool: exactly these, of exactly these types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    tool: ClassVar[str]


class Change(Arguments):
    """The arguments that every change takes."""

    reason: Annotated[Reason | None, says("why; kept in the history")] = None
    idempotency_key: Annotated[IdempotencyKey | None, says("repeated, it is done once")] = None

    def request(self) -> Json:
        """Return what makes two requests the same: the tool's own arguments, as given."""
        return self.model_dump(
            mode="json", exclude={"reason", "idempotency_key"}, exclude_defaults=True
        )


def pack(*key: Any) -> str:
    """Return an opaque cursor for a page that continues after ``key``."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def is_whole(value: Any) -> bool:
    """Whether a part of a cursor can be an id or a position."""
    return type(value) is int and 0 <= value <= LARGEST


def unpack(
    cursor: str | None, kind: str, parts: tuple[Callable[[Any], bool], ...]
) -> tuple[Any, ...] | None:
    """Return the key of a cursor that was made for ``kind``; None without one.

    ``parts`` tell for each part of the key whether it can be one.

    Raises:
        Refused: ``invalid_argument``, for a cursor that was not made by ``pack`` for this.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        made_for, *key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        made_for, key = None, []
    fits = made_for == kind and len(key) == len(parts)
    if fits and all(can_be(value) for can_be, value in zip(parts, key, strict=True)):
        return tuple(key)
    raise invalid("cursor", "is not one that this question gave", "Start again without cursor.")


CORRECT_IT = "Correct it and call again; nothing was done."


def invalid(argument: str, problem: str, hint: str = CORRECT_IT) -> Refused:
    """Return the refusal of an argument, by its name."""
    return Refused("invalid_argument", f"{argument} {problem}.", hint, {"argument": argument})

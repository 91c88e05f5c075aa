"""Arguments that several commands take: a user, a moment."""

from datetime import datetime
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from events.ledger import Json
from events.stamp import iso
from mcp_server.auth.identity import check_user_id
from mcp_server.tools.arguments import Moment

MOMENT = "a position, or a time with offset (2026-12-01T09:00:00Z)"

_MOMENT: TypeAdapter[int | datetime] = TypeAdapter(Moment)


def check_user(text: str | None) -> str | None:
    """Return ``text`` if it can be a user. Raises: typer.BadParameter."""
    try:
        return text if text is None else check_user_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


WHOSE = typer.Argument(help="Whose ledger.", callback=check_user)
UserId = Annotated[str, WHOSE]
OptionalUserId = Annotated[str | None, WHOSE]


def moment(text: str | None, option: str) -> int | datetime | None:
    """Return the moment that an option names. Raises: typer.BadParameter."""
    if text is None:
        return None
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"must be {MOMENT}", param_hint=option) from None


def shown_moment(when: int | datetime | None) -> int | str | None:
    """Return a moment as JSON has it."""
    return iso(when) if isinstance(when, datetime) else when


def given(filters: Json) -> Json:
    """Return what was asked for: the filters that are set."""
    return {name: value for name, value in filters.items() if value is not None}

"""Arguments that several commands take: a user, a moment, a number, one of some words.

Each is refused by saying what is wrong with it and what is taken.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from events.ledger import Json
from events.stamp import iso
from mcp_server.auth.identity import check_user_id
from mcp_server.tools.arguments import LARGEST, Moment

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
        raise typer.BadParameter(_no_moment(text), param_hint=f"'{option}'") from None


def _no_moment(text: str) -> str:
    with suppress(ValueError):
        local = datetime.fromisoformat(text)
        if local.tzinfo is None:
            return f"{shown(text)} has no offset. In UTC it is {local.isoformat()}Z"
    return f"{shown(text)} is neither a position (17) nor a time with offset (2026-12-01T09:00:00Z)"


def shown_moment(when: int | datetime | None) -> int | str | None:
    """Return a moment as JSON has it."""
    return iso(when) if isinstance(when, datetime) else when


def whole_number(help_: str, least: int = 1, most: int = LARGEST) -> Any:
    """Return an option that takes a whole number from ``least`` to ``most``."""
    taken = f"a whole number from {least} to {most}"
    if most == LARGEST:
        taken = f"a whole number, {least} or more" if least > -LARGEST else "a whole number"

    def read(value: str | int) -> int:
        text = str(value)
        if re.fullmatch("-?[0-9]{1,17}", text) and least <= int(text) <= most:
            return int(text)
        too_large = most == LARGEST and re.fullmatch("[0-9]{16,}", text)
        problem = "is too large" if too_large else f"is not {taken}"
        raise typer.BadParameter(f"{shown(text)} {problem}")

    metavar = "<int>" if most == LARGEST else f"<{least}-{most}>"
    return typer.Option(help=help_, parser=read, metavar=metavar)


def one_of(choices: type[Enum], help_: str, *names: str) -> Any:
    """Return an option that takes the value of one of ``choices``."""
    values = [str(choice.value) for choice in choices]

    def read(value: Any) -> Enum:
        if isinstance(value, choices):
            return value
        try:
            return choices(value)
        except ValueError:
            problem = f"{shown(value)} is not one of {', '.join(values)}"
            raise typer.BadParameter(problem) from None

    def begun(incomplete: str) -> Iterable[str]:
        return [value for value in values if value.startswith(incomplete)]

    metavar = f"[{'|'.join(values)}]"
    return typer.Option(*names, help=help_, parser=read, metavar=metavar, autocompletion=begun)


_LONGEST = 50


def shown(text: str) -> str:
    """Return what was given in quotes, cut when it is long."""
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def given(filters: Json) -> Json:
    """Return what was asked for: the filters that are set."""
    return {name: value for name, value in filters.items() if value is not None}

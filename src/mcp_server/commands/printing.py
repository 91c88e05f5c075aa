"""What commands print: a table on a terminal, aligned lines otherwise, as it comes.

What people stored is shown without anything that a terminal would obey or that would break a line.
"""

import shutil
import sys
import unicodedata
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple, Self, TypeVar

import orjson
from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from events.stamp import iso

LONGEST_VALUE = 60
PAGE = 250
"""Rows that are laid out at a time."""

GAP = 2
INDENT = 4
LEAST_ROOM = 24
"""Characters that the last column needs beside the others."""

T = TypeVar("T")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


class Column(NamedTuple):
    """``width``: at most; the last column takes what is left."""

    title: str
    width: int = 0
    number: bool = False


def printable(text: str) -> str:
    """Return ``text`` on one line, with a mark for each character that would not be seen."""
    if text.isprintable():
        return text
    return "".join(_seen(character) for character in text)


def _seen(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character == "\t":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in _HIDDEN else character


def counted(number: int, things: str) -> str:
    """Return ``1 event``, ``1,234 events``: ``things`` is what several are called."""
    return f"{number:,} {things.removesuffix('s') if number == 1 else things}"


def shown_value(value: Any) -> str:
    """Return a field's value, cut when it is long."""
    text = whole_value(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def whole_value(value: Any) -> str:
    """Return a value as people read it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def shown_seconds(seconds: float) -> str:
    """Return how long something took: ``0.02 s``, ``12.3 s``."""
    return f"{max(seconds, 0.01):.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def shown_at(at: datetime) -> str:
    """Return a time in UTC, to the second."""
    return iso(at.replace(microsecond=0))


class JsonObject:
    """Prints one JSON object; what its arrays hold comes bit by bit, and none of it is kept.

    ``with JsonObject(user="ann") as written: ...``: it is printed when it is complete, and not at
    all if that is left by an exception: half a document is none. Beyond a megabyte it waits in a
    temporary file.
    """

    _IN_MEMORY = 1 << 20

    def __init__(self, **fields: Any) -> None:
        self._text = SpooledTemporaryFile(  # noqa: SIM115 - __exit__ closes it
            self._IN_MEMORY, "w+", encoding="utf-8", newline=""
        )
        self._text.write("{")
        self._members = self._items = 0
        self.add(fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._text:
            if kind is None:
                self._text.write("}\n")
                self._text.seek(0)
                shutil.copyfileobj(self._text, sys.stdout)

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add members."""
        for name, value in fields.items():
            self._begin(name)
            self._write(value)

    def _begin(self, name: str) -> None:
        self._text.write("," if self._members else "")
        self._members += 1
        self._write(name)
        self._text.write(":")

    def array(self, name: str) -> None:
        """Begin an array, the last one being complete."""
        self._begin(name)
        self._text.write("[")
        self._items = 0

    def item(self, value: Any) -> None:
        """Write an item of the array."""
        self._text.write(",\n" if self._items else "\n")
        self._write(value)
        self._items += 1

    def end_array(self) -> None:
        """End the array."""
        self._text.write("]")

    def _write(self, value: Any) -> None:
        self._text.write(orjson.dumps(value).decode())


class Rows:
    """Prints rows as they come: a table on a terminal, a line each otherwise."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns[:-1]
        self._last = columns[-1]
        self._console = Console(highlight=False) if sys.stdout.isatty() else None
        self._widths: list[int] = []
        self._begun = False

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Print some more rows of texts, already ``printable``."""
        if self._console is None:
            sys.stdout.write("".join(self._aligned(row) + "\n" for row in rows))
        elif shown := list(rows):
            if not self._begun:
                self._widths = list(self._measured(shown))
            room = self._console.width - sum(self._widths) - GAP * len(self._widths)
            blocks = [self._table(shown)] if room >= LEAST_ROOM else self._blocks(shown)
            for block in blocks:
                self._console.print(block)
            self._begun = True

    def _measured(self, rows: list[Sequence[str]]) -> Iterator[int]:
        """Yield how wide the columns are: the first rows decide for those that come later."""
        for number, column in enumerate(self._columns):
            cells = (column.title, *(row[number] for row in rows))
            yield min(column.width, max(map(cell_len, cells)))

    def _table(self, rows: list[Sequence[str]]) -> RenderableType:
        table = Table(box=None, show_header=not self._begun, expand=True, pad_edge=False)
        for column, width in zip(self._columns, self._widths, strict=True):
            justify: JustifyMethod = "right" if column.number else "left"
            table.add_column(column.title, width=width, justify=justify, overflow="fold")
        table.add_column(self._last.title, ratio=1, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    def _blocks(self, rows: list[Sequence[str]]) -> Iterator[RenderableType]:
        """Yield each row as two: where it is too narrow, the last column goes below the others."""
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], self._widths, strict=True)]
            yield Text("  ".join(cells).rstrip())
            yield Padding(Text(row[-1]), (0, 0, 0, INDENT))

    def _aligned(self, row: Sequence[str]) -> str:
        cells = [
            cell.rjust(column.width) if column.number else cell.ljust(column.width)
            for column, cell in zip(self._columns, row, strict=False)
        ]
        return "  ".join([*cells, row[-1]]).rstrip()


def print_list(columns: Sequence[Column], rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows, whose keys are the titles of the columns: a JSON list, or as ``Rows`` does."""
    if as_json:
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
        return
    Rows(columns).add([printable(str(row[each.title])) for each in columns] for row in rows)


async def pages(items: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """Yield ``items`` in lists, to be laid out together."""
    page: list[T] = []
    async for item in items:
        page.append(item)
        if len(page) == PAGE:
            yield page
            page = []
    yield page

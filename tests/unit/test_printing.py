"""What commands print: what people stored can neither command a terminal nor break a line."""

import re
import sys
from collections.abc import Callable
from io import StringIO

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.commands.printing import (
    LONGEST_VALUE,
    Column,
    JsonObject,
    Rows,
    printable,
    shown_value,
)

COLUMNS = (Column("id", 4, number=True), Column("who", 6), Column("what"))


@given(st.text())
def test_everything_is_one_line_of_visible_characters(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200b\ufeff")


def test_ordinary_text_is_left_as_it_is() -> None:
    assert printable("Grüße aus 東京 👋") == "Grüße aus 東京 👋"
    assert printable("a\nb\tc\x1b[31m") == "a⏎b c\ufffd[31m"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "True"),
        (["a", "b"], "a, b"),
        ("x" * 99, "x" * (LONGEST_VALUE - 1) + "…"),
    ],
)
def test_values_are_short(value: object, shown: str) -> None:
    assert shown_value(value) == shown


def test_rows_are_aligned_lines_when_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows(COLUMNS)
    rows.add([["1", "ann", "a"], ["22", "somebody else", "b"]])
    rows.add([["333", "bob", ""]])
    assert capsys.readouterr().out == "   1  ann     a\n  22  somebody else  b\n 333  bob\n"


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int, *chunks: list[list[str]]) -> list[str]:
    """Return the lines that a terminal would show."""
    terminal = StringIO()
    isatty: Callable[[], bool] = lambda: True  # noqa: E731 - a method to be
    monkeypatch.setattr(terminal, "isatty", isatty)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    rows = Rows(COLUMNS)
    for chunk in chunks:
        rows.add(chunk)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    return [line.rstrip() for line in plain.splitlines()]


def test_on_a_terminal_they_are_a_table_with_one_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "[red]long enough to need a second line"
    lines = on_terminal(monkeypatch, 40, [["1", "ann", long]], [["2", "bob", "b"]])
    assert lines == [
        "id  who  what",
        " 1  ann  [red]long enough to need a",
        "         second line",
        " 2  bob  b",
    ]


def test_on_a_narrow_terminal_the_last_column_goes_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = on_terminal(monkeypatch, 20, [["1", "ann", "long enough to need a second line"]])
    assert lines == ["1   ann", "    long enough to", "    need a second", "    line"]


def test_a_json_object_is_made_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonObject(user="ann") as written:
        written.array("none")
        written.end_array()
        written.array("some")
        for number in range(3):
            written.item({"n": number})
        written.end_array()
        written.add({"last": None})
    told = orjson.loads(capsys.readouterr().out)
    assert told == {
        "user": "ann",
        "none": [],
        "some": [{"n": 0}, {"n": 1}, {"n": 2}],
        "last": None,
    }


def test_a_json_object_without_members_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonObject():
        pass
    assert orjson.loads(capsys.readouterr().out) == {}


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_a_json_object_is_printed_whole_or_not_at_all(
    capsys: pytest.CaptureFixture[str], size: int
) -> None:
    text = "é" * size
    with pytest.raises(ZeroDivisionError), JsonObject(text=text) as written:
        written.add({"more": 1 // 0})
    assert capsys.readouterr().out == ""
    with JsonObject(text=text):
        pass
    assert orjson.loads(capsys.readouterr().out) == {"text": text}

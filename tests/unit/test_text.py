"""What text may hold: everything people write, nothing that makes readers see different things."""

from typing import Annotated

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from events.text import OneLine, SeveralLines, safe_line, safe_text
from tests.strategies import TEXT

BREAKS = "\t\n\r"
# What each class begins and ends with; and everything in between.
UNSAFE = {
    "C0 controls": set(map(chr, range(0x20))) - set(BREAKS),
    "delete and C1 controls": set(map(chr, range(0x7F, 0xA0))),
    "bidirectional embeddings and overrides": set("\u202a\u202b\u202c\u202d\u202e"),
    "bidirectional isolates": set("\u2066\u2067\u2068\u2069"),
    "tags": set(map(chr, range(0xE0000, 0xE0080))),
}
ALLOWED = {
    "letters of every script": "Ünïcödé 買い物 מכולת بقالة किराने का",
    "combining marks": "e\u0301 \u0ba8\u0bbf",
    "emoji, joined and with variation selectors": "\U0001f469\u200d\U0001f52c \u2764\ufe0f",
    "direction marks": "\u200e\u200f\u061c",
    "spaces": "a\u00a0b\u2003c\u3000d\u200be",
    "quotes, mark-up and SQL": "'; DROP TABLE tasks; -- <script>\\u0000</script> %s {0}",
    "the edges of what is refused": "\u0020\u007e\u00a0\u2029\u202f\u2065\u206a",
    "astral planes": "\U00010000\U000dffff\U000e0080\U0010ffff",
    "private use and unassigned": "\ue000\u0378\ufffe",
}

line = TypeAdapter[str](Annotated[str, OneLine])
text = TypeAdapter[str](Annotated[str, SeveralLines])


@pytest.mark.parametrize("kind", UNSAFE)
def test_refused_in_text_and_in_lines(kind: str) -> None:
    for character in UNSAFE[kind]:
        for refuse in (safe_line, safe_text):
            with pytest.raises(ValueError, match=f"U\\+{ord(character):04X}"):
                refuse(f"be{character}fore")


@pytest.mark.parametrize("kind", ALLOWED)
def test_allowed_in_text(kind: str) -> None:
    assert text.validate_python(ALLOWED[kind]) == ALLOWED[kind]


@pytest.mark.parametrize("kind", sorted(set(ALLOWED) - {"the edges of what is refused"}))
def test_allowed_in_a_line(kind: str) -> None:
    assert safe_line(ALLOWED[kind]) == ALLOWED[kind]


@pytest.mark.parametrize("character", [*BREAKS, "\u2028", "\u2029"])
def test_line_breaks_belong_in_text_only(character: str) -> None:
    assert safe_text(f"a{character}b") == f"a{character}b"
    with pytest.raises(ValueError, match=f"U\\+{ord(character):04X}"):
        safe_line(f"a{character}b")


def test_nothing_else_is_refused() -> None:
    unsafe = set.union(*UNSAFE.values())
    everything = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    allowed = "".join(character for character in everything if character not in unsafe)
    assert safe_text(allowed) == allowed


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udc00b", "\udc00\ud800"])
@pytest.mark.parametrize("kind", [line, text])
def test_lone_surrogates_are_refused(kind: TypeAdapter[str], surrogate: str) -> None:
    with pytest.raises(ValidationError):
        kind.validate_python(surrogate)


def test_white_space_around_text_is_kept() -> None:
    assert text.validate_python("\n  Buy milk ") == "\n  Buy milk "


@pytest.mark.parametrize("value", [7, 1.5, None, ["a"], {"a": 1}, True])
@pytest.mark.parametrize("kind", [line, text])
def test_only_text_is_text(kind: TypeAdapter[str], value: object) -> None:
    with pytest.raises(ValidationError):
        kind.validate_python(value)


@given(TEXT)
def test_text_that_tests_draw_may_be_stored(drawn: str) -> None:
    assert safe_text(drawn) == drawn

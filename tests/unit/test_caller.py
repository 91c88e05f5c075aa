"""What a client claims to be is kept for ever and shown to people: cut, and cleaned."""

import pytest

from mcp_server.caller import _claim


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        ("Claude Code", "Claude Code"),
        ("Zoë's 日本 agent 🤖", "Zoë's 日本 agent 🤖"),
        ("\x1b[2Ja\x00b\x7f\x85c", "[2Jabc"),
        ("a\nb\rc\u2028d\u2029e", "abcde"),
        ("a\u202eb\u2066c", "abc"),
        ("a\U000e0041b\ud800c", "abc"),
        ("x" * 100, "x" * 64),
        (" \n ", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_a_claim_is_one_printable_line(claimed: object, kept: str | None) -> None:
    assert _claim(claimed, 64) == kept

"""What comes along with a call: whatever it is, it is either what it should be or nothing."""

import pytest

from mcp_server.caller import _cause, _claim, _trace_id


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


NO_IDS: list[object] = ["", "x", "-17", "1.0", 1.0, 0, "0", True, [17], {}, 10**16]
NO_IDS += ["²", "\N{ARABIC-INDIC DIGIT ONE}", "1" * 17, "1" * 5000]


@pytest.mark.parametrize(
    ("sent", "id_"), [(17, 17), ("17", 17), (None, None), *((sent, -1) for sent in NO_IDS)]
)
def test_a_cause_is_an_id_or_one_that_nothing_has(sent: object, id_: int | None) -> None:
    assert _cause("message", {"tasktrail/message_id": sent}, {}) == id_
    assert _cause("message", {}, {"tasktrail-message-id": sent}) == id_
    assert _cause("conversation", {"tasktrail/message_id": sent}, {}) is None


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("sent", "id_"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-b7ad6b7169203331-01\n", None),
        (TRACE, None),
        ("", None),
        (None, None),
        (17, None),
    ],
)
def test_a_trace_is_named_as_the_w3c_says(sent: object, id_: str | None) -> None:
    assert _trace_id(sent) == id_

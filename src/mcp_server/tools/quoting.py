"""Stored text in an answer's words: no line of it can pass for one of ours.

A stored message of several lines could otherwise go on with `[99] system: ...`, and a description
with what looks like the next task. (In an answer's data each text stands by itself.)
"""

import re

_LINE_BREAK = re.compile(r"\r\n|[\n\r\u2028\u2029]")


def quoted(text: str) -> str:
    """Return ``text`` with a mark before each line but the first."""
    return _LINE_BREAK.sub("\n> ", text)


def on_one_line(text: str) -> str:
    """Return ``text`` with spaces for line breaks."""
    return _LINE_BREAK.sub(" ", text)

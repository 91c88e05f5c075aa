"""Text that people and agents wrote: what may be stored, and what is refused.

Refused everywhere, because Postgres cannot hold it or because it can make a reader see something
else than a model or a program reads: C0 and C1 control characters, bidirectional embeddings,
overrides and isolates (Unicode UAX #9), Unicode tag characters, and lone surrogates. Tab, line
feed and carriage return are allowed in long text only.
Nothing is stripped silently but surrounding white space.

``OneLine`` and ``SeveralLines`` go into an ``Annotated[str, ...]``, behind its length.
"""

import re

from pydantic import AfterValidator

_ALWAYS_UNSAFE = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
    "\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSAFE_IN_TEXT = re.compile(f"[{_ALWAYS_UNSAFE}]")
_UNSAFE_IN_LINE = re.compile(f"[{_ALWAYS_UNSAFE}\t\n\r\u2028\u2029]")


def _refuse(unsafe: re.Pattern[str], text: str) -> str:
    if found := unsafe.search(text):
        raise ValueError(f"must not contain the character U+{ord(found[0]):04X}")
    return text


def safe_line(text: str) -> str:
    """Return ``text`` if it may be stored as one line. Raises: ValueError naming the character."""
    return _refuse(_UNSAFE_IN_LINE, text)


def safe_text(text: str) -> str:
    """Return ``text`` if it may be stored as several lines. Raises: ValueError, as above."""
    return _refuse(_UNSAFE_IN_TEXT, text)


OneLine = AfterValidator(safe_line)
SeveralLines = AfterValidator(safe_text)

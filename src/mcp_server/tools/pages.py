"""Where a page ends: at its limit, or at the item with which its text has become long enough."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson

from events.ledger import Json

TEXT_BYTES = 24_000
DATA_BYTES = 400_000

T = TypeVar("T")


def take(
    found: Sequence[T], limit: int, show: Callable[[T], Json], line: Callable[[Json], str]
) -> tuple[list[Json], bool]:
    """Return the items of a page as shown, and whether some of ``found`` were left out.

    ``found`` is in order and may hold one more than ``limit``. The first item is always whole.
    """
    shown: list[Json] = []
    text = data = 0
    for one in found[:limit]:
        item = show(one)
        shown.append(item)
        text += len(line(item).encode()) + 1
        data += _bytes(item)
        if text > TEXT_BYTES or data > DATA_BYTES:
            break
    return shown, len(found) > len(shown)


def _bytes(item: Json) -> int:
    try:
        return len(orjson.dumps(item))
    except TypeError:  # an integer of more than 64 bits, in a message's metadata
        return len(json.dumps(item))

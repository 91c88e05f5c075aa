"""What a command said, and the function that runs one (the fixture ``tasktrail``)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson


class Said(NamedTuple):
    """What a command ended with and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, read as one JSON value."""
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output, read as a JSON value a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Said]

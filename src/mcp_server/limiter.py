"""How often one caller may call: a token bucket each, kept as the one moment when it is full again.

Ours rather than the library `limits`: this is its GCRA in twenty lines, without a thread or a task
that has to expire keys. Memory is bounded: a full bucket is forgotten, and so is the bucket used
longest ago when there are 100,000. Each process counts for itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CALLERS = 100_000
_ROUNDING = 1e-9


class Limiter:
    """``rate`` calls a second on average, a second's worth (at least one) at once; 0: no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._depth = max(1.0, self._interval) - self._interval + _ROUNDING
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str) -> float | None:
        """Count one call of ``caller``; if it is one too many, return the seconds to wait."""
        if not self._interval:
            return None
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now)
        too_early = full_at - now - self._depth
        if too_early > 0:
            return too_early
        self._full_at[caller] = full_at + self._interval
        self._full_at.move_to_end(caller)
        self._forget(now)
        return None

    def _forget(self, now: float) -> None:
        """Drop up to two buckets that are full again, or one too many."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= MAX_CALLERS:
                return
            del self._full_at[oldest]

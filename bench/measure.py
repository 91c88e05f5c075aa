"""Run a load for a while and say what it took."""

import asyncio
import random
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

USERS = 1000


class Round(NamedTuple):
    """One round of a load. Processor times are milliseconds per operation, all processes of a side;
    None where the system does not tell."""

    per_s: float
    p50_ms: float | None
    p95_ms: float | None
    client_cpu_ms: float
    server_cpu_ms: float | None

    @property
    def cpu_ms(self) -> float:
        """Both sides together."""
        return self.client_cpu_ms + (self.server_cpu_ms or 0)


class Metered(Protocol):
    """What is measured: Postgres, or a server over it."""

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all its processes so far; None where nobody tells."""


class Cpu:
    """What both sides have used since it was made."""

    def __init__(self, server: Metered) -> None:
        self._server = server
        self._client_then = _client_seconds()
        self._server_then = server.cpu_seconds()

    def ms_per(self, operations: int) -> tuple[float, float | None]:
        """Return milliseconds per operation: the client's and the server's."""
        client = (_client_seconds() - self._client_then) / operations * 1e3
        now = self._server.cpu_seconds()
        if now is None or self._server_then is None:
            return client, None
        return client, (now - self._server_then) / operations * 1e3


def _client_seconds() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whose)


async def run(
    server: Metered, clients: int, seconds: float, operation: Callable[[], Awaitable[object]]
) -> Round:
    """Let ``clients`` callers repeat ``operation`` for ``seconds``, each as fast as it can."""
    took: list[float] = []
    cpu = Cpu(server)
    start = time.perf_counter()

    async def call() -> None:
        now = time.perf_counter()
        while now - start < seconds:
            before = now
            await operation()
            now = time.perf_counter()
            took.append(now - before)

    await asyncio.gather(*(call() for _ in range(clients)))
    elapsed = time.perf_counter() - start
    return Round(
        len(took) / elapsed, percentile(took, 50), percentile(took, 95), *cpu.ms_per(len(took))
    )


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Return the percentile in milliseconds."""
    if len(seconds) == 1:  # before 3.13 there is no quantile of one
        return seconds[0] * 1e3
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1e3


def median(rounds: Sequence[Round]) -> Round:
    """Return the median of each figure by itself."""

    def of(values: tuple[float | None, ...]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Round(*map(of, zip(*rounds, strict=True)))  # type: ignore[arg-type] # None stays None


def any_user() -> str:
    """Return one of USERS users."""
    return f"user-{random.randrange(USERS)}"

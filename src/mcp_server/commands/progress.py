"""How far long work has come, on standard error: a bar on a terminal, plain lines otherwise."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_EVERY_S = 5.0


class WorkProgress:
    """``with WorkProgress("seeding", events) as progress: progress.advance(20_000)``"""

    def __init__(self, what: str, total: int, unit: str = "events") -> None:
        """``what``: an -ing form; ``total``: so much work in all, about."""
        self.done = 0
        self._what = what
        self._total = total
        self._unit = unit
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                _Rate(unit),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total or None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(self.seconds, 1e-6)

    def advance(self, done: int) -> None:
        """So much more is done."""
        self.done += done
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)
        elif time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            sys.stderr.write(self._line())

    def _line(self) -> str:
        left = max(self._total - self.done, 0) / max(self.rate, 1e-6)
        return (
            f"{self._what}: {self.done:,} of {self._total:,} {self._unit},"
            f" {self.rate:,.0f}/s, {left:.0f} s left\n"
        )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0
        return Text(f"{speed:,.0f} {self._unit}/s")

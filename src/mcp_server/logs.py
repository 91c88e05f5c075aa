"""Structured logs on standard error: JSON, or lines for people on a terminal. Never user text."""

import logging
import sys
from contextlib import suppress
from typing import Literal

import structlog


class StandardError:
    """Standard error, where a line that cannot be written is lost, and nothing else.

    On a full disk, or with nobody left at the other end of the pipe, the answer to a call whose
    change is durable would otherwise be that of a fault.
    """

    def write(self, text: str) -> None:
        """Write ``text`` if that is possible."""
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError):
            sys.stderr.flush()


def configure(form: Literal["json", "console"] | None) -> None:
    """Set up logging for this process; without ``form``: JSON unless standard error is a terminal.

    The libraries' own logs are let through from WARNING on: below that they name what was called.
    """
    console = form == "console" or (form is None and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(StandardError()),  # type: ignore[arg-type] # it writes, flushes
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)

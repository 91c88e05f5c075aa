"""A rebuild as the command runs it, for tests that have an operator's connection."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from psycopg import Connection
from psycopg.conninfo import make_conninfo

from mcp_server.commands.jobs import connected
from projections import rebuild as projections
from projections.finding import Report
from projections.spans import Span


def rebuild(
    operator: Connection[Any],
    spans: Iterable[Span],
    fix: bool = True,
    rewrite: bool = False,
    lock_timeout: str = "20s",
) -> list[Report]:
    """Rebuild ``spans`` on connections of its own, with the login of ``operator``."""
    conninfo = make_conninfo(
        operator.info.dsn,
        password=operator.info.password,
        options=f"-c lock_timeout={lock_timeout}",
    )
    return list(projections.rebuild(partial(connected, conninfo), spans, fix, rewrite))

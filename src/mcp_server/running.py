"""A database that is ready to serve: found, migrated if it is ours, checked, kept alive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from mcp_server import selfcheck, target
from mcp_server.database import Database
from mcp_server.embedded.cluster import Cluster
from mcp_server.embedded.unavailable import PostgresUnavailable
from mcp_server.reach import connect_async
from mcp_server.settings import Settings
from mcp_server.trouble import explained

SECONDS_BETWEEN_LOOKS = 1.0

log = structlog.get_logger()


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """Yield the pool of this event loop.

    Raises:
        PostgresUnavailable: the embedded Postgres cannot be started.
        DatabaseTrouble, Unsafe: as ``check`` says.
    """
    opening = target.opened(settings, create=True)
    found = await asyncio.to_thread(opening.__enter__)
    try:
        await check(found, settings)
        async with Database(found.server) as pool:
            watch = asyncio.create_task(_watch(found.cluster)) if found.cluster else None
            try:
                yield pool
            finally:
                if watch is not None:
                    watch.cancel()
                    with suppress(asyncio.CancelledError):
                        await watch
    finally:
        await asyncio.to_thread(opening.__exit__, None, None, None)


async def check(found: target.Target, settings: Settings) -> None:
    """Look whether the server can work with the database.

    Not with the pool: that would try again and again, and not tell why it was in vain.

    Raises:
        DatabaseTrouble: it cannot be reached (``mcp_server.trouble``).
        Unsafe: it would not keep its promises (``mcp_server.selfcheck``).
    """
    with explained(settings):
        async with await connect_async(found.server) as connection:
            await selfcheck.refuse_unsafe(connection, allowed=settings.allow_unsafe_database)


async def _watch(cluster: Cluster) -> None:
    """Start the embedded Postgres again when it dies; until then calls answer ``unavailable``."""
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            if await asyncio.to_thread(cluster.ensure_running):
                log.warning("postgres_restarted")
        except PostgresUnavailable as error:
            log.error("postgres_down", problem=str(error))

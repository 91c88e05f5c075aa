"""A pool, an agent and an inspector for the database of each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from mcp_server.database import Database as Pool
from tests.conftest import Database
from tests.integration.agents import Agent, Inspector


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The server's connections."""
    async with Pool(database.app, size=4) as pool:
        yield pool


@pytest.fixture
def agent(pool: Pool) -> Agent:
    """The agent of user-1."""
    return Agent(pool)


@pytest.fixture
def inspector(database: Database) -> Iterator[Inspector]:
    """The superuser's eyes."""
    inspector = Inspector(database)
    yield inspector
    inspector.close()

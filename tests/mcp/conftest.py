"""A server that all tests of this folder share, and agents of users that no other test has.

Users cannot see each other, so a test needs a user of its own, not a database of its own.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.conftest import Database, Server, copy_of
from tests.mcp.agent import ERAS, Agent, over_http
from tests.mcp.serving import configured, serving, token

Connect = Callable[..., Agent]


@pytest.fixture(scope="session")
def shared_database(server: Server, template: str) -> Iterator[Database]:
    """One migrated database for all tests that only use users of their own."""
    with copy_of(server, template) as database:
        yield database


@pytest.fixture(scope="session")
def address(shared_database: Database) -> Iterator[str]:
    """The address of a server over ``shared_database``, without a path."""
    with serving(configured(shared_database.app)) as address:
        yield address


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """The event loop of all clients, in its own thread: tests read as what an agent does."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    """Each of the two eras of the protocol."""
    return str(request.param)


@pytest.fixture
def user() -> str:
    """A user whom no other test knows."""
    return f"user-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connect(portal: BlockingPortal, address: str, era: str, user: str) -> Iterator[Connect]:
    """Connect agents: of ``user`` or others, with all rights or few, to this server or another."""
    with ExitStack() as stack:

        def connect(
            name: str = user,
            scopes: list[str] | None = None,
            client_id: str | None = None,
            headers: dict[str, str] | None = None,
            url: str = f"{address}/mcp",
            era: str = era,
        ) -> Agent:
            bearer = token(name, scopes, client_id)
            return stack.enter_context(over_http(portal, url, era, bearer, headers))

        yield connect


@pytest.fixture(scope="session")
def lines(portal: BlockingPortal, address: str) -> Iterator[dict[str, Agent]]:
    """A connection in each era that all agents can share."""
    with ExitStack() as stack:
        url, nobody = f"{address}/mcp", token("nobody")
        yield {era: stack.enter_context(over_http(portal, url, era, nobody)) for era in ERAS}


@pytest.fixture
def alice(lines: dict[str, Agent], era: str, user: str) -> Agent:
    """The agent of a new user."""
    return lines[era].as_user(token(user))

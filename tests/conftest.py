"""A real Postgres for every test that asks for one: a server a session, a database a test.

Where the server comes from, in this order:
1. TEST_DATABASE_URL, a superuser's (or a role's that may create databases and roles).
2. A container, when a Docker engine answers within a second. TEST_PG=container makes it
   compulsory, so that CI cannot fall through to something else.
3. The embedded Postgres, started by our own launcher.

Only here is fsync off: a test's database need not survive a power cut.
"""

import asyncio
import gc
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psycopg
import pytest
import uvloop
from psycopg import sql
from psycopg.conninfo import make_conninfo

SOURCE = pytest.StashKey[str]()
PASSWORD = "only-for-tests"
# login -> the group role whose rights it has
LOGINS = {
    "tasktrail_server": "tasktrail_app",
    "tasktrail_test_operator": "tasktrail_operator",
    "tasktrail_test_auditor": "tasktrail_auditor",
}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
CONTAINER_IMAGE = "postgres:18"


# A shell that starts the tests in the background has Ctrl-C ignored, and so would the programs that
# are started here to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Few examples each time, new ones every time; TASKTRAIL_THOROUGH=1 looks long.
# A deadline would only measure how busy the machine is.
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None, print_blob=True)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None, print_blob=True)
THOROUGH = bool(os.environ.get("TASKTRAIL_THOROUGH"))
hypothesis.settings.load_profile("thorough" if THOROUGH else "quick")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], AbstractEventLoop]]:
    """Run tests on asyncio's own loop; those marked ``each_loop`` on uvloop, which serves, too.

    Not all: the HTTP client that most tests call with takes no connection that breaks on uvloop.
    """
    factories: dict[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("each_loop"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


def docker_answers() -> bool:
    """Whether a Docker engine answers a ping within a second."""
    import docker

    with warnings.catch_warnings():
        # A client that fails to connect leaves its socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=1)
            return bool(client.ping())
        except docker.errors.DockerException:  # no socket, no engine behind it, or too slow
            return False
        finally:
            gc.collect()


def choose_source() -> str:
    """Return 'url', 'container' or 'embedded'."""
    if os.environ.get("TEST_DATABASE_URL"):
        return "url"
    if os.environ.get("TEST_PG") == "container" or docker_answers():
        return "container"
    return "embedded"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SOURCE] = choose_source()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait about as often as they compute."""
    return min(8, (os.cpu_count() or 1) + 1)


def pytest_report_header(config: pytest.Config) -> str:
    names = {"url": "TEST_DATABASE_URL", "container": f"container {CONTAINER_IMAGE}"}
    source = config.stash[SOURCE]
    return f"postgres: {names.get(source, source)}"


@dataclass(frozen=True)
class Server:
    """A running Postgres; ``base`` is a superuser's conninfo."""

    base: str

    def conninfo(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Return a libpq conninfo for ``dbname``: the superuser's, or that of one of LOGINS."""
        if user is None:
            return make_conninfo(self.base, dbname=dbname)
        return make_conninfo(self.base, dbname=dbname, user=user, password=PASSWORD)

    def run(self, statement: sql.SQL | sql.Composed) -> None:
        """Execute one statement as superuser, outside a transaction."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class Database:
    """One test's own, migrated database: a libpq conninfo for each kind of login."""

    name: str
    admin: str
    app: str
    operator: str
    auditor: str


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The Postgres server of this session."""
    with ExitStack() as stack:
        match request.config.stash[SOURCE]:
            case "url":
                yield Server(os.environ["TEST_DATABASE_URL"])
            case "container":
                yield start_container(stack)
            case _:
                yield start_embedded(stack)


def start_container(stack: ExitStack) -> Server:
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(CONTAINER_IMAGE, driver=None)
    settings = " ".join(f"-c {name}={value}" for name, value in FAST.items())
    stack.enter_context(container.with_command(f"postgres -c max_connections=200 {settings}"))
    return Server(container.get_connection_url())


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Yield an empty folder that every account can enter, in memory if there is room.

    As root it is another account that runs Postgres in there.
    """
    memory = Path("/dev/shm")  # noqa: S108  the folder in it has a name of its own
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30
    folder = tempfile.TemporaryDirectory(prefix="tasktrail-", dir=memory if roomy else None)
    with folder as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start_embedded(stack: ExitStack) -> Server:
    from mcp_server.embedded.cluster import acquire
    from mcp_server.embedded.server import SUPERUSER

    home = stack.enter_context(temporary_home())
    cluster = stack.enter_context(acquire(home, settings=FAST))
    return Server(cluster.conninfo(SUPERUSER, "postgres"))


def create_logins(server: Server) -> None:
    """Make the logins once a server; they belong to all its databases."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        for login, group in LOGINS.items():
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [login])
            verb = sql.SQL("ALTER ROLE" if known.fetchone() else "CREATE ROLE")
            name = sql.Identifier(login)
            connection.execute(
                sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, name, sql.Literal(PASSWORD))
            )
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), name))


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    from mcp_server.migrate import upgrade

    name = f"tasktrail_template_{uuid.uuid4().hex[:12]}"
    server.run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        # Roles belong to the server, so two sessions must not make them at once.
        connection.execute("SELECT pg_advisory_lock(7281)")
        upgrade(server.conninfo(name))
        create_logins(server)
    yield name
    drop(server, name)


@pytest.fixture
def database(server: Server, template: str) -> Iterator[Database]:
    """A fresh copy of the template, dropped after the test even if someone is still connected."""
    with copy_of(server, template) as database:
        yield database


@contextmanager
def copy_of(server: Server, template: str) -> Iterator[Database]:
    """Yield a fresh copy of the template, and drop it afterwards."""
    name = f"tasktrail_test_{uuid.uuid4().hex[:12]}"
    server.run(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
            sql.Identifier(name), sql.Identifier(template)
        )
    )
    app, operator, auditor = (server.conninfo(name, login) for login in LOGINS)
    try:
        yield Database(name, server.conninfo(name), app, operator, auditor)
    finally:
        drop(server, name)


def drop(server: Server, name: str) -> None:
    server.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

"""A pool, an agent, an inspector for the database of each test; the command line."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection, sql

from mcp_server import cli, settings
from mcp_server.commands.jobs import connected
from mcp_server.database import Database as Pool
from tests.conftest import Database, Server, drop, temporary_home
from tests.integration.agents import Agent, Inspector
from tests.integration.command_line import Run, Said


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


@pytest.fixture
def operator(database: Database) -> Iterator[Connection[Any]]:
    """The operator's connection, as a rebuild has it."""
    with connected(database.operator) as connection:
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[Connection[Any]]:
    """A superuser: the one who doctors rows behind the ledger's back."""
    with psycopg.connect(database.admin, autocommit=True) as connection:
        yield connection


@pytest.fixture
def empty(server: Server, template: str) -> Iterator[str]:  # noqa: ARG001 - it makes the roles
    """The name of a database with nothing in it."""
    name = f"tasktrail_empty_{uuid.uuid4().hex[:12]}"
    server.run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield name
    drop(server, name)


@pytest.fixture
def tasktrail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function: ``tasktrail("history", "ann", DATABASE_URL=...)``."""

    def run(*arguments: str, **environment: str) -> Said:
        with monkeypatch.context() as patch:
            for name in settings.NAMES.values():
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["tasktrail", *arguments])
            with pytest.raises(SystemExit) as end:
                cli.main()
        code = end.value.code
        return Said(code if isinstance(code, int) else 1 if code else 0, *capsys.readouterr())

    return run


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty TASKTRAIL_HOME for an embedded Postgres of this test's own."""
    with temporary_home() as folder:
        yield folder


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A TASKTRAIL_HOME on a disk of its own, which is soon full."""
    disk = home / "small"
    disk.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root may mount, and not in every container")
    yield disk
    deadline = time.monotonic() + 10
    while subprocess.run(["/bin/umount", disk], check=False).returncode != 0:
        assert time.monotonic() < deadline, "somebody is still at work in there"
        time.sleep(0.1)

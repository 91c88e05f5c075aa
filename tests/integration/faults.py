"""A server to kill, agents that work on regardless, and the questions to ask afterwards.

Every wish of an agent is one call with an idempotency key of its own, which is its reason too: so
the events themselves say which wish they came from. An agent repeats a call that failed until it
is answered, as it is told to; now and then it gives up, and nobody knows whether it happened.
"""

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2
import psycopg
from psycopg.rows import class_row

from events.ledger import Head, Json, Record, verify
from mcp_server.auth.issue import issue
from mcp_server.embedded.cluster import Cluster
from mcp_server.embedded.server import DATABASE, SUPERUSER

SECRET = "a secret of thirty-two bytes or so, for tests"
PATIENCE = 60.0  # seconds, on a busy machine


class Service:
    """``tasktrail serve`` as a process of its own, with the embedded Postgres of ``home``."""

    def __init__(self, home: Path, workers: int = 1, **environment: str) -> None:
        self.home = home
        self._workers = workers
        self._environment = {
            **os.environ,
            "TASKTRAIL_HOME": str(home),
            "BETTER_AUTH_SECRET": SECRET,
            "TASKTRAIL_RATE_LIMIT": "0",
            **environment,
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.terminate()
            assert self.process.wait(PATIENCE) == 0

    def start(self) -> None:
        """Start the server; it answers a little later."""
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from mcp_server.cli import main; main()"),
                    *("serve", "--port", str(self._port), "--workers", str(self._workers)),
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self) -> None:
        """End whatever is left of a server whose parent process was killed."""
        assert self.process
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self, victim: str) -> None:
        """Kill ``server``, ``writing server`` (in the middle of a change), ``postmaster``, ``both``
        or a ``session`` of Postgres; see that the server runs again."""
        if victim == "writing server":
            self._until_it_writes()
        if "server" in victim or victim == "both":
            assert self.process
            self.process.kill()
        if victim in ("postmaster", "both"):
            os.kill(self.postmaster(), signal.SIGKILL)
        if victim == "session":
            os.kill(self._session(), signal.SIGKILL)
        if "server" in victim or victim == "both":
            assert self.process
            self.process.wait(PATIENCE)
            self.start()

    def postmaster(self) -> int:
        """Return the number of the process that all sessions of Postgres come from."""
        return int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])

    def _session(self) -> int:
        with self.superuser() as connection:
            sessions = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = 'tasktrail_server'"
            ).fetchall()
        return int(random.choice(sessions)[0])

    def _until_it_writes(self) -> None:
        writes = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
        writes += " AND pid <> %s"
        deadline = time.monotonic() + 5
        with self.superuser() as connection:
            values = ("%commit_commands%", connection.info.backend_pid)
            while not connection.execute(writes, values).rowcount and time.monotonic() < deadline:
                pass

    def superuser(self) -> psycopg.Connection[Any]:
        """Connect as the superuser, past the server."""
        return psycopg.connect(
            host=str(self.home / "postgres.run"), user=SUPERUSER, dbname=DATABASE, autocommit=True
        )


class Wish(NamedTuple):
    """A call, and how many events it adds: all of them or none."""

    user: str
    key: str
    tool: str
    arguments: Json
    events: int

    @property
    def call(self) -> Json:
        """Return the arguments of the call, each time the same."""
        return {**self.arguments, "idempotency_key": self.key, "reason": self.key}


class Answered(NamedTuple):
    """A wish that was acknowledged."""

    wish: Wish
    answer: Json


class Unavailable(Exception):
    """The answer says that the database is away, or there is no answer."""


class Agents:
    """Users' agents at work on a service, each on one thing at a time."""

    def __init__(self, service: Service, count: int = 8, seed: int | None = None) -> None:
        self.users = [f"user-{number}" for number in range(count)]
        self.answered: list[Answered] = []
        self.wishes: dict[tuple[str, str], Wish] = {}
        self.failures = 0  # calls that were not answered, or with `unavailable`
        self.replayed = 0  # wishes that had happened although the call had failed
        self.recoveries: list[float] = []  # seconds from a kill to the answer after the failures
        self.surprises: list[str] = []
        self._answer = asyncio.Event()
        self.kills = 0
        self._killed_at: float | None = None
        self._down = asyncio.Event()  # a call has failed since the last kill
        self._chance = random.Random(seed)
        self._http = httpx2.AsyncClient(base_url=service.url, timeout=30)
        self._service = service

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        """Let all agents work; when this ends every wish is answered or given up."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for user in self.users:
                group.create_task(self._work(user, stop))
            try:
                yield self
            finally:
                stop.set()
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def more(self, wishes: int) -> None:
        """Wait until so many more are answered."""
        enough = len(self.answered) + wishes
        async with asyncio.timeout(PATIENCE):
            while len(self.answered) < enough:
                self._answer.clear()
                await self._answer.wait()

    async def failed(self, calls: int) -> None:
        """Wait until so many more have failed."""
        enough = self.failures + calls
        async with asyncio.timeout(PATIENCE):
            while self.failures < enough:
                self._down.clear()
                await self._down.wait()

    async def survive(self, victim: str) -> None:
        """Kill something, at a random moment, and wait until the agents get answers again.

        If a session dies between two statements, the agents may not even notice.
        """
        await asyncio.sleep(self._chance.uniform(0, 0.2))
        self._down.clear()
        self._killed_at = time.monotonic()
        self.kills += 1
        await asyncio.to_thread(self._service.kill, victim)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._down.wait(), 1)
        await self.more(len(self.users))

    async def call(self, user: str, tool: str, arguments: Json) -> Json:
        """Return the structured answer. Raises: Unavailable."""
        headers = {
            "Authorization": f"Bearer {issue(SECRET.encode(), user, None, 3600, None, None)}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-11-25",
        }
        request = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request}
        try:
            response = await self._http.post("/mcp", json=message, headers=headers)
        except httpx2.TransportError as error:
            raise Unavailable from error
        assert response.status_code == 200, response.text
        result = response.json()["result"]
        answer: Json = result.get("structuredContent", {})
        if not result["isError"]:
            return answer
        if answer.get("code") != "unavailable":
            self.surprises.append(f"{tool} {arguments}: {result}")
        raise Unavailable

    async def _work(self, user: str, stop: asyncio.Event) -> None:
        mine: list[int] = []
        while not stop.is_set():
            wish = self._wish(user, mine)
            self.wishes[user, wish.key] = wish
            answer = await self._wish_for(wish)
            if answer is None:
                continue
            self.answered.append(Answered(wish, answer))
            self._answer.set()
            if self._killed_at is not None and self._down.is_set():
                self.recoveries.append(time.monotonic() - self._killed_at)
                self._killed_at = None
            if wish.tool == "add_task":
                mine += [each["task_id"] for each in answer.get("tasks", [answer])]
                await self._read_back(wish, mine[-1])

    def _wish(self, user: str, mine: list[int]) -> Wish:
        key = f"{user} {len(self.wishes)}"
        match self._chance.choice(["add", "add several", "update", "update"]):
            case "add several":
                tasks = [{"title": f"{key}, {number}"} for number in range(50)]
                return Wish(user, key, "add_task", {"tasks": tasks}, 50)
            case "update" if mine:
                change = {"task_id": self._chance.choice(mine), "title": key}
                return Wish(user, key, "update_task", change, 1)
        return Wish(user, key, "add_task", {"title": key}, 1)

    async def insist(self, user: str, tool: str, arguments: Json) -> Json:
        """Repeat a call until it is answered."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(Unavailable):
                    return await self.call(user, tool, arguments)
                await asyncio.sleep(self._chance.uniform(0.05, 0.15))

    async def _wish_for(self, wish: Wish) -> Json | None:
        """Repeat the call until it is answered; None if the agent gave up."""
        failed = False
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self.call(wish.user, wish.tool, wish.call)
                except Unavailable:
                    failed = True
                    self.failures += 1
                    self._down.set()
                    if self._chance.random() < 0.05:
                        return None
                    await asyncio.sleep(self._chance.uniform(0.05, 0.15))
                else:
                    if not failed and "replayed" in answer:
                        self.surprises.append(f"{wish.key} had been done before")
                    self.replayed += "replayed" in answer
                    return answer

    async def _read_back(self, wish: Wish, task_id: int) -> None:
        with suppress(Unavailable):
            task = await self.call(wish.user, "get_task", {"task_id": task_id})
            if not task["title"].startswith(wish.key):
                self.surprises.append(f"{wish.key} reads {task['title']}")

    def figures(self) -> str:
        """Return what happened, in a line."""
        seconds = sorted(self.recoveries) or [0.0]
        return (
            f"{self.kills} kills, {len(self.answered)} calls acknowledged, "
            f"{self.failures} failed, {self.replayed} of these had happened, "
            f"recovered after {statistics.median(seconds):.1f} s, {seconds[-1]:.1f} s at worst"
        )


class Ledger(NamedTuple):
    """All that is stored of one user."""

    user: str
    events: list[Record]
    head: Head


def ledgers(cluster: Cluster) -> list[Ledger]:
    """Return every ledger as it is stored."""
    found = []
    with psycopg.connect(cluster.conninfo("postgres")) as connection:
        heads = connection.execute("SELECT user_id, position, hash FROM tasktrail.ledgers")
        for user, position, hash_ in heads.fetchall():
            cursor = connection.cursor(row_factory=class_row(Record))
            cursor.execute(
                f"SELECT {', '.join(Record._fields)} FROM tasktrail.events"
                " WHERE user_id = %s ORDER BY position",
                (user,),
            )
            found.append(Ledger(user, cursor.fetchall(), Head(position, hash_)))
    return found


def problems(
    stored: Iterable[Ledger], wishes: Iterable[Wish], answered: Iterable[Answered]
) -> list[str]:
    """Return every broken promise: lost, half done, done twice, out of order, chain broken.

    ``answered``: each user's in the order of the answers.
    """
    found: list[str] = []
    positions: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for ledger in stored:
        for event in ledger.events:
            positions[ledger.user, _reason(event)].append(event.position)
        found += [f"{ledger.user}: {each}" for each in verify(*ledger)]
    for wish in wishes:
        there = len(positions[wish.user, wish.key])
        if there not in (0, wish.events):
            found.append(f"{wish.key}: {there} events instead of {wish.events}")
    last: defaultdict[str, int] = defaultdict(int)
    for wish, answer in answered:
        if positions[wish.user, wish.key][-1:] != [answer["position"]]:
            found.append(f"{wish.key}: lost, acknowledged at {answer['position']}")
        if answer["position"] <= last[wish.user]:
            found.append(f"{wish.key}: acknowledged later, but stored earlier than the one before")
        last[wish.user] = answer["position"]
    return found


def _reason(event: Record) -> str:
    body: Any = event.body
    return str(body["reason"])


def fill_disk(file: Path) -> None:
    """Write into ``file`` until there is no room left."""
    with suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"\0" * 4096)

"""Whatever is sent: no fault, no restart, nothing of our insides in an answer, nothing unreadable.

The server is ``tasktrail serve`` in a process of its own, over real HTTP, in both eras of the
protocol. Each test ends with the question whether all that was written can be read by everything
that reads (``readable``).
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, given, settings

from tests.conftest import THOROUGH, Database, Server, copy_of
from tests.integration.faults import Service
from tests.mcp import hostile, wire
from tests.mcp.serving import token
from tests.mcp.wire import LEGACY, MODERN, Answer, CutOff, Wire

CANARY = "canary9f2c41"
CALLS, BODIES, ENVELOPES, HEADS = (6000, 2500, 1500, 1500) if THOROUGH else (250, 120, 80, 80)
_INSIDES = re.compile(
    rb"Traceback|File \\?\"|line \d+, in |site-packages|\.py\b|/src/|psycopg|pydantic|sqlstate"
    rb"|SELECT |INSERT INTO|tasktrail\.(?:tasks|events|messages|ledgers)|pg_catalog|asyncio"
    rb"|errors\.|Exception|object at 0x|correlation_id|-32603",
    re.IGNORECASE,
)


def often(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example
        ],
    )


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    """A database for all of these tests: so that each meets what the others left."""
    with copy_of(server, template) as database:
        yield database


@pytest.fixture(scope="module")
def service(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The server as a process."""
    home = tmp_path_factory.mktemp("hostile")
    with Service(home, DATABASE_URL=database.app, TASKTRAIL_ALLOW_UNSAFE_DATABASE="1") as service:
        yield service


class Stranger:
    """Sends bytes, and looks at every answer."""

    def __init__(self, portal: BlockingPortal, address: str) -> None:
        self._portal = portal
        self._wire = Wire(address)
        self.token = token("stranger", client_id="client")
        self.sent = 0

    def send(self, raw: bytes) -> Answer | None:
        """Return the answer; None where the server hung up on what is no HTTP."""
        self.sent += 1
        try:
            answer = self._portal.call(self._wire.send, raw)
        except CutOff:
            return None
        self.look(answer, raw)
        return answer

    def look(self, answer: Answer, raw: bytes) -> None:
        assert answer.status < 500, (answer, raw[:2000])
        answer.body.decode()
        found = _INSIDES.search(answer.body)
        assert not found, (found, answer.body[:2000], raw[:2000])


@pytest.fixture(scope="module")
def stranger(portal: BlockingPortal, service: Service) -> Iterator[Stranger]:
    stranger = Stranger(portal, service.url)
    for _ in range(600):
        if (a := stranger.send(wire.tool_call(stranger.token, MODERN, "add_task", {"title": CANARY}))) is not None:
            break
        import time; time.sleep(0.1)
    yield stranger
    log = (service.home / "server.log").read_text()
    print(len(log), log.count("Traceback"), log.count("tool_fault"))
    assert CANARY not in log
    Path("/tmp/hostile_server.log").write_text(log)


def test_calls(stranger: Stranger) -> None:
    bad = {}

    @often(CALLS)
    @given(hostile.calls())
    def run(call):
        era, tool, arguments = call
        try:
            stranger.send(hostile.tool_call(stranger.token, era, tool, arguments))
        except AssertionError as e:
            bad.setdefault(str(e)[:300], str(e)[:1500])
    run()
    for b in list(bad.values())[:10]: print("BAD", b)
    print(len(bad))


def test_bodies(stranger: Stranger) -> None:
    bad = {}
    from collections import Counter
    statuses = Counter()

    @often(BODIES)
    @given(hostile.bodies() | hostile.envelopes())
    def run(call):
        era, body = call
        try:
            a = stranger.send(wire.http(body, wire.headers(stranger.token, era, "tools/call", "add_task")))
            statuses[a and a.status] += 1
        except AssertionError as e:
            bad.setdefault(str(e)[:300], str(e)[:1500])
    run()
    for b in list(bad.values())[:10]: print("BAD", b)
    print(len(bad), statuses)


def test_heads(stranger: Stranger) -> None:
    bad = {}
    from collections import Counter
    statuses = Counter()

    @often(HEADS)
    @given(hostile.heads())
    def run(call):
        era, more = call
        good = wire.headers(stranger.token, era, "tools/call", "list_tasks")
        body = hostile.as_json(wire.rpc(era, "tools/call", {"name": "list_tasks", "arguments": {}}))
        names = {n for n, _ in more}
        for head in (good + more, [p for p in good if p[0] not in names] + more):
            try:
                a = stranger.send(wire.http(body, head))
                statuses[a and a.status] += 1
            except TimeoutError:
                statuses["timeout"] += 1
                print("TIMEOUT", more)
            except AssertionError as e:
                bad.setdefault(str(e)[:300], str(e)[:1500])
    run()
    for b in list(bad.values())[:10]: print("BAD", b)
    print(len(bad), statuses)

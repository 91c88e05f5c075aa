"""Whatever is sent: no fault, no restart, nothing of our insides in an answer, nothing unreadable.

The server is ``tasktrail serve`` in a process of its own, over real HTTP, in both eras of the
protocol, as one user whose rows grow from test to test. At the end of them all, everything that
was written has to be readable by everything that reads (``readable``).
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, given, settings

from events.ledger import Json
from mcp_server.tools import catalogue
from tests.conftest import THOROUGH, Database, Server, copy_of
from tests.integration.faults import Service
from tests.mcp import hostile, readable, wire
from tests.mcp.serving import token
from tests.mcp.wire import LEGACY, MODERN, Answer, CutOff, Headers, Wire

USER = "stranger"
CANARY = "canary9f2c41"
CALLS, BODIES, HEADS, TOKENS = (6000, 3000, 1500, 500) if THOROUGH else (250, 120, 80, 40)

# No stack, path, statement, class or library of ours may be in an answer, and no fault at all.
_INSIDES = re.compile(
    rb"Traceback|File \\?\"|, line \d+|site-packages|[a-z_]+\.py\b|psycopg|pydantic|sqlstate|uvloop"
    rb"|\bSELECT\b.*\bFROM\b|INSERT INTO|tasktrail\.[a-z_]+\b|pg_catalog|\b[A-Z]\w*Error\b"
    rb"|Exception| object at 0x|input_value|correlation_id|-32603|Internal Server Error"
)


def many(examples: int) -> settings:
    """Return the settings of a search; it shrinks what it finds, so it may take its time."""
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    """One database for all of these tests, so that each meets what the others left."""
    with copy_of(server, template) as database:
        yield database


@pytest.fixture(scope="module")
def service(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The server as a process of its own; at the end it is still that process."""
    home = tmp_path_factory.mktemp("hostile")
    with Service(home, DATABASE_URL=database.app, TASKTRAIL_ALLOW_UNSAFE_DATABASE="1") as service:
        yield service
        assert service.process is not None
        assert service.process.poll() is None


class Stranger:
    """Sends bytes, and looks at every answer."""

    def __init__(self, portal: BlockingPortal, address: str) -> None:
        self._portal = portal
        self._address = address
        self._wire = Wire(address)
        self.token = token(USER, client_id="client")
        self.statuses: Counter[int] = Counter()

    def send(self, raw: bytes) -> Answer:
        """Send bytes and return the answer."""
        answer: Answer = self._portal.call(self._wire.send, raw)
        self.statuses[answer.status] += 1
        assert answer.status < 500, answer
        answer.body.decode()
        for found in _INSIDES.finditer(answer.body):
            assert found[0] in raw, answer
        return answer

    def send_and_stop(self, raw: bytes) -> None:
        """Send bytes on a connection of their own, and end it when there is no answer."""
        alone = Wire(self._address)
        with suppress(CutOff, TimeoutError):
            answer = self._portal.call(partial(alone.send, raw, then_stop=True))
            assert answer.status < 500, answer
            assert not _INSIDES.search(answer.body), answer
        self._portal.call(alone.close)

    def call(self, tool: str, arguments: Any, era: str = MODERN, **others: Any) -> Answer:
        """Call a tool with arguments of any kind."""
        return self.send(hostile.tool_call(self.token, era, tool, arguments, **others))

    def ask(self, tool: str, **arguments: Any) -> Json:
        """Call a tool that has to succeed, and return its structured answer."""
        result = self.call(tool, arguments).json()["result"]
        assert not result["isError"], (tool, arguments, result["structuredContent"])
        found: Json = result["structuredContent"]
        return found

    def close(self) -> None:
        """End the connection."""
        self._portal.call(self._wire.close)

    def wait(self) -> None:
        """Wait until the server answers."""
        end = time.monotonic() + 60
        while True:
            try:
                self.send(wire.http(b"", [], b"GET", b"/healthz"))
            except CutOff:
                assert time.monotonic() < end, "the server does not start"
                time.sleep(0.1)
            else:
                return


@pytest.fixture(scope="module")
def stranger(portal: BlockingPortal, service: Service) -> Iterator[Stranger]:
    """A user who has some of everything, each with the canary in it."""
    with closing(Stranger(portal, service.url)) as stranger:
        stranger.wait()
        stranger.ask("add_task", title=CANARY, description=CANARY, tags=[CANARY], reason=CANARY)
        stranger.ask("add_message", role="user", content=CANARY, metadata={CANARY: CANARY})
        stranger.ask("update_message", message_id=3, content=f"{CANARY} again")
        stranger.ask("create_conversation", title=CANARY, idempotency_key=CANARY)
        yield stranger
    print(f"{stranger.statuses.total()} requests: {dict(stranger.statuses)}")


# --- values that have broken something, somewhere ------------------------------------------------

PLACES: list[tuple[str, Json, str]] = [
    # tool, arguments that fit, the argument to replace
    ("add_task", {"title": "x"}, "title"),
    ("add_task", {"title": "x"}, "description"),
    ("add_task", {"title": "x"}, "due"),
    ("add_task", {"title": "x"}, "tags"),
    ("add_task", {"title": "x"}, "idempotency_key"),
    ("add_task", {"title": "x"}, "reason"),
    ("add_task", {}, "tasks"),
    ("update_task", {"task_id": 1, "title": "x"}, "task_id"),
    ("update_task", {"task_id": 1, "title": "x"}, "expected_version"),
    ("update_task", {"task_id": 1, "title": "x"}, "clear"),
    ("complete_task", {}, "task_id"),
    ("list_tasks", {}, "query"),
    ("list_tasks", {}, "cursor"),
    ("list_tasks", {}, "limit"),
    ("list_tasks", {}, "as_of"),
    ("list_tasks", {}, "due_before"),
    ("list_tasks", {}, "due_after"),
    ("get_task", {}, "task_id"),
    ("add_message", {"role": "user", "content": "x"}, "content"),
    ("add_message", {"role": "user", "content": "x"}, "metadata"),
    ("add_message", {"role": "user", "content": "x"}, "external_id"),
    ("add_message", {"role": "user", "content": "x"}, "role"),
    ("create_conversation", {}, "title"),
    ("get_conversation_history", {"conversation_id": 2}, "before"),
    ("list_conversations", {}, "offset"),
    ("get_history", {}, "since"),
    ("get_history", {}, "client"),
    ("get_history", {}, "event_type"),
    ("undo", {"dry_run": True}, "position"),
]


@pytest.mark.parametrize("value", hostile.NASTY.values(), ids=list(hostile.NASTY))
def test_a_nasty_value(stranger: Stranger, value: Any) -> None:
    for number, (tool, arguments, name) in enumerate(PLACES):
        era = (MODERN, LEGACY)[number % 2]
        answer = stranger.call(tool, {**arguments, name: value}, era).json()
        if "result" in answer:
            code = answer["result"]["structuredContent"].get("code", "ok")
            assert code not in ("unavailable", "rate_limited"), (tool, name)


@pytest.mark.parametrize("value", hostile.NASTY.values(), ids=list(hostile.NASTY))
def test_a_nasty_value_in_meta(stranger: Stranger, value: Any) -> None:
    for number, name in enumerate(
        (
            "tasktrail/conversation_id",
            "tasktrail/message_id",
            "traceparent",
            "progressToken",
            "io.modelcontextprotocol/clientInfo",
            "io.modelcontextprotocol/clientCapabilities",
            "io.modelcontextprotocol/protocolVersion",
        )
    ):
        stranger.call("list_tasks", {}, (MODERN, LEGACY)[number % 2], meta={name: value})


# --- searches ------------------------------------------------------------------------------------


def test_calls_that_nearly_fit(stranger: Stranger) -> None:
    @many(CALLS)
    @given(hostile.calls())
    def search(call: tuple[str, str, Any]) -> None:
        era, tool, arguments = call
        stranger.call(tool, arguments, era)

    search()


def test_bodies_that_are_nearly_requests(stranger: Stranger) -> None:
    @many(BODIES)
    @given(hostile.bodies() | hostile.envelopes())
    def search(given: tuple[str, bytes]) -> None:
        era, body = given
        answer = stranger.send(
            wire.http(body, wire.headers(stranger.token, era, "tools/call", "add_task"))
        )
        assert answer.status in (200, 202, 400, 404)

    search()


def test_headers_that_are_nearly_right(stranger: Stranger) -> None:
    @many(HEADS)
    @given(hostile.heads())
    def search(given: tuple[str, Headers]) -> None:
        era, strange = given
        call = wire.rpc(era, "tools/call", {"name": "list_tasks", "arguments": {}})
        good = wire.headers(stranger.token, era, "tools/call", "list_tasks")
        names = {name for name, _ in strange}
        for headers in (good + strange, [one for one in good if one[0] not in names] + strange):
            stranger.send(wire.http(json.dumps(call).encode(), headers))

    search()


def test_tokens_in_headers_that_are_nearly_tokens(stranger: Stranger) -> None:
    """tests/unit/test_tokens.py looks at what is in a token; here at the bytes around it."""

    @many(TOKENS)
    @given(hostile.credentials(stranger.token.encode()))
    def search(credentials: bytes) -> None:
        answer = stranger.send(wire.http(b"{}", [(b"Authorization", credentials)]))
        assert answer.status in (400, 401)

    search()


@pytest.mark.parametrize("raw", hostile.HARDLY_HTTP.values(), ids=list(hostile.HARDLY_HTTP))
def test_bytes_that_are_hardly_http(stranger: Stranger, raw: bytes) -> None:
    stranger.send_and_stop(raw)
    assert stranger.ask("list_tasks")["tasks"]


BATCH = [wire.rpc(LEGACY, "tools/call", {"name": "add_task", "arguments": {"title": "x"}})] * 1000


@pytest.mark.parametrize("era", [MODERN, LEGACY])
def test_a_batch_is_refused_whole(stranger: Stranger, era: str) -> None:
    before = stranger.ask("get_history", limit=1)["events"]
    answer = stranger.send(wire.http(json.dumps(BATCH).encode(), wire.headers(stranger.token, era)))
    assert answer.json()["error"]["code"] == -32600
    assert stranger.ask("get_history", limit=1)["events"] == before


def test_a_call_without_an_id_does_nothing(stranger: Stranger) -> None:
    """It would be a notification: nobody would hear of what it did."""
    before = stranger.ask("get_history", limit=1)["events"]
    for era in (MODERN, LEGACY):
        call = wire.rpc(era, "tools/call", {"name": "add_task", "arguments": {"title": "x"}})
        no_ids: list[Any] = [None, 1.5, True, {}, []]
        for id_ in no_ids:
            body = json.dumps({**call, "id": id_}).encode()
            headers = wire.headers(stranger.token, era, "tools/call", "add_task")
            assert stranger.send(wire.http(body, headers)).status == 400
        del call["id"]
        assert stranger.send(wire.http(json.dumps(call).encode(), headers)).status == 202
    assert stranger.ask("get_history", limit=1)["events"] == before


# --- what was stored stays where it belongs -----------------------------------------------------


def test_what_is_stored_is_not_in_errors_of_other_calls(stranger: Stranger) -> None:
    """Each call is about the thing that has the canary, and fails."""
    for tool, arguments in (
        ("get_task", {"task_id": 10**9}),
        ("update_task", {"task_id": 1, "title": "x", "expected_version": 77}),
        ("update_task", {"task_id": 1, "due": "never"}),
        ("update_message", {"message_id": 3, "content": " "}),
        ("delete_conversation", {"conversation_id": 1}),
        ("get_conversation_history", {"conversation_id": 1}),
        ("create_conversation", {"title": "other", "idempotency_key": CANARY}),
        ("undo", {"position": 10**9}),
        ("list_tasks", {"cursor": "nonsense"}),
    ):
        for era in (MODERN, LEGACY):
            answer = stranger.call(tool, arguments, era)
            assert answer.json()["result"]["isError"], tool
            assert CANARY.encode() not in answer.body


@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/templates/list"])
def test_what_is_stored_is_not_in_what_describes_the_server(
    stranger: Stranger, method: str
) -> None:
    answers = {
        stranger.send(wire.request(name, MODERN, method, {})).body
        for name in (stranger.token, token("somebody who has nothing"))
    }
    assert len(answers) == 1
    assert CANARY.encode() not in answers.pop()


def test_what_is_stored_is_not_in_the_log(stranger: Stranger, service: Service) -> None:
    for tool in catalogue.TOOLS:
        stranger.call(tool, {"title": f"{CANARY} title", "content": CANARY, "user_id": USER})
    log = (service.home / "server.log").read_text()
    assert '"tool_call"' in log
    assert CANARY not in log
    assert "Traceback" not in log
    assert "tool_fault" not in log


# --- and in the end ----------------------------------------------------------------------------


def test_everything_that_was_written_can_be_read(
    stranger: Stranger, database: Database, tmp_path: Path
) -> None:
    events = readable.read_all_tools(stranger.ask)
    readable.read_all_commands(database, USER, tmp_path)
    print(f"{events} events")

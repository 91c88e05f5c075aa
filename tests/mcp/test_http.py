"""The HTTP around the tools: revisions, methods, statuses, limits, health and metrics."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.conftest import Database
from tests.mcp.agent import MODERN, Agent
from tests.mcp.raw import REVISIONS, Wire
from tests.mcp.serving import configured, serving, token


@pytest.fixture(params=REVISIONS)
def wire(request: pytest.FixtureRequest, address: str, user: str) -> Wire:
    """A new user's connection in each revision of the protocol."""
    return Wire(f"{address}/mcp", request.param, token(user))


def test_every_revision_is_spoken_on_one_endpoint(wire: Wire) -> None:
    if wire.revision == MODERN:
        found = wire.result("server/discover")
        assert wire.revision in found["supportedVersions"]
    else:
        hello = {
            "protocolVersion": wire.revision,
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        found = wire.result("initialize", hello)
        assert found["protocolVersion"] == wire.revision
    assert "undo" in found["instructions"]
    assert len(wire.result("tools/list")["tools"]) == 14
    assert wire.call("add_task", title="x")["task_id"] == 1
    assert wire.call("add_task", title="")["code"] == "invalid_argument"


def test_no_call_needs_a_session(wire: Wire) -> None:
    answer = wire.send("tools/call", {"name": "list_tasks", "arguments": {}})
    assert answer.json()["result"]["structuredContent"]["tasks"] == []
    assert "mcp-session-id" not in answer.headers


def test_the_list_of_tools_is_the_same_to_the_byte(wire: Wire, user: str) -> None:
    first = wire.send("tools/list").content
    wire.call("add_task", title="x")
    other = Wire(wire.url, wire.revision, token(f"{user}-too"))
    assert wire.send("tools/list").content == other.send("tools/list").content == first
    print(f"\n{wire.revision}: tools/list has {len(first)} bytes")
    assert len(first) <= 20_000


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD"])
@pytest.mark.parametrize("authorised", [True, False])
def test_only_post_is_a_method(address: str, user: str, method: str, authorised: bool) -> None:
    headers = {"Authorization": f"Bearer {token(user)}"} if authorised else {}
    answer = httpx2.request(method, f"{address}/mcp", headers=headers)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("bearer", [None, "nonsense"])
def test_without_a_good_token_the_answer_is_401(address: str, bearer: str | None) -> None:
    answer = Wire(f"{address}/mcp", MODERN, bearer).send("tools/list")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_there_is_no_metadata_without_an_issuer(address: str) -> None:
    answer = httpx2.get(f"{address}/.well-known/oauth-protected-resource/mcp")
    assert answer.status_code == 404


def test_there_is_metadata_with_an_issuer(shared_database: Database) -> None:
    settings = configured(
        shared_database.app,
        TASKTRAIL_ISSUER="https://issuer.example",
        TASKTRAIL_AUDIENCE="https://tasks.example/mcp",
    )
    with serving(settings) as url:
        answer = httpx2.get(f"{url}/.well-known/oauth-protected-resource/mcp")
    assert answer.json()["authorization_servers"] == ["https://issuer.example"]
    assert answer.json()["resource"] == "https://tasks.example/mcp"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_one_mebibyte_is_413(address: str, user: str, chunked: bool) -> None:
    body = b'{"x":"' + b"x" * (1 << 20) + b'"}'

    def parts() -> Any:
        yield from (body[start : start + 65_536] for start in range(0, len(body), 65_536))

    content = parts() if chunked else body
    headers = {"Authorization": f"Bearer {token(user)}", "Content-Type": "application/json"}
    answer = httpx2.post(f"{address}/mcp", content=content, headers=headers)
    assert answer.status_code == 413


def test_a_body_of_nearly_one_mebibyte_is_read(wire: Wire) -> None:
    answer = wire.call("add_task", title="x" * 1_000_000)
    assert answer["code"] == "invalid_argument"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1,"method":5}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add_task","arguments":[]}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add_task","arguments":null}}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add_task","arguments":{"title":"\\ud800"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add_task","arguments":{"title":NaN}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add_task","arguments":{"title":"a\\u0000b"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_task","arguments":{"task_id":1e400}}}',
    ],
    ids=lambda body: repr(body[:60]),
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_no_body_breaks_the_server(address: str, user: str, revision: str, body: bytes) -> None:
    headers = {
        **Wire("", revision, token(user)).headers,
        "Content-Type": "application/json",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "add_task",
    }
    answer = httpx2.post(f"{address}/mcp", content=body, headers=headers)
    assert answer.status_code < 500
    assert "Traceback" not in answer.text
    assert Wire(f"{address}/mcp", MODERN, token(user)).call("list_tasks")["tasks"] == []


@pytest.mark.parametrize("title", ["\\ud800", "a\\u0000b"])
@pytest.mark.parametrize("revision", REVISIONS)
def test_text_that_cannot_be_stored_is_refused(
    address: str, user: str, revision: str, title: str
) -> None:
    wire = Wire(f"{address}/mcp", revision, token(user))
    meta = (
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientCapabilities":{}},'
    )
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{'
        + (meta if revision == MODERN else "")
        + '"name":"add_task","arguments":{"title":"'
        + title
        + '"}}}'
    )
    headers = {"Content-Type": "application/json", "Mcp-Method": "tools/call"}
    answer = httpx2.post(
        wire.url,
        content=body.encode(),
        headers={**wire.headers, **headers, "Mcp-Name": "add_task"},
    )
    assert answer.status_code < 500
    if "result" in answer.json():
        problem = answer.json()["result"]["structuredContent"]
        assert (problem["code"], problem["argument"]) == ("invalid_argument", "title")
    assert wire.call("list_tasks")["tasks"] == []


def test_a_wrong_origin_is_403_and_a_wrong_host_421(address: str, user: str) -> None:
    wire = Wire(f"{address}/mcp", MODERN, token(user))
    assert wire.send("tools/list", Origin="https://evil.example").status_code == 403
    assert wire.send("tools/list", Host="evil.example").status_code == 421
    assert wire.send("tools/list", Origin="http://localhost:3000").status_code == 200


def test_a_slash_at_the_end_is_no_redirect(address: str, user: str) -> None:
    answer = Wire(f"{address}/mcp/", MODERN, token(user)).send("tools/list")
    assert answer.status_code == 200


# Health and metrics


def test_health_needs_no_token(address: str) -> None:
    assert httpx2.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{address}/readyz").json() == {"status": "ok"}


def test_metrics_count_what_is_refused_before_the_tools(address: str) -> None:
    counted = 'tasktrail_http_refusals_total{reason="unauthorized",status="401"}'

    def count() -> float:
        text = httpx2.get(f"{address}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(counted)]
        return float(lines[0].split()[-1]) if lines else 0

    before = count()
    assert httpx2.post(f"{address}/mcp", json={}).status_code == 401
    assert count() == before + 1


def test_metrics_count_calls_by_tool_and_outcome(address: str, wire: Wire) -> None:
    def count(outcome: str) -> float:
        name = f'tasktrail_tool_calls_total{{outcome="{outcome}",tool="get_task"}} '
        text = httpx2.get(f"{address}/metrics").text
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if name in line)

    before = count("not_found")
    wire.call("get_task", task_id=99)
    assert count("not_found") == before + 1
    answer = httpx2.get(f"{address}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "tasktrail_tool_call_seconds_bucket" in answer.text


def test_a_runaway_loop_is_told_to_wait(
    shared_database: Database, connect: Callable[..., Agent]
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_RATE_LIMIT="3")
    with serving(settings) as url:
        agent = connect(url=f"{url}/mcp")
        results = [agent.ask("list_tasks") for _ in range(8)]
    refused = [result.structured_content for result in results if result.is_error]
    assert refused
    assert refused[0]["code"] == "rate_limited"
    assert 0 < refused[0]["retry_after_seconds"] <= 1
    assert "seconds" in refused[0]["message"]


@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "no/such/method"])
def test_so_is_a_loop_of_other_questions(
    shared_database: Database, wire: Wire, method: str
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_RATE_LIMIT="3")
    with serving(settings) as url:
        wire.url = f"{url}/mcp"
        answers = [wire.send(method).json() for _ in range(12)]
        assert wire.call("list_tasks")["tasks"] == [], "tools have a count of their own"
    refused = [answer["error"] for answer in answers if "rate_limited" in str(answer)]
    assert refused
    assert refused[0]["data"]["retry_after_seconds"] <= 1
    assert "seconds" in refused[0]["message"]


@pytest.mark.parametrize("header", ["2025-11-25", "2027-01-01"])
def test_a_revision_that_header_and_body_do_not_agree_on_is_refused(
    address: str, user: str, header: str
) -> None:
    """Else a body of 2026-07-28 would be read, and answered, as one of the older era."""
    wire = Wire(f"{address}/mcp", MODERN, token(user))
    call = {"name": "add_task", "arguments": {"title": "Buy milk"}}
    answer = wire.send("tools/call", call, MCP_Protocol_Version=header)
    assert answer.status_code == 400
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (7, -32020)
    assert wire.call("list_tasks")["tasks"] == []

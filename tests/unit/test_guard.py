"""What the guard answers instead of the endpoint, over real HTTP, headers exact."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import jwt
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from mcp_server.auth.jwks import KeysUnavailable
from mcp_server.auth.verifier import SharedSecret, Verifier
from mcp_server.limiter import Limiter
from mcp_server.middleware.admission import Admission
from mcp_server.middleware.body import MAX_BODY
from mcp_server.middleware.guard import IDENTITY, Guard
from mcp_server.middleware.resource import Resource
from mcp_server.settings import Settings
from tests.unit.forge import SECRET, claims
from tests.unit.forge import token as forge

PATH = "/mcp"
TOOLS = {"add_task": "tasks:write", "list_tasks": "tasks:read", "get_history": "history:read"}
OAUTH = {
    "TASKTRAIL_ISSUER": "https://issuer.example",
    "TASKTRAIL_AUDIENCE": "https://t.example/mcp",
}
META = 'resource_metadata="https://t.example/.well-known/oauth-protected-resource/mcp"'


async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    """The guarded app: says who called and how much it got."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    answer = json.dumps({"user": scope[IDENTITY].user_id, "size": size}).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def guarded(
    environment: dict[str, Any] | None = None,
    bound_to: str | None = "127.0.0.1",
    address_rate: float = 0,
    keys: Any = None,
) -> tuple[Guard, Resource]:
    settings = Settings.model_validate(environment or {})
    resource = Resource(settings, PATH)
    verifier = Verifier(keys or SharedSecret(SECRET), settings.issuer, settings.audience)
    admission = Admission(settings, bound_to)
    return Guard(endpoint, verifier, admission, resource, TOOLS, Limiter(address_rate)), resource


def token(**changes: Any) -> str:
    now = int(time.time())
    said = {"iat": now, "exp": now + 86400, "iss": OAUTH["TASKTRAIL_ISSUER"]}
    return forge(claims(**{**said, "aud": OAUTH["TASKTRAIL_AUDIENCE"], **changes}))


def bearer(**changes: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**changes)}"}


def call(tool: str) -> bytes:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    return json.dumps({**request, "params": {"name": tool, "arguments": {}}}).encode()


SOURCE = "Whoever runs this server makes one with: tasktrail token --user U"


def problem(answer: httpx2.Response) -> tuple[str, str]:
    """Return the code and the text of a refusal, which has to be a JSON-RPC error."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    error = body.pop("error")
    assert body == {"jsonrpc": "2.0", "id": None}
    assert error["code"] == (-32603 if answer.status_code in (429, 503) else -32600)
    wait = answer.headers.get("retry-after")
    assert error["data"].get("retry_after_seconds") == (int(wait) if wait else None)
    return error["data"]["code"], error["message"]


class Served:
    """An app behind uvicorn on a port of its own."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False)
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> httpx2.AsyncClient:
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self._client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        self._server.should_exit = True
        assert self._task is not None
        await self._task


@pytest.fixture
async def plain() -> AsyncIterator[httpx2.AsyncClient]:
    """The guard with a shared secret and nothing else."""
    async with Served(guarded()[0]) as client:
        yield client


@pytest.fixture
async def oauth() -> AsyncIterator[httpx2.AsyncClient]:
    """The guard with an issuer, and the metadata beside it."""
    guard, resource = guarded(OAUTH)
    routes = [Route(PATH, guard, methods=None), *resource.routes()]
    async with Served(Starlette(routes=routes)) as client:
        yield client


async def test_a_good_token_gets_through_with_its_identity(plain: httpx2.AsyncClient) -> None:
    answer = await plain.post(PATH, content=b"x" * 100, headers=bearer(sub="jane"))
    assert (answer.status_code, answer.json()) == (200, {"user": "jane", "size": 100})
    answer = await plain.post(PATH, headers={"Authorization": f"bEARER  {token()}"})
    assert answer.json() == {"user": "ada", "size": 0}


async def test_without_a_token(plain: httpx2.AsyncClient, oauth: httpx2.AsyncClient) -> None:
    answer = await plain.post(PATH, content=call("list_tasks"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer scope="tasks:read tasks:write"'
    assert problem(answer) == (
        "unauthorized",
        f"Send a token: Authorization: Bearer <token>. {SOURCE}",
    )
    answer = await oauth.post(PATH, content=call("list_tasks"))
    assert answer.headers["www-authenticate"] == f'Bearer scope="tasks:read tasks:write", {META}'


async def test_with_a_bad_token(plain: httpx2.AsyncClient, oauth: httpx2.AsyncClient) -> None:
    expected = (
        'Bearer error="invalid_token", error_description="The token has expired.",'
        ' scope="tasks:read tasks:write"'
    )
    expired = bearer(exp=int(time.time()) - 60)
    answer = await plain.post(PATH, headers=expired)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, expected)
    assert problem(answer) == ("invalid_token", f"The token has expired. Get a new one. {SOURCE}")
    answer = await oauth.post(PATH, headers=expired)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, f"{expected}, {META}")
    assert problem(answer)[1].endswith("Tokens for this server come from https://issuer.example")


async def test_with_published_keys_nobody_here_makes_tokens() -> None:
    published = {
        "TASKTRAIL_JWKS_URL": "https://issuer.example/jwks",
        "TASKTRAIL_AUDIENCE": OAUTH["TASKTRAIL_AUDIENCE"],
    }
    async with Served(guarded(published)[0]) as client:
        _, said = problem(await client.post(PATH))
    assert said.endswith("Whoever runs this server knows where its tokens come from.")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("Authorization", "Basic YTpi")], id="another scheme"),
        pytest.param([("Authorization", "Bearer")], id="no token after the word"),
        pytest.param([("Authorization", f"Bearer{token()}")], id="no space"),
        pytest.param([("Authorization", token())], id="no scheme"),
        pytest.param([("Authorization", f"Bearer {token()}")] * 2, id="twice"),
        pytest.param([("X-Authorization", f"Bearer {token()}")], id="another header"),
        pytest.param([("Cookie", f"token={token()}")], id="a cookie"),
        pytest.param([("Authorization", f"Bearer {'x' * 8193}")], id="too long"),
        pytest.param([("Authorization", b"Bearer \xff\xfe")], id="bytes that are no text"),
    ],
)
async def test_what_is_no_bearer_token_is_none(
    plain: httpx2.AsyncClient, headers: list[tuple[str, Any]]
) -> None:
    answer = await plain.post(f"{PATH}?access_token={token()}&token={token()}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "TRACE"])
@pytest.mark.parametrize("headers", [{}, bearer(), {"Authorization": "Bearer x"}])
async def test_only_post_is_spoken(
    plain: httpx2.AsyncClient, method: str, headers: dict[str, str]
) -> None:
    answer = await plain.request(method, PATH, headers=headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert "www-authenticate" not in answer.headers
    assert method == "HEAD" or problem(answer)[0] == "method_not_allowed"


async def chunks(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 50_000):
        yield b"x" * min(50_000, size - start)


async def test_a_body_has_at_most_a_mebibyte(plain: httpx2.AsyncClient) -> None:
    for content in (b"x" * MAX_BODY, chunks(MAX_BODY)):
        answer = await plain.post(PATH, content=content, headers=bearer())
        assert answer.json()["size"] == MAX_BODY
    for content in (b"x" * (MAX_BODY + 1), chunks(MAX_BODY + 1)):
        answer = await plain.post(PATH, content=content, headers=bearer())
        assert answer.status_code == 413
        assert problem(answer)[0] == "request_too_large"


async def test_a_length_is_believed_before_the_token_is_read(plain: httpx2.AsyncClient) -> None:
    answer = await plain.post(PATH, content=b"x" * (MAX_BODY + 1))
    assert answer.status_code == 413


async def guard_alone(receive: Receive) -> tuple[list[Any], Scope]:
    """Return what the guard sends to a caller with a good token, and the scope as it left it."""
    sent: list[Any] = []
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token()}".encode())]
    scope: Scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}

    async def send(message: Any) -> None:
        sent.append(message)

    await guarded()[0](scope, receive, send)
    return sent, scope


async def test_a_client_that_leaves_reaches_nothing() -> None:
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return parts.pop(0)

    sent, scope = await guard_alone(receive)
    assert sent == []
    assert IDENTITY not in scope


async def test_a_body_without_end_is_not_waited_for() -> None:
    given = 0

    async def receive() -> Any:
        nonlocal given
        given += 100_000
        assert given < 2 * MAX_BODY
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    sent, _ = await guard_alone(receive)
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    ("tool", "granted", "needed"),
    [
        ("add_task", "tasks:read", "tasks:write"),
        ("list_tasks", "tasks:write", "tasks:read"),
        ("get_history", "tasks:read tasks:write", "history:read"),
        ("list_tasks", "openid", "tasks:read"),
    ],
)
async def test_a_tool_that_needs_more_rights_asks_for_them(
    oauth: httpx2.AsyncClient, tool: str, granted: str, needed: str
) -> None:
    answer = await oauth.post(PATH, content=call(tool), headers=bearer(scope=granted))
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope",'
        f' error_description="This tool needs the scope {needed}.", scope="{needed}", {META}'
    )
    assert problem(answer)[0] == "insufficient_scope"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(call("list_tasks"), id="a tool that it may use"),
        pytest.param(call("no_such_tool"), id="an unknown tool"),
        pytest.param(b'{"method":"tools/list","params":{"name":"add_task"}}', id="another method"),
        pytest.param(b'{"method":"tools/call","params":[]}', id="parameters that are none"),
        pytest.param(b'{"method":"tools/call","params":{"name":["add_task"]}}', id="an odd name"),
        pytest.param(b'[{"method":"tools/call"}]', id="a batch"),
        pytest.param(b"\xff{", id="no JSON"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_what_needs_no_more_rights_gets_through(
    plain: httpx2.AsyncClient, content: bytes
) -> None:
    answer = await plain.post(PATH, content=content, headers=bearer(scope="tasks:read"))
    assert answer.json() == {"user": "ada", "size": len(content)}


async def test_header_and_body_cannot_say_different_things(plain: httpx2.AsyncClient) -> None:
    lying = {**bearer(scope="tasks:read"), "Mcp-Method": "tools/call", "Mcp-Name": "list_tasks"}
    assert (await plain.post(PATH, content=call("add_task"), headers=lying)).status_code == 403


async def test_an_address_that_calls_too_often_has_to_wait() -> None:
    async with Served(guarded(address_rate=2)[0]) as client:
        answers = [await client.post(PATH) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert answers[2].headers["retry-after"] == "1"
        assert problem(answers[2])[0] == "rate_limited"


class _Unknown:
    async def key(self, kid: object) -> jwt.PyJWK | None:
        raise KeysUnavailable(kid)


async def test_while_nobody_can_tell_the_client_shall_try_again() -> None:
    async with Served(guarded(keys=_Unknown())[0]) as client:
        answer = await client.post(PATH, headers=bearer())
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "10"
        assert problem(answer)[0] == "unavailable"
        assert "www-authenticate" not in answer.headers


async def test_a_wrong_host_is_misdirected(plain: httpx2.AsyncClient) -> None:
    answer = await plain.post(PATH, headers={**bearer(), "Host": "evil.example"})
    assert answer.status_code == 421
    assert "TASKTRAIL_ALLOWED_HOSTS" in problem(answer)[1]
    assert "evil" not in answer.text


async def test_a_wrong_origin_is_forbidden(plain: httpx2.AsyncClient) -> None:
    answer = await plain.post(PATH, headers={**bearer(), "Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "TASKTRAIL_ALLOWED_ORIGINS" in problem(answer)[1]
    assert not {"www-authenticate", "access-control-allow-origin"} & set(answer.headers)


async def test_a_page_from_a_good_origin_may_read_the_answer(plain: httpx2.AsyncClient) -> None:
    page = {"Origin": "http://localhost:3000"}
    asked = {**page, "Access-Control-Request-Headers": "authorization,mcp-protocol-version"}
    preflight = await plain.options(PATH, headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization,mcp-protocol-version"
    for answer in (
        preflight,
        await plain.post(PATH, headers={**bearer(), **page}),
        await plain.post(PATH, headers=page),
    ):
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.headers["vary"] == "Origin"
        assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in (await plain.post(PATH)).headers


async def test_metadata_is_where_the_challenge_points(oauth: httpx2.AsyncClient) -> None:
    answer = await oauth.get("/.well-known/oauth-protected-resource/mcp")
    assert answer.json() == {
        "resource": "https://t.example/mcp",
        "resource_name": "Tasktrail",
        "authorization_servers": ["https://issuer.example"],
        "scopes_supported": ["tasks:read", "tasks:write", "history:read"],
        "bearer_methods_supported": ["header"],
    }
    assert answer.headers["access-control-allow-origin"] == "*"


def test_without_an_issuer_there_is_no_metadata() -> None:
    assert guarded()[1].routes() == []
    assert guarded({"TASKTRAIL_AUDIENCE": "https://t.example/mcp"})[1].routes() == []


@pytest.fixture(params=["at the root", "under a prefix", "as a mount"])
def placed(request: pytest.FixtureRequest) -> Iterator[tuple[Starlette, str]]:
    """An app with the guard in it, and the path that its users call."""
    guard, resource = guarded({"TASKTRAIL_ISSUER": "https://issuer.example"})
    routes = [Route(PATH, guard, methods=None), *resource.routes()]
    match request.param:
        case "at the root":
            yield Starlette(routes=routes), PATH
        case "under a prefix":
            yield Starlette(routes=[Mount("/api", Starlette(routes=routes))]), "/api/mcp"
        case _:
            yield Starlette(routes=[*resource.routes(), Mount(PATH, guard)]), PATH + "/"


async def test_metadata_is_found_wherever_the_server_is_mounted(
    placed: tuple[Starlette, str],
) -> None:
    app, path = placed
    async with Served(app) as client:
        refused = await client.post(path)
        address = refused.headers["www-authenticate"].split('resource_metadata="')[1][:-1]
        answer = await client.get(address)
        assert answer.json()["resource"] == str(client.base_url.join(path.rstrip("/")))


async def test_lifespans_are_the_endpoint_s() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    guard = guarded()[0]
    guard._app = app
    await guard({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]

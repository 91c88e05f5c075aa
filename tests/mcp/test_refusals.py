"""What stands before the tools refuses in words that reach the user of a real client.

The SDK's client shows a JSON-RPC error that comes with whatever status, and of any other body says
no more than "Server returned an error response".
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from mcp import MCPError

from tests.conftest import Database
from tests.mcp.agent import Agent, over_http, protocol_error
from tests.mcp.serving import SECRET, configured, serving, token
from tests.unit.forge import claims
from tests.unit.forge import token as forge

ISSUER, AUDIENCE = "https://issuer.example", "https://tasks.example/mcp"
FROM_ISSUER = f"Tokens for this server come from {ISSUER}"
COMMAND = "Whoever runs this server makes one with: tasktrail token --user U"


def forged(**changes: Any) -> str:
    """Return a token that has the right signature."""
    now = int(time.time())
    return forge(claims(**{"iat": now, "exp": now + 3600, **changes}), SECRET.encode())


def expired() -> str:
    now = int(time.time())
    return forged(iat=now - 7200, exp=now - 3600)


def told(error: MCPError) -> tuple[str, str]:
    """Return what programs and what people are told."""
    return error.error.data["code"], error.error.message


def test_a_token_that_has_expired_meanwhile(alice: Agent) -> None:
    refusal = protocol_error(alice.as_user(expired()), "call_tool", "list_tasks", {})
    assert told(refusal) == ("invalid_token", f"The token has expired. Get a new one. {COMMAND}")
    assert refusal.error.code == -32600


@pytest.mark.parametrize(
    ("headers", "code", "said"),
    [
        ({"Authorization": f"Bearer {expired()}"}, "invalid_token", "The token has expired."),
        ({"Authorization": "Bearer x"}, "invalid_token", "The token is not a signed JWT"),
        ({"Authorization": ""}, "unauthorized", "Send a token: Authorization: Bearer <token>."),
        ({"Host": "evil.example"}, "misdirected_request", "TASKTRAIL_ALLOWED_HOSTS"),
        ({"Origin": "https://evil.example"}, "origin_not_allowed", "TASKTRAIL_ALLOWED_ORIGINS"),
    ],
)
def test_connecting_tells_what_is_wrong(
    portal: BlockingPortal,
    address: str,
    era: str,
    user: str,
    headers: dict[str, str],
    code: str,
    said: str,
) -> None:
    refusal = refused(portal, address, era, token(user), headers)
    assert told(refusal)[0] == code
    assert said in told(refusal)[1]


def refused(
    portal: BlockingPortal, address: str, era: str, bearer: str, headers: dict[str, str]
) -> MCPError:
    """Return what it ends with to connect."""
    with (
        pytest.RaisesGroup(MCPError, flatten_subgroups=True) as caught,
        over_http(portal, f"{address}/mcp", era, bearer, headers),
    ):
        pass
    found: BaseException = caught.value
    while isinstance(found, BaseExceptionGroup):
        (found,) = found.exceptions
    assert isinstance(found, MCPError)
    return found


def test_a_request_that_is_too_long(alice: Agent) -> None:
    arguments = {"title": "x", "description": "x" * (1 << 20)}
    code, said = told(protocol_error(alice, "call_tool", "add_task", arguments))
    assert (code, "1 MiB" in said, "Send less" in said) == ("request_too_large", True, True)
    assert alice("list_tasks")["tasks"] == []


def test_a_token_for_others_and_one_that_may_too_little(
    shared_database: Database, connect: Callable[..., Agent], user: str
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_ISSUER=ISSUER, TASKTRAIL_AUDIENCE=AUDIENCE)
    good = {"sub": user, "iss": ISSUER, "aud": AUDIENCE}
    with serving(settings) as address:
        agent = connect(url=f"{address}/mcp", headers={"Authorization": f"Bearer {forged(**good)}"})
        others = agent.as_user(forged(**{**good, "aud": "https://other.example"}))
        assert told(protocol_error(others, "call_tool", "list_tasks", {})) == (
            "invalid_token",
            f"The token is for another audience. Get a new one. {FROM_ISSUER}",
        )
        reader = agent.as_user(forged(**good, scope="tasks:read"))
        assert told(protocol_error(reader, "call_tool", "add_task", {"title": "x"})) == (
            "insufficient_scope",
            f"This tool needs the scope tasks:write. Get a token that has it. {FROM_ISSUER}",
        )


def test_an_address_that_calls_too_often(
    shared_database: Database, connect: Callable[..., Agent]
) -> None:
    settings = configured(shared_database.app, TASKTRAIL_ADDRESS_RATE_LIMIT="5")
    with serving(settings) as address:
        agent = connect(url=f"{address}/mcp")
        with pytest.raises(MCPError) as refusal:
            call_without_end(agent)
    assert told(refusal.value) == (
        "rate_limited",
        "Too many calls from this address. The next one is possible in 1 seconds.",
    )
    assert refusal.value.error.data["retry_after_seconds"] == 1
    assert refusal.value.error.code == -32603


def call_without_end(agent: Agent) -> None:
    while True:
        agent.do("call_tool", "list_tasks", {})


def test_keys_that_cannot_be_fetched(
    shared_database: Database, portal: BlockingPortal, era: str, user: str
) -> None:
    settings = configured(
        shared_database.app,
        BETTER_AUTH_SECRET=None,
        TASKTRAIL_JWKS_URL="http://127.0.0.1:1/jwks",
        TASKTRAIL_AUDIENCE=AUDIENCE,
    )
    signed = forge(claims(sub=user), kid="k")
    with serving(settings) as address:
        refusal = refused(portal, address, era, signed, {})
    assert told(refusal) == (
        "unavailable",
        "The keys that tokens are checked with cannot be fetched. Try again in 10 seconds.",
    )

"""Nothing crosses from one user to another, whatever they try: no byte in an answer, no effect.

``strangers`` says how that is looked for; ``walls`` takes away what keeps users apart, one by one.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server.tools import catalogue
from tests.conftest import THOROUGH, Database
from tests.integration import strangers as strange
from tests.integration import walls
from tests.integration.strangers import Made, Stranger, Violation
from tests.mcp import wire
from tests.mcp.serving import configured, serving
from tests.mcp.wire import LEGACY, MODERN, Wire

CALLS = 20_000 if THOROUGH else 1_500
CALLS_AT_A_WALL = 3_000 if THOROUGH else 300


async def search(
    database: Database, address: str, calls: int, repeated: int = strange.USERS
) -> tuple[list[Made], list[Violation]]:
    """Let strangers mingle, then repeat what some did, alone; return calls and violations."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    strangers = [Stranger() for _ in range(strange.USERS)]
    made = await strange.mingle(address, strangers, calls, seed)
    found = strange.crossed(made, strangers)
    for stranger in strangers[:repeated]:
        walls.empty(database)
        own = [one for one in made if one.user == stranger.user]
        found += strange.differing(own, await strange.alone(address, own))
    print(f"{len(made)} calls, {len(found)} violations; {strange.outcomes(made)}")
    return made, found


def assert_it_was_worth_looking(made: list[Made]) -> None:
    """Many calls did something, many met what is another's, and none met a fault of ours."""
    outcomes = strange.outcomes(made)
    assert outcomes["ok"] > len(made) * 0.2
    assert outcomes["not_found"] + outcomes["conversation_not_found"] > len(made) * 0.1
    assert outcomes["unavailable"] == 0
    assert {one.answer.status for one in made} <= {200, 400}  # 400: there is no such resource


def test_every_tool_is_called() -> None:
    assert {*catalogue.TOOLS, *catalogue.ALIASES} == strange.TOOLS


async def test_what_others_have_and_do_changes_no_answer(database: Database) -> None:
    with serving(configured(database.app)) as address:
        made, found = await search(database, address, CALLS, strange.USERS if THOROUGH else 3)
    assert found == []
    assert_it_was_worth_looking(made)


async def test_without_row_level_security_the_statements_still_name_the_user(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls.remove_row_level_security(database)
    sent = walls.watch_statements(monkeypatch)
    with serving(configured(database.admin)) as address:
        made, found = await search(database, address, CALLS_AT_A_WALL)
    assert found == []
    assert_it_was_worth_looking(made)
    assert len(sent) > 20
    assert {
        statement: walls.careless(statement) for statement in sent if walls.careless(statement)
    } == {}


async def test_without_users_in_the_statements_row_level_security_still_holds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls.remove_users_from_statements(monkeypatch)
    walls.remove_users_from_commit(database)
    with serving(configured(database.app)) as address:
        made, found = await search(database, address, CALLS_AT_A_WALL)
    assert found == []
    assert_it_was_worth_looking(made)


async def test_without_either_the_search_finds_what_crosses(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: these tests can see it."""
    walls.remove_users_from_statements(monkeypatch)
    walls.remove_row_level_security(database)
    with serving(configured(database.admin)) as address:
        _, found = await search(database, address, 300)
    assert {violation.what for violation in found} == {strange.CANARY, strange.ANOTHER_ANSWER}


def claims(victim: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ways to say that one is somebody else: which, and what to add to a call."""
    for header in ("X-User-Id", "X-Forwarded-User", "Remote-User", "Tasktrail-User-Id"):
        yield header, {"more": [(header.encode(), victim.encode())]}
    yield "cookie", {"more": [(b"Cookie", f"user_id={victim}; sub={victim}".encode())]}
    yield "session", {"more": [(b"Mcp-Session-Id", victim.encode())]}
    for name in ("user_id", "tasktrail/user_id", "sub", "io.modelcontextprotocol/user"):
        yield name, {"meta": {name: victim}}
    info = {"name": victim, "version": "1", "user_id": victim}
    yield "client", {"meta": {"io.modelcontextprotocol/clientInfo": info}}
    yield "path", {"path": f"/mcp?user_id={victim}"}


@pytest.mark.parametrize("era", [MODERN, LEGACY])
async def test_without_either_a_claim_still_makes_nobody_somebody_else(
    database: Database, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    walls.remove_users_from_statements(monkeypatch)
    walls.remove_row_level_security(database)
    mallory, victim = Stranger(), Stranger()
    with serving(configured(database.admin)) as address:
        async with Wire(address) as connection:
            for what, added in claims(victim.user):
                call = wire.tool_call(mallory.token, era, "add_task", {"title": what}, **added)
                assert not (await connection.send(call)).json()["result"]["isError"]
            arguments = {"title": "x", "user_id": victim.user}
            call = wire.tool_call(mallory.token, era, "add_task", arguments)
            answer = (await connection.send(call)).json()["result"]["structuredContent"]
    assert answer["code"] == "user_mismatch"
    assert walls.owners(database) == {mallory.user: len(list(claims(victim.user)))}

"""The network to the database fails in the middle of a commit: did it happen? The key tells."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_server import connection
from tests.conftest import Database
from tests.integration.agents import Inspector
from tests.integration.tcp_proxy import Fault, Proxy, proxied
from tests.mcp.serving import configured, serving
from tests.mcp.wire import User

pytestmark = pytest.mark.each_loop

HAPPENED = {
    Fault.lost: False,
    Fault.swallowed: False,
    Fault.unanswered: True,
    Fault.half_answered: True,
    Fault.silent: True,
}


@pytest.fixture
async def network(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Proxy, User, User]]:
    """A proxy before the database, and two users of a server behind it."""
    monkeypatch.setattr(connection, "LONGEST", 2.0)
    async with proxied(database.app) as (proxy, conninfo):
        address_of = serving(configured(conninfo))
        address = await asyncio.to_thread(address_of.__enter__)
        alice, bob = User(address, "alice"), User(address, "bob")
        for user in (alice, bob):
            await user("add_task", title="first")
        yield proxy, alice, bob
        await alice.close()
        await bob.close()
        await asyncio.to_thread(address_of.__exit__, None, None, None)


@pytest.mark.parametrize("fault", HAPPENED)
async def test_the_outcome_is_unknown_and_the_same_key_tells(
    network: tuple[Proxy, User, User], inspector: Inspector, fault: Fault
) -> None:
    proxy, alice, _ = network
    wish: dict[str, Any] = {"title": "marked by chance", "idempotency_key": "k"}
    proxy.strike(fault, "marked by chance")
    answer = await alice("add_task", **wish)
    assert proxy.struck.is_set()
    assert answer["code"] == "unavailable"
    assert "idempotency_key" in answer["hint"]
    again = await alice("add_task", **wish)
    assert again["task_id"] == 2
    assert again.get("replayed", False) is HAPPENED[fault]
    third = await alice("add_task", **wish)
    assert (third["task_id"], third["replayed"]) == (2, True)
    assert len(inspector.events("alice")) == 2
    assert inspector.findings("alice") == []


@pytest.mark.parametrize("fault", HAPPENED)
async def test_others_go_on_meanwhile(network: tuple[Proxy, User, User], fault: Fault) -> None:
    proxy, alice, bob = network
    proxy.strike(fault, "marked by chance")
    failing = asyncio.create_task(alice("add_task", title="marked by chance"))
    await proxy.struck.wait()
    took = [await bob.timed("add_task", title="x") for _ in range(10)]
    assert max(took) < 1.5
    begun = time.perf_counter()
    assert (await failing)["code"] == "unavailable"
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("fault", HAPPENED)
async def test_a_read_that_is_cut_off_is_answered(
    network: tuple[Proxy, User, User], fault: Fault
) -> None:
    """A read may be asked again, so it is: at once, where the connection broke."""
    proxy, alice, _ = network
    proxy.strike(fault, "marked by chance")
    answer = await alice("list_tasks", tag="marked by chance")
    assert proxy.struck.is_set()
    assert answer["tasks"] == []

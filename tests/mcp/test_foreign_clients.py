"""Clients that others wrote, against the real server: the part of ``make interop`` that needs
nothing but what is locked (docs/interop.md has the rest)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mcp.agent import LEGACY, MODERN
from tests.mcp.serving import PATIENCE, token

CLIENTS = Path(__file__).parents[2] / "interop" / "clients"


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(["python_sdk.py", "auto", MODERN], id="the Python SDK"),
        pytest.param(["python_sdk.py", "legacy", LEGACY], id="the Python SDK in the older era"),
        pytest.param(["openai_agents_client.py"], id="openai-agents"),
    ],
)
def test_a_foreign_client_is_served(address: str, user: str, client: list[str]) -> None:
    script, *arguments = client
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, CLIENTS / script, *arguments],
        env={**kept, "URL": f"{address}/mcp", "TOKEN": token(user)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"

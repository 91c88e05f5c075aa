"""The Python SDK's own client: ``python_sdk.py auto 2026-07-28``, or ``legacy 2025-11-25``."""

import asyncio
import os
import sys
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(mode: str, revision: str) -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(os.environ["URL"], http_client=http), mode=mode) as client,
    ):

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            return (await client.call_tool(tool, arguments)).structured_content or {}

        assert len((await client.list_tools()).tools) == 14
        added = await call("add_task", title="Buy milk", due="2026-12-01", tags=["home"])
        found = await call("list_tasks", query="milk")
        assert found["tasks"][0]["id"] == added["task_id"]
        assert (await call("get_task", task_id=999_999))["code"] == "not_found"
        assert (await call("undo", position=added["position"]))["undone"]
        assert client.protocol_version == revision
        print("ok")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))

"""pydantic-ai: its toolset for MCP, called directly."""

import asyncio
import os

from pydantic_ai.mcp import MCPToolset


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with MCPToolset(os.environ["URL"], headers=headers) as server:
        added = await server.direct_call_tool("add_task", {"title": "Buy milk"})
        assert added["status"] == "created"
        found = await server.direct_call_tool("list_tasks", {"query": "milk"})
        assert found["tasks"][0]["id"] == added["task_id"]
        print("ok")


if __name__ == "__main__":
    asyncio.run(main())

"""openai-agents: its MCP server object, as an Agent would use it."""

import asyncio
import json
import os

from agents.mcp import MCPServerStreamableHttp


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with MCPServerStreamableHttp({"url": os.environ["URL"], "headers": headers}) as server:
        assert len(await server.list_tools()) == 14
        added = (await server.call_tool("add_task", {"title": "Buy milk"})).structured_content
        assert added["status"] == "created"
        failed = await server.call_tool("get_task", {"task_id": 999_999})
        assert failed.is_error
        assert json.loads(json.dumps(failed.structured_content))["code"] == "not_found"
        print("ok")


if __name__ == "__main__":
    asyncio.run(main())

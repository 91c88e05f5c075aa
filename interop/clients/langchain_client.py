"""langchain-mcp-adapters: the tools as LangChain's tools. It lives in mcp 1.x, the older era."""

import asyncio
import os

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main() -> None:
    connection = {
        "transport": "streamable_http",
        "url": os.environ["URL"],
        "headers": {"Authorization": f"Bearer {os.environ['TOKEN']}"},
    }
    client = MultiServerMCPClient({"tasktrail": connection})
    tools = {tool.name: tool for tool in await client.get_tools()}
    assert len(tools) == 14
    added = await tools["add_task"].ainvoke({"title": "Buy milk"})
    assert "Created task" in str(added)
    assert "Buy milk" in str(await tools["list_tasks"].ainvoke({"query": "milk"}))
    print("ok")


if __name__ == "__main__":
    asyncio.run(main())

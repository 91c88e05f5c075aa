"""A client with the MCP SDK alone. It stores every turn of the chat, and sends the id of the user's
message with each call that the message leads to, so that the history knows what caused a change.

    printf 'add Buy milk\ndone 3\nundo\n' | TASKTRAIL_TOKEN=... python examples/plain_agent.py

In place of a model it knows three words: add TITLE, done ID, undo (all that this chat has changed).
"""

import asyncio
import os
import sys
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("TASKTRAIL_URL", "http://127.0.0.1:8000/mcp")
TOKEN = os.environ["TASKTRAIL_TOKEN"]


class Chat:
    """One conversation, kept in Tasktrail."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._id: int | None = None

    async def turn(self, said: str) -> str:
        """Store what the user said, do it, store the answer, and return it."""
        cause = await self._store("user", said)
        tool, arguments = self._decide(said)
        answer = "I know add, done and undo."
        if tool is not None:
            meta = {"tasktrail/conversation_id": self._id, "tasktrail/message_id": cause}
            answer = await self._call(tool, arguments, meta)
        await self._store("assistant", answer)
        return answer

    def _decide(self, said: str) -> tuple[str | None, dict[str, Any]]:
        """What a model would do: choose a tool and its arguments."""
        match said.split(maxsplit=1):
            case ["add", title]:
                return "add_task", {"title": title, "reason": "the user asked for it"}
            case ["done", id_]:
                return "complete_task", {"task_id": id_}
            case ["undo"]:
                return "undo", {"conversation_id": self._id}
        return None, {}

    async def _store(self, role: str, content: str) -> int:
        conversation = {} if self._id is None else {"conversation_id": self._id}
        arguments = {"role": role, "content": content, **conversation}
        result = await self._client.call_tool("add_message", arguments)
        stored = result.structured_content or {}
        if result.is_error:
            raise RuntimeError(stored)
        self._id = stored["conversation_id"]
        return int(stored["message_id"])

    async def _call(self, tool: str, arguments: dict[str, Any], meta: Any) -> str:
        """Return the tool's words: an error too says what to do next."""
        result = await self._client.call_tool(tool, arguments, meta=meta)
        return result.content[0].text  # type: ignore[union-attr] # our answers are texts

    async def changes(self) -> str:
        """Return what this conversation has caused, newest first."""
        result = await self._client.call_tool("get_history", {"conversation_id": self._id})
        return result.content[0].text  # type: ignore[union-attr]


async def main() -> None:
    """Answer each line of standard input; then tell what was changed, and because of what."""
    headers = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "plain-agent/1.0"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        chat = Chat(client)
        for line in sys.stdin:
            print(await chat.turn(line.strip()))
        print(f"\nWhat happened, newest first:\n{await chat.changes()}")


if __name__ == "__main__":
    asyncio.run(main())

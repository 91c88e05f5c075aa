"""An agent of openai-agents that keeps its user's tasks in Tasktrail. It stores every turn of the
chat, and each call that the model makes carries the id of the user's message.

    printf 'Please remember to buy milk.\n' | TASKTRAIL_TOKEN=... python examples/openai_agent.py

The model is a stub, so that this runs without a network: give the Agent a real one instead.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.items import TResponseInputItem
from agents.mcp import MCPServerStreamableHttp, MCPToolMetaContext
from agents.models.interface import Model
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

URL = os.environ.get("TASKTRAIL_URL", "http://127.0.0.1:8000/mcp")
TOKEN = os.environ["TASKTRAIL_TOKEN"]


class Stub(Model):
    """Adds a task for whatever it is told, and says what the tool said."""

    async def get_response(self, *arguments: Any, **named: Any) -> ModelResponse:
        said: str | list[TResponseInputItem] = named.get("input", arguments[1:2])
        last: Any = said[-1] if isinstance(said, list) else {"content": said}
        output: ResponseFunctionToolCall | ResponseOutputMessage
        if last.get("type") == "function_call_output":
            output = _message(f"I have noted it. ({_text(last['output'])})")
        else:
            wish = json.dumps({"title": last["content"], "reason": "the user asked for it"})
            output = ResponseFunctionToolCall(
                type="function_call", call_id="call-1", name="add_task", arguments=wish
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this stub does not stream")


def _message(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="message-1", type="message", role="assistant", status="completed", content=[content]
    )


def _text(output: Any) -> str:
    return output if isinstance(output, str) else str(output[0]["text"])


class Chat:
    """One conversation, kept in Tasktrail."""

    def __init__(self) -> None:
        self.id: int | None = None
        self.cause: int | None = None
        self.server = MCPServerStreamableHttp(
            {"url": URL, "headers": {"Authorization": f"Bearer {TOKEN}"}},
            cache_tools_list=True,
            tool_meta_resolver=self._cause,
        )

    def _cause(self, _: MCPToolMetaContext) -> dict[str, Any]:
        """What goes along with each call of the model: the model has no part in it."""
        return {"tasktrail/conversation_id": self.id, "tasktrail/message_id": self.cause}

    async def store(self, role: str, content: str) -> int:
        """Keep one turn and return its id."""
        conversation = {} if self.id is None else {"conversation_id": self.id}
        arguments = {"role": role, "content": content, **conversation}
        result = await self.server.call_tool("add_message", arguments)
        stored: dict[str, Any] = result.structured_content or {}
        self.id = stored["conversation_id"]
        return int(stored["message_id"])


async def main() -> None:
    """Answer each line of standard input."""
    set_tracing_disabled(True)
    chat = Chat()
    async with chat.server:
        agent = Agent(
            name="Assistant",
            instructions="Keep the user's tasks.",
            model=Stub(),
            mcp_servers=[chat.server],
        )
        for line in sys.stdin:
            chat.cause = await chat.store("user", line.strip())
            result = await Runner.run(agent, line.strip())
            await chat.store("assistant", str(result.final_output))
            print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main())

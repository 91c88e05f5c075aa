"""An agent as tests know it: connected by the SDK's client, in either era of the protocol.

``alice("add_task", title="Buy milk")`` calls a tool and returns its structured answer, and
``alice.refused("get_task", task_id=99)`` an error. Whatever is called, every answer has to fit the
schema that was published for it, and to have a text made for a model.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from functools import partial
from typing import Any, get_args

import httpx2
from anyio.from_thread import BlockingPortal
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, Implementation

from events.errors import Code
from events.ledger import Json
from mcp_server.tools.catalogue import ALIASES

MODERN, LEGACY = "2026-07-28", "2025-11-25"
ERAS = (MODERN, LEGACY)
CLIENT = Implementation(name="Test-Agent", version="1.2.3")


class Agent:
    """One user's agent. ``meta`` goes along with every call; ``said`` is the last answer's text."""

    def __init__(
        self, portal: BlockingPortal, client: Client, http: httpx2.AsyncClient | None = None
    ) -> None:
        self._portal = portal
        self._client = client
        self._http = http
        self._bearer = ""
        self.meta: Json = {}
        self.said = ""
        self.tools = {tool.name: tool for tool in self.do("list_tools").tools}

    def as_user(self, token: str) -> "Agent":
        """Return the agent of another user on the same connection: the server keeps no session."""
        other = copy(self)
        other._bearer = f"Bearer {token}"
        other.meta = {}
        return other

    @property
    def protocol(self) -> str:
        """The protocol revision that was agreed."""
        return str(self._client.protocol_version)

    def of_client(self, name: str) -> Any:
        """Return what the SDK's client knows of the server."""
        return getattr(self._client, name)

    def do(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the SDK's client."""
        if self._http is not None and self._bearer:
            self._http.headers["Authorization"] = self._bearer
        return self._portal.call(partial(getattr(self._client, method), *arguments, **named))

    def ask(self, tool: str, /, **arguments: Any) -> CallToolResult:
        """Call a tool, check the form of the answer, and return it."""
        result: CallToolResult = self.do("call_tool", tool, arguments, meta=self.meta or None)
        (content,) = result.content
        self.said = content.text  # type: ignore[union-attr] # our answers are texts
        assert self.said.strip()
        assert "\n  " not in self.said, "indented JSON is for nobody"
        self._check_form(tool, result)
        return result

    def __call__(self, tool: str, /, **arguments: Any) -> Json:
        """Call a tool that has to succeed, and return its structured answer."""
        result = self.ask(tool, **arguments)
        assert not result.is_error, self.said
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    def refused(self, tool: str, /, **arguments: Any) -> Json:
        """Call a tool that has to fail, and return the structured error."""
        result = self.ask(tool, **arguments)
        assert result.is_error, self.said
        problem = result.structured_content
        assert isinstance(problem, dict)
        assert problem["code"] in get_args(Code)
        assert problem["code"] in self.said
        assert problem["message"] in self.said
        assert problem["hint"], f"{problem['code']} does not say what to do next"
        return problem

    def _check_form(self, tool: str, result: CallToolResult) -> None:
        """The answer fits the published schema, which names everything that a success has."""
        schema = self.tools[ALIASES.get(tool, tool)].output_schema
        assert schema is not None
        schema = schema if result.is_error else _closed(schema)
        Draft202012Validator(schema).validate(result.structured_content)


def _closed(schema: Any) -> Any:
    """Return ``schema`` with no room for properties that it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and "type" in closed:
        closed["additionalProperties"] = False
    return closed


@contextmanager
def over_http(
    portal: BlockingPortal, url: str, era: str, token: str, headers: dict[str, str] | None = None
) -> Iterator[Agent]:
    """Connect an agent to ``url``, which ends in the path of the endpoint."""
    every = {"Authorization": f"Bearer {token}", **(headers or {})}

    http = httpx2.AsyncClient(headers=every, timeout=30, verify=False)

    @asynccontextmanager
    async def connection() -> AsyncIterator[Client]:
        async with http:
            transport = streamable_http_client(url, http_client=http)
            async with Client(transport, mode=_mode(era), client_info=CLIENT) as client:
                yield client

    with portal.wrap_async_context_manager(connection()) as client:
        yield Agent(portal, client, http)


@contextmanager
def over_stdio(portal: BlockingPortal, process: StdioServerParameters, era: str) -> Iterator[Agent]:
    """Start a child process and connect an agent to its standard input and output."""

    @asynccontextmanager
    async def connection() -> AsyncIterator[Client]:
        async with Client(stdio_client(process), mode=_mode(era), client_info=CLIENT) as client:
            yield client

    with portal.wrap_async_context_manager(connection()) as client:
        yield Agent(portal, client)


def _mode(era: str) -> str:
    return "legacy" if era == LEGACY else "auto"


def protocol_error(agent: Agent, method: str, *arguments: Any, **named: Any) -> MCPError:
    """Return the JSON-RPC error that a method ends with."""
    try:
        agent.do(method, *arguments, **named)
    except MCPError as error:
        return error
    raise AssertionError(f"{method} did not fail")

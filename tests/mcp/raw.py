"""MCP by hand: requests as they go over the wire, for what the SDK's client would never send."""

from typing import Any

import httpx2

from events.ledger import Json
from tests.mcp.agent import MODERN

REVISIONS = ("2025-06-18", "2025-11-25", MODERN)


class Wire:
    """Speaks one revision of the protocol to one endpoint."""

    def __init__(self, url: str, revision: str, token: str | None) -> None:
        self.url = url
        self.revision = revision
        self.headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": revision,
        }
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"

    def send(self, method: str, params: Json | None = None, **headers: str) -> httpx2.Response:
        """Send one request and return the answer, whatever it is."""
        params = dict(params or {})
        every = dict(self.headers)
        if self.revision == MODERN:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "by-hand", "version": "0"},
                **params.get("_meta", {}),
            }
            every["Mcp-Method"] = method
            name = params.get("name", params.get("uri"))
            if name is not None:
                every["Mcp-Name"] = str(name)
        every |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        return httpx2.post(self.url, json=request, headers=every, timeout=30)

    def result(self, method: str, params: Json | None = None) -> Json:
        """Send one request that has to succeed, and return its result."""
        answer = self.send(method, params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/json")
        body = answer.json()
        assert (body["jsonrpc"], body["id"]) == ("2.0", 7)
        found: Json = body["result"]
        return found

    def call(self, tool: str, /, **arguments: Any) -> Json:
        """Call a tool and return its structured answer, a success or an error."""
        found: Json = self.result("tools/call", {"name": tool, "arguments": arguments})[
            "structuredContent"
        ]
        return found

// @modelcontextprotocol/sdk 1.x, the client that most applications in TypeScript have.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { tour } from "./tour.mjs";

const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const client = new Client({ name: "interop-ts-v1", version: "1.0" });
const transport = new StreamableHTTPClientTransport(new URL(process.env.URL), { requestInit: { headers } });
await client.connect(transport);
await tour(client, transport.protocolVersion, "2025-11-25");

// @modelcontextprotocol/client 2.x, `typescript_v2.mjs auto 2026-07-28`, or `legacy 2025-11-25`.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { tour } from "./tour.mjs";

const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const client = new Client({ name: "interop-ts-v2", version: "1.0" }, { versionNegotiation: { mode: process.argv[2] } });
const transport = new StreamableHTTPClientTransport(new URL(process.env.URL), { requestInit: { headers } });
await client.connect(transport);
await tour(client, client.getNegotiatedProtocolVersion(), process.argv[3]);

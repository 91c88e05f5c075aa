// @modelcontextprotocol/client 2.x, in the era that it is told: `legacy`, or `auto` for 2026-07-28.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { tour } from "./tour.mjs";

const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const client = new Client({ name: "interop-ts-v2", version: "1.0" }, { versionNegotiation: { mode: process.argv[2] } });
const transport = new StreamableHTTPClientTransport(new URL(process.env.URL), { requestInit: { headers } });
await client.connect(transport);
await tour(client, client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion);

// A server of one tool on the TypeScript SDK: a peer that serving is compared with.
//
//   node bench/peers/ts_echo/server.ts HOST:PORT stateless|sessions
//
// Set up as well as its own options allow: plain node:http, the low-level server, JSON in place of events. Without
// sessions a server is made for each request, as the SDK asks; with them one for each session.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { NodeStreamableHTTPServerTransport, toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, ProtocolError, ProtocolErrorCode, Server } from "@modelcontextprotocol/server";

const [listen, mode] = process.argv.slice(2);
if (listen === undefined || (mode !== "stateless" && mode !== "sessions")) {
  console.error("usage: server.ts HOST:PORT stateless|sessions");
  process.exit(2);
}

const tools = [
  {
    name: "echo",
    description: "Answers with what it was given",
    inputSchema: { type: "object" as const, properties: { data: { type: "string" } }, required: ["data"] },
  },
];

function echo(): Server {
  const server = new Server({ name: "ts-echo", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler("tools/list", () => ({ tools }));
  server.setRequestHandler("tools/call", ({ params }) => {
    const text = params.arguments?.data;
    if (params.name !== "echo" || typeof text !== "string") {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, "`echo` takes a string, `data`");
    }
    return { content: [{ type: "text", text }] };
  });
  return server;
}

const sessions = new Map<string, NodeStreamableHTTPServerTransport>();

async function inSession(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const id = request.headers["mcp-session-id"];
  let transport = typeof id === "string" ? sessions.get(id) : undefined;
  if (transport === undefined) {
    const fresh = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      enableJsonResponse: true,
      onsessioninitialized: (id) => void sessions.set(id, fresh),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await echo().connect(fresh);
    transport = fresh;
  }
  await transport.handleRequest(request, response);
}

// The SDK answers with JSON by itself unless a tool has something to say before its result.
const handler = mode === "sessions" ? inSession : toNodeHandler(createMcpHandler(echo));
const http = createServer((request, response) => void handler(request, response));
// Connections that are held silent are what is measured.
http.keepAliveTimeout = 0;
http.requestTimeout = 0;
const [host, port] = listen.split(":");
http.listen({ host, port: Number(port), backlog: 4096 });

// A server on the TypeScript SDK v2.
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import * as z from "zod";

serveStdio(() => {
  const server = new McpServer({ name: "typescript", version: "1" }, { capabilities: { tools: {} } });
  const numbers = z.object({ a: z.number(), b: z.number() });
  server.registerTool("add", { description: "Adds two numbers", inputSchema: numbers }, async ({ a, b }) => ({
    content: [{ type: "text", text: String(a + b) }],
  }));
  server.registerTool("whoami", { description: "Says who answers", inputSchema: z.object({}) }, async () => ({
    content: [{ type: "text", text: "typescript" }],
  }));
  return server;
});

// TypeScript SDK v1, which never speaks the modern era: sessions, the GET stream, `terminateSession`.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema, ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { eventually, noting, options, pages, refused, report, type Exchange } from "./common.ts";

const { script, url, stdio } = options();
const asked: unknown[] = [];
const exchanges: Exchange[] = [];
let toolsChanged = 0;

const client = new Client({ name: "corelane-tests-v1", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  asked.push(request.params);
  return { action: "accept", content: script.elicitation!.legacy.answer as any };
});
client.setNotificationHandler(ToolListChangedNotificationSchema, () => void toolsChanged++);

const transport = url ? new StreamableHTTPClientTransport(url, { fetch: noting(exchanges) }) : new StdioClientTransport(stdio!);
let negotiated: string | undefined;
const settle = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version: string) => {
  negotiated = version;
  settle?.(version);
};
await client.connect(transport);
report("connected", {
  protocolVersion: negotiated,
  serverInfo: client.getServerVersion(),
  session: (transport as StreamableHTTPClientTransport).sessionId ?? null,
});

report("tools", { result: await pages((params) => client.listTools(params), "tools") });
if (script.call) report("call", { result: await client.callTool(script.call) });
if (script.call_error) report("call_error", { result: await client.callTool(script.call_error) });
if (script.calls) {
  const results: unknown[] = [];
  for (const one of script.calls) results.push(await client.callTool(one));
  report("calls", { results });
}
if (script.progress) {
  const seen: unknown[] = [];
  const onprogress = (step: any) => void seen.push([step.progress, step.total]);
  report("progress", { result: await client.callTool(script.progress, undefined, { onprogress }), seen });
}
if (script.resource) {
  report("resources", { result: await pages((params) => client.listResources(params), "resources") });
  report("resource", { result: await client.readResource({ uri: script.resource.uri }) });
}
if (script.resource_template) {
  report("templates", { result: await pages((params) => client.listResourceTemplates(params), "resourceTemplates") });
  report("template", { result: await client.readResource({ uri: script.resource_template.uri }) });
}
if (script.prompt) {
  report("prompts", { result: await pages((params) => client.listPrompts(params), "prompts") });
  report("prompt", { result: await client.getPrompt(script.prompt) });
}
if (script.completion) {
  const { prompt, argument } = script.completion;
  report("completion", { result: await client.complete({ ref: { type: "ref/prompt", name: prompt }, argument }) });
}
if (script.elicitation) {
  const { name, arguments: args } = script.elicitation.legacy;
  report("elicitation", { result: await client.callTool({ name, arguments: args }), asked });
}
if (script.list_changed?.eras.includes("legacy")) {
  await client.callTool({ name: script.list_changed.name, arguments: {} });
  report("list_changed", { arrived: await eventually(() => toolsChanged > 0, 3000) });
}
if (script.unknown_tool) report("unknown_tool", await refused(client.callTool({ name: script.unknown_tool.name, arguments: {} })));
if (script.unknown_resource) report("unknown_resource", await refused(client.readResource(script.unknown_resource)));
report("ping", { result: await client.ping() });

if (transport instanceof StreamableHTTPClientTransport) {
  const session = transport.sessionId;
  await transport.terminateSession();
  let after: number | null = null;
  if (session) {
    // The session is gone for everybody, not only for the transport that forgot it.
    const response = await fetch(url!, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-session-id": session,
        "mcp-protocol-version": negotiated!,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });
    after = response.status;
    await response.text(); // read to its end: an unread body keeps the connection, and so this process, alive
  }
  report("session_end", { exchanges, session: session ?? null, after });
}
await client.close();
report("closed");
// Over HTTP, v1 leaves timers behind a closed client that hold the process for another six seconds.
process.exit(0);

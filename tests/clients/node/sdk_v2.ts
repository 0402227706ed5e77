// TypeScript SDK v2 client, in each of its negotiation modes.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { eventually, MODERN, noting, options, pages, refused, report, type Exchange } from "./common.ts";

const { script, mode, url, stdio } = options();
const asked: unknown[] = [];
const exchanges: Exchange[] = [];
let toolsChanged = 0;

const client = new Client(
  { name: "corelane-tests-v2", version: "1" },
  {
    capabilities: { elicitation: { form: {} } },
    versionNegotiation: { mode: mode === "auto" || mode === "legacy" ? mode : { pin: mode } },
  },
);
const era = () => (client.getNegotiatedProtocolVersion()! >= MODERN ? "modern" : "legacy");
client.setRequestHandler("elicitation/create", async (request) => {
  asked.push(request.params);
  return { action: "accept", content: script.elicitation![era()].answer as any };
});
client.setNotificationHandler("notifications/tools/list_changed", () => void toolsChanged++);

const transport = url ? new StreamableHTTPClientTransport(url, { fetch: noting(exchanges) }) : new StdioClientTransport(stdio!);
await client.connect(transport);
report("connected", { protocolVersion: client.getNegotiatedProtocolVersion(), serverInfo: client.getServerVersion() });

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
  report("progress", { result: await client.callTool(script.progress, { onprogress }), seen });
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
  const { name, arguments: args } = script.elicitation[era()];
  report("elicitation", { result: await client.callTool({ name, arguments: args }), asked });
}
if (script.list_changed?.eras.includes(era())) {
  const subscription = era() === "modern" ? await client.listen({ toolsListChanged: true }) : undefined;
  await client.callTool({ name: script.list_changed.name, arguments: {} });
  report("list_changed", { arrived: await eventually(() => toolsChanged > 0, 3000) });
  await subscription?.close();
}
if (script.unknown_tool) report("unknown_tool", await refused(client.callTool({ name: script.unknown_tool.name, arguments: {} })));
if (script.unknown_resource) report("unknown_resource", await refused(client.readResource(script.unknown_resource)));
if (era() === "legacy") report("ping", { result: await client.ping() });

if (transport instanceof StreamableHTTPClientTransport && era() === "legacy") {
  const session = transport.sessionId ?? null;
  await transport.terminateSession();
  report("session_end", { exchanges, session, after: null });
}
await client.close();
report("closed");

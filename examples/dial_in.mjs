// An MCP server that dials in to corelane by WebSocket, with nothing but Node (22 or later).
//
//   DIAL_KEY=... node examples/dial_in.mjs ws://HOST:PORT NAME
//
// NAME is a section [servers.NAME] with kind = "dial_in"; HOST:PORT is one of dial_in.listen. It dials in again when the
// connection is lost, and may be started several times: calls go to whichever has the fewest in flight.

const [, , url, name] = process.argv;
if (!/^wss?:/.test(url ?? "") || !name || !process.env.DIAL_KEY) {
  console.error("usage: DIAL_KEY=... node examples/dial_in.mjs ws://HOST:PORT NAME");
  process.exit(1);
}
const tool = { name: "whoami", description: "Says which process answers", inputSchema: { type: "object" } };

function answer(method) {
  if (method === "initialize") {
    const serverInfo = { name: "dial-in-node", version: "1" };
    return { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo };
  }
  if (method === "tools/list") return { tools: [tool] };
  if (method === "tools/call") return { content: [{ type: "text", text: `node ${process.pid}` }] };
  return method === "ping" ? {} : undefined;
}

function serve() {
  const socket = new WebSocket(url);
  const say = (message) => socket.send(JSON.stringify({ jsonrpc: "2.0", ...message }));
  let [admitted, over] = [false, false];
  const again = () => {
    if (!over) setTimeout(serve, 1000);
    over = true;
  };
  socket.onopen = () => {
    const params = { name, key: process.env.DIAL_KEY };
    say({ id: 1, method: "corelane/dial", params });
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (!admitted) {
      admitted = message.result !== undefined;
      if (!admitted) console.error(`not admitted: ${message.error.message}`);
    } else if (message.id !== undefined && message.method !== undefined) {
      const result = answer(message.method);
      const error = { code: -32601, message: "no such method" };
      say({ id: message.id, ...(result === undefined ? { error } : { result }) });
    }
  };
  socket.onclose = again;
  // One that was never open is not said to be closed by every Node.
  socket.onerror = () => {
    console.error(`not connected to ${url}`);
    again();
  };
}

serve();

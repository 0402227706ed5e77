// What both TypeScript clients share: the command line, the report lines, and a `fetch` that remembers what passed.
// Run by Node 22 itself, which strips the types; nothing is compiled and nothing here is checked, so keep it plain.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

export const PAGES_MAX = 50;
export const MODERN = "2026-07-28";

export type Tool = { name: string; arguments: Record<string, unknown> };
export type Elicitation = Tool & { answer: Record<string, unknown> };
export type Script = {
  call?: Tool;
  call_error?: Tool;
  calls?: Tool[];
  progress?: Tool;
  resource?: { uri: string };
  resource_template?: { uri: string };
  prompt?: { name: string; arguments: Record<string, string> };
  completion?: { prompt: string; argument: { name: string; value: string } };
  list_changed?: { name: string; eras: string[] };
  unknown_tool?: { name: string };
  unknown_resource?: { uri: string };
  elicitation?: { legacy: Elicitation; modern: Elicitation };
};
export type Options = { script: Script; mode: string; url?: URL; stdio?: { command: string; args: string[] } };

export function options(): Options {
  const { values } = parseArgs({
    options: {
      script: { type: "string" },
      mode: { type: "string", default: "auto" },
      url: { type: "string" },
      stdio: { type: "string" },
    },
  });
  if (!values.script || !values.url === !values.stdio) {
    throw new Error("usage: --script FILE [--mode auto|legacy|VERSION] (--url URL | --stdio '[\"command\",\"argument\"]')");
  }
  const [command, ...args] = values.stdio ? JSON.parse(values.stdio) : [];
  return {
    script: JSON.parse(readFileSync(values.script, "utf8")),
    mode: values.mode,
    url: values.url ? new URL(values.url) : undefined,
    stdio: values.stdio ? { command, args } : undefined,
  };
}

export function report(step: string, seen: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ step, ...seen }));
}

/** All pages of a list, in the shape of a single one. */
export async function pages(list: (params: { cursor?: string }) => Promise<any>, key: string): Promise<any> {
  const items: unknown[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const result = await list(cursor === undefined ? {} : { cursor });
    items.push(...result[key]);
    cursor = result.nextCursor;
    if (cursor === undefined) return { [key]: items };
  }
  throw new Error(`${key}: more than ${PAGES_MAX} pages, does the cursor ever end?`);
}

/** The JSON-RPC error that `attempt` ends in, or the result it should not have had. */
export async function refused(attempt: Promise<unknown>): Promise<Record<string, unknown>> {
  try {
    return { result: await attempt };
  } catch (error: any) {
    if (typeof error.code !== "number") throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

export type Exchange = { method: string; rpc?: string; status: number; type: string | null; session: boolean; version: string | null };

/** A `fetch` that notes each exchange in `exchanges`, so that the judge can see the GET stream and the DELETE. */
export function noting(exchanges: Exchange[]): typeof fetch {
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    const response = await fetch(input, init);
    let rpc: string | undefined;
    try {
      rpc = JSON.parse(String(init?.body)).method;
    } catch {
      rpc = undefined;
    }
    exchanges.push({
      method: init?.method ?? "GET",
      rpc,
      status: response.status,
      type: response.headers.get("content-type"),
      session: headers.has("mcp-session-id"),
      version: headers.get("mcp-protocol-version"),
    });
    return response;
  };
}

/** Resolves to whether `happened` became true in time. */
export async function eventually(happened: () => boolean, milliseconds: number): Promise<boolean> {
  for (let waited = 0; waited < milliseconds; waited += 20) {
    if (happened()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return happened();
}

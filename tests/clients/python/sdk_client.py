"""The Python SDK as a black-box client.

Does one of everything that `Script` names and prints what it saw, one JSON object a line. It asserts nothing: the
judge in `tests/clients/judge.py` does, with the same rules for every client.
"""

import argparse
import asyncio
import json
import sys
import warnings

from mcp import Client, StdioServerParameters, types

PAGES_MAX = 50

warnings.filterwarnings("ignore", message=".*ping is removed")  # it is sent in the era that has it


def report(step, **seen):
    print(json.dumps({"step": step, **seen}), flush=True)


def plain(model):
    if model is None:  # server info, for instance, which a pinned client learns only with its first result
        return None
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def pages(list_page, key):
    """All pages of a list, in the shape of a single one."""
    items, cursor = [], None
    for _ in range(PAGES_MAX):
        page = plain(await list_page(cursor=cursor))
        items += page[key]
        cursor = page.get("nextCursor")
        if cursor is None:
            return {key: items}
    raise RuntimeError(f"{key}: more than {PAGES_MAX} pages, does the cursor ever end?")


async def refused(attempt):
    """The JSON-RPC error that `attempt` ends in, or the result it should not have had."""
    try:
        return {"result": plain(await attempt)}
    except Exception as error:  # the SDK's error type differs by era and path; what counts is that it carries the code
        detail = getattr(error, "error", error)
        if getattr(detail, "code", None) is None:
            raise
        return {"error": {"code": detail.code, "message": detail.message}}


async def run(server, mode, script):
    asked = []
    answer = {}

    async def on_elicit(_context, params):
        asked.append(plain(params))
        return types.ElicitResult(action="accept", content=answer)

    async with Client(server, mode=mode, elicitation_callback=on_elicit, read_timeout_seconds=20) as client:
        report("connected", protocolVersion=client.protocol_version, serverInfo=plain(client.server_info))
        report("tools", result=await pages(client.list_tools, "tools"))

        for step in ("call", "call_error"):
            if wanted := script.get(step):
                report(step, result=plain(await client.call_tool(wanted["name"], wanted["arguments"])))

        if wanted := script.get("calls"):
            results = [plain(await client.call_tool(one["name"], one["arguments"])) for one in wanted]
            report("calls", results=results)

        if wanted := script.get("progress"):
            seen = []

            async def on_progress(progress, total, _message):
                seen.append([progress, total])

            result = await client.call_tool(wanted["name"], wanted["arguments"], progress_callback=on_progress)
            report("progress", result=plain(result), seen=seen)

        if wanted := script.get("resource"):
            report("resources", result=await pages(client.list_resources, "resources"))
            report("resource", result=plain(await client.read_resource(wanted["uri"])))
        if wanted := script.get("resource_template"):
            report("templates", result=await pages(client.list_resource_templates, "resourceTemplates"))
            report("template", result=plain(await client.read_resource(wanted["uri"])))

        if wanted := script.get("prompt"):
            report("prompts", result=await pages(client.list_prompts, "prompts"))
            report("prompt", result=plain(await client.get_prompt(wanted["name"], wanted["arguments"])))
        if wanted := script.get("completion"):
            reference = types.PromptReference(name=wanted["prompt"])
            report("completion", result=plain(await client.complete(reference, wanted["argument"])))

        if eras := script.get("elicitation"):
            wanted = eras["modern" if client.protocol_version >= "2026-07-28" else "legacy"]
            answer.update(wanted["answer"])
            result = await client.call_tool(wanted["name"], wanted["arguments"])
            report("elicitation", result=plain(result), asked=asked)

        if wanted := script.get("unknown_tool"):
            report("unknown_tool", **await refused(client.call_tool(wanted["name"], {})))
        if wanted := script.get("unknown_resource"):
            report("unknown_resource", **await refused(client.read_resource(wanted["uri"])))
        if client.protocol_version < "2026-07-28":
            report("ping", result=plain(await client.send_ping()))
    report("closed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", required=True, help="the JSON file that says what to do")
    parser.add_argument("--mode", default="auto", help="auto, legacy, or a modern protocol version to pin")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", metavar="JSON", help="command and arguments as a JSON array")
    options = parser.parse_args()

    with open(options.script, encoding="utf-8") as file:
        script = json.load(file)
    if options.url:
        server = options.url
    else:
        command, *arguments = json.loads(options.stdio)
        server = StdioServerParameters(command=command, args=arguments)
    asyncio.run(run(server, options.mode, script))


if __name__ == "__main__":
    sys.exit(main())

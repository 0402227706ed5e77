"""The FastMCP client class as a black-box client; reports in the same lines as `sdk_client.py`."""

import argparse
import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from sdk_client import plain, refused, report


async def run(server, mode, script):
    asked = []
    answer = {}

    async def on_elicit(message, response_type, params, _context):
        asked.append(plain(params))
        return response_type(**answer) if response_type else answer

    async with Client(server, elicitation_handler=on_elicit, timeout=20, **({"mode": mode} if mode else {})) as client:
        report("connected", protocolVersion=client.protocol_version, serverInfo=plain(client.server_info))
        report("tools", result={"tools": [plain(tool) for tool in await client.list_tools()]})

        for step in ("call", "call_error"):
            if wanted := script.get(step):
                report(step, result=plain(await client.call_tool_mcp(wanted["name"], wanted["arguments"])))

        if wanted := script.get("calls"):
            results = [plain(await client.call_tool_mcp(one["name"], one["arguments"])) for one in wanted]
            report("calls", results=results)

        if wanted := script.get("progress"):
            seen = []

            async def on_progress(progress, total, _message):
                seen.append([progress, total])

            result = await client.call_tool_mcp(wanted["name"], wanted["arguments"], progress_handler=on_progress)
            report("progress", result=plain(result), seen=seen)

        if wanted := script.get("resource"):
            report("resources", result={"resources": [plain(item) for item in await client.list_resources()]})
            report("resource", result=plain(await client.read_resource_mcp(wanted["uri"])))
        if wanted := script.get("resource_template"):
            templates = [plain(item) for item in await client.list_resource_templates()]
            report("templates", result={"resourceTemplates": templates})
            report("template", result=plain(await client.read_resource_mcp(wanted["uri"])))

        if wanted := script.get("prompt"):
            report("prompts", result={"prompts": [plain(item) for item in await client.list_prompts()]})
            report("prompt", result=plain(await client.get_prompt_mcp(wanted["name"], wanted["arguments"])))

        if eras := script.get("elicitation"):
            wanted = eras["modern" if client.protocol_version >= "2026-07-28" else "legacy"]
            answer.update(wanted["answer"])
            result = await client.call_tool_mcp(wanted["name"], wanted["arguments"])
            report("elicitation", result=plain(result), asked=asked)

        if wanted := script.get("unknown_tool"):
            report("unknown_tool", **await refused(client.call_tool_mcp(wanted["name"], {})))
    report("closed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", required=True)
    parser.add_argument("--mode", default=None)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", metavar="JSON")
    options = parser.parse_args()

    with open(options.script, encoding="utf-8") as file:
        script = json.load(file)
    if options.url:
        server = options.url
    else:
        command, *arguments = json.loads(options.stdio)
        server = StdioTransport(command=command, args=arguments)
    asyncio.run(run(server, options.mode, script))


if __name__ == "__main__":
    sys.exit(main())

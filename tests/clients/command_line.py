"""Command-line clients (MCP Inspector, fastmcp) made to report in the same lines as the library clients.

A command-line client connects anew for every step, so what one of them proves that a library client does not is that
many short visits work, each with its own handshake and its own abrupt end.
"""

import argparse
import json
import subprocess
import sys

INSPECTOR_TOOL_ERROR = 5
FASTMCP_TOOL_ERROR = 1


def report(step, **seen):
    print(json.dumps({"step": step, **seen}), flush=True)


def output_of(command, statuses=(0,)):
    """The JSON document on standard output. A status outside `statuses` ends the visit, with what the client said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode not in statuses:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}, wanted {statuses}\n{done.stdout[:2000]}")
    return json.loads(done.stdout)


def inspector(cli, options, script):
    if options.url:
        target = [options.url, "--transport", "http"]
    else:
        target = ["--", *json.loads(options.stdio)]
    era = {"2026-07-28": "modern"}.get(options.mode, options.mode)

    def ask(method, *arguments, statuses=(0,)):
        asking = ["--protocol-era", era, "--method", method, "--format", "json", *arguments]
        if options.url:
            command = [*cli, "--cli", *target, *asking]
        else:  # everything after `--` belongs to the server
            command = [*cli, "--cli", *asking, *target]
        return output_of(command, statuses)["result"]

    def call(wanted, **further):
        return ask(
            "tools/call", "--tool-name", wanted["name"], "--tool-args-json", json.dumps(wanted["arguments"]), **further
        )

    opening = ask("initialize")
    report("connected", protocolVersion=opening["protocolVersion"], serverInfo=opening["serverInfo"])
    report("tools", result=ask("tools/list"))
    if wanted := script.get("call"):
        report("call", result=call(wanted))
    if wanted := script.get("call_error"):
        report("call_error", result=call(wanted, statuses=(INSPECTOR_TOOL_ERROR,)))
    if wanted := script.get("calls"):
        report("calls", results=[call(one) for one in wanted])
    if wanted := script.get("resource"):
        report("resources", result=ask("resources/list"))
        report("resource", result=ask("resources/read", "--uri", wanted["uri"]))
    if script.get("resource_template"):
        report("templates", result=ask("resources/templates/list"))
    if wanted := script.get("prompt"):
        report("prompts", result=ask("prompts/list"))
        pairs = [f"{name}={value}" for name, value in wanted["arguments"].items()]
        report("prompt", result=ask("prompts/get", "--prompt-name", wanted["name"], "--prompt-args", *pairs))
    report("closed")


def fastmcp(cli, options, script):
    if options.url:
        server = [options.url]
    else:
        server = ["--command", " ".join(json.loads(options.stdio))]

    def call(target, further=(), statuses=(0,)):
        # With --command there is no server to name, and the target then has to be named as such.
        target = [target] if options.url else ["--target", target]
        return output_of([*cli, "call", *server, *target, *further, "--json"], statuses)

    everything = output_of([*cli, "list", *server, "--resources", "--prompts", "--json"])
    report("tools", result={"tools": everything["tools"]})

    def tool(wanted, status):
        result = call(wanted["name"], further=("--input-json", json.dumps(wanted["arguments"])), statuses=(status,))
        return {"content": result["content"], "isError": result["is_error"]}

    for step, status in (("call", 0), ("call_error", FASTMCP_TOOL_ERROR)):
        if wanted := script.get(step):
            report(step, result=tool(wanted, status))
    if wanted := script.get("calls"):
        report("calls", results=[tool(one, 0) for one in wanted])
    if wanted := script.get("resource"):
        report("resources", result={"resources": everything["resources"]})
        report("resource", result={"contents": call(wanted["uri"])})
    if wanted := script.get("prompt"):
        report("prompts", result={"prompts": everything["prompts"]})
        report("prompt", result=call(wanted["name"], ("--prompt", "--input-json", json.dumps(wanted["arguments"]))))
    report("closed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=("inspector", "fastmcp"))
    parser.add_argument("--cli", required=True, metavar="JSON", help="how to start the client, as a JSON array")
    parser.add_argument("--script", required=True)
    parser.add_argument("--mode", default="auto")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", metavar="JSON")
    options = parser.parse_args()
    with open(options.script, encoding="utf-8") as file:
        script = json.load(file)
    {"inspector": inspector, "fastmcp": fastmcp}[options.client](json.loads(options.cli), options, script)


if __name__ == "__main__":
    main()

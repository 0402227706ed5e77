"""An MCP server that dials in to corelane, with nothing but Python's standard library.

    DIAL_KEY=... python3 examples/dial_in.py HOST:PORT NAME

NAME is a section [servers.NAME] with kind = "dial_in"; HOST:PORT is one of dial_in.listen. It dials in again when the
connection is lost, and may be started several times: calls go to whichever has the fewest in flight.
"""

import json
import os
import socket
import sys
import time

TOOL = {"name": "whoami", "description": "Says which process answers", "inputSchema": {"type": "object"}}


def answer(method):
    if method == "initialize":
        server = {"name": "dial-in-python", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"python {os.getpid()}"}]}
    return {} if method == "ping" else None


def serve(address, name, key):
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    with connection, connection.makefile("rw", encoding="utf-8") as lines:

        def say(message):
            lines.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            lines.flush()

        say({"id": 1, "method": "corelane/dial", "params": {"name": name, "key": key}})
        admitted = json.loads(lines.readline() or "{}")
        if "result" not in admitted:
            raise ConnectionError(admitted.get("error", {}).get("message", "hung up"))
        for request in map(json.loads, lines):
            if "id" in request and "method" in request:
                result = answer(request["method"])
                error = {"error": {"code": -32601, "message": "no such method"}}
                say({"id": request["id"], **(error if result is None else {"result": result})})


key = os.environ.get("DIAL_KEY")
if len(sys.argv) != 3 or not sys.argv[1].rpartition(":")[2].isdigit() or not key:
    sys.exit("usage: DIAL_KEY=... python3 examples/dial_in.py HOST:PORT NAME")

while True:
    try:
        serve(sys.argv[1], sys.argv[2], key)
    except OSError as problem:
        print(f"not connected: {problem}", file=sys.stderr)
    time.sleep(1)

#!/usr/bin/env python3
"""ContextForge before one server: a peer that forwarding is compared with.

  bench/peers/contextforge.py HOST:PORT URL DIRECTORY

Set up as well as its own options allow: one worker on uvloop and httptools, a fresh SQLite database in DIRECTORY, JSON
in place of events, and without what the others do not do either (sign-in, limits of the rate, administration pages,
plugins, metrics in the database, a log of requests). Callers have sessions, because it keeps its connection to the
server for as long as a session lasts: without, it connects anew for each call, and that costs three times as much. The
server is registered with its tools over its own interface; where it stands then is printed once calls can be made:

  ready PATH TOOL

Its packages are those of bench/peers/contextforge.txt, which need an environment of their own.
"""

import asyncio
import json
import os
import secrets
import sys
import urllib.request

SETTINGS = {
    "ALLOW_UNAUTHENTICATED_ADMIN": "true",
    "AUTH_REQUIRED": "false",
    "MCP_REQUIRE_AUTH": "false",
    "RATE_LIMITING_ENABLED": "false",
    "TOOL_RATE_LIMIT": "1000000000",
    "SSRF_ALLOW_LOCALHOST": "true",
    "CACHE_TYPE": "memory",
    "JSON_RESPONSE_ENABLED": "true",
    "USE_STATEFUL_SESSIONS": "true",
    "COMPRESSION_ENABLED": "false",
    "CORRELATION_ID_ENABLED": "false",
    "DB_METRICS_RECORDING_ENABLED": "false",
    "LOG_LEVEL": "ERROR",
    "MCPGATEWAY_ADMIN_API_ENABLED": "false",
    "MCPGATEWAY_UI_ENABLED": "false",
    "METRICS_AGGREGATION_ENABLED": "false",
    "PLUGINS_ENABLED": "false",
    "SECURITY_HEADERS_ENABLED": "false",
    "STRUCTURED_LOGGING_ENABLED": "false",
    "TOKEN_USAGE_LOGGING_ENABLED": "false",
}
# It refuses to start with its own defaults.
SECRETS = [
    "AUTH_ENCRYPTION_SECRET",
    "BASIC_AUTH_PASSWORD",
    "DEFAULT_USER_PASSWORD",
    "JWT_SECRET_KEY",
    "PLATFORM_ADMIN_PASSWORD",
]


def asked(url, body=None):
    encoded = body and json.dumps(body).encode()
    request = urllib.request.Request(url, encoded, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def register(base, url):
    """Registers the server, and a virtual one with its tool; gives the path of that and the tool's name."""
    public = {"visibility": "public"}
    asked(f"{base}/gateways", {"name": "up", "url": url, "transport": "STREAMABLEHTTP"} | public)
    tool = next(tool for tool in asked(f"{base}/tools") if tool["name"].endswith("echo"))
    one = asked(f"{base}/servers", {"server": {"name": "one", "associated_tools": [tool["id"]]}} | public)
    return f"/servers/{one['id']}/mcp", tool["name"]


async def main(listen, url):
    import uvicorn

    host, port = listen.rsplit(":", 1)
    own = {"loop": "uvloop", "http": "httptools", "backlog": 4096, "access_log": False, "log_level": "error"}
    # Silent connections are what is measured; by default they are closed after five seconds.
    own["timeout_keep_alive"] = 3600
    server = uvicorn.Server(uvicorn.Config("mcpgateway.main:app", host=host, port=int(port), **own))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.05)
    if server.started:
        path, tool = await asyncio.to_thread(register, f"http://{listen}", url)
        print(f"ready {path} {tool}", flush=True)
    await serving


if len(sys.argv) != 4:
    sys.exit(__doc__)
# It reads a file .env where it runs, and writes there.
os.chdir(sys.argv[3])
os.environ.update(SETTINGS, DATABASE_URL=f"sqlite:///{os.getcwd()}/mcp.db")
os.environ.update({name: secrets.token_urlsafe(32) + "aA1!" for name in SECRETS})
asyncio.run(main(*sys.argv[1:3]))

#!/usr/bin/env python3
"""A FastMCP server of one tool: a peer that serving is compared with.

  bench/peers/fastmcp_echo.py HOST:PORT stateless|sessions

Set up as well as its own options allow: one worker on uvloop and httptools, JSON in place of events, no log of
requests; without sessions, or with one for each client. Its packages are those of bench/peers/fastmcp.txt.
"""

import asyncio
import os
import sys

os.environ["FASTMCP_CHECK_FOR_UPDATES"] = "off"

from fastmcp import FastMCP  # noqa: E402

server = FastMCP("fastmcp-echo")


@server.tool
async def echo(data: str) -> str:
    """Answers with what it was given"""
    return data


async def main():
    listen, mode = sys.argv[1:]
    host, port = listen.rsplit(":", 1)
    await server.run_http_async(
        host=host,
        port=int(port),
        path="/mcp",
        json_response=True,
        stateless_http=mode == "stateless",
        show_banner=False,
        log_level="error",
        uvicorn_config={
            "access_log": False,
            "backlog": 4096,
            "http": "httptools",
            "loop": "uvloop",
            # Silent connections are what is measured; by default they are closed after five seconds.
            "timeout_keep_alive": 3600,
        },
    )


if len(sys.argv) != 3 or sys.argv[2] not in ("stateless", "sessions"):
    sys.exit(__doc__)
asyncio.run(main())

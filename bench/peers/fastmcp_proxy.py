#!/usr/bin/env python3
"""FastMCP's proxy mode before one server: a peer that forwarding is compared with.

  bench/peers/fastmcp_proxy.py HOST:PORT URL

Set up as well as its own options allow: one client to the server, connected once and used for all calls (by default
FastMCP connects anew for each), no sessions, JSON in place of events, no log of requests. Its packages are those that
`scripts/test --only setup-python` installs, or for `corelane-bench peers` those of bench/peers/fastmcp.txt.
"""

import asyncio
import os
import sys

os.environ["FASTMCP_CHECK_FOR_UPDATES"] = "off"

from fastmcp import Client  # noqa: E402
from fastmcp.server import create_proxy  # noqa: E402


async def main():
    listen, url = sys.argv[1:]
    host, port = listen.rsplit(":", 1)
    async with Client(url) as client:
        await create_proxy(client, name="fastmcp-proxy").run_http_async(
            host=host,
            port=int(port),
            path="/mcp",
            json_response=True,
            stateless_http=True,
            show_banner=False,
            log_level="error",
            # Silent connections are kept, as the other proxies keep them; the default is five seconds.
            uvicorn_config={"access_log": False, "backlog": 4096, "timeout_keep_alive": 3600},
        )


if len(sys.argv) != 3:
    sys.exit(__doc__)
asyncio.run(main())

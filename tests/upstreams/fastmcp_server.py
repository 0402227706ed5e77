"""A server on FastMCP."""

from fastmcp import FastMCP

server = FastMCP("fastmcp")


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers"""
    return a + b


@server.tool
def whoami() -> str:
    """Says who answers"""
    return "fastmcp"


if __name__ == "__main__":
    server.run(transport="stdio", show_banner=False)

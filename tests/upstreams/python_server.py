"""A server on the Python SDK. Each server here has the tool `add` and one that says which program it is."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("python")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers"""
    return a + b


@server.tool()
def whoami() -> str:
    """Says who answers"""
    return "python"


@server.resource("memo://greeting")
def greeting() -> str:
    """A resource"""
    return "hello from python"


if __name__ == "__main__":
    server.run("stdio")

//! Child servers that are a few lines of a script.
//!
//! Not here: servers behind HTTP (`upstream`), children that are corelane itself (`children`).

/// The section `c` of a child that is this program, in the language of `command`; `more` are further lines.
pub fn child(command: &str, program: &str, more: &str) -> String {
    let program = program.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "[servers.c]\nkind = \"stdio\"\ncommand = \"{command}\"\nargs = [\"-c\", \"{program}\"]\nera = \"legacy\"\n{more}"
    )
}

const ONE_TOOL: &str = r#"
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                            "serverInfo": {"name": "scripted", "version": "1"}}
    elif request["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": TOOL, "inputSchema": {"type": "object"}}]}
    elif request["method"] == "tools/call":
        answer["result"] = {"content": [{"type": "text", "text": said()}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"#;

/// A server of 2025-11-25 in Python whose one tool answers what its function `said`, defined here, returns.
pub fn one_tool(tool: &str, said: &str) -> String {
    format!("{said}\nTOOL = \"{tool}\"\n{ONE_TOOL}")
}

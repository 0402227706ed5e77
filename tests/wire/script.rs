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

const ASKING: &str = r#"
import json, sys
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def said(id, text):
    say({"id": id, "result": {"content": [{"type": "text", "text": text}]}})
asked, later = {}, []
def ask(id, name):
    question = "question-%s" % id
    asked[question] = (id, name)
    params = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
    say({"id": question, "method": "elicitation/create", "params": params})
for line in sys.stdin:
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if method is None:
        call, name = asked.pop(id, (None, None))
        if name in ("ask", "ask_later"):
            said(call, "answered" if "result" in message else "refused")
    elif id is None:
        continue
    elif method == "initialize":
        say({"id": id, "result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                                  "serverInfo": {"name": "asking", "version": "1"}}})
    elif method == "tools/list":
        names = ["ask", "ask_and_hang", "ask_later", "hang", "plain"]
        say({"id": id, "result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}})
    elif method == "tools/call":
        name = message["params"]["name"]
        if name in ("ask", "ask_and_hang"):
            ask(id, name)
        elif name == "ask_later":
            later.append(id)
        elif name == "plain":
            said(id, "plain")
        elif name == "hang":
            while later:
                ask(later.pop(), "ask_later")
    else:
        say({"id": id, "error": {"code": -32601, "message": "no such method"}})
"#;

/// A server of 2025-11-25 in Python: `ask` asks its caller, and says how that went; `ask_later` does so once there is
/// a call of `hang`, which answers nothing; so does `ask_and_hang`, which asks first; `plain` answers at once. It may
/// be at work on any number of them.
pub fn asking(more: &str) -> String {
    child("python3", ASKING, more)
}

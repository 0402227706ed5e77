"""The least that a client of either era has to say, in plain sight: no SDK stands between the test and the wire."""

import base64
import json
import time
import urllib.error
import urllib.request

MODERN, LEGACY = "2026-07-28", "2025-11-25"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FORM = {"action": "accept", "content": {}}


def header_value(value):
    """As an argument stands in a header (2026-07-28, "Custom Headers")."""
    text = value if isinstance(value, str) else json.dumps(value)
    plain = text.isascii() and text == text.strip() and all(0x20 <= ord(character) < 0x7F for character in text)
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def mirrored(schema, arguments, found=None):
    """Header fields that repeat arguments, by the annotations of a tool's schema."""
    found = {} if found is None else found
    for name, member in schema.get("properties", {}).items():
        if not isinstance(arguments, dict) or arguments.get(name) is None:
            continue
        if "x-mcp-header" in member:
            found[f"Mcp-Param-{member['x-mcp-header']}"] = header_value(arguments[name])
        mirrored(member, arguments[name], found)
    return found


def last_message(status, text, media):
    if media == "text/event-stream":
        lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
        text = [line for line in lines if line][-1]
    return status, json.loads(text) if text else {}


def post(url, body, headers, timeout=30):
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        return OPENER.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        return error


def ask(url, method, params, name=None, schema=None):
    """The answer to one modern request, as (status, message); a question is answered and the call sent again."""
    said = {
        "protocolVersion": MODERN,
        "clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
        "clientInfo": {"name": "speak", "version": "1"},
    }
    meta = {f"io.modelcontextprotocol/{key}": value for key, value in said.items()}
    headers = {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN, "Mcp-Method": method, **({"Mcp-Name": name} if name else {}),
        **mirrored(schema or {}, params.get("arguments", {})),
    }  # fmt: skip
    for number in range(1, 6):
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}
        with post(url, body, headers) as answer:
            status, message = last_message(answer.status, answer.read().decode(), answer.headers.get_content_type())
        result = message.get("result") or {}
        if result.get("resultType") != "input_required":
            return status, message
        params = {key: value for key, value in params.items() if key not in ("requestState", "inputResponses")}
        if "requestState" in result:
            params["requestState"] = result["requestState"]
        questions = result.get("inputRequests") or {}
        if questions:
            params["inputResponses"] = {key: answer_to(question) for key, question in questions.items()}
    return status, message


def answer_to(question):
    if question["method"] == "elicitation/create":
        schema = question.get("params", {}).get("requestedSchema", {})
        return {"action": "accept", "content": values_for(schema, every=True)}
    if question["method"] == "roots/list":
        return {"roots": [{"uri": "file:///tmp", "name": "tmp"}]}
    return {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "none", "stopReason": "endTurn"}


def values_for(schema, every=False):
    """Arguments that fit a schema: defaults where there are, else something of the type."""
    plain = {"string": "x", "number": 1, "integer": 1, "boolean": True, "array": [], "object": {}}
    values = {}
    for name, member in (schema or {}).get("properties", {}).items():
        if not every and name not in schema.get("required", ()) and "x-mcp-header" not in member:
            continue
        if "default" in member:
            values[name] = member["default"]
        elif member.get("enum"):
            values[name] = member["enum"][0]
        elif member.get("type") == "object":
            values[name] = values_for(member, every)
        else:
            values[name] = plain.get(member.get("type"), "x")
    return values


class Legacy:
    """A session of 2025-11-25 that answers what it is asked on its calls' streams."""

    def __init__(self, url):
        self.url, self.id = url, 0
        self.headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def __enter__(self):
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": LEGACY, "capabilities": {"elicitation": {"form": {}}, "sampling": {}},
            "clientInfo": {"name": "speak", "version": "1"},
        }}  # fmt: skip
        with post(self.url, body, self.headers) as answer:
            answer.read()
            self.headers["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
        self.headers["MCP-Protocol-Version"] = LEGACY
        post(self.url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers).close()
        return self

    def __exit__(self, *_):
        request = urllib.request.Request(self.url, headers=self.headers, method="DELETE")
        OPENER.open(request, timeout=10).close()

    def ask(self, method, params):
        self.id += 1
        body = {"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}
        with post(self.url, body, self.headers) as answer:
            if answer.headers.get_content_type() != "text/event-stream":
                return json.loads(answer.read())
            found, last, retry = self.hear(answer)
        # A stream that ends without the answer is come back to (2025-11-25, "Resumability and Redelivery").
        for _ in range(5):
            if found or not last:
                break
            time.sleep((retry or 1000) / 1000)
            request = urllib.request.Request(self.url, headers={**self.headers, "Last-Event-ID": last})
            with OPENER.open(request, timeout=30) as answer:
                found, more, again = self.hear(answer)
            last, retry = more or last, again or retry
        return found or {}

    def hear(self, stream):
        """What a stream says: the answer, if it is there, the last event's id, and when to come back."""
        last = retry = None
        for line in stream:
            name, _, value = line.decode().strip().partition(":")
            value = value.strip()
            if name == "id":
                last = value
            elif name == "retry":
                retry = int(value)
            elif name == "data" and value:
                message = json.loads(value)
                if "method" in message and "id" in message:
                    reply = {"jsonrpc": "2.0", "id": message["id"], "result": answer_to(message)}
                    post(self.url, reply, self.headers).close()
                elif message.get("id") == self.id:
                    return message, last, retry
        return None, last, retry

"""What a client must have seen. One set of rules for all clients, whatever language they are written in.

A client reports steps, `{"step": "call", "result": {...}}`, with results in the shape they have on the wire. `Judge`
compares them with the expectations of the server under test and collects complaints; no complaint means passed.
A step that was wanted and never reported is a complaint as well, so a client that quietly stops early fails.
"""

import json

LEGACY, MODERN = "2025-11-25", "2026-07-28"
NOT_FOUND = {"legacy": (-32002, -32602), "modern": (-32602,)}


class Judge:
    def __init__(self, expected, era, steps, http):
        self.expected, self.era, self.wanted, self.http = expected, era, steps, http
        self.seen, self.complaints, self.checks = set(), [], 0

    def check(self, holds, step, message, value=None):
        self.checks += 1
        if not holds:
            shown = "" if value is None else f": {json.dumps(value, ensure_ascii=False)[:600]}"
            self.complaints.append(f"{step}: {message}{shown}")

    def take(self, line):
        step = line["step"]
        self.seen.add(step)
        rule = getattr(self, "on_" + step)
        try:
            rule(line, self.expected.get(step))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            self.check(False, step, f"has not the shape it should have ({error!r})", line)

    def finish(self):
        for step in sorted(self.steps_due() - self.seen):
            self.check(False, step, "was never reported")
        return self.complaints

    def steps_due(self):
        """The steps this client can do, less those that this server is not asked for."""
        lists = {
            "resources": "resource",
            "templates": "resource_template",
            "template": "resource_template",
            "prompts": "prompt",
        }
        always = {"connected", "tools", "closed", "ping", "session_end"}
        due = {step for step in self.wanted if step in always or self.expected.get(lists.get(step, step))}
        if self.era == "modern":
            due -= {"ping", "session_end"}
        if not self.http:
            due -= {"session_end"}
        if self.era not in (self.expected.get("list_changed") or {}).get("eras", ()):
            due -= {"list_changed"}
        return due

    # One rule per step, in the order in which clients take them.

    def on_connected(self, line, _):
        version = {"legacy": LEGACY, "modern": MODERN}[self.era]
        self.check(
            line["protocolVersion"] == version,
            "connected",
            f"negotiated version is not {version}",
            line["protocolVersion"],
        )
        info = line.get("serverInfo")
        if info is not None:
            self.check(
                bool(info["name"]) and bool(info["version"]), "connected", "serverInfo lacks name or version", info
            )
        if "session" in line and self.http and line["session"] is not None:
            visible = all(0x21 <= ord(character) <= 0x7E for character in line["session"])
            self.check(visible, "connected", "session id is not visible ASCII", line["session"])

    def on_tools(self, line, wanted):
        names = [tool["name"] for tool in line["result"]["tools"]]
        self.check(len(names) > 0, "tools", "no tools at all")
        self.check(len(names) == len(set(names)), "tools", "a name appears twice", names)
        for name in wanted or ():
            self.check(name in names, "tools", f"{name} is missing", names)
        for tool in line["result"]["tools"]:
            self.check(
                tool["inputSchema"].get("type") == "object",
                "tools",
                f"inputSchema of {tool['name']} is no object",
                tool,
            )

    def on_call(self, line, wanted):
        self.check(not line["result"].get("isError"), "call", "came back as an error", line["result"])
        self.text_is("call", line["result"]["content"], wanted["text"])

    def on_call_error(self, line, wanted):
        self.check(line["result"].get("isError") is True, "call_error", "isError is not set", line["result"])
        self.text_is("call_error", line["result"]["content"], wanted["text"])

    def on_calls(self, line, wanted):
        """Each answer holds its text: what else a server says, its process id for one, is its own affair."""
        results = line["results"]
        self.check(len(results) == len(wanted), "calls", f"{len(wanted)} calls have not as many answers", results)
        for one, result in zip(wanted, results):
            self.check(not result.get("isError"), "calls", f"{one['name']} came back as an error", result)
            text = "".join(block.get("text", "") for block in result["content"])
            self.check(one["text"] in text, "calls", f"{one['name']}: text is without {one['text']!r}", text)

    def on_progress(self, line, wanted):
        self.check(not line["result"].get("isError"), "progress", "came back as an error", line["result"])
        seen = [[float(number) for number in step] for step in line["seen"]]
        steps = [[float(number) for number in step] for step in wanted["steps"]]
        self.check(seen == steps, "progress", f"notifications are not {steps}", seen)

    def on_resources(self, line, _):
        wanted = self.expected["resource"]["uri"]
        uris = [resource["uri"] for resource in line["result"]["resources"]]
        self.check(wanted in uris, "resources", f"{wanted} is missing", uris)

    def on_resource(self, line, wanted):
        (content,) = line["result"]["contents"]
        self.check(content["uri"] == wanted["uri"], "resource", f"uri is not {wanted['uri']}", content)
        self.check(
            content.get("mimeType") == wanted["mime_type"],
            "resource",
            f"mimeType is not {wanted['mime_type']}",
            content,
        )
        self.check(content.get("text") == wanted["text"], "resource", f"text is not {wanted['text']!r}", content)

    def on_templates(self, line, _):
        wanted = self.expected["resource_template"]["template"]
        templates = [template["uriTemplate"] for template in line["result"]["resourceTemplates"]]
        self.check(wanted in templates, "templates", f"{wanted} is missing", templates)

    def on_template(self, line, _):
        wanted = self.expected["resource_template"]
        (content,) = line["result"]["contents"]
        self.check(content["uri"] == wanted["uri"], "template", f"uri is not {wanted['uri']}", content)
        self.check(json.loads(content["text"]) == wanted["json"], "template", f"text is not {wanted['json']}", content)

    def on_prompts(self, line, _):
        wanted = self.expected["prompt"]
        prompts = {prompt["name"]: prompt for prompt in line["result"]["prompts"]}
        self.check(wanted["name"] in prompts, "prompts", f"{wanted['name']} is missing", sorted(prompts))
        declared = {argument["name"] for argument in prompts[wanted["name"]].get("arguments", ())}
        self.check(declared >= set(wanted["arguments"]), "prompts", "arguments are not declared", sorted(declared))

    def on_prompt(self, line, wanted):
        (message,) = line["result"]["messages"]
        self.check(message["role"] == "user", "prompt", "role is not user", message)
        self.text_is("prompt", [message["content"]], wanted["text"])

    def on_completion(self, line, wanted):
        values = line["result"]["completion"]["values"]
        strings = isinstance(values, list) and len(values) <= 100 and all(isinstance(value, str) for value in values)
        self.check(strings, "completion", "values are not at most 100 strings", values)
        self.check(values == wanted["values"], "completion", f"values are not {wanted['values']}", values)

    def on_elicitation(self, line, eras):
        wanted = eras[self.era]
        self.check(len(line["asked"]) == 1, "elicitation", "the user was not asked exactly once", line["asked"])
        for question in line["asked"]:
            self.check(bool(question["message"]), "elicitation", "the question has no message", question)
            properties = sorted(question["requestedSchema"]["properties"])
            self.check(
                properties == sorted(wanted["properties"]),
                "elicitation",
                f"properties are not {wanted['properties']}",
                properties,
            )
        self.check(not line["result"].get("isError"), "elicitation", "came back as an error", line["result"])
        text = "".join(block.get("text", "") for block in line["result"]["content"])
        for part in wanted["text"]:
            self.check(part in text, "elicitation", f"{part!r} is not in the answer", text)

    def on_list_changed(self, line, _):
        self.check(line["arrived"], "list_changed", "notifications/tools/list_changed never arrived")

    def on_unknown_tool(self, line, _):
        self.check(line.get("error", {}).get("code") == -32602, "unknown_tool", "is not refused with -32602", line)

    def on_unknown_resource(self, line, _):
        codes = NOT_FOUND[self.era]
        self.check(
            line.get("error", {}).get("code") in codes, "unknown_resource", f"is not refused with one of {codes}", line
        )

    def on_ping(self, line, _):
        stray = set(line["result"]) - {"_meta", "resultType"}
        self.check(not stray, "ping", "result is not empty", line["result"])

    def on_session_end(self, line, _):
        """Legacy HTTP as it passed by: what was posted after `initialize`, the GET stream, the DELETE, and its effect."""
        exchanges = line["exchanges"]
        posts = [one for one in exchanges if one["method"] == "POST"]
        opening = next(one for one in posts if one.get("rpc") == "initialize")
        self.check(opening["status"] == 200, "session_end", "initialize was not answered 200", opening)
        started = next(one for one in posts if one.get("rpc") == "notifications/initialized")
        self.check(started["status"] == 202, "session_end", "notifications/initialized was not answered 202", started)
        if line["session"] is None:
            return
        gets = [one for one in exchanges if one["method"] == "GET"]
        for one in gets:
            streams = one["status"] == 200 and (one["type"] or "").startswith("text/event-stream")
            self.check(streams or one["status"] == 405, "session_end", "GET is neither an event stream nor 405", one)
        self.check(len(gets) > 0, "session_end", "the client never opened its GET stream")
        self.check(len(gets) <= 3, "session_end", "the GET stream was opened again and again", len(gets))
        deletes = [one["status"] for one in exchanges if one["method"] == "DELETE"]
        # 202 would be honest as well, but the Python SDK reports it as a failure to its user.
        self.check(
            deletes in ([200], [204], [405]), "session_end", "DELETE is answered with none of 200, 204, 405", deletes
        )
        if line["after"] is not None and deletes != [405]:
            self.check(line["after"] == 404, "session_end", "a deleted session is not answered 404", line["after"])

    def on_closed(self, _line, _):
        self.check(True, "closed", "")

    def text_is(self, step, content, wanted):
        texts = [block.get("text") for block in content if block["type"] == "text"]
        self.check(texts == [wanted], step, f"text is not {wanted!r}", content)

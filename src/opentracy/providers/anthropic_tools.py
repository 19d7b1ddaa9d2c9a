"""Tools, the choice among them, and structured output, which older models know as a tool only.

Source: PROTOCOLS section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.params import json_schema_of, response_format
from ..core.wire import Call
from .anthropic_messages import Block
from .anthropic_models import Claude, facts
from .fields import entries
from .tools import choice_of

Body = dict[str, Any]

ANSWER_TOOL = "json_answer"
"""Name of the tool whose input is the answer, where a model has no structured output of its own."""

_JSON_HINT = "Answer with a single JSON object and nothing else: no explanation, no Markdown fence."
_TOOL_FIELDS = frozenset(("type", "function", "name", "description", "parameters", "strict"))
_UNCHECKED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "minProperties", "maxProperties"}
)  # fmt: skip


def put_tools(params: Mapping[str, Any], model: Claude, body: Body) -> None:
    """`tools` and `web_search_options` into the body."""
    given = entries(params.get("tools"), "tools")
    choice = params.get("tool_choice")
    if given and isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names = choice_of(choice).names
        given = [t for t in given if not isinstance(t.get("function"), dict) or t["function"].get("name") in names]
    tools = [_tool(tool, model) for tool in given]
    search = params.get("web_search_options")
    if isinstance(search, dict):
        tools.append(_web_search(search))
    if tools:
        body["tools"] = tools


def _tool(tool: Body, model: Claude) -> Body:
    function = tool.get("function")
    if not isinstance(function, dict):
        return dict(tool)  # a tool of Anthropic's own (web search, code execution ...)
    if not function.get("name"):
        raise ValueError("an entry of tools needs {'type': 'function', 'function': {'name': ..., 'parameters': ...}}")
    out: Body = {"name": function["name"]}
    if function.get("description"):
        out["description"] = function["description"]
    out["input_schema"] = _input_schema(function.get("parameters"))
    if function.get("strict") and model.json_schema:
        out["strict"] = True
        out["input_schema"] = closed(out["input_schema"])
    for source in (function, tool):  # what Anthropic adds to tools (cache_control, defer_loading ...)
        out.update({k: v for k, v in source.items() if k not in _TOOL_FIELDS})
    return out


def _input_schema(schema: Any) -> Body:
    if not isinstance(schema, dict) or not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    return schema if "properties" in schema or "$ref" in schema else {**schema, "properties": {}}


def _web_search(options: Mapping[str, Any]) -> Body:
    tool: Body = {"type": "web_search_20250305", "name": "web_search"}
    place = options.get("user_location")
    if isinstance(place, dict):
        near = place.get("approximate")
        tool["user_location"] = {"type": "approximate", **(near if isinstance(near, dict) else {})}
    return tool


def put_tool_choice(params: Mapping[str, Any], model: Claude, body: Body, dropped: list[str]) -> None:
    """`tool_choice` and `parallel_tool_calls`; both mean nothing without tools."""
    if not body.get("tools"):
        return
    choice = body.pop("tool_choice", None) or _choice(params.get("tool_choice"))
    if choice is not None and choice["type"] in ("any", "tool"):
        thinking = body.get("thinking") or params.get("thinking") or {}
        if not model.forced_tool or (isinstance(thinking, dict) and thinking.get("type") == "enabled"):
            choice = {"type": "auto"}
            dropped.append("tool_choice")
    parallel = params.get("parallel_tool_calls")
    if isinstance(parallel, bool) and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": not parallel}
    if choice is not None:
        body["tool_choice"] = choice


def _choice(choice: Any) -> Body | None:
    if choice is None:
        return None
    if isinstance(choice, dict):
        function = choice.get("function")
        if isinstance(function, dict) and function.get("name"):
            return {"type": "tool", "name": function["name"]}
        if choice.get("type") == "allowed_tools":
            mode = (choice.get("allowed_tools") or choice).get("mode")
            return {"type": "any" if mode == "required" else "auto"}
        if choice.get("type") in ("auto", "any", "none", "tool"):
            return dict(choice)  # Anthropic's own form
        if isinstance(choice.get("name"), str) and choice["name"]:
            return {"type": "tool", "name": choice["name"]}
    known = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    if isinstance(choice, str) and choice in known:
        return {"type": known[choice]}
    raise ValueError(f"tool_choice must be auto, none, required or a named function, not {choice!r}")


def uses_answer_tool(call: Call, model: str) -> bool:
    """Whether a structured answer comes as the input of a tool, because the model knows no better way."""
    if call.params.get("response_format") is None or facts(model).json_schema:
        return False
    return json_schema_of(response_format(call.params["response_format"])) is not None


def put_answer_format(params: Mapping[str, Any], model: Claude, body: Body, system: list[Block]) -> None:
    """`response_format` into the body, or as a hint into the system prompt."""
    fmt = response_format(params.get("response_format"))
    if fmt is None:
        return
    schema = json_schema_of(fmt)
    if schema is None:
        if fmt.get("type") == "json_object":
            system.append({"type": "text", "text": _JSON_HINT})
    elif model.json_schema:
        own = body.get("output_config", {})
        body["output_config"] = {**own, "format": {"type": "json_schema", "schema": closed(schema)}}
    else:
        others = body.get("tools", [])
        tool = {
            "name": ANSWER_TOOL,
            "description": "Give the final answer by calling this tool.",
            "input_schema": _input_schema(schema),
        }
        body["tools"] = [*others, tool]
        body["tool_choice"] = {"type": "any"} if others else {"type": "tool", "name": ANSWER_TOOL}


def closed(schema: Any) -> Any:
    """The schema as structured output wants it: closed objects, and limits that it cannot check said in words."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: Body = {}
    limits: Body = {}
    for name, value in schema.items():
        if name in _UNCHECKED or (name == "minItems" and value not in (0, 1)):
            limits[name] = value
        elif name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            out[name] = {k: closed(v) for k, v in value.items()}
        elif name in ("items", "anyOf", "allOf"):
            out[name] = closed(value)
        elif name == "oneOf":
            out["anyOf"] = closed(value)
        elif name != "$schema":
            out[name] = value
    if limits:
        said = ", ".join(f"{k}: {v}" for k, v in limits.items())
        out["description"] = f"{out['description']} ({said})" if out.get("description") else said
    if out.get("type") == "object" or "properties" in out:
        out["additionalProperties"] = False
    return out

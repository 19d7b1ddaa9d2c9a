"""The body of an Anthropic Messages request: parameters, tools, structured output, thinking.

Messages are converted in `anthropic_messages`, facts about models stand in `anthropic_models`.
Source: PROTOCOLS section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.params import json_schema_of, max_tokens, refuse_dropped, response_format, sort_params, stop_list
from ..core.wire import Call, Target
from .anthropic_messages import Block, convert
from .anthropic_models import Claude, facts

Body = dict[str, Any]

HANDLED = frozenset(
    {
        "max_completion_tokens", "max_tokens", "metadata", "parallel_tool_calls", "reasoning_effort", "response_format",
        "safety_identifier", "service_tier", "stop", "stream_options", "temperature", "tool_choice", "tools", "top_p",
        "user", "web_search_options",
    }
)  # fmt: skip
ANSWER_TOOL = "json_answer"
"""Name of the tool whose input is the answer, where a model has no structured output of its own."""

# tokens of thought for the models that want a number
_BUDGET = {"minimal": 1024, "low": 2048, "medium": 10000, "high": 16384, "xhigh": 32768, "max": 32768}
_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_MIN_BUDGET = 1024
_MIN_ANSWER = 4096  # tokens left beside the thoughts
_JSON_HINT = "Answer with a single JSON object and nothing else: no explanation, no Markdown fence."
_TOOL_FIELDS = frozenset(("type", "function", "name", "description", "parameters", "strict"))
_UNCHECKED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "minProperties", "maxProperties"}
)  # fmt: skip


def build_body(call: Call, target: Target) -> tuple[Body, tuple[str, ...]]:
    """(body, names of dropped parameters) for the target's model."""
    params = call.params
    model = facts(target.model)
    unknown, left = sort_params(_meant(params), HANDLED, strict=False, provider=target.provider)
    unknown.pop("betas", None)  # travels as a header
    dropped = list(left)
    system, turns = convert(call.messages)
    body: Body = {"model": target.model, "messages": turns}
    cap = max_tokens(params)
    body["max_tokens"] = model.max_tokens if cap is None else cap
    if call.stream:
        body["stream"] = True
    stop = [s for s in stop_list(params.get("stop")) if s.strip()]  # blank ones are refused
    if stop:
        body["stop_sequences"] = stop
    _identity(params, body, dropped)
    _thinking(params, unknown, turns, model, body, dropped)
    _sampling(params, unknown, model, body, dropped)
    _tools(params, model, body)
    _answer_format(params, model, body, system)
    _tool_choice(params, model, body, dropped)
    if system:
        plain = all(block.keys() == {"type", "text"} for block in system)
        body["system"] = "\n\n".join(block["text"] for block in system) if plain else system
    if isinstance(unknown.get("output_config"), dict):
        unknown["output_config"] = {**body.get("output_config", {}), **unknown["output_config"]}
    body.update(unknown)
    refuse_dropped(dropped, strict=call.strict_params, provider=target.provider)
    return body, tuple(dropped)


def _meant(params: Mapping[str, Any]) -> dict[str, Any]:
    """Without the parameters whose value says what happens anyway: they are no loss."""
    idle = {
        "logprobs": False, "store": False, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {},
        "modalities": ["text"],
    }  # fmt: skip
    return {k: v for k, v in params.items() if k not in idle or v != idle[k]}


def _identity(params: Mapping[str, Any], body: Body, dropped: list[str]) -> None:
    """Who asks, and on which tier."""
    metadata = params.get("metadata")
    user = params.get("user") or params.get("safety_identifier")
    if isinstance(metadata, dict):
        user = metadata.get("user_id") or user
        if set(metadata) - {"user_id"}:
            dropped.append("metadata")
    if user:
        body["metadata"] = {"user_id": str(user)}
    tier = params.get("service_tier")
    if tier is not None:
        known = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}
        if tier in known:
            body["service_tier"] = known[tier]
        else:
            dropped.append("service_tier")


def _thinking(
    params: Mapping[str, Any], unknown: Body, turns: list[Body], model: Claude, body: Body, dropped: list[str]
) -> None:
    """`reasoning_effort` in the form that the model knows; a `thinking` of the caller's own goes first."""
    own = unknown.get("thinking")
    effort = params.get("reasoning_effort")
    if own is not None:
        budget = own.get("budget_tokens") if isinstance(own, dict) else None
        if isinstance(budget, int) and max_tokens(params) is None:
            body["max_tokens"] = budget + model.max_tokens  # the wire counts thoughts and demands more than the budget
        effort = None
    if effort is None:
        return
    if effort == "none":
        if model.thinking != "none":
            body["thinking"] = {"type": "disabled"}
    elif effort not in _EFFORT:
        raise ValueError(f"reasoning_effort must be one of none, {', '.join(_EFFORT)}, not {effort!r}")
    elif model.thinking == "adaptive":
        body["thinking"] = {"type": "adaptive", **({"display": "summarized"} if model.hidden_thinking else {})}
        level = effort if effort == "xhigh" and model.xhigh else _EFFORT[effort]
        body["output_config"] = {"effort": level}
    elif model.thinking == "none" or not _budget(params, effort, turns, model, body):
        dropped.append("reasoning_effort")


def _budget(params: Mapping[str, Any], effort: str, turns: list[Body], model: Claude, body: Body) -> bool:
    """Whether a thinking budget was set: it must fit under the cap, and a tool loop must have begun with thoughts."""
    if _loop_without_thoughts(turns):
        return False
    budget = min(_BUDGET[effort], model.most - _MIN_ANSWER)
    cap = max_tokens(params)
    if cap is None:
        body["max_tokens"] = min(budget + model.max_tokens, model.most)
    elif isinstance(cap, int) and cap <= budget:
        budget = max(_MIN_BUDGET, cap // 2)
        if cap <= budget:
            return False
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _loop_without_thoughts(turns: list[Body]) -> bool:
    """Whether the turn that called the tools whose results come now has lost its thoughts; the wire refuses that."""
    if len(turns) < 2 or not _has(turns[-1], "tool_result"):
        return False
    return not _has(turns[-2], "thinking") and not _has(turns[-2], "redacted_thinking")


def _has(turn: Body, kind: str) -> bool:
    content = turn["content"]
    return isinstance(content, list) and any(block["type"] == kind for block in content)


def _thinks(body: Body, unknown: Body) -> bool:
    """Whether thinking by budget is on, which forbids sampling parameters and forced tools."""
    thinking = unknown.get("thinking", body.get("thinking"))
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"


def _sampling(params: Mapping[str, Any], unknown: Body, model: Claude, body: Body, dropped: list[str]) -> None:
    given = {k: v for k in ("temperature", "top_p") if (v := params.get(k)) is not None}
    if "top_k" in unknown:
        given["top_k"] = unknown["top_k"]
    if not given:
        return
    if _thinks(body, unknown):
        fits = {"temperature": given.get("temperature") == 1, "top_p": given.get("top_p", 0) >= 0.95}
        refused = [name for name in given if not fits.get(name)]
    elif not model.sampling:
        refused = list(given)
    else:
        refused = ["top_p"] if not model.sampling_pair and {"temperature", "top_p"} <= given.keys() else []
    for name in refused:
        dropped.append(name)
        given.pop(name)
        unknown.pop(name, None)
    temperature = given.get("temperature")
    if isinstance(temperature, (int, float)) and temperature > 1:
        given["temperature"] = 1  # OpenAI's scale goes to 2
    body.update(given)


def _tools(params: Mapping[str, Any], model: Claude, body: Body) -> None:
    tools = [_tool(tool, model) for tool in params.get("tools") or ()]
    search = params.get("web_search_options")
    if isinstance(search, dict):
        tools.append(_web_search(search))
    if tools:
        body["tools"] = tools


def _tool(tool: Any, model: Claude) -> Body:
    if not isinstance(tool, dict):
        raise ValueError(f"an entry of tools must be a dict, not {type(tool).__name__}")
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
        out["input_schema"] = _closed(out["input_schema"])
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
        tool["user_location"] = {"type": "approximate", **(place.get("approximate") or {})}
    return tool


def _tool_choice(params: Mapping[str, Any], model: Claude, body: Body, dropped: list[str]) -> None:
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
    known = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    if isinstance(choice, str) and choice in known:
        return {"type": known[choice]}
    raise ValueError(f"tool_choice must be auto, none, required or a named function, not {choice!r}")


def uses_answer_tool(call: Call, model: str) -> bool:
    """Whether a structured answer comes as the input of a tool, because the model knows no better way."""
    if call.params.get("response_format") is None or facts(model).json_schema:
        return False
    return json_schema_of(response_format(call.params["response_format"])) is not None


def _answer_format(params: Mapping[str, Any], model: Claude, body: Body, system: list[Block]) -> None:
    fmt = response_format(params.get("response_format"))
    if fmt is None:
        return
    schema = json_schema_of(fmt)
    if schema is None:
        if fmt.get("type") == "json_object":
            system.append({"type": "text", "text": _JSON_HINT})
    elif model.json_schema:
        own = body.get("output_config", {})
        body["output_config"] = {**own, "format": {"type": "json_schema", "schema": _closed(schema)}}
    else:
        others = body.get("tools", [])
        tool = {
            "name": ANSWER_TOOL,
            "description": "Give the final answer by calling this tool.",
            "input_schema": _input_schema(schema),
        }
        body["tools"] = [*others, tool]
        body["tool_choice"] = {"type": "any"} if others else {"type": "tool", "name": ANSWER_TOOL}


def _closed(schema: Any) -> Any:
    """The schema as structured output wants it: closed objects, and limits that it cannot check said in words."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: Body = {}
    limits: Body = {}
    for name, value in schema.items():
        if name in _UNCHECKED or (name == "minItems" and value not in (0, 1)):
            limits[name] = value
        elif name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            out[name] = {k: _closed(v) for k, v in value.items()}
        elif name in ("items", "anyOf", "allOf"):
            out[name] = _closed(value)
        elif name == "oneOf":
            out["anyOf"] = _closed(value)
        elif name != "$schema":
            out[name] = value
    if limits:
        said = ", ".join(f"{k}: {v}" for k, v in limits.items())
        out["description"] = f"{out['description']} ({said})" if out.get("description") else said
    if out.get("type") == "object" or "properties" in out:
        out["additionalProperties"] = False
    return out

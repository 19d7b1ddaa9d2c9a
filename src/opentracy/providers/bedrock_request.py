"""The body of a Converse request: settings, tools, structured output, reasoning.

Messages are converted in `bedrock_messages`, facts about models stand in `bedrock_models`.
Source: the service model of bedrock-runtime, PROTOCOLS section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import jsonio
from ..core.params import (
    definition,
    json_schema_of,
    max_tokens,
    refuse_dropped,
    response_format,
    sort_params,
    stop_list,
)
from ..core.wire import Call
from .anthropic_tools import closed
from .bedrock_messages import cache_point, convert
from .bedrock_models import Traits, traits
from .tools import Function, allowed, choice_of, functions_of

Body = dict[str, Any]

ANSWER_TOOL = "json_answer"
"""Name of the tool whose input is the answer, where a model has no structured output of its own."""

_HANDLED = frozenset(
    {"tools", "tool_choice", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "response_format",
     "reasoning_effort", "stream_options", "metadata", "service_tier", "parallel_tool_calls"}
)  # fmt: skip
# top-level members of the request; any other unknown name belongs to the model and not to Converse
_OWN = frozenset(
    {"additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
     "outputConfig", "performanceConfig", "promptVariables", "requestMetadata", "serviceTier", "toolConfig"}
)  # fmt: skip
_IDLE = {
    "logprobs": False, "store": False, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {},
    "parallel_tool_calls": True,
}  # fmt: skip
_BUDGET = {"minimal": 1024, "low": 2048, "medium": 10000, "high": 16384, "xhigh": 32768, "max": 32768}
_LEVEL = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_MIN_BUDGET = 1024
_OWN_TOOLS = frozenset({"systemTool", "toolSpec", "cachePoint"})
_NOVA = ("type", "properties", "required")
_SWITCHES = frozenset({"thinking", "reasoning_config", "reasoningConfig", "reasoning_effort", "reasoning"})
_JSON_HINT = "Answer with a single JSON object and nothing else: no explanation, no Markdown fence."


def answer_tool(params: Mapping[str, Any], model: str) -> str | None:
    """The name of the tool through which a structured answer comes, or None where it comes as text."""
    if params.get("response_format") is None or json_schema_of(response_format(params["response_format"])) is None:
        return None
    facts = traits(model)
    return ANSWER_TOOL if not facts.json_schema and facts.forced != "no" else None


def converse_body(call: Call, model: str) -> tuple[Body, tuple[str, ...]]:
    """The body and the names of dropped parameters; ValueError for what cannot be said to Bedrock."""
    facts = traits(model)
    params = {k: v for k, v in call.params.items() if v is not None and not (k in _IDLE and v == _IDLE[k])}
    unknown, left = sort_params(params, _HANDLED, strict=False, provider="bedrock")
    dropped = list(left)
    own = {k: unknown.pop(k) for k in list(unknown) if k in _OWN}
    extra: Body = dict(own.pop("additionalModelRequestFields", None) or {})
    extra.update(unknown)
    if facts.nova and "top_k" in extra:
        extra["inferenceConfig"] = {**(extra.get("inferenceConfig") or {}), "topK": extra.pop("top_k")}
    said = convert(call.messages, thoughts=facts.echo_thoughts)
    body: Body = {"messages": said.turns}
    settings: Body = {}
    if (cap := max_tokens(params)) is not None:
        settings["maxTokens"] = cap
    _effort(params, said.turns, facts, extra, settings, dropped)
    _sampling(params, facts, extra, settings, dropped)
    _format(params, model, body, said.system)
    if _tools(params, model, said.tools_used, body) and not _may_force(facts, extra):
        del body["toolConfig"]["toolChoice"]
        if params.get("tool_choice") not in (None, "auto"):
            dropped.append("tool_choice")
    _one_at_a_time(params, facts, body, extra, dropped)
    _labels(params, body, dropped)
    if said.system:
        body["system"] = said.system
    if settings or "inferenceConfig" in own:
        body["inferenceConfig"] = {**settings, **own.pop("inferenceConfig", {})}
    if extra:
        body["additionalModelRequestFields"] = extra
    body.update(own)
    refuse_dropped(dropped, strict=call.strict_params, provider="bedrock")
    return body, tuple(dropped)


def _labels(params: Mapping[str, Any], body: Body, dropped: list[str]) -> None:
    """What goes into the account's logs, and on which tier the request runs."""
    metadata = params.get("metadata")
    if isinstance(metadata, Mapping) and metadata:
        if all(isinstance(v, str) and len(v) <= 256 for v in metadata.values()) and len(metadata) <= 16:
            body["requestMetadata"] = dict(metadata)
        else:
            dropped.append("metadata")
    tier = params.get("service_tier")
    if tier in ("default", "priority", "flex", "reserved"):
        body["serviceTier"] = {"type": tier}
    elif tier not in (None, "auto"):
        dropped.append("service_tier")


def _effort(
    params: Mapping[str, Any], turns: list[Body], facts: Traits, extra: Body, settings: Body, dropped: list[str]
) -> None:
    """`reasoning_effort` by the switch that the model has; a switch of the caller's own goes first."""
    effort = params.get("reasoning_effort")
    if effort is None or extra.keys() & _SWITCHES:
        return
    if effort != "none" and effort not in _BUDGET:
        raise ValueError(f"reasoning_effort must be one of none, {', '.join(_BUDGET)}, not {effort!r}")
    if facts.effort == "claude" and facts.claude is not None:
        if effort == "none":
            if not facts.claude.off:
                extra.setdefault("output_config", {})["effort"] = "low"
            elif facts.claude.unasked:
                extra["thinking"] = {"type": facts.claude.off}
        elif facts.claude.thinking == "none":
            dropped.append("reasoning_effort")
        elif facts.claude.thinking == "adaptive":
            display = {"display": "summarized"} if facts.claude.hidden_thinking else {}
            extra["thinking"] = {"type": "adaptive", **display}
            level = "xhigh" if effort == "xhigh" and facts.claude.xhigh else _LEVEL[effort]
            extra.setdefault("output_config", {})["effort"] = "max" if effort == "max" else level
        elif not _budget(effort, turns, facts.claude.max_tokens, extra, settings):
            dropped.append("reasoning_effort")
    elif facts.effort == "nova":
        how = {} if effort == "none" else {"maxReasoningEffort": _LEVEL[effort]}
        extra["reasoningConfig"] = {"type": "enabled" if how else "disabled", **how}
        if how.get("maxReasoningEffort") == "high" and settings.pop("maxTokens", None) is not None:
            dropped.append("max_tokens")  # refused together with high effort, as sampling settings are
    elif facts.effort == "gpt-oss" and effort != "none":
        extra["reasoning_effort"] = _LEVEL[effort]
    elif facts.effort == "gpt":
        extra["reasoning"] = {"effort": effort}
    elif effort != "none":
        dropped.append("reasoning_effort")


def _budget(effort: str, turns: list[Body], room: int, extra: Body, settings: Body) -> bool:
    """Whether a thinking budget was set: it must fit under the cap, and a tool loop must have begun with thoughts."""
    if _loop_without_thoughts(turns):
        return False
    budget, cap = _BUDGET[effort], settings.get("maxTokens")
    if cap is None:
        settings["maxTokens"] = budget + room
    elif isinstance(cap, int) and cap <= budget:
        budget = max(_MIN_BUDGET, cap // 2)
        if cap <= budget:
            return False
    extra["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _loop_without_thoughts(turns: list[Body]) -> bool:
    """Whether the turn that called the tools whose results come now has lost its thoughts; Claude refuses that."""
    if len(turns) < 2 or not any("toolResult" in b for b in turns[-1]["content"]):
        return False
    return not any("reasoningContent" in b for b in turns[-2]["content"])


def _sampling(params: Mapping[str, Any], facts: Traits, extra: Body, settings: Body, dropped: list[str]) -> None:
    given = {k: v for k in ("temperature", "top_p") if (v := params.get(k)) is not None}
    for name in _refused(given, facts, extra):
        dropped.append(name)
        del given[name]
    if "temperature" in given:
        value = given["temperature"]
        # OpenAI's scale goes to 2
        settings["temperature"] = min(value, 1) if isinstance(value, (int, float)) else value
    if "top_p" in given:
        settings["topP"] = given["top_p"]
    if stops := [s for s in stop_list(params.get("stop")) if s]:
        if facts.stop:
            settings["stopSequences"] = stops
        else:
            dropped.append("stop")


def _refused(given: Body, facts: Traits, extra: Body) -> list[str]:
    """The sampling settings that the model refuses, all of them or beside what else is asked."""
    claude = facts.claude
    if claude is not None and _thinks(extra):
        idle = {"temperature": lambda v: v == 1, "top_p": lambda v: v >= 0.95}
        return [k for k, v in given.items() if not idle[k](v)]
    high = facts.nova and (extra.get("reasoningConfig") or {}).get("maxReasoningEffort") == "high"
    if high or not facts.sampling:
        return list(given)
    return ["top_p"] if claude is not None and not claude.sampling_pair and len(given) == 2 else []


def _thinks(extra: Body) -> bool:
    """Whether Claude's thinking is on, by either of the names that the switch has had."""
    switch = extra.get("thinking") or extra.get("reasoning_config")
    return isinstance(switch, dict) and switch.get("type") in ("enabled", "adaptive")


def _format(params: Mapping[str, Any], model: str, body: Body, system: list[Body]) -> None:
    fmt = response_format(params.get("response_format"))
    schema = json_schema_of(fmt)
    if fmt is None or fmt.get("type") == "text":
        return
    if schema is None:
        if fmt.get("type") != "json_object":
            raise ValueError(f"unknown response_format type {fmt.get('type')!r}: use json_schema or json_object")
        system.append({"text": _JSON_HINT})
    elif answer_tool(params, model) is None:
        inner = fmt["json_schema"] if isinstance(fmt.get("json_schema"), dict) else {}
        # the schema travels as text inside the JSON
        described: Body = {"schema": jsonio.encode(closed(schema)).decode()}
        described.update({k: inner[k] for k in ("name", "description") if isinstance(inner.get(k), str) and inner[k]})
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": described}}}


def _may_force(facts: Traits, extra: Body) -> bool:
    """Whether the model lets itself be forced to call: Claude does not while it thinks, some of them never."""
    return facts.claude is None or (facts.claude.forced_tool and not _thinks(extra))


def _tools(params: Mapping[str, Any], model: str, used: list[str], body: Body) -> bool:
    """Tool declarations; they must be there whenever the history has calls, even if none may be made now.

    Returns whether a call is forced.
    """
    facts = traits(model)
    given = params.get("tools")
    own = [t for t in given if _is_own(t)] if isinstance(given, (list, tuple)) else []
    given = [t for t in given or () if not _is_own(t)] if own else given
    functions = functions_of(given, "bedrock")
    choice = choice_of(params.get("tool_choice")) if functions else choice_of(None)
    specs = [_spec(f, facts) for f in allowed(functions, choice)]
    marks = {t["function"]["name"]: cache_point(t) or cache_point(t["function"]) for t in given or ()}
    tools = [x for spec in specs for x in ({"toolSpec": spec}, *marks.get(spec["name"], ()))]
    pick: Body | None = None
    if choice.mode == "required":
        pick = {"tool": {"name": choice.names[0]}} if len(choice.names) == 1 and facts.forced == "name" else {"any": {}}
    name = answer_tool(params, model)
    if name is not None:
        schema = json_schema_of(response_format(params["response_format"])) or {}
        others = bool(tools) and choice.mode != "none"
        answer = Function(name, "Give the final answer by calling this tool.", {"type": "object", **schema})
        tools.append({"toolSpec": _spec(answer, facts)})
        pick = {"any": {}} if others or facts.forced != "name" else {"tool": {"name": name}}
    elif choice.mode == "none" and not used:
        tools = []  # the one way to forbid calls
    tools += [dict(t) for t in own]
    if not tools and used:
        gone = [Function(n, "No longer available.", {"type": "object", "properties": {}}) for n in dict.fromkeys(used)]
        tools = [{"toolSpec": _spec(f, facts)} for f in gone]
    if tools:
        body["toolConfig"] = {"tools": tools, **({"toolChoice": pick} if pick else {})}
    return bool(tools and pick)


def _one_at_a_time(params: Mapping[str, Any], facts: Traits, body: Body, extra: Body, dropped: list[str]) -> None:
    """`parallel_tool_calls` false: Converse has no place for it, Claude's own `tool_choice` has. The two exclude each
    other, so the choice among tools moves there with it."""
    if params.get("parallel_tool_calls") is not False:
        return
    if facts.claude is None:
        dropped.append("parallel_tool_calls")
    if facts.claude is None or "toolConfig" not in body:
        return
    pick = body["toolConfig"].pop("toolChoice", None) or {"auto": {}}
    kind, inner = next(iter(pick.items()))
    extra.setdefault("tool_choice", {"type": kind, **inner, "disable_parallel_tool_use": True})


def _is_own(tool: Any) -> bool:
    """Whether a tool is in Converse's own form (`{"systemTool": ...}`): the caller knows what it is."""
    return isinstance(tool, dict) and "function" not in tool and bool(tool.keys() & _OWN_TOOLS)


def _nova_schema(schema: Body) -> Body:
    """Nova takes three members at the top of a schema, and so no definitions: they are written where they are meant.

    A definition that holds itself ends as a plain object: without a place for it there is no way to say it.
    """
    written: Body = _inlined(schema, schema, frozenset())
    return {"type": "object", "properties": {}, **{k: written[k] for k in _NOVA if k in written}}


def _inlined(value: Any, root: Body, inside: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_inlined(item, root, inside) for item in value]
    if not isinstance(value, dict):
        return value
    ref = value.get("$ref")
    if isinstance(ref, str):
        target = definition(ref, root)
        if target is None or ref in inside:
            return {"type": "object"}
        return _inlined({**target, **{k: v for k, v in value.items() if k != "$ref"}}, root, inside | {ref})
    return {k: _inlined(v, root, inside) for k, v in value.items() if k not in ("$defs", "definitions")}


def _spec(function: Function, facts: Traits) -> Body:
    spec: Body = {
        "name": function.name,
        "description": function.description or function.name,  # an empty one is refused
        "inputSchema": {"json": _nova_schema(function.parameters) if facts.nova else function.parameters},
    }
    if function.strict and facts.claude is not None and facts.claude.json_schema:
        spec["strict"] = True
        spec["inputSchema"] = {"json": closed(function.parameters)}
    return spec

"""The body of an Anthropic Messages request: parameters and thinking.

Messages are converted in `anthropic_messages`, tools in `anthropic_tools`; facts about models stand in
`anthropic_models`. Source: PROTOCOLS section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.params import max_tokens, refuse_dropped, sort_params, stop_list
from ..core.wire import Call, Target
from .anthropic_messages import convert
from .anthropic_models import Claude, facts
from .anthropic_tools import put_answer_format, put_tool_choice, put_tools

Body = dict[str, Any]

HANDLED = frozenset(
    {
        "max_completion_tokens", "max_tokens", "metadata", "parallel_tool_calls", "reasoning_effort", "response_format",
        "safety_identifier", "service_tier", "stop", "stream_options", "temperature", "tool_choice", "tools", "top_p",
        "user", "web_search_options",
    }
)  # fmt: skip
# tokens of thought for the models that want a number
_BUDGET = {"minimal": 1024, "low": 2048, "medium": 10000, "high": 16384, "xhigh": 32768, "max": 32768}
_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_MIN_BUDGET = 1024
_MIN_ANSWER = 4096  # tokens left beside the thoughts


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
    _stops(params, body, dropped)
    _identity(params, body, dropped)
    _thinking(params, unknown, turns, model, body, dropped)
    _sampling(params, unknown, model, body, dropped)
    put_tools(params, model, body)
    put_answer_format(params, model, body, system)
    put_tool_choice(params, model, body, dropped)
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


def _stops(params: Mapping[str, Any], body: Body, dropped: list[str]) -> None:
    given = stop_list(params.get("stop"))
    stops = [stop for stop in given if stop.strip()]  # blank ones are refused
    if stops:
        body["stop_sequences"] = stops
    if len(stops) < len(given):
        dropped.append("stop")


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
        if isinstance(tier, str) and tier in known:
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
        if not model.off:
            body["output_config"] = {"effort": "low"}
        elif model.thinking != "none":
            body["thinking"] = {"type": model.off}
    elif not isinstance(effort, str) or effort not in _EFFORT:
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
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} must be a number, not {type(value).__name__}")
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

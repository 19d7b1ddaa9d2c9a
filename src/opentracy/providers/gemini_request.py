"""The body of a generateContent request: generation config, tools, structured output, thinking.

Messages are converted in `gemini_messages`, facts about models stand in `gemini_models`. Source: PROTOCOLS section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.params import json_schema_of, max_tokens, refuse_dropped, response_format, sort_params, stop_list
from ..core.wire import Call, Target
from .fields import entries
from .gemini_messages import convert
from .gemini_models import Gemini, facts
from .gemini_schema import has_properties, json_schema, openapi_schema
from .tools import choice_of

Body = dict[str, Any]

HANDLED = frozenset(
    {
        "frequency_penalty", "logprobs", "max_completion_tokens", "max_tokens", "modalities", "n", "presence_penalty",
        "reasoning_effort", "response_format", "seed", "service_tier", "stop", "stream_options", "temperature",
        "tool_choice", "tools", "top_logprobs", "top_p", "web_search_options",
    }
)  # fmt: skip
ANSWER_FUNCTION = "json_answer"
"""Name of the function whose arguments are the answer, where structured output and tools exclude each other."""

_CONFIG = {
    "temperature": "temperature", "top_p": "topP", "seed": "seed", "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}  # fmt: skip
# generation settings under names of Gemini's own or of other APIs, which would be lost at the top of the body
_OWN_CONFIG = {
    "top_k": "topK", "topK": "topK", "thinking_config": "thinkingConfig", "thinkingConfig": "thinkingConfig",
    "response_modalities": "responseModalities", "responseModalities": "responseModalities",
    "media_resolution": "mediaResolution", "mediaResolution": "mediaResolution", "speech_config": "speechConfig",
    "speechConfig": "speechConfig", "image_config": "imageConfig", "imageConfig": "imageConfig",
}  # fmt: skip
_IDLE = {"logprobs": False, "store": False, "logit_bias": {}, "parallel_tool_calls": True, "modalities": ["text"]}


def model_name(model: str) -> str:
    """The model's name without the `models/` that some write before it."""
    return model.removeprefix("models/")


def build_body(call: Call, target: Target) -> tuple[Body, tuple[str, ...]]:
    """(body, names of dropped parameters) for the target's model."""
    params = call.params
    model = facts(target.model)
    meant = {k: v for k, v in params.items() if k not in _IDLE or v != _IDLE[k]}
    unknown, left = sort_params(meant, HANDLED, strict=False, provider=target.provider)
    dropped = list(left)
    tier = params.get("service_tier")
    if tier is not None and "location" in target.options:
        dropped.append("service_tier")  # Vertex wants it in a header
    system, contents = convert(call.messages, model)
    body: Body = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    config = _generation_config(params, model, dropped)
    _tools(params, model, body)
    _answer_format(params, model, body, config)
    _tool_choice(params, body, dropped)
    if tier not in (None, "auto") and "service_tier" not in dropped:
        body["serviceTier"] = "standard" if tier == "default" else tier
    for name in [n for n in unknown if n in _OWN_CONFIG]:
        config[_OWN_CONFIG[name]] = unknown.pop(name)
    for name in ("generationConfig", "generation_config"):
        if isinstance(unknown.get(name), dict):
            config.update(unknown.pop(name))
    if config:
        body["generationConfig"] = config
    body.update(unknown)
    refuse_dropped(dropped, strict=call.strict_params, provider=target.provider)
    return body, tuple(dropped)


def _generation_config(params: Mapping[str, Any], model: Gemini, dropped: list[str]) -> Body:
    config: Body = {}
    cap = max_tokens(params)
    if cap is not None:
        config["maxOutputTokens"] = cap
    for name, own in _CONFIG.items():
        if params.get(name) is not None:
            config[own] = params[name]
    stop = [s for s in stop_list(params.get("stop")) if s]
    if stop:
        config["stopSequences"] = stop
    if params.get("n") not in (None, 1):
        config["candidateCount"] = params["n"]
    if params.get("logprobs"):
        config["responseLogprobs"] = True
        if params.get("top_logprobs"):
            config["logprobs"] = params["top_logprobs"]
    modalities = params.get("modalities")
    if modalities is not None and not isinstance(modalities, (list, tuple)):
        raise ValueError(f"modalities must be a list, not {type(modalities).__name__}")
    if modalities and list(modalities) != ["text"]:
        config["responseModalities"] = [str(m).upper() for m in modalities]
    effort = params.get("reasoning_effort")
    if effort is not None:
        thinking = model.thinking_config(effort)
        if thinking is not None:
            config["thinkingConfig"] = thinking
        elif effort != "none":
            dropped.append("reasoning_effort")
    return config


def _tools(params: Mapping[str, Any], model: Gemini, body: Body) -> None:
    """Functions in one entry; tools of Gemini's own (search, code execution) in entries beside it."""
    functions: list[Body] = []
    own: list[Body] = []
    for tool in entries(params.get("tools"), "tools"):
        function = tool.get("function")
        if isinstance(function, dict):
            functions.append(_function(function, model))
        else:
            own.append({k: v for k, v in tool.items() if k != "type"})
    if params.get("web_search_options") is not None:
        own.append({"googleSearch": {}})
    tools = ([{"functionDeclarations": functions}] if functions else []) + own
    if tools:
        body["tools"] = tools


def _function(function: Mapping[str, Any], model: Gemini) -> Body:
    if not function.get("name"):
        raise ValueError("an entry of tools needs {'type': 'function', 'function': {'name': ..., 'parameters': ...}}")
    out: Body = {"name": function["name"]}
    if function.get("description"):
        out["description"] = function["description"]
    schema = function.get("parameters")
    if has_properties(schema):
        if model.json_schema:
            out["parametersJsonSchema"] = json_schema(schema)
        else:
            out["parameters"] = openapi_schema(schema)
    return out


def _declared(body: Body) -> list[Body]:
    """The function declarations of a body."""
    return [f for tool in body.get("tools", ()) for f in tool.get("functionDeclarations", ())]


def uses_answer_function(call: Call, model: str) -> bool:
    """Whether a structured answer comes as a function call, because the model refuses it together with tools."""
    fmt = call.params.get("response_format")
    if fmt is None or facts(model).schema_with_tools:
        return False
    functions = any(isinstance(t, dict) and "function" in t for t in call.params.get("tools") or ())
    return functions and json_schema_of(response_format(fmt)) is not None


def _answer_format(params: Mapping[str, Any], model: Gemini, body: Body, config: Body) -> None:
    fmt = response_format(params.get("response_format"))
    if fmt is None or fmt.get("type") not in ("json_object", "json_schema"):
        return
    schema = json_schema_of(fmt)
    functions = _declared(body)
    if functions and not model.schema_with_tools:
        if schema is not None:
            described = {"name": ANSWER_FUNCTION, "description": "Give the final answer by calling this function."}
            functions.append(_function({**described, "parameters": schema}, model))
            body["tools"][0] = {"functionDeclarations": functions}
            body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
        else:
            hint = {"text": "When you give the final answer, write a single JSON object and nothing else."}
            body.setdefault("systemInstruction", {"parts": []})["parts"].append(hint)
        return
    config["responseMimeType"] = "application/json"
    if schema:
        if model.json_schema:
            config["responseJsonSchema"] = json_schema(schema)
        else:
            config["responseSchema"] = openapi_schema(schema)


def _tool_choice(params: Mapping[str, Any], body: Body, dropped: list[str]) -> None:
    choice = params.get("tool_choice")
    if choice is None or not _declared(body) or "toolConfig" in body:
        return
    body["toolConfig"] = {"functionCallingConfig": _calling_config(choice)}


def _calling_config(choice: Any) -> Body:
    if isinstance(choice, str):
        modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY", "validated": "VALIDATED"}
        if choice in modes:
            return {"mode": modes[choice]}
    elif isinstance(choice, dict):
        meant = choice_of(choice)
        mode = {"required": "ANY", "none": "NONE", "auto": "VALIDATED" if meant.names else "AUTO"}[meant.mode]
        return {"mode": mode, "allowedFunctionNames": list(meant.names)} if meant.names else {"mode": mode}
    raise ValueError(f"tool_choice must be auto, none, required or a named function, not {choice!r}")

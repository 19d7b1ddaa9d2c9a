"""The body of a Cohere /v2/chat or /v2/embed request, from a call in OpenAI's vocabulary.

Source: Cohere's API reference (v2). What comes back is read in `cohere` and `cohere_stream`.
"""

from __future__ import annotations

import re
from typing import Any

from ..core import jsonio
from ..core.params import (
    EMBEDDING_PARAMS,
    json_hint,
    json_schema_of,
    max_tokens,
    refuse_dropped,
    response_format,
    sort_params,
    stop_list,
)
from ..core.wire import Call
from .content import content_of, decoded_text, function_of, media_of, parts_of, text_of
from .openai_parts import shown_after_results
from .tools import allowed, choice_of, functions_of

_HANDLED = frozenset(
    {"tools", "tool_choice", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed",
     "frequency_penalty", "presence_penalty", "logprobs", "response_format", "reasoning_effort", "stream_options"}
)  # fmt: skip
_SAME = ("temperature", "seed", "frequency_penalty", "presence_penalty")
# Thinking came with command-a-reasoning and command-a-plus; these families refuse the switch and the content type.
_NO_THINKING = re.compile(
    r"command-(?:r|light|nightly|xlarge|medium)|command(?:$|:)|command-a-(?:0\d|1\d|vision|translate)|c4ai"
)
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192}


def thinks(model: str) -> bool:
    """Whether a model takes the `thinking` switch and thinking content; unknown names are trusted to."""
    return _NO_THINKING.match(model.lower()) is None


def chat_body(call: Call, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body of /v2/chat and the names of dropped parameters; ValueError for what cannot be said to Cohere."""
    params = call.params
    rest, dropped = sort_params(params, _HANDLED, strict=False, provider="cohere")
    missing = [name for name in dropped if name != "parallel_tool_calls" or params[name] is False]
    messages = [_message(m, model) for m in shown_after_results(call.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": call.stream}
    for name in _SAME:
        if params.get(name) is not None:
            body[name] = params[name]
    if (limit := max_tokens(params)) is not None:
        body["max_tokens"] = limit
    if (top_p := params.get("top_p")) is not None:
        # the API refuses both ends of the interval; 1 is what OpenAI's clients send for "off"
        body["p"] = min(max(top_p, 0.01), 0.99) if isinstance(top_p, (int, float)) else top_p
    if params.get("top_k") is not None:
        body["k"] = params["top_k"]
    if stops := stop_list(params.get("stop")):
        body["stop_sequences"] = stops
    if params.get("logprobs"):
        body["logprobs"] = True
    missing += _format(body, params)
    missing += _reasoning(body, params, model)
    _tools(body, params)
    refuse_dropped(missing, strict=call.strict_params, provider="cohere")
    body.update(rest)
    return body, tuple(missing)


def _format(body: dict[str, Any], params: Any) -> list[str]:
    """The form of the answer; beside tools, where it is refused, in words. What of it was dropped."""
    fmt = response_format(params.get("response_format"))
    if fmt is None or fmt.get("type") == "text":
        return []
    schema = json_schema_of(fmt)
    if schema is None:
        if fmt.get("type") != "json_object":
            raise ValueError(f"unknown response_format type {fmt.get('type')!r}: use json_schema or json_object")
        schema = fmt.get("json_schema") or fmt.get("schema")
    if params.get("tools"):
        body["messages"] = [{"role": "system", "content": json_hint(schema)}, *body["messages"]]
        return ["response_format"]
    body["response_format"] = {"type": "json_object", **({"json_schema": schema} if schema is not None else {})}
    return []


def _reasoning(body: dict[str, Any], params: Any, model: str) -> list[str]:
    effort = params.get("reasoning_effort")
    if effort is None or params.get("thinking") is not None:
        return []
    if not thinks(model):
        return [] if effort == "none" else ["reasoning_effort"]
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    else:
        body["thinking"] = {"type": "enabled"}
        if effort in _BUDGETS:
            body["thinking"]["token_budget"] = _BUDGETS[effort]
    return []


def _tools(body: dict[str, Any], params: Any) -> None:
    functions = functions_of(params.get("tools"), "cohere")
    if not functions:
        return
    choice = choice_of(params.get("tool_choice"))
    # there is no way to name one function, but leaving only that one says the same
    functions = allowed(functions, choice)
    body["tools"] = [
        {"type": "function", "function": {"name": f.name, "description": f.description, "parameters": f.parameters}}
        for f in functions
    ]
    if choice.mode != "auto":
        body["tool_choice"] = choice.mode.upper()
    if all(f.strict for f in functions):
        body["strict_tools"] = True


def _message(message: Any, model: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"a message must be a dict, not {type(message).__name__}")
    role = message.get("role")
    if role in ("system", "developer"):
        return {"role": "system", "content": _content(message.get("content"), "system")}
    if role == "user":
        return {"role": "user", "content": _content(message.get("content"), "user")}
    if role == "assistant":
        return _assistant(message, model)
    if role == "tool":
        if not message.get("tool_call_id"):
            raise ValueError("a message of role 'tool' needs tool_call_id")
        content = _content(message.get("content"), "tool")
        return {"role": "tool", "tool_call_id": message["tool_call_id"], "content": content}
    raise ValueError(f"unknown message role {role!r}: use system, user, assistant or tool")


def _content(content: Any, role: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    return [_part(part, role) for part in parts_of(content, role)]


def _part(part: dict[str, Any], role: str) -> dict[str, Any]:
    text = text_of(part)
    if text is not None:
        return {"type": "text", "text": text}
    kind = part.get("type")
    if kind == "image_url" and role == "user":
        inner = part.get("image_url")
        image = {"url": inner} if isinstance(inner, str) else inner
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise ValueError("a part of type image_url needs {'image_url': {'url': ...}}")
        return {"type": "image_url", "image_url": {k: image[k] for k in ("url", "detail") if image.get(k) is not None}}
    if kind == "file" and (told := _told(part)) is not None:
        return {"type": "text", "text": told}
    if kind in ("image_url", "input_audio", "file", "video_url"):
        raise ValueError(f"cohere takes no part of type {kind!r} in a {role} message")
    return part  # Cohere's own kinds (document) in Cohere's own form


def _told(part: dict[str, Any]) -> str | None:
    """The words of a file that is nothing but words; messages have no place for files of other kinds."""
    media = media_of(part)
    if media is None or media.data is None or not media.media_type.startswith(("text/", "application/json")):
        return None
    text = decoded_text(media.data)
    return f"{media.name}:\n{text}" if media.name else text


def _assistant(message: dict[str, Any], model: str) -> dict[str, Any]:
    out: dict[str, Any] = {"role": "assistant"}
    content = _content(content_of(message), "assistant")
    thinking = message.get("reasoning_content")
    if isinstance(thinking, str) and thinking and thinks(model):
        # a reasoning model goes on from its own thoughts after a tool's answer
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        content = [{"type": "thinking", "thinking": thinking}, *(p for p in texts if p.get("text") != "")]
    calls = message.get("tool_calls")
    if content or not calls:
        out["content"] = content
    if calls:
        out["tool_calls"] = [_call(call) for call in calls]
        if isinstance(message.get("tool_plan"), str) and message["tool_plan"]:
            out["tool_plan"] = message["tool_plan"]
    return out


def _call(call: Any) -> dict[str, Any]:
    id, name, arguments = function_of(call)
    if not isinstance(arguments, str):
        arguments = jsonio.encode({} if arguments is None else arguments).decode()
    elif arguments.strip() in ("", "null"):
        arguments = "{}"
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def embed_body(call: Call, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body of /v2/embed from OpenAI's embedding parameters. `input_type` and the like pass through."""
    params = call.params
    given = params.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
        raise ValueError("input must be a string or a list of strings: cohere takes no token ids")
    body: dict[str, Any] = {
        "model": model, "texts": list(texts), "input_type": params.get("input_type") or "search_document",
        "embedding_types": [embedding_type(call)],
    }  # fmt: skip
    if params.get("dimensions") is not None:
        body["output_dimension"] = params["dimensions"]
    body.update({k: v for k, v in params.items() if k not in EMBEDDING_PARAMS and v is not None})
    dropped = ["user"] if params.get("user") is not None else []
    refuse_dropped(dropped, strict=call.strict_params, provider="cohere")
    return body, tuple(dropped)


def embedding_type(call: Call) -> str:
    """The form in which the vectors travel: OpenAI's encoding_format in Cohere's words."""
    return "base64" if call.params.get("encoding_format") == "base64" else "float"

"""What the texts of a record say in the words of the GenAI conventions: messages as parts, and the request's settings.

Belongs here: from a chat request and its answer to attributes. Not here: which of them are sent (`otel`). Texts that
are no chat give nothing, whatever they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

#: settings of a request -> attribute and the kind of number it is
_SETTINGS: Final[dict[str, tuple[str, type]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
}


def settings(request: bytes | None, response: bytes | None) -> dict[str, Any]:
    """Attributes of a request's settings and its answer's id: none of them is text of a person."""
    values: dict[str, Any] = {}
    asked = _object(request)
    for name, (key, kind) in _SETTINGS.items():
        value = asked.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = kind(value)
    stop = asked.get("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if isinstance(stops, list) and stops and all(isinstance(word, str) for word in stops):
        values["gen_ai.request.stop_sequences"] = stops
    if isinstance(asked.get("n"), int) and asked["n"] != 1:
        values["gen_ai.request.choice.count"] = asked["n"]
    form = asked.get("response_format")
    if isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"):
        values["gen_ai.output.type"] = "json"
    answer = _object(response)
    if isinstance(answer.get("id"), str):
        values["gen_ai.response.id"] = answer["id"]
    return values


def texts(request: bytes | None, response: bytes | None) -> dict[str, str]:
    """The messages that went in and came out and the tools' definitions, each as JSON."""
    values: dict[str, str] = {}
    asked, answer = _object(request), _object(response)
    messages = [_message(one) for one in _dicts(asked.get("messages"))]
    if messages:
        values["gen_ai.input.messages"] = _json(messages)
    if isinstance(asked.get("tools"), list) and asked["tools"]:
        values["gen_ai.tool.definitions"] = _json([_definition(tool) for tool in _dicts(asked["tools"])])
    choices = [_choice(one) for one in _dicts(answer.get("choices"))]
    if choices:
        values["gen_ai.output.messages"] = _json(choices)
    return values


def _object(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    made = _message(message if isinstance(message, dict) else {})
    return {"role": "assistant", "parts": made["parts"], "finish_reason": choice.get("finish_reason") or "stop"}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message.get("role", "assistant"))
    if role == "tool":
        result = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}
        return {"role": role, "parts": [result]}
    thought = message.get("reasoning_content")
    parts: list[dict[str, Any]] = [{"type": "reasoning", "content": thought}] if isinstance(thought, str) else []
    content = message.get("content")
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    parts += [_part(one) for one in _dicts(content)]
    parts += [_call(one) for one in _dicts(message.get("tool_calls"))]
    named = {"name": message["name"]} if isinstance(message.get("name"), str) else {}
    return {"role": role, "parts": parts, **named}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "content": str(part.get("text", ""))}
    if kind == "image_url":
        image = part.get("image_url")
        return _media("image", str(image.get("url", "") if isinstance(image, dict) else image))
    audio = part.get("input_audio")
    if kind == "input_audio" and isinstance(audio, dict):
        return {
            "type": "blob", "modality": "audio", "mime_type": f"audio/{audio.get('format', 'wav')}",
            "content": audio.get("data"),
        }  # fmt: skip
    # anything else is passed on as it stands: the conventions allow parts of kinds they do not know
    return {"type": str(kind), **{name: value for name, value in part.items() if name != "type"}}


def _media(modality: str, url: str) -> dict[str, Any]:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma:
        return {"type": "blob", "modality": modality, "mime_type": head[5:].partition(";")[0], "content": data}
    return {"type": "uri", "modality": modality, "uri": url}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # the model's own words, which need not be JSON
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            arguments = msgspec.json.decode(arguments)
    return {"type": "tool_call", "id": call.get("id"), "name": str(function.get("name", "")), "arguments": arguments}


def _definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, dict) else dict(tool)

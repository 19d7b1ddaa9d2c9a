"""The texts of other people's spans as a chat request and its answer, so that they look like those of our own calls.

Belongs here: the three ways in which spans carry messages: the conventions' parts, attributes numbered one by one
(OpenInference, traceloop), or one value. Whatever is none of them is kept as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

_INPUTS: Final = ("gen_ai.prompt.", "llm.prompts.", "llm.input_messages.")
_OUTPUTS: Final = ("gen_ai.completion.", "llm.completions.", "llm.output_messages.")
_MOST: Final = 10_000  # a span with larger numbers than that is no list


def request_of(values: Mapping[str, Any]) -> bytes | None:
    """`{"messages": [...]}` of a span's attributes, or what they have instead; None for nothing."""
    given = _decoded(values.get("gen_ai.input.messages", values.get("gen_ai.prompt")))
    system = _decoded(values.get("gen_ai.system_instructions"))
    messages = _messages(given)
    if messages is not None and isinstance(system, list):
        messages.insert(0, {"role": "system", **_content(system)})
    if messages is None:
        messages = _numbered(values, _INPUTS)
    whole = _decoded(values.get("input.value"))
    if messages is None:
        return _bytes(whole if given is None else given)
    body: dict[str, Any] = {"messages": messages}
    tools = _decoded(values.get("gen_ai.tool.definitions"))
    if isinstance(tools, list) and tools:
        body["tools"] = tools
    return msgspec.json.encode(body)


def response_of(values: Mapping[str, Any]) -> bytes | None:
    """`{"choices": [...]}` of a span's attributes, or what they have instead; None for nothing."""
    given = _decoded(values.get("gen_ai.output.messages", values.get("gen_ai.completion")))
    messages = _messages(given)
    if messages is None:
        messages = _numbered(values, _OUTPUTS)
    if messages is None:
        return _bytes(_decoded(values.get("output.value")) if given is None else given)
    choices = []
    for index, message in enumerate(messages):
        reason = message.pop("finish_reason", None)
        choices.append({"index": index, "message": {"role": "assistant", **message}, "finish_reason": reason})
    return msgspec.json.encode({"choices": choices})


def _decoded(value: Any) -> Any:
    """What a JSON text says; other values as they are."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _messages(value: Any) -> list[dict[str, Any]] | None:
    """Messages with parts as chat messages; None when the value is no list of messages."""
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) and "role" in one for one in value):
        return None
    made = []
    for one in value:
        parts = one.get("parts")
        rest = {name: item for name, item in one.items() if name != "parts"}
        made.append({**rest, **_content(parts)} if isinstance(parts, list) else rest)
    return made


def _content(parts: Iterable[Any]) -> dict[str, Any]:
    """The fields of a chat message that some parts mean."""
    texts: list[str] = []
    fields: dict[str, Any] = {}
    others: list[Any] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("content", "")))
        elif kind == "tool_call":
            arguments = part.get("arguments")
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            call = {"id": part.get("id"), "type": "function", "function": {"name": part.get("name"), "arguments": text}}
            fields.setdefault("tool_calls", []).append(call)
        elif kind == "tool_call_response":
            fields["tool_call_id"] = part.get("id")
            answer = part.get("response", part.get("result"))
            texts.append(answer if isinstance(answer, str) else msgspec.json.encode(answer).decode())
        elif kind == "reasoning":
            fields["reasoning_content"] = fields.get("reasoning_content", "") + str(part.get("content", ""))
        else:
            others.append(part)
    if others:
        return {**fields, "content": [*({"type": "text", "text": text} for text in texts), *others]}
    return {**fields, "content": "\n".join(texts) if texts else None}


def _numbered(values: Mapping[str, Any], prefixes: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Messages whose parts are attributes of their own, such as `llm.input_messages.0.message.content`."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        prefix = next((one for one in prefixes if key.startswith(one)), None)
        if prefix is None:
            continue
        number, _, rest = key[len(prefix) :].partition(".")
        rest = rest.removeprefix("message.")
        if not number.isdigit() or not rest or int(number) > _MOST:
            continue
        _put(found.setdefault(int(number), {}), rest.split("."), value)
    if not found:
        return None
    made = [_as_lists(found[number]) for number in sorted(found)]
    return [{"role": "user" if prefixes is _INPUTS else "assistant", **one} for one in made]


def _put(into: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = into.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        into = inner
    into.setdefault(path[-1], value)


def _as_lists(value: Any) -> Any:
    """Objects whose names are all numbers are lists; wrappers of one name are taken off their items."""
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        items = [_as_lists(value[name]) for name in sorted(value, key=int)]
        return [one["tool_call"] if isinstance(one, dict) and set(one) == {"tool_call"} else one for one in items]
    return {name: _as_lists(item) for name, item in value.items()}

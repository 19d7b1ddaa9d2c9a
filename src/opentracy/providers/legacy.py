"""OpenAI's first form of tools (`functions`, `function_call`, the role `function`) in the form that replaced it.

For every wire that knows only the later one. Answers come back in the later form, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..core.wire import Call

Message = dict[str, Any]


def modern(call: Call) -> Call:
    """The same call without anything of the old form; the very same object where there is nothing of it."""
    params, messages = call.params, call.messages
    if "functions" in params or "function_call" in params:
        params = _params(dict(params))
    if any(isinstance(m, dict) and (m.get("function_call") or m.get("role") == "function") for m in messages):
        messages = _messages(messages)
    if params is call.params and messages is call.messages:
        return call
    return msgspec.structs.replace(call, params=params, messages=messages)


def _params(params: dict[str, Any]) -> dict[str, Any]:
    functions, choice = params.pop("functions", None), params.pop("function_call", None)
    if functions and not params.get("tools"):
        if not isinstance(functions, (list, tuple)) or not all(isinstance(f, dict) for f in functions):
            raise ValueError("functions must be a list of dicts")
        params["tools"] = [{"type": "function", "function": f} for f in functions]
    if choice is not None and params.get("tool_choice") is None:
        named = isinstance(choice, dict)
        params["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}} if named else choice
    return params


def _messages(messages: Sequence[Any]) -> list[Message]:
    """Calls get ids by their place, and a result belongs to the last call of its name that has none yet."""
    out: list[Message] = []
    waiting: list[tuple[str, str]] = []  # name and id of calls without a result
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            out.append(message)  # the dialect says what is wrong with it
            continue
        said = message.get("function_call")
        if message.get("role") == "assistant" and isinstance(said, dict) and not message.get("tool_calls"):
            id = f"call_function_{number}"
            waiting.append((str(said.get("name")), id))
            rest = {k: v for k, v in message.items() if k != "function_call"}
            out.append({**rest, "tool_calls": [{"id": id, "type": "function", "function": said}]})
        elif message.get("role") == "function" and message.get("tool_call_id") is None:
            name = str(message.get("name"))
            found = next((c for c in reversed(waiting) if c[0] == name), waiting[-1] if waiting else None)
            if found is not None:
                waiting.remove(found)
            id = found[1] if found is not None else f"call_function_{name}"
            rest = {k: v for k, v in message.items() if k not in ("role", "name")}
            out.append({"role": "tool", "tool_call_id": id, **rest})
        elif "function_call" in message:
            out.append({k: v for k, v in message.items() if k != "function_call"})
        else:
            out.append(message)
    return out

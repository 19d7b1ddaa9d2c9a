"""Messages on their way to a server of the OpenAI family: what is ours is taken off, what it demands is put on.

The parts of a content stand in `openai_parts`, parameters in `openai_request`. Nothing is changed in place; a clean
list of messages is sent as it is.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

from ..core.jsonio import encode
from .content import content_of
from .openai_parts import content_for, shown_after_results
from .openai_quirks import Quirks

Message = dict[str, Any]

# what answers of any provider carry in our form, and no server of this family takes back
_OURS = frozenset(
    {"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "citations", "annotations", "references",
     "provider_specific_fields", "tool_plan", "search_results", "executed_tools", "extra_content", "images",
     "content_blocks", "other_parts"}
)  # fmt: skip
_PLAIN_ROLES = frozenset({"user", "system", "assistant"})
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MAX_ID = 40  # longer tool-call ids (another provider's signature rides in ours) are refused


def outgoing(messages: list[Message], quirks: Quirks, dropped: list[str]) -> list[Message]:
    """`messages` in the form this provider takes; names of what had to go are appended to `dropped`."""
    if quirks.verbatim or (passes(quirks) and _all_plain(messages)):
        return messages
    keep_reasoning = _tool_turns(messages) if quirks.echo_tool_reasoning else frozenset()
    out = [
        m if _is_plain(m) else _message(m, quirks, dropped, echo_reasoning=i in keep_reasoning)
        for i, m in enumerate(messages)
    ]
    if not quirks.rich_results and any(m.get("role") == "tool" and type(m.get("content")) is list for m in out):
        out = shown_after_results(out)
    if not quirks.tool_history:
        out = _told(out)
    if quirks.alternate:
        out = _alternating(out)
    if quirks.prefill and out and out[-1].get("role") == "assistant" and not out[-1].get("tool_calls"):
        out[-1] = {"prefix": True, **out[-1]}
    return out


@lru_cache(maxsize=256)
def passes(quirks: Quirks) -> bool:
    """Whether a list of plain messages needs no work as a list."""
    return not quirks.alternate and not quirks.prefill


def _all_plain(messages: list[Message]) -> bool:
    for m in messages:
        if len(m) != 2 or m.get("role") not in _PLAIN_ROLES or type(m.get("content")) is not str:
            return False
    return True


def _is_plain(m: Message) -> bool:
    return len(m) == 2 and m.get("role") in _PLAIN_ROLES and type(m.get("content")) is str


def _message(m: Message, quirks: Quirks, dropped: list[str], *, echo_reasoning: bool) -> Message:
    out: Message = {}
    if not quirks.openai_messages and (m.get("refusal") or m.get("audio")):
        m = {k: v for k, v in m.items() if k not in ("refusal", "audio")} | {"content": content_of(m)}
    for name, value in m.items():
        if name == "role":
            out[name] = "system" if value == "developer" and not quirks.developer_role else value
        elif name == "content":
            out[name] = content_for(value, quirks) if isinstance(value, (list, tuple)) else value
        elif value is None or name.startswith("_"):
            continue
        elif name == "audio":
            out[name] = _spoken(value)
        elif name == "tool_calls":
            if value:
                out[name] = [_tool_call(call, quirks) for call in value]
        elif name == "tool_call_id":
            out[name] = tool_id(value, quirks)
        elif name in _OURS:
            if name in quirks.echo or (echo_reasoning and name == "reasoning_content"):
                out[name] = value
        elif name == "cache_control" and not quirks.cache_marks:
            continue
        elif name == "name" and not quirks.names:
            if "messages.name" not in dropped:
                dropped.append("messages.name")
        else:
            out[name] = value
    return out


def _spoken(audio: Any) -> Any:
    """Speech of an earlier answer, which goes back by its id alone."""
    return {"id": audio["id"]} if isinstance(audio, dict) and audio.get("id") else audio


def _tool_call(call: Any, quirks: Quirks) -> Any:
    """A call of an earlier answer: OpenAI's fields only, arguments as text that is JSON."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = call["function"]
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = encode(arguments or {}).decode()
    elif not arguments.strip():
        arguments = "{}"
    out = {"id": tool_id(call.get("id"), quirks), "type": call.get("type") or "function"}
    out["function"] = {"name": function.get("name"), "arguments": arguments}
    if "extra_content" in quirks.echo and call.get("extra_content"):
        out["extra_content"] = call["extra_content"]
    return out


def tool_id(value: Any, quirks: Quirks) -> Any:
    """The id in a form the provider takes; the same foreign id always becomes the same new one."""
    if not isinstance(value, str):
        return value
    if quirks.nine_char_ids:
        return value if _NINE.fullmatch(value) else _nine(value)
    return value if len(value) <= _MAX_ID else "call_" + hashlib.sha256(value.encode()).hexdigest()[:24]


def _nine(value: str) -> str:
    number = int.from_bytes(hashlib.sha256(value.encode("utf-8", "replace")).digest()[:8], "big")
    out = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        out += _LETTERS[digit]
    return out


def _tool_turns(messages: list[Message]) -> frozenset[int]:
    """Positions of the assistant messages in turns (from one user message to the next) in which tools were called."""
    keep: set[int] = set()
    turn: list[int] = []
    called = False
    for i, m in enumerate([*messages, {"role": "user"}]):
        if m.get("role") == "user":
            if called:
                keep.update(turn)
            turn, called = [], False
        elif m.get("role") == "assistant":
            turn.append(i)
            called = called or bool(m.get("tool_calls"))
    return frozenset(keep)


def _told(messages: list[Message]) -> list[Message]:
    """Calls and results in words, for a provider that knows no tools."""
    names: dict[str, Any] = {}
    out: list[Message] = []
    for m in messages:
        if m.get("tool_calls"):
            calls = [call for call in m["tool_calls"] if isinstance(call, dict)]
            named = [(call.get("id"), call["function"]) for call in calls if isinstance(call.get("function"), dict)]
            names.update((str(call_id), function.get("name")) for call_id, function in named)
            said = "\n".join(f"(Calls {f.get('name')} with {f.get('arguments')})" for _, f in named)
            rest = {k: v for k, v in m.items() if k != "tool_calls"}
            m = {**rest, "content": _joined(m.get("content"), said)}
        elif m.get("role") == "tool":
            name = names.get(str(m.get("tool_call_id"))) or m.get("name") or "the call"
            m = {"role": "user", "content": _joined(f"(Result of {name})", m.get("content"))}
        out.append(m)
    return out


def with_blank_reasoning(messages: list[Message]) -> list[Message]:
    """An empty `reasoning_content` in turns with tool calls that have none, since they were made elsewhere."""
    turns = _tool_turns(messages)
    return [
        {**m, "reasoning_content": ""} if i in turns and "reasoning_content" not in m else m
        for i, m in enumerate(messages)
    ]


def with_thoughts(messages: list[Message]) -> list[Message]:
    """What a model thought in earlier turns, as the first part of what it said there."""
    return [_thoughtful(m) if m.get("role") == "assistant" and m.get("reasoning_content") else m for m in messages]


def _thoughtful(m: Message) -> Message:
    thoughts, said = m["reasoning_content"], content_of(m)
    if not isinstance(thoughts, str) or (isinstance(said, list) and any(_is_thought(part) for part in said)):
        return m
    part = {"type": "thinking", "thinking": [{"type": "text", "text": thoughts}]}
    return {**m, "content": [part, *(_as_parts(said) if said else [])]}


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking"


def _alternating(messages: list[Message]) -> list[Message]:
    """System messages first and as one, then neighbours of the same role joined."""
    system = [m for m in messages if m.get("role") == "system"]
    rest = [m for m in messages if m.get("role") != "system"]
    out: list[Message] = []
    for m in (*system, *rest):
        if out and out[-1].get("role") == m.get("role") and "tool_calls" not in m and "tool_calls" not in out[-1]:
            out[-1] = {**out[-1], "content": _joined(out[-1].get("content"), m.get("content"))}
        else:
            out.append(m)
    return out


def _joined(a: Any, b: Any) -> Any:
    if not a or not b:
        return a or b
    if isinstance(a, str) and isinstance(b, str):
        return f"{a}\n\n{b}"
    return [*_as_parts(a), *_as_parts(b)]


def _as_parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]

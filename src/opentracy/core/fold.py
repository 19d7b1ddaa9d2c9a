"""From a stream's chunks back to the whole answer they were cut from; the reverse of `plan.as_chunks`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .wire import Chunk

_GROWING = frozenset({"content", "reasoning_content", "refusal"})
_CALLS = (("function", "arguments"), ("custom", "input"))  # kind of call -> its field that comes in pieces
_NOT_COPIED = frozenset({"index", "function", "custom"})
_SAID_AGAIN = frozenset({"id", "type", "format", "mime_type"})  # texts that some servers repeat with every piece


class MessageFold:
    """Collects the messages of a chunk stream; one message per choice."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        """Takes in one chunk, of which nothing is changed or kept alive but texts."""
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            kept = self._choices.get(index)
            if kept is None:
                kept = self._choices[index] = _Choice(index)
            kept.add(choice)

    def message(self, index: int = 0) -> dict[str, Any]:
        """The assistant message of one choice, as far as it came."""
        return (self._choices.get(index) or _Choice(index)).message()

    def choices(self) -> list[dict[str, Any]]:
        """All choices in the form of a `chat.completion`."""
        return [kept.choice() for _, kept in sorted(self._choices.items())]


def fold(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """The `chat.completion` of a stream, finished or not; an empty dict for no chunks at all.

    Fields beside `choices` are those of the last chunk that has them, so usage and extras are carried over.
    """
    messages = MessageFold()
    response: dict[str, Any] = {}
    for chunk in chunks:
        messages.add(chunk)
        for key, value in chunk.items():
            if key != "choices" and (value is not None or key not in response):
                response[key] = value
    if response:
        response["object"] = "chat.completion"
        response["choices"] = messages.choices()
    return response


class _Choice:
    __slots__ = ("_arguments", "_extra", "_fields", "_finish", "_index", "_logprobs", "_texts", "_tools")

    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: dict[str, list[str]] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._fields: dict[str, Any] = {}  # of the message
        self._extra: dict[str, Any] = {}  # of the choice
        self._logprobs: dict[str, Any] | None = None
        self._finish: str | None = None

    def add(self, choice: Mapping[str, Any]) -> None:
        for key, value in (choice.get("delta") or {}).items():
            if value is None or key == "role":
                continue
            if key in _GROWING:
                self._texts.setdefault(key, []).append(value)
            elif key == "tool_calls":
                for call in value:
                    self._call(call)
            elif key == "reasoning_details":
                self._fields[key] = _joined(self._fields.get(key), value)
            elif key == "executed_tools":
                self._fields[key] = _told_anew(self._fields.get(key), value)
            else:
                self._fields[key] = _grown(self._fields.get(key), value)
        for key, value in choice.items():
            if value is None or key in ("index", "delta"):
                continue
            if key == "finish_reason":
                self._finish = self._finish or value
            elif key == "logprobs":
                self._logprobs = _grown(self._logprobs, value)
            elif value != {} or key not in self._extra:  # an empty object at the end takes nothing back
                self._extra[key] = value

    def _call(self, call: Mapping[str, Any]) -> None:
        index = call.get("index", 0)
        kept = self._tools.setdefault(index, {})
        for kind, growing in _CALLS:
            said = call.get(kind)
            if said is not None:
                held = kept.setdefault(kind, {})
                for key, value in said.items():
                    if key == growing:
                        self._arguments.setdefault(index, []).append(value or "")
                    elif value is not None:
                        held.setdefault(key, value)
        for key, value in call.items():
            if key not in _NOT_COPIED and value is not None:
                kept.setdefault(key, value)

    def message(self) -> dict[str, Any]:
        texts = {key: "".join(parts) for key, parts in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": texts.pop("content", None), **texts}
        if self._tools:
            message["content"] = message["content"] or None  # streams open with an empty text; answers say null here
            message["tool_calls"] = [self._whole_call(index) for index in sorted(self._tools)]
        message.update(self._fields)
        return message

    def _whole_call(self, index: int) -> dict[str, Any]:
        call = dict(self._tools[index])
        for kind, growing in _CALLS:
            if kind in call:
                call[kind] = {**call[kind], growing: "".join(self._arguments.get(index, ()))}
        return call

    def choice(self) -> dict[str, Any]:
        out = {"index": self._index, "message": self.message(), "finish_reason": self._finish, **self._extra}
        if self._logprobs is not None:
            out["logprobs"] = self._logprobs
        return out


def _joined(before: Any, value: Any) -> Any:
    """Blocks of reasoning that come in pieces: a piece of the last block's kind and index goes on with it.

    They go back to the provider with the next turn, and it knows them again only when they are whole.
    """
    out: list[Any] = list(before or ())
    for piece in value if isinstance(value, list) else [value]:
        last = out[-1] if out else None
        if isinstance(last, dict) and isinstance(piece, dict) and _same_block(last, piece):
            out[-1] = {**last, **{k: _piece(k, last.get(k), v) for k, v in piece.items() if v is not None}}
        else:
            out.append(piece)
    return out


def _told_anew(before: Any, value: Any) -> Any:
    """What a server's own tools did: an entry of the same index says again what was said, and what came of it."""
    out: list[Any] = list(before or ())
    for entry in value if isinstance(value, list) else [value]:
        index = entry.get("index") if isinstance(entry, dict) else None
        place = next((n for n, e in enumerate(out) if isinstance(e, dict) and e.get("index") == index), None)
        if index is None or place is None:
            out.append(entry)
        else:
            out[place] = {**out[place], **{k: v for k, v in entry.items() if v is not None}}
    return out


def _same_block(last: Mapping[str, Any], piece: Mapping[str, Any]) -> bool:
    # two encrypted blocks never belong together: their data is sealed one by one
    return all(last.get(k) == piece.get(k) for k in ("type", "index")) and not (last.get("data") and piece.get("data"))


def _piece(name: str, before: Any, value: Any) -> Any:
    return _grown(before, value) if name in ("text", "summary") else value


def _grown(before: Any, value: Any) -> Any:
    """Fields that come in pieces: texts and lists grow, objects field by field, anything else is replaced."""
    if isinstance(before, dict) and isinstance(value, dict):
        new = {k: v for k, v in value.items() if v is not None or k not in before}
        return {**before, **{k: v if k in _SAID_AGAIN else _grown(before.get(k), v) for k, v in new.items()}}
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return before + value
    return value

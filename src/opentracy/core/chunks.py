"""Writing a well-formed OpenAI chunk stream, for dialects whose wire is another; and telling content from the rest.

The grammar is that of `wire.Decoder`. A dialect calls the writer's methods as its events come; role, ids, tool
numbering, finish and usage placement are kept right here, once.
"""

from __future__ import annotations

from typing import Any

from .wire import Chunk

_SHOWN = ("content", "tool_calls", "reasoning_content", "refusal", "audio", "images", "function_call")


def is_content(chunk: Chunk) -> bool:
    """Whether a chunk carries something for the reader (text, reasoning, a call, sound, a picture) or a finish."""
    for choice in chunk["choices"]:
        if choice.get("finish_reason"):
            return True
        delta = choice["delta"]
        for name in _SHOWN:
            if delta.get(name):
                return True
    return False


class ChunkWriter:
    """Builds the chunks of one answer with a single choice.

    The finish is held back until `end()`, so that it can carry the usage that some providers send after it.
    """

    __slots__ = ("_role_sent", "_tools", "created", "extra", "finish_reason", "id", "model", "out", "usage")

    def __init__(self, id: str, created: int, model: str) -> None:
        self.id = id
        self.created = created
        self.model = model
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.extra: dict[str, Any] = {}  # fields for the last chunk, beside `choices`
        self.out: list[Chunk] = []
        self._role_sent = False
        self._tools = 0

    def named(self, id: Any, model: Any = None) -> None:
        """What the provider calls the answer; too late once a chunk has been made, since all of them say the same."""
        if not self._role_sent:
            if isinstance(id, str) and id:
                self.id = id
            if isinstance(model, str) and model:
                self.model = model

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> Chunk:
        """Appends a chunk with this delta; the first one carries the role."""
        if not self._role_sent:
            self._role_sent = True
            first = {"role": "assistant"} if "content" in delta else {"role": "assistant", "content": None}
            delta = {**first, **delta}
        chunk: Chunk = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        self.out.append(chunk)
        return chunk

    def role(self) -> None:
        """The role alone, when a provider opens its message; nothing if it was sent."""
        if not self._role_sent:
            self.delta({"content": ""})

    def text(self, text: str) -> None:
        """A piece of the answer."""
        if text:
            self.delta({"content": text})

    def reasoning(self, text: str) -> None:
        """A piece of the visible reasoning."""
        if text:
            self.delta({"reasoning_content": text})

    def tool_start(self, id: str, name: str, arguments: str = "", **extra: Any) -> int:
        """Opens the next tool call and returns its index. `extra`: further fields of the call (e.g. a signature)."""
        index = self._tools
        self._tools += 1
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": id, "type": "function", "function": function, **extra}
        self.delta({"tool_calls": [call]})
        return index

    def tool_arguments(self, index: int, fragment: str) -> None:
        """Another piece of a call's arguments."""
        if fragment:
            self.delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})

    @property
    def tool_count(self) -> int:
        """Tool calls opened so far."""
        return self._tools

    def end(self) -> None:
        """The last chunk: finish reason and usage."""
        chunk = self.delta({}, self.finish_reason)
        if self.usage is not None:
            chunk["usage"] = self.usage
        chunk.update(self.extra)

    def take(self) -> list[Chunk]:
        """The chunks written since the last call."""
        out, self.out = self.out, []
        return out

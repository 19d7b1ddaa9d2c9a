"""From a decoder's chunks to the bytes of an OpenAI event stream, for the engine; and what the stream said, folded.

Belongs here: the general `wire.Relay`, which encodes every chunk that a decoder yields, and how the last chunk is laid
out. Dialects whose wire is close enough bring a cheaper relay of their own. Nothing here touches a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .jsonio import encode
from .wire import Chunk, Decoder, Failure

DONE = b"data: [DONE]\n\n"


def sse(value: Any) -> bytes:
    """One event with this JSON value."""
    return b"data: %b\n\n" % encode(value)


def sse_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Events of several chunks in a row."""
    return b"".join([b"data: %b\n\n" % encode(chunk) for chunk in chunks])


def tail(last: Chunk | None, *, include_usage: bool, extras: Mapping[str, Any]) -> bytes:
    """The end of a successful stream: finish, the usage chunk where it was asked for, `[DONE]`.

    `last` is a relay's last chunk (finish and usage together). OpenAI's clients expect the usage apart, on a chunk
    without choices; the extras ride on whatever chunk is the last.
    """
    if last is None:
        return DONE
    usage = last.get("usage")
    if not include_usage:
        finish = {k: v for k, v in last.items() if k != "usage"}
        finish.update(extras)
        return sse(finish) + DONE
    finish = {**last, "usage": None}
    base = {k: last[k] for k in ("id", "object", "created", "model", "system_fingerprint", "service_tier") if k in last}
    return sse(finish) + sse({**base, "choices": [], "usage": usage, **extras}) + DONE


class MessageFold:
    """Collects the messages of a chunk stream; one message per choice."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        """Takes in one chunk."""
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            kept = self._choices.get(index)
            if kept is None:
                kept = self._choices[index] = _Choice()
            kept.add(choice.get("delta") or {}, choice.get("finish_reason"))

    def message(self, index: int = 0) -> dict[str, Any]:
        """The assistant message of one choice, as far as it came."""
        return (self._choices.get(index) or _Choice()).message()

    def choices(self) -> list[dict[str, Any]]:
        """All choices in the form of a `chat.completion`."""
        return [
            {"index": index, "message": kept.message(), "finish_reason": kept.finish}
            for index, kept in sorted(self._choices.items())
        ]


class _Choice:
    __slots__ = ("content", "extra", "finish", "reasoning", "refusal", "tools")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, dict[str, Any]] = {}
        self.extra: dict[str, Any] = {}
        self.finish: str | None = None

    def add(self, delta: Mapping[str, Any], finish: str | None) -> None:
        for key, value in delta.items():
            if key == "content":
                if value:
                    self.content.append(value)
            elif value is None or key == "role":
                continue
            elif key == "reasoning_content":
                self.reasoning.append(value)
            elif key == "refusal":
                self.refusal.append(value)
            elif key == "tool_calls":
                for call in value:
                    self._call(call)
            else:
                self._other(key, value)
        if finish and self.finish is None:
            self.finish = finish

    def _call(self, call: Mapping[str, Any]) -> None:
        kept = self.tools.setdefault(call.get("index", 0), {"function": {"name": "", "arguments": ""}})
        function = call.get("function") or {}
        kept["function"]["name"] = kept["function"]["name"] or function.get("name") or ""
        kept["function"]["arguments"] += function.get("arguments") or ""
        for key, value in call.items():
            if key not in ("index", "function") and value is not None:
                kept.setdefault(key, value)

    def _other(self, key: str, value: Any) -> None:
        """Fields that only some providers send: text and lists grow, anything else is replaced."""
        before = self.extra.get(key)
        if (isinstance(before, str) and isinstance(value, str)) or (
            isinstance(before, list) and isinstance(value, list)
        ):
            self.extra[key] = before + value  # type: ignore[operator]  # both are of one kind
        else:
            self.extra[key] = value

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content) if self.content else None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.tools:
            message["tool_calls"] = [call for _, call in sorted(self.tools.items())]
        message.update(self.extra)
        return message


class EncodingRelay:
    """A `wire.Relay` over any decoder: every chunk is encoded as it comes, except the very last, which is held."""

    __slots__ = ("_decoder", "_fold", "_shown", "last")

    def __init__(self, decoder: Decoder, shown: list[Chunk]) -> None:
        self._decoder = decoder
        self._fold = MessageFold()
        self._shown = shown
        self.last: Chunk | None = None

    @property
    def done(self) -> bool:
        """The end marker was seen."""
        return self._decoder.done

    @property
    def failure(self) -> Failure | None:
        """Why the stream broke."""
        return self._decoder.failure

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        return self._decoder.progress

    def feed(self, data: bytes) -> bytes:
        """Events completed by these provider bytes."""
        return self._write(self._decoder.feed(data), self._decoder.done)

    def close(self) -> bytes:
        """What was still held back at the end of the provider's stream."""
        return self._write(self._decoder.close(), True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        fold = self._fold
        for chunk in self._shown:
            fold.add(chunk)
        self._shown = []
        return fold.message()

    def _write(self, chunks: list[Chunk], final: bool) -> bytes:
        self._shown += chunks
        if final and chunks and self._decoder.failure is None:
            self.last = chunks[-1]
            chunks = chunks[:-1]
        return sse_chunks(chunks) if chunks else b""

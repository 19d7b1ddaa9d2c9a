"""The event stream of the OpenAI family -> chunks with the grammar of `core.wire.Decoder`.

What a clean content event looks like is decided first and such an event passes as it was decoded; everything else
takes the long way. Tool fragments stand in `openai_tools`, the engine's byte relay in `openai_relay`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..core.chunks import is_content
from ..core.failure import transport_failure
from ..core.jsonio import BadJson, decode, encode
from ..core.sse import Event, SseParser, parse_block
from ..core.surcharges import with_tier
from ..core.usage import normalise_openai
from ..core.wire import Call, Chunk, Failure, Target
from .answers import uncut
from .openai_content import ThinkSplitter, arguments_text, finish_word, logprobs, split_parts
from .openai_errors import choice_error, found_error, request_id
from .openai_quirks import DEFAULT, Quirks, thinks_in_text
from .openai_tools import ToolCalls

_decode = msgspec.json.Decoder().decode
_KIND = "chat.completion.chunk"
_CHOICE_FIELDS = frozenset({"index", "delta", "finish_reason", "message", "text", "error", "usage"})


def _text_and_reasoning(delta: dict[str, Any]) -> Any:
    """What a delta of these two fields and no other says; None for any other delta."""
    if len(delta) != 2 or "reasoning_content" not in delta:
        return None
    text, reasoning = delta["content"], delta["reasoning_content"]
    return (text if reasoning is None else reasoning if text is None else None) or None


class _Choice:
    """What is known of one choice so far."""

    __slots__ = ("extra", "finish", "opened", "think", "tools")

    def __init__(self, fallback_id: str, thinks: bool) -> None:
        self.opened = False
        self.finish: str | None = None
        self.tools = ToolCalls(fallback_id)
        self.think = ThinkSplitter() if thinks else None
        self.extra: dict[str, Any] = {}  # fields beside the finish, for the last chunk


class OpenAIDecoder:
    """One stream. `feed` bytes, then `close` at the end of file.

    `id`: what every chunk carries. `plain`: a clean content event of choice 0 may pass unchanged. `pending`: whole
    events that `begin` left for a relay.
    """

    __slots__ = (
        "_call", "_choices", "_created", "_headers", "_last_response", "_model", "_quirks", "_tail",
        "_thinks", "_tier", "_usage",
        "done", "failure", "id", "parser", "pending", "plain", "progress",
    )  # fmt: skip

    def __init__(self, call: Call, target: Target, headers: Mapping[str, str]) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0
        self.parser = SseParser()
        self.pending = b""
        self._call = call
        self._created = call.created
        self._headers = headers
        self._model = target.model
        self._quirks: Quirks = target.quirks or DEFAULT
        self._thinks = thinks_in_text(self._quirks, target.model)
        self.id = ""
        self._choices: dict[int, _Choice] = {}
        self._usage: Any = None
        self._tier: Any = None
        self._tail: dict[str, Any] = {}
        self.plain = False  # clean events may pass: the role of choice 0 was sent
        self._last_response = False

    @property
    def over(self) -> bool:
        """Nothing more is to be read: the end marker was seen, or the stream broke."""
        return self.done or self.failure is not None

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`."""
        if self.done or self.failure is not None:
            return []
        out: list[Chunk] = []
        block = self.parser.split(data)
        if block:
            for raw in block.split(b"\n\n"):
                if self.take(raw, out):
                    break
        if self.parser.overflow and self.failure is None:
            self.failure = Failure("event_limit", "an event of the stream is larger than 16 MiB", code="event_limit")
        return out

    def begin(self, data: bytes) -> list[Chunk]:
        """As `feed`, up to the first content: what came with it is left for the relay, which is cheaper."""
        if self.done or self.failure is not None:
            return []
        out: list[Chunk] = []
        block = self.parser.split(data)
        at = 0
        while at < len(block) and not self.progress:
            end = block.find(b"\n\n", at)
            end = len(block) if end < 0 else end
            if self.take(block[at:end], out):
                return out
            at = end + 2
        self.pending = block[at:]
        if self.parser.overflow and self.failure is None:
            self.failure = Failure("event_limit", "an event of the stream is larger than 16 MiB", code="event_limit")
        return out

    def close(self) -> list[Chunk]:
        """End of file."""
        out: list[Chunk] = []
        if self.done or self.failure is not None:
            return out
        if any(self._event(event, out) for event in uncut(self.parser.close())):
            return out
        self.end(out)
        return out

    def take(self, raw: bytes, out: list[Chunk]) -> bool:
        """One event as its lines came, without the blank line; True when the stream is over, one way or the other."""
        if not raw.startswith(b"data: {") or raw.find(b"\n") >= 0:
            return any(self._event(event, out) for event in parse_block(raw))
        try:
            chunk = _decode(raw[6:])
        except (ValueError, RecursionError):
            return self._event(Event(b"", raw[6:]), out)
        if self.plain:
            try:
                choices = chunk["choices"]
                choice = choices[0]
                delta = choice["delta"]
                content = delta["content"]
                if len(delta) != 1:
                    content = _text_and_reasoning(delta)
                if (
                    type(content) is str
                    and len(choices) == 1
                    and choice["index"] == 0
                    and choice["finish_reason"] is None
                    and chunk["id"] == self.id
                    and chunk["object"] == _KIND
                    and type(chunk["created"]) is int
                    and chunk.get("usage") is None
                    and "error" not in chunk
                    and "error" not in choice
                    and (choice.get("logprobs") is None or "content" in choice["logprobs"])
                ):
                    # one piece of text or reasoning of choice 0 and nothing else: it passes as it was decoded
                    out.append(chunk)
                    if content:
                        self.progress += 1
                    return False
            except (KeyError, TypeError, IndexError):
                pass
        return self._object(b"", chunk, out)

    def _event(self, event: Event, out: list[Chunk]) -> bool:
        """The long way, for any event."""
        name, data = event
        try:
            chunk = decode(data)
        except BadJson:
            return self._no_json(data, out)
        return self._object(name, chunk, out) if type(chunk) is dict else self._bad(data)

    def _object(self, name: bytes, chunk: dict[str, Any], out: list[Chunk]) -> bool:
        failure = self._error(name, chunk)
        if failure is not None:
            if self._choices and all(state.finish for state in self._choices.values()):
                self._note(chunk)
                self.done = True  # what came after the finish no longer changes the answer
                self.end(out)
            else:
                self.failure = failure
            return True
        if not isinstance(chunk.get("choices"), list):
            if chunk.get("choices") is not None:
                return self._bad(encode(chunk))
            chunk["choices"] = []
        self._take(chunk, out)
        return self.failure is not None

    def _no_json(self, data: bytes, out: list[Chunk]) -> bool:
        text = data.strip()
        if text.startswith(b"[DONE]"):
            self.done = True
            self.end(out)
            return True
        return self._bad(data) if text else False  # a data field without data says nothing

    def _bad(self, data: bytes) -> bool:
        shown = data[:400].decode("utf-8", "replace")[:200]
        self.failure = Failure(
            "bad_event", f"an event of the stream is not a JSON object: {shown}", code="bad_event",
            request_id=request_id(self._headers),
        )  # fmt: skip
        return True

    def _error(self, name: bytes, chunk: dict[str, Any]) -> Failure | None:
        failure = found_error(chunk, self._headers)
        if failure is None and name == b"error":
            failure = found_error({"error": chunk}, self._headers)
        return failure

    def _take(self, chunk: Chunk, out: list[Chunk]) -> None:
        """Any event: what it says is noted, and what it shows goes out in OpenAI's form."""
        self._note(chunk)
        shown = []
        for raw in chunk["choices"]:
            if not isinstance(raw, dict):
                continue
            failure = choice_error(raw, self._headers)
            if failure is not None:
                self.failure = failure
                break
            entry = self._choice(raw)
            if entry is not None:
                shown.append(entry)
        if shown:
            out.append({**chunk, **self._base(), "choices": shown})
            chunk = out[-1]
            if is_content(chunk):
                self.progress += 1
        else:
            del chunk["choices"]
            self._tail.update((k, v) for k, v in chunk.items() if v is not None)
        self.plain = not self._thinks and 0 in self._choices and self._choices[0].opened

    def _note(self, chunk: Chunk) -> None:
        """Fields of the whole chunk: one id, one kind, whole seconds; usage is kept for the end."""
        usage = chunk.pop("usage", None)
        groq = chunk.get("x_groq")
        if usage is None and isinstance(groq, dict):
            usage = groq.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
            self._last_response = self._last_response or usage.get("is_last_response") is True
        self._tier = chunk.get("service_tier_used") or chunk.get("service_tier") or self._tier
        given, created, model = chunk.get("id"), chunk.get("created"), chunk.get("model")
        if not self.id and type(given) is str:
            self.id = given
        if isinstance(created, (int, float)) and 0 < created < 1e11:
            self._created = int(created)
        if type(model) is str and model:
            self._model = model

    def _base(self) -> dict[str, Any]:
        """What every chunk says of its stream."""
        self.id = self.id or f"chatcmpl-{self._call.fallback_id}"
        return {"id": self.id, "object": _KIND, "created": self._created, "model": self._model}

    def _choice(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """One choice of an event: what it adds, or None when that is nothing."""
        index = raw.get("index")
        index = index if type(index) is int and index >= 0 else 0
        state = self._choices.get(index)
        if state is None:
            fallback_id = f"{self._call.fallback_id}_{index}" if index else self._call.fallback_id
            state = self._choices[index] = _Choice(fallback_id, self._thinks)
        delta = raw.get("delta")
        if not isinstance(delta, dict):
            message = raw.get("message")
            # a whole message where deltas were expected; after deltas it only repeats them
            delta = message if isinstance(message, dict) and not state.opened else {}
        delta = self._delta(state, delta)
        finish = raw.get("finish_reason")
        extra = {k: v for k, v in raw.items() if k not in _CHOICE_FIELDS}
        if extra.get("logprobs") is not None:
            extra["logprobs"] = logprobs(extra["logprobs"], delta.get("content") or "")
        if isinstance(finish, str) and finish and state.finish is None:
            self.progress += 1
            state.finish = finish
        if not delta and (state.finish is not None or not any(v is not None for v in extra.values())):
            state.extra.update(extra)
            return None
        if not state.opened:
            state.opened = True
            delta = {"role": "assistant", **delta}
        return {"index": index, "delta": delta, "finish_reason": None, **extra}

    def _delta(self, state: _Choice, raw: dict[str, Any]) -> dict[str, Any]:
        """A delta in OpenAI's form; empty when it adds nothing."""
        delta: dict[str, Any] = {}
        for name, value in raw.items():
            if value is None:
                continue
            if name == "content":
                self._text(state, value, delta)
            elif name == "reasoning":
                if isinstance(value, str) and value and not raw.get("reasoning_content"):
                    delta["reasoning_content"] = value
            elif name == "tool_calls":
                calls = state.tools.feed(value) if isinstance(value, list) else []
                if calls:
                    delta["tool_calls"] = calls
            elif name == "role":
                if not state.opened:
                    delta["role"] = "assistant"
            elif name not in ("reasoning_content", "refusal") or (isinstance(value, str) and value):
                delta[name] = value
        return delta

    def _text(self, state: _Choice, value: Any, delta: dict[str, Any]) -> None:
        if isinstance(value, list):
            value, reasoning, rest = split_parts(value)
            if reasoning:
                delta["reasoning_content"] = reasoning
            if rest:
                delta["references"] = rest
        elif not isinstance(value, str):
            value = arguments_text(value)
        if state.think is not None and value:
            reasoning, value = state.think.feed(value)
            if reasoning:
                delta["reasoning_content"] = delta.get("reasoning_content", "") + reasoning
        if value or not state.opened:
            delta["content"] = value

    def end(self, out: list[Chunk]) -> None:
        """The end marker or the end of file: the held-back rest, or a failure."""
        states = self._choices
        if self._last_response:  # one server marks its last event in the usage and may leave the finish out
            for state in states.values():
                state.finish = state.finish or "stop"
        if not self.progress and not any(s.finish for s in states.values()):
            message = "the stream ended without any content"
            self.failure = transport_failure("empty_stream", message, code="empty_stream")
        elif not all(s.finish for s in states.values()):
            message = "the stream ended without a finish reason: the answer is cut"
            self.failure = transport_failure("stream_truncated", message, code="stream_truncated")
        if self.failure is not None:
            self.failure.request_id = request_id(self._headers)
            return
        rest = [entry for index, state in sorted(states.items()) if (entry := self._rest(index, state)) is not None]
        base = {**self._tail, **self._base()}
        if rest:
            out.append({**base, "choices": rest})
            self.progress += 1
        last: Chunk = {**base, "choices": [self._finish(i, s) for i, s in sorted(states.items())]}
        usage = with_tier(normalise_openai(self._usage, fold_reasoning=self._quirks.reasoning_outside), self._tier)
        if usage is not None:
            last["usage"] = usage
        out.append(last)

    def _rest(self, index: int, state: _Choice) -> dict[str, Any] | None:
        """What a choice held back: half a tag, arguments that never came."""
        delta: dict[str, Any] = {}
        if state.think is not None:
            reasoning, text = state.think.close()
            if reasoning:
                delta["reasoning_content"] = reasoning
            if text:
                delta["content"] = text
        calls = state.tools.end()
        if calls:
            delta["tool_calls"] = calls
        return {"index": index, "delta": delta, "finish_reason": None} if delta else None

    def _finish(self, index: int, state: _Choice) -> dict[str, Any]:
        delta = {} if state.opened else {"role": "assistant", "content": ""}
        finish = finish_word(state.finish, bool(state.tools))
        return {"index": index, "delta": delta, "finish_reason": finish, **state.extra}

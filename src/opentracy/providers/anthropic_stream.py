"""Anthropic's named stream events as OpenAI chunks, and as OpenAI's bytes for the engine.

Grammar: message_start, then per content block start / deltas / stop, then message_delta (stop reason, usage) and
message_stop. Pings and unknown events may come anywhere. Source: PROTOCOLS section 3.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..core import jsonio
from ..core.chunks import ChunkWriter
from ..core.sse import SseParser, parse_block
from ..core.wire import Call, Chunk, Failure, Target
from .answers import bad_event, ended_early, event_limit, uncut
from .anthropic_blocks import FIELD, RawBlocks, may_work_on_server
from .anthropic_response import (
    READ,
    arguments_text,
    call_id,
    error_object,
    finish_reason,
    kept_thought,
    stop_facts,
    url_citations,
    usage_of,
)
from .anthropic_tools import ANSWER_TOOL, uses_answer_tool
from .fields import objects


class Delta(msgspec.Struct):
    """`delta` of a content_block_delta or a message_delta."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    citation: Any = None
    content: Any = None
    encrypted_content: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None


class StreamEvent(msgspec.Struct):
    """Any event of the stream; fields of the other kinds keep their defaults."""

    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_NOT_BESIDES = READ | {"delta"}
_events = msgspec.json.Decoder(StreamEvent)
_string = msgspec.json.Decoder(str)

# One event that is nothing but text, whole, as the API writes it. The quantifiers never give back, so what does not fit
# is known in one pass. The text is a JSON string without escaped code units, which may be halves of a pair.
TEXT_EVENT = re.compile(
    rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta", ?"index": ?(\d+), ?'
    rb'"delta": ?\{"type": ?"text_delta", ?"text": ?("(?:[^"\\\x00-\x1f\x7f]++|\\["\\/bfnrt])++")\} *+\} *+(?:\n\n)?'
).fullmatch


def _read(data: bytes) -> StreamEvent | None:
    """The event, or None when it is not JSON. A field of an unexpected type reads as absent."""
    try:
        return _events.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        raw = jsonio.decode(data)
    except jsonio.BadJson:
        return None
    if not isinstance(raw, dict):
        return None
    event = StreamEvent(error=raw.get("error"))
    _copy(event, raw, type=str, index=int, content_block=dict, message=dict, usage=dict)
    if isinstance(raw.get("delta"), dict):
        event.delta = Delta(citation=raw["delta"].get("citation"), stop_details=raw["delta"].get("stop_details"))
        event.delta.content = raw["delta"].get("content")
        event.delta.encrypted_content = raw["delta"].get("encrypted_content")
        _copy(event.delta, raw["delta"], type=str, text=str, partial_json=str, thinking=str, signature=str)
        _copy(event.delta, raw["delta"], stop_reason=str, stop_sequence=str)
    return event


def _copy(struct: msgspec.Struct, raw: dict[str, Any], **fields: type) -> None:
    for name, kind in fields.items():
        if isinstance(raw.get(name), kind):
            setattr(struct, name, raw[name])


class _Block:
    """One open content block."""

    __slots__ = ("arguments", "call", "citations", "input", "kind", "place", "raw", "signature", "start", "thinking")

    def __init__(self, kind: str, raw: dict[str, Any], start: int, place: int) -> None:
        self.kind = kind
        self.raw = raw
        self.start = start  # characters of content before it
        self.place = place  # calls before it
        self.call = -1  # index of its tool call
        self.input: Any = raw.get("input")
        self.arguments = False  # a fragment of arguments came
        self.thinking: list[str] = []
        self.signature: list[str] = []
        self.citations: list[Any] = []


class AnthropicDecoder:
    """wire.Decoder of one Anthropic stream."""

    def __init__(self, call: Call, target: Target, request_id: str | None) -> None:
        self.sse = SseParser()
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0
        self.writer = ChunkWriter(f"msg_{call.fallback_id}", call.created, target.model)
        self.request_id = request_id
        self.length = 0  # characters of content so far
        self._answer_tool = ANSWER_TOOL if uses_answer_tool(call, target.model) else None
        self._blocks: dict[int, _Block] = {}
        self._raw = RawBlocks() if may_work_on_server(call.params) else None
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._begun: dict[str, Any] = {}  # the message as the stream's first event has it
        self._stop_facts: dict[str, Any] = {}
        self._fallback_id = call.fallback_id
        self._ids: set[str] = set()

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`."""
        if self.over():
            return []
        if not self.sse.idle or not data.endswith(b"\n\n") or not self._is_text(data):
            block = self.sse.split(data)
            for raw in block.split(b"\n\n") if block else ():
                if not self._is_text(raw):
                    for event in parse_block(raw):
                        self.event(event.data)
                if self.over():
                    break
        if self.sse.overflow and not self.over():
            self.failure = event_limit()
        return self.writer.take()

    def over(self) -> bool:
        """Nothing more is to be read: the answer ended, or broke."""
        return self.done or self.failure is not None

    def close(self) -> list[Chunk]:
        """End of file. A stop reason without message_stop is a complete answer; anything less is not."""
        for event in uncut(self.sse.close()):
            if not self.done and self.failure is None:
                self.event(event.data)
        if not self.done and self.failure is None:
            self.end()
        return self.writer.take()

    def _is_text(self, raw: bytes) -> bool:
        """Takes an event that is nothing but text, by far the commonest kind; False leaves it to the general way."""
        found = TEXT_EVENT(raw)
        if found is None or not self.plain_text(int(found[1])):
            return False
        try:
            text = _string.decode(found[2])
        except (msgspec.DecodeError, ValueError):
            return False
        self._text(text)
        return True

    def event(self, data: bytes) -> None:
        """Takes one event's data; chunks go to the writer."""
        event = _read(data)
        if event is None:
            if data.strip() == b"[DONE]":  # some proxies add it
                self.end()
            elif data.strip():
                self.failure = bad_event(data)
        else:
            self.handle(event, data)

    def handle(self, event: StreamEvent, data: bytes) -> None:
        """Takes one event; `data` are its bytes."""
        kind = event.type
        if kind == "content_block_delta":
            if event.delta is not None:
                self._delta(event.index, event.delta)
        elif kind == "content_block_start":
            self._start(event.index, event.content_block or {})
        elif kind == "content_block_stop":
            self._stop_block(event.index)
        elif kind == "message_start":
            self._open(event.message or {})
        elif kind == "message_delta":
            self._message_delta(event, data)
        elif kind == "message_stop":
            self._end_as(self._begun)
            self.end()
        elif kind == "error" or (not kind and event.error is not None):
            self.failure = error_object(jsonio.decode(data), self.request_id)

    def plain_text(self, index: int) -> bool:
        """Whether the block of this index is text that needs nothing but to be shown."""
        if self._raw is not None:
            return False
        block = self._blocks.get(index)
        return block is not None and block.kind == "text"

    def _open(self, message: dict[str, Any]) -> None:
        self.writer.named(message.get("id"), message.get("model"))
        if isinstance(message.get("usage"), dict):
            self._usage.update(message["usage"])
        self._besides(message)
        if not self._begun:
            self._begun = message
            blocks = objects(message.get("content"))
            for index, raw in enumerate(blocks, -len(blocks)):  # what came about before the stream began comes whole
                self._start(index, raw)
                self._stop_block(index)

    def _besides(self, told: Any) -> None:
        """Fields of the whole message that mean nothing here go out with the last chunk."""
        if isinstance(told, dict):
            self.writer.extra.update({k: v for k, v in told.items() if k not in _NOT_BESIDES and v is not None})

    def _start(self, index: int, raw: dict[str, Any]) -> None:
        kind = str(raw.get("type") or "")
        block = _Block(kind, raw, self.length, self.writer.tool_count)
        if self._raw is not None:
            self._raw.start(index, raw)
        self._blocks[index] = block
        if kind == "tool_use":
            self.progress += 1
            if raw.get("name") == self._answer_tool:
                block.kind = "answer"
            else:
                name = raw.get("name") if isinstance(raw.get("name"), str) else ""
                block.call = self.writer.tool_start(call_id(raw.get("id"), self._ids, self._fallback_id), name or "")
        elif kind == "text":
            self._text(raw.get("text"))
            if isinstance(raw.get("citations"), list):
                block.citations += raw["citations"]
        elif kind == "thinking":
            self._think(block, raw.get("thinking"))
            if isinstance(raw.get("signature"), str):
                block.signature.append(raw["signature"])

    def _delta(self, index: int, delta: Delta) -> None:
        if self._raw is not None:
            self._raw.delta(index, delta)
        block = self._blocks.get(index)
        if block is None:
            # a start event is missing: what the delta says is still the answer
            block = self._blocks[index] = _Block("text" if delta.type == "text_delta" else "", {}, self.length, 0)
        if delta.type == "text_delta":
            self._text(delta.text)
        elif delta.type == "input_json_delta":
            self._arguments(block, delta.partial_json)
        elif delta.type == "thinking_delta":
            self._think(block, delta.thinking)
        elif delta.type == "signature_delta":
            block.signature.append(delta.signature)
        elif delta.type == "citations_delta" and delta.citation is not None:
            block.citations.append(delta.citation)

    def _text(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.progress += 1
            self.length += len(text)
            self.writer.text(text)

    def _think(self, block: _Block, text: Any) -> None:
        if isinstance(text, str) and text:
            self.progress += 1
            block.thinking.append(text)
            self.writer.reasoning(text)

    def _arguments(self, block: _Block, fragment: str) -> None:
        if not fragment:
            return
        block.arguments = True
        if block.kind == "answer":
            self._text(fragment)
        elif block.call >= 0:
            self.progress += 1
            self.writer.tool_arguments(block.call, fragment)

    def _stop_block(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if not block.arguments:  # a call without arguments sends no fragment; some servers send the input at the start
            if block.call >= 0:
                self.writer.tool_arguments(block.call, arguments_text(block.input))
            elif block.kind == "answer":
                self._text(arguments_text(block.input))
        if block.kind in ("thinking", "redacted_thinking"):
            self._keep_thought(block)
        elif block.citations:
            delta: dict[str, Any] = {"citations": block.citations}
            annotations = url_citations(block.citations, block.start, self.length)
            self.writer.delta({"annotations": annotations, **delta} if annotations else delta)

    def _keep_thought(self, block: _Block) -> None:
        raw = dict(block.raw)
        if block.kind == "thinking":
            raw["thinking"] = "".join(block.thinking)
            raw["signature"] = "".join(block.signature) or None
        self.writer.delta({"thinking_blocks": [kept_thought(raw, block.start, block.place)]})

    def _message_delta(self, event: StreamEvent, data: bytes) -> None:
        told = jsonio.decode(data)
        self._besides(told)
        self._besides(told.get("delta"))
        if event.usage is not None:
            # cumulative: what is repeated here replaces what message_start said
            self._usage.update({k: v for k, v in event.usage.items() if v is not None})
        delta = event.delta
        if delta is None:
            return
        self._end_as(msgspec.structs.asdict(delta))
        if isinstance(delta.stop_details, dict) and isinstance(delta.stop_details.get("explanation"), str):
            self.writer.delta({"refusal": delta.stop_details["explanation"]})

    def _end_as(self, told: dict[str, Any]) -> None:
        """The reason why the answer ended, told by an event; the first one counts."""
        reason = told.get("stop_reason")
        if isinstance(reason, str) and reason and self._stop is None:
            self._stop = reason
            self._stop_facts = stop_facts(reason, told.get("stop_sequence"), told.get("stop_details"))
            self.progress += 1

    def end(self) -> None:
        """The end marker or the end of file: the last chunk, or the failure of a stream that stopped too early."""
        if self._stop is None:
            self.failure = ended_early(self.progress)
            return
        for index in list(self._blocks):
            self._stop_block(index)
        self.done = True
        writer = self.writer
        if not self.length and not writer.tool_count:
            writer.delta({"content": ""})  # an empty answer is no text, not null
        if self._raw is not None and (blocks := self._raw.whole()) is not None:
            writer.delta({FIELD: blocks})
        writer.finish_reason = finish_reason(self._stop, writer.tool_count)
        writer.usage = usage_of(self._usage)
        writer.end()
        writer.out[-1]["choices"][0].update(self._stop_facts)

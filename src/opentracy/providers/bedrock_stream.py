"""ConverseStream -> OpenAI chunks.

Frames: messageStart, then blocks (start only for calls, deltas, stop), messageStop with the stop reason, and at last
metadata with the usage. A stream that ends before messageStop was cut; exceptions come as frames of their own.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.chunks import ChunkWriter
from ..core.eventstream import EventStreamParser, Message
from ..core.failure import transport_failure
from ..core.wire import Chunk, Failure
from . import bedrock_answer as answer
from .answers import bad_event, ended_early


class _Block:
    """A content block that is under way."""

    __slots__ = (
        "after", "answers", "call", "citations", "empty", "format", "ignored", "redacted", "signature", "thought",
    )  # fmt: skip

    def __init__(self) -> None:
        self.call: int | None = None  # number of the tool call
        self.answers = False  # the call whose input is the answer itself
        self.ignored = False  # what a server's own tool does is not the caller's
        self.empty = True  # no arguments so far
        self.thought: list[str] = []
        self.signature = ""
        self.redacted = ""
        self.after = (0, 0)  # characters and calls before it
        self.citations: list[dict[str, Any]] = []
        self.format = ""  # of a picture


class ConverseDecoder:
    """One answer of converse-stream; see `core.wire.Decoder`.

    `answer_tool` names the tool whose input is shown as text.
    """

    __slots__ = (
        "_answer_tool", "_blocks", "_frames", "_ids", "_request_id", "_stopped", "_text", "_writer", "done", "failure",
        "progress",
    )  # fmt: skip

    def __init__(
        self, id: str, created: int, model: str, *, request_id: str | None = None, answer_tool: str | None = None
    ) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0
        self._answer_tool = answer_tool
        self._blocks: dict[Any, _Block] = {}
        self._frames = EventStreamParser()
        self._ids: set[str] = set()
        self._request_id = request_id
        self._stopped = False
        self._text = 0  # characters shown
        self._writer = ChunkWriter(id, created, model)

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`."""
        if self.done or self.failure is not None:
            return []
        for message in self._frames.feed(data):
            if self._message(message):
                return self._writer.take()
        if self._frames.error is not None:
            words = f"damaged event stream: {self._frames.error}"
            self.failure = transport_failure("bad_event", words, code="bad_event")
            self.failure.retryable = True  # nothing is wrong with the request; after content nobody retries anyway
        return self._writer.take()

    def close(self) -> list[Chunk]:
        """End of file: complete once messageStop came, though usage may be missing then."""
        if not self.done and self.failure is None:
            if self._stopped:
                self._finish()
            else:
                self.failure = ended_early(self.progress)
        return self._writer.take()

    def _message(self, message: Message) -> bool:
        """Takes in one frame; whether it was the last that counts."""
        self._read(message)
        return self.done or self.failure is not None

    def _read(self, message: Message) -> None:
        headers = message.headers
        kind = headers.get(":message-type", "event")
        if kind == "error":
            words = {"message": headers.get(":error-message") or headers.get(":error-code") or "unnamed error"}
            self.failure = answer.exception(headers.get(":error-code", ""), words, self._request_id)
            return
        try:
            value = jsonio.decode(message.payload) if message.payload else {}
        except jsonio.BadJson:
            self.failure = bad_event(message.payload)
            return
        if kind == "exception":
            self.failure = answer.exception(headers.get(":exception-type", ""), value, self._request_id)
        elif kind == "event":
            if isinstance(value, dict):
                self._event(headers.get(":event-type", ""), value)
            else:
                self.failure = bad_event(message.payload)

    def _event(self, kind: str, event: dict[str, Any]) -> None:
        found = event.get("contentBlockIndex")
        index = found if isinstance(found, int) else None
        if kind == "contentBlockDelta":
            delta = event.get("delta")
            if isinstance(delta, dict):
                self._delta(index, delta)
        elif kind == "contentBlockStart":
            start = event.get("start")
            if isinstance(start, dict):
                self._start(index, start)
        elif kind == "contentBlockStop":
            self._stop(self._blocks.pop(index, None))
        elif kind == "messageStart":
            self._writer.role()
        elif kind == "messageStop":
            self._message_stop(event)
        elif kind == "metadata":
            self._writer.usage = answer.usage(event.get("usage"), event) or self._writer.usage
            self._writer.extra.update(answer.besides(event))
            if self._stopped:
                self._finish()

    def _delta(self, index: Any, delta: dict[str, Any]) -> None:
        block = self._blocks.get(index) or self._open(index)
        text = delta.get("text")
        if isinstance(text, str):
            self._show(text)
        elif isinstance(use := delta.get("toolUse"), dict):
            self._input(block, use.get("input"))
        elif isinstance(reasoning := delta.get("reasoningContent"), dict):
            self._reasoning(block, reasoning)
        elif isinstance(citation := delta.get("citation"), dict):
            block.citations.append(citation)
            self._writer.delta({"citations": [citation]})
        elif isinstance(image := delta.get("image"), dict):
            self._picture(block, image)

    def _picture(self, block: _Block, image: dict[str, Any]) -> None:
        made = answer.media("image", {"format": block.format, **image})
        if made is not None:
            self.progress += 1
            self._writer.delta(made)

    def _open(self, index: Any) -> _Block:
        block = self._blocks[index] = _Block()
        block.after = (self._text, self._writer.tool_count)
        return block

    def _show(self, text: str) -> None:
        if text:
            self.progress += 1
            self._text += len(text)
            self._writer.text(text)

    def _input(self, block: _Block, fragment: Any) -> None:
        if isinstance(fragment, (dict, list)):
            fragment = jsonio.encode(fragment).decode()
        if not isinstance(fragment, str) or not fragment or block.ignored:
            return
        block.empty = False
        if block.answers:
            self._show(fragment)
        elif block.call is not None:
            self.progress += 1
            self._writer.tool_arguments(block.call, fragment)

    def _reasoning(self, block: _Block, raw: dict[str, Any]) -> None:
        text = raw.get("text")
        if isinstance(text, str) and text:
            self.progress += 1
            block.thought.append(text)
            self._writer.reasoning(text)
        if isinstance(raw.get("signature"), str):
            block.signature += raw["signature"]
        if isinstance(raw.get("redactedContent"), str):
            block.redacted += raw["redactedContent"]

    def _start(self, index: Any, start: dict[str, Any]) -> None:
        block = self._open(index)
        use = start.get("toolUse")
        if isinstance(image := start.get("image"), dict):
            block.format = str(image.get("format") or "")
        if not isinstance(use, dict) or use.get("type") == "server_tool_use":
            block.ignored = True
            return
        self.progress += 1
        name = str(use.get("name") or "")
        if name == self._answer_tool:
            block.answers = True
            return
        id = answer.call_id(use.get("toolUseId"), self._writer.id, self._writer.tool_count, self._ids)
        block.call = self._writer.tool_start(id, name)

    def _stop(self, block: _Block | None) -> None:
        """Closes a block: a call without input has `{}`, a signed thought is given out whole."""
        if block is None:
            return
        if block.call is not None and block.empty:
            self._writer.tool_arguments(block.call, "{}")
        if pages := answer.web_pages(block.citations, block.after[0], self._text):
            self._writer.delta({"annotations": pages})
        kept = answer.kept_thought("".join(block.thought), block.signature, block.redacted)
        if kept is not None:
            if any(block.after):
                kept["after"] = list(block.after)
            self._writer.delta({"thinking_blocks": [kept]})

    def _message_stop(self, event: dict[str, Any]) -> None:
        if self._stopped:
            return  # the first one counts
        for block in self._blocks.values():
            self._stop(block)
        self._blocks.clear()
        raw = event.get("stopReason")
        self.failure = answer.broken_stop(raw, event, self._request_id)
        if self.failure is None:
            self._stopped = True
            self.progress += 1
            self._writer.finish_reason = answer.finish_reason(raw, self._writer.tool_count > 0)
            self._writer.extra.update(answer.besides(event))

    def _finish(self) -> None:
        self.done = True
        self._writer.end()

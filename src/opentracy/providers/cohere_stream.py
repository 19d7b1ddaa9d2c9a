"""Cohere's event stream -> OpenAI chunks.

Typed events: message-start, then blocks (content-, tool-plan-, tool-call-, citation-), then message-end, which is the
end marker; the `[DONE]` that mostly follows says nothing more, and a stream without message-end was cut.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.chunks import ChunkWriter
from ..core.sse import Event, SseParser
from ..core.wire import Chunk, Failure
from . import cohere_answer as answer
from .answers import bad_event, ended_early, event_limit, uncut


class _Arguments:
    """A call's argument text on its way: `null` and nothing at all become `{}`, which needs a look at its beginning."""

    __slots__ = ("held", "index", "open")

    def __init__(self, index: int) -> None:
        self.index = index
        self.held = ""
        self.open = True  # nothing but a beginning of "null" so far

    def add(self, fragment: str) -> str:
        """What may be shown after this fragment."""
        if not self.open:
            return fragment
        self.held += fragment
        if "null".startswith(self.held.strip()):
            return ""
        self.open = False
        return self.held

    def end(self) -> str:
        """What is still to be shown when the call is complete."""
        if not self.open:
            return ""
        self.open = False
        return self.held if self.held.strip() not in ("", "null") else "{}"


class CohereDecoder:
    """One answer of /v2/chat with stream on; see `core.wire.Decoder`."""

    __slots__ = ("_calls", "_ids", "_logprobs", "_request_id", "_sse", "_writer", "done", "failure", "progress")

    def __init__(self, id: str, created: int, model: str, request_id: str | None = None) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0
        self._writer = ChunkWriter(id, created, model)
        self._sse = SseParser()
        self._calls: dict[Any, _Arguments] = {}
        self._ids: set[str] = set()
        self._logprobs: list[Any] = []
        self._request_id = request_id

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`."""
        self._events(self._sse.feed(data))
        if self._sse.overflow and not self.done and self.failure is None:
            self.failure = event_limit()
        return self._writer.take()

    def close(self) -> list[Chunk]:
        """End of file: complete only when message-end came."""
        self._events(uncut(self._sse.close()))
        if not self.done and self.failure is None:
            self.failure = ended_early(self.progress)
        return self._writer.take()

    def _events(self, events: list[Event]) -> None:
        for event in events:
            if self.done or self.failure is not None:
                return
            if event.data == b"[DONE]":
                self.failure = ended_early(self.progress)
                return
            try:
                value = jsonio.decode(event.data)
            except jsonio.BadJson:
                self.failure = bad_event(event.data)
                return
            if isinstance(value, dict):
                self._event(value, event.name)
            else:
                self.failure = bad_event(event.data)

    def _event(self, event: dict[str, Any], name: bytes) -> None:
        kind = event.get("type")
        found = event.get("index")
        index = found if isinstance(found, int) else None
        delta = event.get("delta")
        message = delta.get("message") if isinstance(delta, dict) else None
        if kind == "content-delta":
            self._content(message)
            if event.get("logprobs") is not None:
                self._logprobs.append(event["logprobs"])
        elif kind == "message-end":
            self._end(delta if isinstance(delta, dict) else {}, event)
        elif kind in ("content-start", "tool-plan-delta", "tool-call-start", "tool-call-delta", "citation-start"):
            self._block(kind, message, index)
        elif kind == "tool-call-end":
            self._call_end(self._calls.get(index))
        elif kind == "message-start":
            self._writer.named(event.get("id"))
            self._writer.role()
        elif name == b"error" or kind == "error" or (kind is None and ("message" in event or "error" in event)):
            self.failure = answer.failure_in(event, self._request_id)

    def _content(self, message: Any) -> None:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, dict):
            return
        text = content.get("text")
        if isinstance(text, str) and text:
            self.progress += 1
            self._writer.text(text)
        thinking = content.get("thinking")
        if isinstance(thinking, str) and thinking:
            self.progress += 1
            self._writer.reasoning(thinking)

    def _block(self, kind: str, message: Any, index: Any) -> None:
        if not isinstance(message, dict):
            return
        if kind == "content-start":
            self._content(message)
        elif kind == "tool-plan-delta":
            if isinstance(message.get("tool_plan"), str) and message["tool_plan"]:
                self.progress += 1
                self._writer.delta({"tool_plan": message["tool_plan"]})
        elif kind == "citation-start":
            if found := message.get("citations"):
                self._writer.delta({"citations": found if isinstance(found, list) else [found]})
        else:
            calls = message.get("tool_calls")  # one object, though its name is plural
            for call in calls if isinstance(calls, list) else [calls]:
                if isinstance(call, dict):
                    self._call(kind == "tool-call-start", call, index)

    def _call(self, start: bool, call: dict[str, Any], index: Any) -> None:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        self.progress += 1
        if start:
            self._call_end(self._calls.get(index))
            number = self._writer.tool_count
            id = answer.call_id(call.get("id"), self._writer.id, number, self._ids)
            self._calls[index] = _Arguments(self._writer.tool_start(id, str(function.get("name") or "")))
        state = self._calls.get(index)
        if state is not None:
            fragment = function.get("arguments")
            if isinstance(fragment, (dict, list)):
                fragment = jsonio.encode(fragment).decode()
            self._writer.tool_arguments(state.index, state.add(fragment) if isinstance(fragment, str) else "")

    def _call_end(self, state: _Arguments | None) -> None:
        if state is not None:
            self._writer.tool_arguments(state.index, state.end())

    def _end(self, delta: dict[str, Any], event: dict[str, Any]) -> None:
        raw = delta.get("finish_reason")
        broken = answer.broken_finish(raw, delta.get("error") or event.get("error"), event, self._request_id)
        if broken is not None:
            self.failure = broken
            return
        for state in self._calls.values():
            self._call_end(state)
        self.progress += 1
        self.done = True
        self._writer.finish_reason = answer.finish_reason(raw, self._writer.tool_count > 0)
        self._writer.usage = answer.usage(delta.get("usage"))
        self._writer.end()
        if (logprobs := answer.logprobs(self._logprobs)) is not None:
            self._writer.out[-1]["choices"][0]["logprobs"] = logprobs

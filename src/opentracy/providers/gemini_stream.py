"""Gemini's stream of partial answers as OpenAI chunks.

Every event is a whole answer object with a piece of the text; there is no end marker. `finishReason` may stand on
several events and usage on most, so both are held until the end of the body. Source: PROTOCOLS section 4.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.chunks import ChunkWriter
from ..core.sse import SseParser
from ..core.wire import Call, Chunk, Failure, Target
from .answers import bad_event, ended_early, event_limit, uncut
from .fields import objects, text_or
from .gemini_errors import error_object
from .gemini_media import OTHER, Executed, Speech, media_url, says_something
from .gemini_partial import PartialCall
from .gemini_request import ANSWER_FUNCTION, uses_answer_function
from .gemini_response import (
    READ_TOP,
    annotations_of,
    blocked,
    finish_reason,
    logprobs_of,
    parts_of,
    searches_of,
    told_besides,
    tool_call,
    usage_of,
)  # fmt: skip
from .gemini_signatures import extra_content


class _Candidate:
    """One answer of the stream."""

    def __init__(self, index: int, writer: ChunkWriter, seed: str, answer: str | None) -> None:
        self.index = index
        self.writer = writer
        self.finish: str | None = None
        self.progress = 0
        self._seed = seed
        self._answer = answer
        self._taken: set[str] = set()
        self._text: list[str] = []
        self._signature: str | None = None
        self._partial: PartialCall | None = None
        self._speech, self._executed = Speech(seed), Executed()
        self.rest: dict[str, Any] = {}
        self._logprobs: list[Any] = []

    def take(self, raw: dict[str, Any]) -> None:
        """Takes this candidate's piece of one event."""
        for part in parts_of(raw):
            self._part(part)
        if isinstance(raw.get("finishReason"), str) and raw["finishReason"]:
            self.finish = raw["finishReason"]
            self.progress += 1
        probabilities = logprobs_of(raw.get("logprobsResult"))
        if probabilities is not None:
            self._logprobs += probabilities["content"]
        self.rest.update(told_besides(raw))

    def _part(self, part: dict[str, Any]) -> None:
        if isinstance(part.get("functionCall"), dict):
            self._call(part)
            return
        text = part.get("text")
        if isinstance(text, str):
            if part.get("thought") is True:
                self.writer.reasoning(text)
            else:
                self.writer.text(text)
                self._text.append(text)
            self.progress += bool(text)
        elif (image := media_url(part)) is not None:
            self.writer.delta({"images": [image]})
            self.progress += 1
            return
        elif (spoken := self._speech.add(part)) is not None:
            self.writer.delta({"audio": spoken})
            self.progress += 1
        elif not self._executed.add(part) and says_something(part):
            self.writer.delta({OTHER: [part]})
            return
        if isinstance(part.get("thoughtSignature"), str):
            self._signature = part["thoughtSignature"]

    def _call(self, part: dict[str, Any]) -> None:
        function = part["functionCall"]
        if self._partial is not None or "partialArgs" in function or function.get("willContinue"):
            self._partial = self._partial or PartialCall()
            if not self._partial.add(part):
                return
            part, self._partial = self._partial.part(), None
        call = tool_call(part, f"{self._seed}:{self.writer.tool_count}", self._taken)
        arguments = call["function"]["arguments"]
        self.progress += 1
        if call["function"]["name"] == self._answer:
            self.writer.text(arguments)
            self._text.append(arguments)
        else:
            extra = {k: v for k, v in call.items() if k not in ("id", "type", "function")}
            self.writer.tool_start(call["id"], call["function"]["name"], arguments, **extra)

    def end(self) -> Chunk:
        """Writes what was held back and the last chunk, and returns that one."""
        writer = self.writer
        if self._partial is not None:
            part, self._partial = self._partial.part(), None
            self._call(part)
        rest = self._speech.end()
        if rest is not None:
            writer.delta({"audio": rest})
        if self._executed.tools:
            writer.delta({"executed_tools": self._executed.tools})
        content = "".join(self._text)
        if not content and not writer.tool_count:
            writer.delta({"content": ""})  # an empty answer is no text, not null
        annotations = annotations_of(self.rest, content)
        if annotations:
            writer.delta({"annotations": annotations})
        if self._signature is not None:
            writer.delta({"extra_content": extra_content(self._signature)})
        writer.finish_reason = finish_reason(self.finish, writer.tool_count)
        writer.end()
        last = writer.out[-1]
        if self._logprobs:
            last["choices"][0]["logprobs"] = {"content": self._logprobs, "refusal": None}
        last["choices"][0].update(self.rest)
        return last


class GeminiDecoder:
    """wire.Decoder of one Gemini stream."""

    def __init__(self, call: Call, target: Target, tier: str | None = None) -> None:
        self._tier = tier
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0
        self._sse = SseParser()
        self._call = call
        self._answer = ANSWER_FUNCTION if uses_answer_function(call, target.model) else None
        self._id = f"chatcmpl-{call.fallback_id}"
        self._model = target.model
        self._candidates: dict[int, _Candidate] = {}
        self._usage: dict[str, Any] = {}
        self._blocked = ""  # why the prompt was refused
        self._rest: dict[str, Any] = {}

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`."""
        for event in self._sse.feed(data):
            if self.failure is not None:
                break
            self._event(event.data)
        if self._sse.overflow and self.failure is None:
            self.failure = event_limit()
        return self._take()

    def close(self) -> list[Chunk]:
        """End of file: an answer is complete when it has a finish reason."""
        for event in uncut(self._sse.close()):
            if self.failure is None:
                self._event(event.data)
        if self.failure is None and not self.done:
            self._end()
        return self._take()

    def _take(self) -> list[Chunk]:
        if len(self._candidates) == 1 and 0 in self._candidates:
            return self._candidates[0].writer.take()
        chunks: list[Chunk] = []
        for index, candidate in self._candidates.items():
            for chunk in candidate.writer.take():
                chunk["choices"][0]["index"] = index
                chunks.append(chunk)
        return chunks

    def _event(self, data: bytes) -> None:
        try:
            event = jsonio.decode(data)
        except jsonio.BadJson:
            if data.strip() not in (b"", b"[DONE]"):
                self.failure = bad_event(data)
            return
        if isinstance(event, list) and event:
            event = event[0]
        if not isinstance(event, dict):
            self.failure = bad_event(data)
        elif event.get("error"):
            self.failure = error_object(event)
        else:
            self._piece(event)

    def _piece(self, event: dict[str, Any]) -> None:
        if not self._candidates:  # one id for all chunks: that of the first event which has a candidate
            self._id = text_or(event.get("responseId"), self._id)
            self._model = text_or(event.get("modelVersion"), self._model)
        for raw in objects(event.get("candidates")):
            index = raw.get("index")
            candidate = self._candidate(index if isinstance(index, int) else 0)
            before = candidate.progress
            candidate.take(raw)
            self.progress += candidate.progress - before
        if isinstance(event.get("usageMetadata"), dict):
            # counts are cumulative, but an event may leave out those that it has nothing new to say of
            self._usage.update({k: v for k, v in event["usageMetadata"].items() if v is not None})
        self._rest.update({k: v for k, v in event.items() if k not in READ_TOP and v is not None})
        if blocked(event):
            self._blocked = blocked(event)
            self.progress += 1

    def _candidate(self, index: int) -> _Candidate:
        candidate = self._candidates.get(index)
        if candidate is None:
            writer = ChunkWriter(self._id, self._call.created, self._model)
            seed = f"{self._id}:{self._call.fallback_id}:{index}"
            candidate = self._candidates[index] = _Candidate(index, writer, seed, self._answer)
        return candidate

    def _end(self) -> None:
        if self._blocked and not any(c.finish for c in self._candidates.values()):
            self._candidate(0).take({"finishReason": "SAFETY", "native_finish_reason": self._blocked})
        if not self._candidates or any(c.finish is None for c in self._candidates.values()):
            self.failure = ended_early(self.progress)
            return
        self.done = True
        last: Chunk = {}
        for candidate in self._candidates.values():
            last = candidate.end()
        searches = sum(searches_of(candidate.rest) for candidate in self._candidates.values())
        usage = usage_of(self._usage, self._tier, searches)
        if usage is not None:
            last["usage"] = usage
        last.update(self._rest)

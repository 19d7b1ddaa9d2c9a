"""A stream of this dialect in which nothing is to be mended: role, texts, finish, usage, end marker, and no more.

It is forwarded without a decoder. At the first event that is anything else it stops and says so, and a decoder and a
relay go on from there as if they had been there from the beginning; tests hold both ways against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..core.jsonio import encode
from ..core.relay import MAX_OPENING
from ..core.sse import SseParser
from ..core.usage import PlainUsage
from ..core.wire import Call, Chunk, Target
from .insides import is_text
from .openai_relay import OpenAIRelay
from .openai_response import Tier
from .openai_run import Run
from .openai_stream import OpenAIDecoder

_Text = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[int, Meta(gt=0, lt=100_000_000_000)]
_NOT_EXTRA = frozenset({"index", "delta", "finish_reason"})
_RESPONSE = (
    b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b%b},"finish_reason":%b}],"usage":%b}'
)


class _NoText(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["assistant"] | None = None
    content: Literal[""] | None = None
    refusal: None = None
    reasoning_content: None = None
    tool_calls: None = None
    function_call: None = None


class _Begun(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _NoText
    finish_reason: None
    error: None = None


class _Ended(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _NoText
    finish_reason: Literal["stop", "length", "content_filter"]
    error: None = None
    message: None = None
    text: None = None
    usage: None = None


class _Opening(msgspec.Struct, gc=False):
    """The first event."""

    id: _Text
    object: Literal["chat.completion.chunk"]
    created: _Seconds
    model: _Text
    choices: tuple[_Begun]
    usage: None = None
    error: None = None
    x_groq: None = None
    service_tier: Tier | None = None


class _End(msgspec.Struct, gc=False):
    """The event with the finish, and the one with the usage; some send both in one."""

    id: _Text
    object: Literal["chat.completion.chunk"]
    created: _Seconds
    model: _Text
    choices: Annotated[list[_Ended], Meta(max_length=1)]
    usage: PlainUsage | None = None
    error: None = None
    x_groq: None = None
    service_tier: Tier | None = None


_opening = msgspec.json.Decoder(_Opening).decode
_end = msgspec.json.Decoder(_End).decode
_decode = msgspec.json.Decoder().decode


class CleanStream:
    """One stream, until it is done or something `odd` came: whole events that it did not take, LF only."""

    __slots__ = (
        "_ends", "_first", "_id", "_opening", "_parser", "_run", "_tail", "_usage", "done", "finish_reason", "odd",
        "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self.done = False
        self.odd = b""
        self.finish_reason: str | None = None
        self.usage: PlainUsage | None = None
        self._parser = SseParser()
        self._run = Run()
        self._id = ""
        self._first = b""
        self._opening: _Opening | None = None
        self._ends: list[bytes] = []
        self._tail: Chunk = {}
        self._usage: Any = None

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        return self._run.progress

    @property
    def model(self) -> str:
        """The model that says it answers."""
        return str(self._tail.get("model", ""))

    def open(self, data: bytes) -> bytes | None:
        """The events to send on once there is content among them; b"" while there is none; None: not a usual stream.

        `data`: all bytes of the body so far. After anything but bytes to send this value has not begun, and may be
        asked again with more.
        """
        if not data.startswith(b"data: {") or data.find(b"\r") >= 0 or len(data) > MAX_OPENING:
            return None if len(data) > 6 or not b"data: {".startswith(data) else b""
        whole = data.rfind(b"\n\n")
        if whole < 0:
            return b""
        raws = data[:whole].split(b"\n\n")
        try:
            opening = _opening(raws[0][6:])
        except (ValueError, RecursionError):
            return None
        if opening.choices[0].delta.role is None or raws[0].find(b"\n") >= 0 or not is_text(raws[0]):
            return None
        run = Run()
        clean = run.clean(raws, 1, opening.id)
        if not run.progress:
            return b"" if clean == len(raws) else None
        self._first, self._opening, self._id, self._run = raws[0], opening, opening.id, run
        self._parser.split(data)
        return b"\n\n".join((*raws[:clean], b"")) + self._ends_of(raws, clean)

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """The events to send on of these provider bytes. Look at `odd` and `done` afterwards.

        `cut`: the same in pieces; most servers send each event as one.
        """
        if self._parser.idle and (self._run.each(data, cut) if len(cut) > 1 else self._run.single(data)):
            return data
        block = self._parser.split(data)
        if not block:
            if self._parser.overflow:
                self.odd = b": "  # no event: all there is to say is that one grew too large
            return b""
        run = self._run
        end = run.leading(block)
        if end == len(block):
            return block + b"\n\n"
        if end:
            return block[: end + 2] + self._events(block[end + 2 :])
        return self._events(block)

    def _events(self, block: bytes) -> bytes:
        raws = block.split(b"\n\n")
        clean = self._run.clean(raws, 0, self._id)
        sent = b"\n\n".join((*raws[:clean], b"")) if clean else b""
        return sent if clean == len(raws) else sent + self._ends_of(raws, clean)

    def _ends_of(self, raws: list[bytes], at: int) -> bytes:
        """The rest of a block: the end of the stream, after which nothing is read, or something odd."""
        for position in range(at, len(raws)):
            raw = raws[position]
            if raw == b"data: [DONE]" and self.finish_reason is not None and self.usage is not None:
                self.done = True
                break
            if not self._noted(raw):
                self.odd = b"\n\n".join(raws[position:])
                break
        return b""

    def _noted(self, raw: bytes) -> bool:
        """Whether an event is one of the two at the end."""
        if not raw.startswith(b"data: {") or raw.find(b"\n") >= 0:
            return False
        try:
            event = _end(raw[6:])
            chunk = _decode(raw[6:])  # looks at what the other one passes over, too
        except (ValueError, RecursionError):
            return False
        if event.id != self._id or (event.usage is not None and not event.usage.adds_up):
            return False
        if event.choices:
            if self.finish_reason is not None:
                return False
            self.finish_reason = event.choices[0].finish_reason
        elif event.usage is None or self.finish_reason is None:
            return False
        if event.usage is not None:
            self.usage = event.usage
        choices = chunk.pop("choices")
        self._usage = chunk.pop("usage", None) or self._usage
        if choices:
            extra = {k: v for k, v in choices[0].items() if k not in _NOT_EXTRA}
            self._tail["choices"] = [{"index": 0, "delta": {}, "finish_reason": self.finish_reason, **extra}]
        self._tail.update((k, v) for k, v in chunk.items() if v is not None)
        self._ends.append(raw)
        return True

    def close(self) -> bytes:
        """Nothing is held back, and a stream without its end marker is not clean."""
        return b""

    def last(self) -> Chunk:
        """Finish and usage together, once `done`."""
        return {**self._tail, "usage": self._usage}

    def response(self) -> bytes:
        """The `chat.completion` that the stream, once `done`, would have been; JSON."""
        opening, (text, reasoning) = self._opening, self._run.said()
        assert opening is not None
        if text is None:
            text = encode(opening.choices[0].delta.content)
        else:
            text = b'"%b"' % text
        thoughts = b',"reasoning_content":%b' % encode(reasoning) if reasoning else b""
        return _RESPONSE % (
            encode(opening.id), opening.created, encode(opening.model), text, thoughts,
            encode(self.finish_reason), encode(self._usage),
        )  # fmt: skip

    def go_on(
        self, call: Call, target: Target, headers: Mapping[str, str]
    ) -> tuple[OpenAIDecoder, list[Chunk], OpenAIRelay]:
        """Who reads the rest, and the first chunks; what is `odd` comes out of the relay's `pending`."""
        decoder = OpenAIDecoder(call, target, headers)
        shown: list[Chunk] = []
        for raw in (self._first, *self._ends):
            decoder.take(raw, shown)
        decoder.progress += self._run.progress
        decoder.parser, decoder.pending = self._parser, self.odd
        return decoder, shown, OpenAIRelay(decoder, shown, self._run)

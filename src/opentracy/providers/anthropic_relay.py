"""Anthropic's stream as OpenAI's bytes, for the engine: text passes without a dict being built for it.

Nearly all events of a stream are a few words of text. Their JSON string stands in the provider's bytes already, so it
is checked, cut out and put between two prepared halves of a chunk. Everything else goes through the decoder.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..core import jsonio
from ..core.relay import MessageFold, sse_chunks
from ..core.wire import Chunk, Failure
from .answers import event_limit
from .anthropic_stream import AnthropicDecoder


class _TextDelta(msgspec.Struct, tag_field="type", tag="text_delta"):
    text: msgspec.Raw


class _TextEvent(msgspec.Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: _TextDelta


_text_events = msgspec.json.Decoder(_TextEvent)
_strings = msgspec.json.Decoder(list[str])


class AnthropicRelay:
    """wire.Relay that goes on with a decoder after the plan committed its stream."""

    __slots__ = ("_after", "_before", "_decoder", "_fold", "_pieces", "_plain", "_sse", "last")

    def __init__(self, decoder: AnthropicDecoder, shown: list[Chunk]) -> None:
        self._decoder = decoder
        self._sse = decoder.sse
        self._fold = MessageFold()
        for chunk in shown:
            self._fold.add(chunk)
        self._pieces: list[bytes] = []  # JSON strings of text that went by, not yet folded
        self._plain = -1  # index of the block whose text may pass
        self._before = self._after = b""
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
        """OpenAI events completed by these bytes of the provider's."""
        out: list[bytes] = []
        decoder = self._decoder
        for event in self._sse.feed(data):
            if decoder.done or decoder.failure is not None:
                break
            raw = self._text(event.data)
            if raw is not None:
                decoder.progress += 1
                self._pieces.append(raw)
                out += (self._before, raw, self._after)
            else:
                self._settle()
                decoder.event(event.data)
                out.append(self._write())
        if self._sse.overflow and decoder.failure is None and not decoder.done:
            decoder.failure = event_limit()
        return b"".join(out)

    def close(self) -> bytes:
        """End of file."""
        self._settle()
        return self._encode(self._decoder.close(), True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        self._settle()
        return self._fold.message()

    def _text(self, data: bytes) -> bytes | None:
        """The JSON string of an event that is nothing but text; None when the decoder must see the event."""
        try:
            event = _text_events.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        raw = bytes(event.delta.text)
        # an escaped code unit may be half of a pair, and bytes may be no text at all: those are for the decoder to mend
        if not raw.startswith(b'"') or len(raw) == 2 or b"\\u" in raw:
            return None
        if not raw.isascii():
            try:
                raw.decode()
            except UnicodeDecodeError:
                return None
        if event.index != self._plain and not self._prepare(event.index):
            return None
        return raw

    def _prepare(self, index: int) -> bool:
        """Makes the two halves of a text chunk, once the stream is inside a block of plain text."""
        if not self._decoder.plain_text(index):
            return False
        writer = self._decoder.writer
        writer.take()
        chunk = writer.delta({"content": "\x00"})
        writer.take()
        before, _, after = jsonio.encode(chunk).partition(b'"\\u0000"')
        self._plain, self._before, self._after = index, b"data: " + before, after + b"\n\n"
        return True

    def _write(self) -> bytes:
        """The chunks of an event that went through the decoder."""
        self._plain = -1 if not self._decoder.plain_text(self._plain) else self._plain
        chunks = self._decoder.writer.take()
        return self._encode(chunks, self._decoder.done) if chunks else b""

    def _encode(self, chunks: list[Chunk], final: bool) -> bytes:
        for chunk in chunks:
            self._fold.add(chunk)
        if final and chunks and self._decoder.failure is None:
            self.last = chunks[-1]
            chunks = chunks[:-1]
        return sse_chunks(chunks)

    def _settle(self) -> None:
        """Folds the text that went by, and tells the decoder how long the answer has become."""
        if self._pieces:
            text = "".join(_strings.decode(b"[%b]" % b",".join(self._pieces)))
            self._pieces.clear()
            self._decoder.length += len(text)
            self._fold.add({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

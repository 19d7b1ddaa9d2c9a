"""The engine's cheap way through a stream of the OpenAI family: clean events go on as the bytes they came in.

Everything else is left to the decoder that the plan began with, and its chunks are encoded. What comes out is the same
stream either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.relay import MessageFold, sse_chunks
from ..core.wire import Chunk, Failure
from .openai_run import Run
from .openai_stream import OpenAIDecoder


class OpenAIRelay:
    """A `wire.Relay` that continues an `OpenAIDecoder`."""

    __slots__ = ("_decoder", "_fold", "_more", "_run", "_shown", "last")

    def __init__(self, decoder: OpenAIDecoder, shown: list[Chunk], run: Run | None = None) -> None:
        """`run`: clean events that were sent after `shown`."""
        self._decoder = decoder
        self._shown = list(shown)
        self._fold = MessageFold()
        self._run = Run(decoder.progress) if run is None else run
        self._more = 0  # content that the decoder found
        self.last: Chunk | None = None

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        return self._run.progress + self._more

    @property
    def done(self) -> bool:
        """The end marker was seen."""
        return self._decoder.done

    @property
    def failure(self) -> Failure | None:
        """Why the stream broke."""
        return self._decoder.failure

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """Events completed by these provider bytes."""
        decoder = self._decoder
        if decoder.done or decoder.failure is not None:
            return b""
        if decoder.plain and decoder.parser.idle and self._run.single(data):  # by far the commonest read
            return data
        block = decoder.parser.split(data)
        if not block:
            return self._write(decoder.feed(b"")) if decoder.parser.overflow else b""
        return self._block(block)

    def pending(self) -> bytes:
        """The events that came together with the first content."""
        decoder = self._decoder
        block, decoder.pending = decoder.pending, b""
        out = self._block(block) if block else b""
        return out + self.feed(b"") if decoder.parser.overflow else out

    def _block(self, block: bytes) -> bytes:
        """Some whole events, LF only, without the last blank line."""
        end = self._run.leading(block) if self._decoder.plain else 0
        if end == len(block):
            return block + b"\n\n"
        return block[: end + 2] + self._events(block[end + 2 :]) if end else self._events(block)

    def _events(self, block: bytes) -> bytes:
        """The same, event by event."""
        decoder, run = self._decoder, self._run
        raws = block.split(b"\n\n")
        clean = run.clean(raws, 0, decoder.id) if decoder.plain else 0
        out = raws[:clean]
        at = clean
        while at < len(raws):
            written = self._slow(raws[at])
            if written:
                out.append(written[:-2])
            if decoder.over:
                break
            at += 1
            if decoder.plain:
                clean = run.clean(raws, at, decoder.id)
                out += raws[at:clean]
                at = clean
        return b"\n\n".join((*out, b"")) if out else b""

    def close(self) -> bytes:
        """What was still held back at the end of the provider's stream."""
        before = self._decoder.progress
        chunks = self._decoder.close()
        self._more += self._decoder.progress - before
        return self._write(chunks, final=True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        for chunk in self._shown + self._run.take():
            self._fold.add(chunk)
        self._shown = []
        return self._fold.message()

    def _slow(self, raw: bytes) -> bytes:
        decoder = self._decoder
        chunks: list[Chunk] = []
        before = decoder.progress
        decoder.take(raw, chunks)
        self._more += decoder.progress - before
        return self._write(chunks, final=decoder.done)

    def _write(self, chunks: list[Chunk], *, final: bool = False) -> bytes:
        if not chunks:
            return b""
        # forwarded text takes its place among the chunks that the message is folded from
        self._shown += self._run.take()
        self._shown += chunks
        if final and self._decoder.failure is None:
            self.last = chunks[-1]
            chunks = chunks[:-1]
        return sse_chunks(chunks) if chunks else b""

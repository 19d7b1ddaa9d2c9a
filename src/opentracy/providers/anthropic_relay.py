"""Anthropic's stream as OpenAI's bytes, for the engine: text passes without a dict being built for it.

Nearly all events of a stream are a few words of text. Their JSON string stands in the provider's bytes already, so it
is checked, cut out and put between two prepared halves of a chunk. Everything else goes through the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..core import jsonio
from ..core.relay import DecoderRelay, sse_chunks
from ..core.sse import parse_block
from ..core.wire import Chunk
from .answers import event_limit
from .anthropic_stream import TEXT_EVENT, AnthropicDecoder
from .insides import joined

_strings = msgspec.json.Decoder(list[str])


class AnthropicRelay(DecoderRelay[AnthropicDecoder]):
    """wire.Relay that goes on with a decoder after the plan committed its stream."""

    __slots__ = (
        "_after", "_after_text", "_before", "_before_text", "_front", "_pieces", "_plain", "_sse",
    )  # fmt: skip

    def __init__(self, decoder: AnthropicDecoder, shown: list[Chunk]) -> None:
        super().__init__(decoder)
        self._sse = decoder.sse
        for chunk in shown:
            self._fold.add(chunk)
        self._pieces: list[bytes] = []  # JSON strings of text that went by, not yet folded
        self._plain = b""  # index of the block whose text may pass
        self._front = b""  # what stands before such a text
        self._before = self._after = b""  # what a chunk has around a text with its quotes, and without them
        self._before_text = self._after_text = b""

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """OpenAI events completed by these bytes of the provider's."""
        decoder = self._decoder
        if decoder.over():
            return b""
        if self._sse.idle and len(cut) > 1:
            texts = self._each(data, cut)
            if texts is not None:
                return self._wrapped(texts)
        elif self._sse.idle:  # by far the commonest read: one event, whole
            text = self._text(data)
            if text is not None and data.endswith(b"\n\n"):
                return b"%b%b%b" % (self._before, self._shown(text), self._after)
        block = self._sse.split(data)
        if not block:
            if self._sse.overflow:
                decoder.failure = event_limit()
            return b""
        out: list[bytes] = []
        at = 0
        while at < len(block) and not self._front and not decoder.over():
            end = block.find(b"\n\n", at)
            end = len(block) if end < 0 else end
            self._one(block[at:end], out)
            at = end + 2
        rest = self._many(block[at:], out)
        for raw in rest.split(b"\n\n") if rest else ():
            if decoder.over():
                break
            self._one(raw, out)
        return b"".join(out)

    def _one(self, raw: bytes, out: list[bytes]) -> None:
        text = self._text(raw)
        if text is not None:
            out += (self._before, self._shown(text), self._after)
        else:
            out += self._slow(raw)

    def _many(self, block: bytes, out: list[bytes]) -> bytes:
        """Takes events together that are all text, up to the last one, behind which a stream has others; the rest."""
        front = self._front
        if not front or not block.startswith(front):
            return block
        end = block.find(b"\n\n", block.rfind(front))
        texts = self._texts(block if end < 0 else block[:end])
        if texts is None:
            return block
        out.append(self._wrapped(texts))
        return b"" if end < 0 else block[end + 2 :]

    def _slow(self, raw: bytes) -> list[bytes]:
        """An event of another kind, through the decoder."""
        out: list[bytes] = []
        for event in parse_block(raw):
            self._settle()
            self._decoder.event(event.data)
            out.append(self._write())
        return out

    def close(self) -> bytes:
        """End of file."""
        self._settle()
        return self._encode(self._decoder.close(), True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        self._settle()
        return self._fold.message()

    def _text(self, raw: bytes) -> bytes | None:
        """The JSON string of an event that is nothing but text; None when the decoder must see the event."""
        found = TEXT_EVENT(raw)
        if found is None:
            return None
        index, text = found.groups()
        if index != self._plain:
            if not self._prepare(index):
                return None
            self._front = raw[: found.start(2) + 1]
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:  # the decoder mends it
                return None
        return text

    def _texts(self, block: bytes) -> list[bytes] | None:
        """As `_text` for events that are all alike but for their text, without its quotes, and for the spaces that the
        API puts behind it; they are noted. None when each must be looked at."""
        texts = self._padded(block) if block.find(b"} ") >= 0 else self._bare(block)
        return texts if texts is not None and self._noted(texts) else None

    def _each(self, data: bytes, cut: Sequence[bytes]) -> list[bytes] | None:
        """As `_bare` for whole events, where each piece is one, with its blank line; they are noted."""
        front = self._front
        start = len(front)
        if not front or not data.startswith(front) or not data.endswith(b'"}}\n\n'):
            return None
        texts = [piece[start:-5] for piece in cut]
        # held against the whole: a piece that is no event is found out
        if (b'"}}\n\n' + front).join(texts) != data[start:-5]:
            return None
        return texts if self._noted(texts) else None

    def _wrapped(self, texts: list[bytes]) -> bytes:
        between = self._after_text + self._before_text
        return b"%b%b%b" % (self._before_text, between.join(texts), self._after_text)

    def _noted(self, texts: list[bytes]) -> bool:
        """Whether texts can stand in JSON as they do; then they count."""
        if b"" in texts:
            return False
        said = joined(texts)
        if said is None:
            return False
        self._decoder.progress += len(texts)
        self._pieces.append(b'"%b"' % said)
        return True

    def _bare(self, block: bytes) -> list[bytes] | None:
        """The texts of such events without any spaces behind them."""
        front = self._front
        start = len(front) - front.find(b"\n") - 1
        # cut at single bytes, then held against the whole: nothing but that stands before and behind them
        texts = [line[start:-3] for line in block.split(b"\n")[1::3]]
        if not block.endswith(b'"}}') or (b'"}}\n\n' + front).join(texts) != block[len(front) : -3]:
            return None
        return texts

    def _padded(self, block: bytes) -> list[bytes] | None:
        """The same with spaces, however many."""
        front, raws = self._front, block.split(b"\n\n")
        start = len(front)
        bare = [raw.rstrip(b" }") for raw in raws]
        texts = [one[start:-1] for one in bare]
        if b'%b%b"' % (front, (b'"\n\n' + front).join(texts)) != b"\n\n".join(bare):
            return None
        behind = b"|".join([raw[len(one) :] for raw, one in zip(raws, bare, strict=True)])
        return texts if behind.replace(b" ", b"") == b"|".join([b"}}"] * len(raws)) else None

    def _shown(self, text: bytes) -> bytes:
        """Takes note of text that goes by."""
        self._decoder.progress += 1
        self._pieces.append(text)
        return text

    def _prepare(self, index: bytes) -> bool:
        """Makes the two halves of a text chunk, once the stream is inside a block of plain text."""
        if not self._decoder.length or not self._decoder.plain_text(int(index)):
            return False  # the first text goes through the decoder, which writes the role
        writer = self._decoder.writer
        writer.take()
        chunk = writer.delta({"content": "\x00"})
        writer.take()
        before, _, after = jsonio.encode(chunk).partition(b'"\\u0000"')
        self._plain, self._before, self._after = index, b"data: " + before, after + b"\n\n"
        self._before_text, self._after_text = self._before + b'"', b'"' + self._after
        return True

    def _write(self) -> bytes:
        """The chunks of an event that went through the decoder."""
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

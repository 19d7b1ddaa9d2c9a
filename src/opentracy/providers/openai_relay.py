"""The engine's cheap way through a stream of the OpenAI family: clean events go on as the bytes they came in.

An event is clean when a typed decode says so; then it is neither rebuilt nor encoded again. Most servers' events differ
in nothing but their text: once one was found clean, those that equal it before and after the text need no decode.
Everything else is left to the decoder that the plan began with, and its chunks are encoded. What comes out is the same
stream either way.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from ..core.jsonio import encode
from ..core.relay import MessageFold, sse_chunks
from ..core.wire import Chunk, Failure
from .openai_stream import OpenAIDecoder


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    role: Literal["assistant"] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _Delta
    finish_reason: None
    error: None = None


class _Event(msgspec.Struct, gc=False):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[_Choice]
    usage: None = None
    error: None = None


_ROLE = b'"role":"assistant",'
_decode = msgspec.json.Decoder(_Event).decode
_strings = msgspec.json.Decoder(list[str]).decode
# the inside of a JSON string; escapes by number are left to the decoder, which knows about surrogates
_INSIDE = rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+'
_inside = re.compile(_INSIDE).fullmatch
_CONTENT = re.compile(rb'"content":[ ]?"(' + _INSIDE + rb')"')
_MAX_LEARNED = 4  # a server whose events differ elsewhere too will not stop doing so


class OpenAIRelay:
    """A `wire.Relay` that continues an `OpenAIDecoder`."""

    __slots__ = (
        "_after", "_before", "_decoder", "_fold", "_learned", "_pieces", "_shown", "_thoughts", "last", "progress",
    )  # fmt: skip

    def __init__(self, decoder: OpenAIDecoder, shown: list[Chunk]) -> None:
        self._decoder = decoder
        self._shown = list(shown)
        self._fold = MessageFold()
        self._pieces: list[bytes] = []  # text (as JSON) and reasoning forwarded since the last entry of _shown
        self._thoughts: list[str] = []
        self._before = self._after = b""  # what stands around the text of this stream's events
        self._learned = 0
        self.last: Chunk | None = None
        self.progress = decoder.progress

    @property
    def done(self) -> bool:
        """The end marker was seen."""
        return self._decoder.done

    @property
    def failure(self) -> Failure | None:
        """Why the stream broke."""
        return self._decoder.failure

    def feed(self, data: bytes) -> bytes:
        """Events completed by these provider bytes."""
        decoder = self._decoder
        if decoder.done or decoder.failure is not None:
            return b""
        # by far the commonest read: one event of one line
        single = decoder.plain and decoder.parser.idle and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n")
        if single and b"\r" not in data:
            raws = [data[:-2]]
            return raws[0] + b"\n\n" if self._clean(raws, 0) else self._slow(data[:-2])
        block = decoder.parser.split(data)
        if not block:
            return self._write(decoder.feed(b"")) if decoder.parser.overflow else b""
        return self._block(block)

    def pending(self) -> bytes:
        """The events that came together with the first content."""
        block, self._decoder.pending = self._decoder.pending, b""
        return self._block(block) if block else b""

    def _block(self, block: bytes) -> bytes:
        """Some whole events, LF only, without the last blank line."""
        decoder = self._decoder
        if decoder.plain and self._before:
            # the last block of a stream ends otherwise: then all up to there may still be alike
            end = block.rfind(self._after) + len(self._after)
            if end == len(block):
                if self._alike(block):
                    return block + b"\n\n"
            elif end > len(self._before) and block.startswith(b"\n\n", end) and self._alike(block[:end]):
                return block[: end + 2] + self._events(block[end + 2 :])
        return self._events(block)

    def _events(self, block: bytes) -> bytes:
        """The same, event by event."""
        decoder = self._decoder
        raws = block.split(b"\n\n")
        clean = self._clean(raws, 0) if decoder.plain else 0
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
                clean = self._clean(raws, at)
                out += raws[at:clean]
                at = clean
        return b"\n\n".join((*out, b"")) if out else b""

    def _clean(self, raws: list[bytes], at: int) -> int:
        """Notes the clean events from `at` on; the position of the first one that is not."""
        stream_id = self._decoder.id
        before, after = self._before, self._after
        for raw in raws[at:] if at else raws:
            if before and raw.startswith(before) and raw.endswith(after):
                text = raw[len(before) : len(raw) - len(after)]
                if _inside(text) and (text.isascii() or _is_text(text)) and len(raw) >= len(before) + len(after):
                    if text:
                        self.progress += 1
                        self._pieces.append(b'"%b"' % text)
                    at += 1
                    continue
            if not raw.startswith(b"data: {") or b"\n" in raw:
                return at
            try:
                event = _decode(raw[6:])
            except (ValueError, RecursionError):  # the decoder will say what it is
                return at
            if event.id != stream_id:
                return at
            delta = event.choices[0].delta
            if delta.content is None and not delta.reasoning_content:
                return at
            if delta.role is not None:
                # inside a JSON string these quotes would be escaped, so this can only be the field
                if _ROLE not in raw:
                    return at
                raws[at] = raw.replace(_ROLE, b"", 1)
            elif delta.content and not delta.reasoning_content and self._learned < _MAX_LEARNED:
                before, after = self._learn(raw, delta.content)
            if delta.content:
                self.progress += 1
                self._pieces.append(encode(delta.content))
            if delta.reasoning_content:
                self.progress += 1
                self._thoughts.append(delta.reasoning_content)
            at += 1
        return at

    def _alike(self, block: bytes) -> bool:
        """Whether all events of a block differ in nothing but plain text; then it is noted, all at once."""
        before, after = self._before, self._after
        if len(block) < len(before) + len(after) or not (block.startswith(before) and block.endswith(after)):
            return False
        start, end = len(before), -len(after)
        # cut at single bytes, then held against the whole: a search for all that stands between two texts costs more
        texts = [raw[start:end] for raw in block.split(b"\n")[::2]]
        if (b"%b\n\n%b" % (after, before)).join(texts) != block[start:end]:
            return False
        joined = b"".join(texts)
        if b'"' in joined or b"\\" in joined:
            return False
        if joined.isascii():
            # printable says more than is needed, and is found out in a tenth of the time
            if not joined.decode().isprintable() and _inside(joined) is None:
                return False
        elif not all(map(_is_text, texts)) or _inside(joined) is None:
            return False
        self._pieces.append(b'"%b"' % joined)
        self.progress += len(texts) - texts.count(b"")
        return True

    def _learn(self, raw: bytes, content: str) -> tuple[bytes, bytes]:
        """Remembers what stands around the text of a clean event, where it is plain to see."""
        self._learned += 1
        found = _CONTENT.findall(raw)
        match = _CONTENT.search(raw)
        if match is not None and len(found) == 1 and raw.count(b'"content"') == 1:
            start, end = match.span(1)
            if _strings(b'["%b"]' % raw[start:end]) == [content]:
                self._before, self._after = raw[:start], raw[end:]
        return self._before, self._after

    def close(self) -> bytes:
        """What was still held back at the end of the provider's stream."""
        before = self._decoder.progress
        chunks = self._decoder.close()
        self.progress += self._decoder.progress - before
        return self._write(chunks, final=True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        self._flush()
        for chunk in self._shown:
            self._fold.add(chunk)
        self._shown = []
        return self._fold.message()

    def _slow(self, raw: bytes) -> bytes:
        decoder = self._decoder
        chunks: list[Chunk] = []
        before = decoder.progress
        decoder.take(raw, chunks)
        self.progress += decoder.progress - before
        return self._write(chunks, final=decoder.done)

    def _write(self, chunks: list[Chunk], *, final: bool = False) -> bytes:
        if not chunks:
            return b""
        self._flush()
        self._shown += chunks
        if final and self._decoder.failure is None:
            self.last = chunks[-1]
            chunks = chunks[:-1]
        return sse_chunks(chunks) if chunks else b""

    def _flush(self) -> None:
        """Forwarded text takes its place among the chunks that the message is folded from."""
        if self._pieces:
            text = "".join(_strings(b"[%b]" % b",".join(self._pieces)))
            self._shown.append({"choices": [{"index": 0, "delta": {"content": text}}]})
            self._pieces = []
        if self._thoughts:
            self._shown.append({"choices": [{"index": 0, "delta": {"reasoning_content": "".join(self._thoughts)}}]})
            self._thoughts = []


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

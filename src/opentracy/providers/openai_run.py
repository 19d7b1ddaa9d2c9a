"""Clean events of an OpenAI stream: those that may go on as the bytes they came in, and the text that they carry.

An event is clean when a typed decode says so; then it is neither rebuilt nor encoded again. Most servers' events differ
in nothing but their text: once one was found clean, those that equal it before and after the text need no decode.
Whoever forwards (`openai_relay`, `openai_clean`) decides what becomes of all other events.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from ..core.jsonio import encode
from ..core.wire import Chunk
from .insides import INSIDE, is_inside, is_text, joined


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    role: Literal["assistant"] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _Delta
    finish_reason: None
    logprobs: None = None
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
_CONTENT = re.compile(rb'"content":[ ]?"(' + INSIDE + rb')"')
_MAX_LEARNED = 4  # a server whose events differ elsewhere too will not stop doing so


class Run:
    """The clean events of one stream. `progress`: how many of them bore content."""

    __slots__ = (
        "_after", "_before", "_behind", "_between", "_end", "_learned", "_pieces", "_start", "_thoughts", "progress",
    )  # fmt: skip

    def __init__(self, progress: int = 0) -> None:
        self.progress = progress
        self._pieces: list[bytes] = []  # text that was not taken yet, as the inside of a JSON string
        self._thoughts: list[str] = []
        self._before = self._after = b""  # what stands around the text of this stream's events
        self._behind = self._between = b""  # the same with the blank line, and with that and the next event's beginning
        self._start = self._end = 0  # where the first text begins, and where, from the back, the last one ends
        self._learned = 0

    def single(self, data: bytes) -> bool:
        """Whether bytes are one event that differs from the others in nothing but its text, with its blank line; then
        it is noted."""
        start, end = self._start, self._end - 2
        if not start or len(data) < start - end or not (data.startswith(self._before) and data.endswith(self._behind)):
            return False
        text = data[start:end]
        if not is_inside(text):
            return False
        self._pieces.append(text)
        if text:
            self.progress += 1
        return True

    def each(self, data: bytes, cut: Sequence[bytes]) -> bool:
        """As `single` where each piece is one event."""
        start, end = self._start, self._end - 2
        if not start or not (data.startswith(self._before) and data.endswith(self._behind)):
            return False
        # held against the whole: a piece that is shorter, or no event, is found out
        texts = [piece[start:end] for piece in cut]
        return self._between.join(texts) == data[start:end] and self._noted(texts)

    def leading(self, block: bytes) -> int:
        """How many bytes at the beginning of some whole events (LF only, without the last blank line) are events that
        differ in nothing but plain text; they are noted. A blank line stands behind them, or the block's end."""
        before, after = self._before, self._after
        if not before:
            return 0
        # the last block of a stream ends otherwise: then all up to there may still be alike
        end = block.rfind(after) + len(after)
        if end == len(block):
            return end if self._alike(block) else 0
        if end > len(before) and block.startswith(b"\n\n", end) and self._alike(block[:end]):
            return end
        return 0

    def _alike(self, block: bytes) -> bool:
        before, after = self._before, self._after
        start, end = self._start, self._end
        if len(block) < start - end or not (block.startswith(before) and block.endswith(after)):
            return False
        # cut at single bytes, then held against the whole: a search for all that stands between two texts costs more
        texts = [raw[start:end] for raw in block.split(b"\n")[::2]]
        return self._between.join(texts) == block[start:end] and self._noted(texts)

    def _noted(self, texts: list[bytes]) -> bool:
        said = joined(texts)
        if said is None:
            return False
        self._pieces.append(said)
        self.progress += len(texts) - texts.count(b"")
        return True

    def clean(self, raws: list[bytes], at: int, stream_id: str) -> int:
        """Notes the clean events from `at` on; the position of the first one that is not. An event that only repeats
        the role is changed in place."""
        before, after = self._before, self._after
        for raw in raws[at:] if at else raws:
            if before and raw.startswith(before) and raw.endswith(after):
                text = raw[len(before) : len(raw) - len(after)]
                if len(raw) >= len(before) + len(after) and is_inside(text):
                    self._pieces.append(text)
                    if text:
                        self.progress += 1
                    at += 1
                    continue
            if not raw.startswith(b"data: {") or raw.find(b"\n") >= 0:
                return at
            try:
                event = _decode(raw[6:])
            except (ValueError, RecursionError):  # whoever looks at it next will say what it is
                return at
            if event.id != stream_id or not is_text(raw):
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
            if delta.content is not None:
                self._pieces.append(encode(delta.content)[1:-1])
                if delta.content:
                    self.progress += 1
            if delta.reasoning_content:
                self.progress += 1
                self._thoughts.append(delta.reasoning_content)
            at += 1
        return at

    def _learn(self, raw: bytes, content: str) -> tuple[bytes, bytes]:
        """Remembers what stands around the text of a clean event, where it is plain to see."""
        self._learned += 1
        found = _CONTENT.findall(raw)
        match = _CONTENT.search(raw)
        if match is not None and len(found) == 1 and raw.count(b'"content"') == 1:
            start, end = match.span(1)
            if _strings(b'["%b"]' % raw[start:end]) == [content]:
                before, after = raw[:start], raw[end:]
                self._before, self._after, self._between = before, after, b"%b\n\n%b" % (after, before)
                self._behind, self._start, self._end = after + b"\n\n", len(before), -len(after)
        return self._before, self._after

    def said(self) -> tuple[bytes | None, str]:
        """Text (the inside of a JSON string; None: not even an empty one) and reasoning that were noted so far."""
        return b"".join(self._pieces) if self._pieces else None, "".join(self._thoughts)

    def take(self) -> list[Chunk]:
        """The same as chunks, and forgotten here."""
        found: list[Chunk] = []
        if self._pieces:
            text = _strings(b'["%b"]' % b"".join(self._pieces))[0]
            found.append({"choices": [{"index": 0, "delta": {"content": text}}]})
            self._pieces = []
        if self._thoughts:
            found.append({"choices": [{"index": 0, "delta": {"reasoning_content": "".join(self._thoughts)}}]})
            self._thoughts = []
        return found

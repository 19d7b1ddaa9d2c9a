"""From a decoder's chunks to the bytes of an OpenAI event stream, for the engine; and what the stream said, folded.

Belongs here: the general `wire.Relay`, which encodes every chunk that a decoder yields, and how the last chunk is laid
out. Dialects whose wire is close enough bring a cheaper relay of their own. Nothing here touches a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .fold import MessageFold as MessageFold  # relays fold as they go
from .jsonio import encode
from .wire import Chunk, Decoder, Failure

DONE = b"data: [DONE]\n\n"
MAX_OPENING = 64 << 10  # bytes: a stream that says so much before its first content is not a usual one


def sse(value: Any) -> bytes:
    """One event with this JSON value."""
    return b"data: %b\n\n" % encode(value)


def sse_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Events of several chunks in a row."""
    return b"".join([b"data: %b\n\n" % encode(chunk) for chunk in chunks])


def tail(last: Chunk | None, *, include_usage: bool, extras: bytes) -> bytes:
    """The end of a successful stream: finish, the usage chunk where it was asked for, `[DONE]`.

    `last` is a relay's last chunk (finish and usage together). OpenAI's clients expect the usage apart, on a chunk
    without choices; the extras, members of a JSON object without its braces, ride on whatever chunk is the last.
    """
    if last is None:
        return DONE
    usage = last.get("usage")
    if not include_usage:
        finish = {k: v for k, v in last.items() if k != "usage"}
        return b"data: %b,%b}\n\n%b" % (encode(finish)[:-1], extras, DONE)
    finish = {**last, "usage": None}
    base = {k: last[k] for k in ("id", "object", "created", "model", "system_fingerprint", "service_tier") if k in last}
    end = encode({**base, "choices": [], "usage": usage})
    return b"data: %b\n\ndata: %b,%b}\n\n%b" % (encode(finish), end[:-1], extras, DONE)


def finish_of(answer: Mapping[str, Any] | None) -> str | None:
    """Why the first choice of an answer, or of a stream's last chunk, ended; None where nothing says so."""
    choices = answer.get("choices") if answer else None
    return choices[0].get("finish_reason") if choices else None


def folded(first: Chunk, message: dict[str, Any], finish: str | None, usage: Any) -> bytes:
    """The `chat.completion` that a stream would have been, for the trace; JSON. `first`: its first chunk."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return encode(
        {"id": first.get("id"), "object": "chat.completion", "created": first.get("created"),
         "model": first.get("model"), "choices": [choice], "usage": usage}
    )  # fmt: skip


D = TypeVar("D", bound=Decoder)


class DecoderRelay(Generic[D]):
    """What relays over a decoder have in common: how far it is."""

    __slots__ = ("_decoder", "_fold", "last")

    def __init__(self, decoder: D) -> None:
        self._decoder = decoder
        self._fold = MessageFold()
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


class EncodingRelay(DecoderRelay[Decoder]):
    """A `wire.Relay` over any decoder: every chunk is encoded as it comes, except the very last, which is held."""

    __slots__ = ("_shown",)

    def __init__(self, decoder: Decoder, shown: list[Chunk]) -> None:
        super().__init__(decoder)
        self._shown = shown

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """Events completed by these provider bytes."""
        return self._write(self._decoder.feed(data), self._decoder.done)

    def close(self) -> bytes:
        """What was still held back at the end of the provider's stream."""
        return self._write(self._decoder.close(), True)

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came."""
        fold = self._fold
        for chunk in self._shown:
            fold.add(chunk)
        self._shown = []
        return fold.message()

    def _write(self, chunks: list[Chunk], final: bool) -> bytes:
        self._shown += chunks
        if final and chunks and self._decoder.failure is None:
            self.last = chunks[-1]
            chunks = chunks[:-1]
        return sse_chunks(chunks) if chunks else b""

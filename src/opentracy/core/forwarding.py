"""The short way through an engine: what it asks of a dialect for usual requests, their clean answers and streams.

Only protocols. Those that every call needs stand in `wire`; what is usual in `usual`; the short way through a dialect
that is not OpenAI's in `translated`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .usage import CleanUsage
from .usual import UsualChat
from .wire import Call, Chunk, Decoder, HttpHead, HttpRequest, Relay, Target


class Asked(Protocol):
    """What an answer may have to be told of its request."""

    ts_ms: int
    """When it began, Unix milliseconds."""
    trace_id: str
    """Stands in for an id."""


class Forwarded(Protocol):
    """What must be known of a whole answer that is clean."""

    @property
    def model(self) -> str:
        """That says it answers."""
        ...

    @property
    def usage(self) -> CleanUsage:
        """Of the request."""
        ...

    @property
    def finish_reason(self) -> str:
        """Of its only choice."""
        ...


class ForwardedStream(Protocol):
    """A clean stream on its way to OpenAI's form, until it is done or something odd comes."""

    done: bool
    """The end marker was seen."""
    odd: bytes
    """Not empty once whoever goes on must look at what came: whole events, or only the mark that there is something."""
    finish_reason: str | None

    @property
    def usage(self) -> CleanUsage | None:
        """Known once `done`."""
        ...

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        ...

    @property
    def model(self) -> str:
        """The model that says it answers; known once `done`."""
        ...

    def open(self, data: bytes) -> bytes | None:
        """From all bytes of the body so far, what is to be sent on once there is content; b"" while there is none;
        None when a decoder must read this stream from its beginning."""
        ...

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """What is to be sent on of these bytes, after `open`; `cut`: the same in pieces, perhaps one for each event."""
        ...

    def close(self) -> bytes:
        """At the end of file without an end marker: what was still held back. It is `done` then, or whoever goes on
        must say what such an end means."""
        ...

    def last(self) -> Chunk:
        """Finish and usage together, once `done`."""
        ...

    def response(self) -> bytes:
        """The `chat.completion` that it would have been, once `done`; JSON."""
        ...

    def go_on(self, call: Call, target: Target, headers: Mapping[str, str]) -> tuple[Decoder, list[Chunk], Relay]:
        """Who reads on after `open`, and the first chunks; what is `odd` comes out of the relay's `pending`."""
        ...


class Forwarding(Protocol):
    """The short way of usual requests to a target, and of their clean answers. Shared by its calls."""

    whole: HttpRequest
    """Address and headers of all requests for a whole answer."""
    streamed: HttpRequest
    """Address and headers of all requests for a stream."""
    events: str
    """The media type of a stream."""
    verbatim: bool
    """Whether a request travels as it is, but for the model's name."""
    model: str
    """As the provider is told."""

    def request(self, chat: UsualChat) -> tuple[bytes, tuple[str, ...]] | None:
        """The body for the provider and what was dropped, equal to `build_request`'s; None where more would have to be
        done to it. The value is used up."""
        ...

    def answer(self, body: bytes, headers: Mapping[str, str], asked: Asked) -> tuple[Forwarded, bytes] | None:
        """What a clean answer says of itself, and its `chat.completion` as JSON without a key that begins with an
        underscore; None for one that `parse_response` must look at. `headers` may be empty where it is `verbatim`."""
        ...

    def stream(self, head: HttpHead, asked: Asked) -> ForwardedStream:
        """A stream that is about to begin."""
        ...


class ForwardingDialect(Protocol):
    """Optional: a dialect in which nothing is to be translated has a short way of its own (others: `translated`)."""

    def forwarding(self, target: Target) -> Forwarding | None:
        """The short way for a target, if it has one; worked out once."""
        ...

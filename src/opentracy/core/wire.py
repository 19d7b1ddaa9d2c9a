"""Values that cross the border between knowledge and I/O, and the protocols of both sides.

Those of which every request makes new ones are msgspec structs: a frozen dataclass costs ten times as much to make.

Belongs here: what a request, an answer, a target and a failure *are*. How a provider spells them stands in
`providers`, how they travel in `transport`, what happens after a failure in `plan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

Json = Any
Chunk = dict[str, Any]
"""One OpenAI `chat.completion.chunk` as a plain dict."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """One chat completion as the caller asked for it, in OpenAI's vocabulary and independent of any provider.

    `params` holds every other OpenAI field the caller gave (None values removed); never `model`, `messages`, `stream`.
    `created` (Unix seconds) and `fallback_id` (hex) stand in where a provider sends no timestamp or id: the core
    knows neither clock nor randomness, so the edge hands them in. `forwards`: the caller sends the answer on as bytes,
    so a dialect may give it a `Passing` in place of a dict.
    """

    messages: list[dict[str, Any]]
    params: Mapping[str, Any]
    stream: bool = False
    strict_params: bool = False
    created: int = 0
    fallback_id: str = "0"
    operation: Literal["chat", "embedding"] = "chat"
    forwards: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who pays. Never shown: `repr` hides every value, and pickling is refused."""

    key: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "Credentials(***)" if self.key or self.extra else "Credentials()"

    def __reduce__(self) -> str:
        raise TypeError("credentials are never pickled")

    def secrets(self) -> Iterator[str]:
        """Every value that must not be shown, for masking."""
        if self.key:
            yield self.key
        yield from (v for k, v in self.extra.items() if v and k not in ("region", "access_key"))


class Origin(NamedTuple):
    """Where a connection leads; the key of the connection pool."""

    scheme: str
    host: str
    port: int


@lru_cache(maxsize=1024)
def split_url(url: str) -> tuple[Origin, str]:
    """Origin and request target (path and query) of an absolute http(s) URL; ValueError names what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {url!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = parts.path or "/"
    return Origin(parts.scheme, parts.hostname, port), target + ("?" + parts.query if parts.query else "")


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request ready to send. `dropped`: parameters that the provider has no equivalent for.

    Headers in a MappingProxyType are the same for every request of a target: transports may keep their bytes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    dropped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # headers and body may carry secrets and prompts
        return f"HttpRequest({self.method} {self.url.split('?')[0]}, {len(self.body)} bytes)"


class HttpHead(msgspec.Struct, gc=False):
    """Status and headers of an answer whose body is still to be read. Header names are lower case."""

    status: int
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters, or ''."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class HttpResponse(HttpHead, gc=False):
    """A whole answer, content encodings undone."""

    body: bytes = b""


class Passing(msgspec.Struct, gc=False):
    """A whole answer that came as a `chat.completion` in OpenAI's form: its bytes, and what must be known of them.

    The bytes are one JSON object without any key that begins with an underscore.
    """

    body: bytes
    model: str
    usage: dict[str, Any]
    finish_reason: str

    def with_extras(self, extras: bytes) -> bytes:
        """The document with the members of another JSON object, which is not empty, at its end."""
        return b"%b,%b" % (self.body.rstrip()[:-1], extras[1:])


Kind = Literal[
    # no usable answer arrived
    "dns", "refused", "unreachable", "tls", "reset", "eof", "timeout", "pool", "proxy", "truncated",
    "header_limit", "bad_response", "encoding", "body_limit",
    # an answer arrived, and it is no success
    "redirect", "status", "bad_body", "empty_body", "provider_error",
    # streams
    "empty_stream", "stream_truncated", "stream_interrupted", "bad_event", "event_limit",
    # ours
    "cancelled", "unavailable",
]  # fmt: skip

Outcome = Literal[
    "ok", "upstream_error", "timeout", "truncated", "client_cancelled", "rejected", "shed", "interrupted"
]


@dataclass(slots=True)
class Failure:
    """Why an attempt did not succeed: a value, so that a plan can weigh it before anything is raised.

    `retry_after` is what the provider asked for in seconds, honoured or not. `sent` says whether a request left us:
    only sent requests count as attempts, and only they may have been billed.
    """

    kind: Kind
    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retryable: bool = False
    retry_after: float | None = None
    request_id: str | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: bool = True

    @property
    def outcome(self) -> Outcome:
        """The word a trace uses for it."""
        if self.kind in ("timeout", "pool") or self.status in (408, 504):
            return "timeout" if self.kind != "pool" else "shed"
        if self.kind in ("truncated", "empty_stream", "stream_truncated", "stream_interrupted"):
            return "truncated"
        return "client_cancelled" if self.kind == "cancelled" else "upstream_error"


class Decoder(Protocol):
    """A provider's byte stream -> OpenAI chunks. One instance per stream; not thread-safe.

    Grammar of what comes out, over the life of a decoder: every chunk has exactly the shape of OpenAI's with a
    non-empty `choices`; the first carries `delta.role`; tool calls are numbered 0, 1, 2 ... with id and name on their
    first fragment only; every chunk has the same `id`; a `finish_reason` stands (per choice) on one chunk; the very
    last chunk (emitted once the end marker or end of file is seen) carries `usage`, when the provider reported it.
    """

    done: bool
    """The end marker was seen: nothing more is to be read."""
    failure: Failure | None
    """Set when the stream turned out to be broken; chunks returned together with it precede it."""
    progress: int
    """Number of content-bearing events so far (text, reasoning, tool call, finish): pings do not count."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks completed by `data`; never raises on what a provider sent."""
        ...

    def close(self) -> list[Chunk]:
        """End of file: the chunks still held back, or `failure` set when the stream ended too early."""
        ...


class Relay(Protocol):
    """A decoder for the engine: what comes out are OpenAI SSE bytes, ready to be sent on.

    It continues a `Decoder` after the plan committed the stream. The very last chunk (finish, usage) is not among the
    bytes: it is held in `last`, since the engine adds its extras to it.
    """

    last: Chunk | None

    @property
    def done(self) -> bool:
        """The end marker was seen."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Why the stream broke."""
        ...

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        ...

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """`data: {chunk}` events completed by these provider bytes, each with its blank line; may be empty. `cut`: the
        same bytes in pieces, perhaps one for each event."""
        ...

    def close(self) -> bytes:
        """End of file: what was still held back; `failure` is set when the stream ended too early."""
        ...

    def message(self) -> dict[str, Any]:
        """The assistant message as far as it came, folded; for the trace."""
        ...


class RelayingDialect(Protocol):
    """Optional: a dialect that can forward its bytes cheaper than by decoding and encoding every chunk."""

    def open_relay(self, decoder: Decoder, shown: list[Chunk]) -> Relay:
        """Continues `decoder`, whose chunks so far (`shown`) the caller has handled already."""
        ...


class Dialect(Protocol):
    """One wire format: five pure methods. Instances hold no state and are shared."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """The provider's form of `call`; ValueError names what cannot be sent (strict_params, bad input)."""
        ...

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """The request with time-dependent credentials; most dialects return it unchanged. `now`: Unix seconds."""
        ...

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Json | Passing | Failure:
        """A 2xx answer as an OpenAI `chat.completion` dict, or why it is none. `Passing` only if `call.forwards`."""
        ...

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> Decoder:
        """A decoder for the body that follows `head` (status 2xx)."""
        ...

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """A non-2xx answer in the provider's own words."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider, with everything needed to call it.

    `model` is the name as the provider knows it; `options` are provider settings from the environment
    (organisation header, API version, region ...). `timeout` is None for the call's own.
    """

    provider: str
    model: str
    dialect: Dialect
    base_url: str
    credentials: Credentials
    quirks: Any = None
    options: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""
    name: str = field(init=False, compare=False)
    """`provider/model`."""
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What follows from the other fields alone, worked out once by whoever needs it for every request."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.provider}/{self.model}")


class Attempt(msgspec.Struct, gc=False):
    """One HTTP request (or failed connection) of a call. Times are seconds of the plan's clock."""

    target: Target
    reason: Literal["first", "retry", "fallback"]
    started: float
    ended: float = 0.0
    waited: float = 0.0
    status: int | None = None
    failure: Failure | None = None
    dropped: tuple[str, ...] = ()

    @property
    def sent(self) -> bool:
        """Whether a request left us."""
        return self.failure is None or self.failure.sent

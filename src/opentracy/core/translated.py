"""The short way through a dialect that is not OpenAI's: a usual request, and its clean answer or stream, translated.

A dialect's own methods do all of the work, so what comes out is what the general way gives. Here stands only what is
usual: the request goes to the address and with the headers that all of them have, and the usage is clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from .forwarding import Asked
from .jsonio import encode
from .relay import MAX_OPENING, EncodingRelay, finish_of, folded, sse_chunks
from .usage import clean_int
from .usual import SETTINGS, UsualChat
from .wire import Call, Chunk, Decoder, HttpHead, HttpRequest, HttpResponse, Relay, Target

_EVENTS = "text/event-stream"


class Told(msgspec.Struct, gc=False):
    """`usage.CleanUsage` over a usage dict of this package's form, which may say more than a `PlainUsage` can."""

    usage: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int

    @property
    def prompt_tokens_details(self) -> Any:
        """UNSET where there are none."""
        return self.usage.get("prompt_tokens_details", UNSET)

    @property
    def completion_tokens_details(self) -> Any:
        """UNSET where there are none."""
        return self.usage.get("completion_tokens_details", UNSET)

    @property
    def flat(self) -> bool:
        """Whether the two counts are all there is to it: the dict must be asked."""
        return False

    def as_dict(self) -> dict[str, Any]:
        """The dict."""
        return self.usage


class Translated(msgspec.Struct, gc=False):
    """`forwarding.Forwarded`."""

    model: str
    usage: Told
    finish_reason: str


class Translating:
    """`forwarding.Forwarding` for one target."""

    __slots__ = ("_target", "events", "model", "streamed", "whole")

    verbatim = False

    def __init__(self, target: Target) -> None:
        """Raises ValueError where the target cannot be asked."""
        self._target = target
        self.model = target.model
        self.whole, self.streamed = self._envelope(stream=False), self._envelope(stream=True)
        self.events = self.streamed.headers.get("accept", _EVENTS)

    def _envelope(self, *, stream: bool) -> HttpRequest:
        call = Call([{"role": "user", "content": "?"}], {}, stream=stream, forwards=True)
        return msgspec.structs.replace(self._target.dialect.build_request(call, self._target), body=b"", dropped=())

    def request(self, chat: UsualChat) -> tuple[bytes, tuple[str, ...]] | None:
        """The dialect's body; None where its request differs in more than that, or cannot be made."""
        params = {name: value for name in SETTINGS if (value := getattr(chat, name)) is not UNSET}
        if "stream_options" in params:
            params["stream_options"] = msgspec.to_builtins(chat.stream_options)
        streaming = chat.stream is True
        call = Call(msgspec.to_builtins(chat.messages), params, stream=streaming, forwards=True)
        try:
            made = self._target.dialect.build_request(call, self._target)
        except ValueError:
            return None  # the general way says why
        usual = self.streamed if streaming else self.whole
        return (made.body, made.dropped) if made.url == usual.url and made.headers == usual.headers else None

    def answer(self, body: bytes, headers: Mapping[str, str], asked: Asked) -> tuple[Translated, bytes] | None:
        """What it says of itself, and the same in OpenAI's form."""
        target = self._target
        try:
            response = HttpResponse(200, headers, body)
            made = target.dialect.parse_response(_call(asked, stream=False), target, response)
        except Exception:
            return None  # the general way says so, and does not stumble
        if not isinstance(made, dict):
            return None
        usage, finish = told(made.get("usage")), finish_of(made)
        return None if usage is None or finish is None else (Translated(made["model"], usage, finish), encode(made))

    def stream(self, head: HttpHead, asked: Asked) -> TranslatedStream:
        """A stream that is about to begin."""
        return TranslatedStream(self._target, head, asked)


class TranslatedStream:
    """`forwarding.ForwardedStream`: a decoder up to the first content, and then its relay."""

    __slots__ = ("_decoder", "_relay", "_shown", "_taken", "_target", "done", "finish_reason", "odd", "usage")

    def __init__(self, target: Target, head: HttpHead, asked: Asked) -> None:
        self._target = target
        self._decoder: Decoder = target.dialect.open_stream(_call(asked, stream=True), target, head)
        self._relay: Relay | None = None
        self._shown: list[Chunk] = []
        self._taken = 0
        self.done = False
        self.odd = b""
        self.finish_reason: str | None = None
        self.usage: Told | None = None

    @property
    def progress(self) -> int:
        """Content-bearing events so far."""
        return self._decoder.progress

    @property
    def model(self) -> str:
        """The model that says it answers."""
        return str(self.last().get("model"))

    def open(self, data: bytes) -> bytes | None:
        """What is to be sent on once there is content; see `forwarding.ForwardedStream`."""
        decoder = self._decoder
        try:
            self._shown += decoder.feed(data[self._taken :])
        except Exception:
            return None  # a decoder must not stumble; if one does, the general way has words for it
        self._taken = len(data)
        if decoder.failure is not None or decoder.done:
            return None
        if not decoder.progress:
            return b"" if len(data) < MAX_OPENING else None
        out = sse_chunks(self._shown)
        self._relay = relay_of(self._target, decoder, self._shown)
        return out

    def feed(self, data: bytes, cut: Sequence[bytes] = ()) -> bytes:
        """What is to be sent on of these bytes; look at `odd` and `done` afterwards."""
        relay = self._relay
        assert relay is not None
        out = relay.feed(data, cut)
        if relay.done or relay.failure is not None:
            self.done = self._clean(relay)
            self.odd = b"" if self.done else b"x"
        return out

    def close(self) -> bytes:
        """What was still held back; a relay may be closed again by whoever goes on."""
        relay = self._relay
        assert relay is not None
        out = relay.close()
        self.done = self._clean(relay)
        return out

    def _clean(self, relay: Relay) -> bool:
        """Whether a stream that is over ended well, with a finish and a usage."""
        last = relay.last or {}
        self.usage, self.finish_reason = told(last.get("usage")), finish_of(last)
        return relay.failure is None and self.usage is not None and self.finish_reason is not None

    def last(self) -> Chunk:
        """Finish and usage together, once `done`."""
        assert self._relay is not None
        return self._relay.last or {}

    def response(self) -> bytes:
        """The `chat.completion` that the stream, once `done`, would have been; JSON."""
        assert self._relay is not None and self.usage is not None
        return folded(self._shown[0], self._relay.message(), self.finish_reason, self.usage.usage)

    def go_on(self, call: Call, target: Target, headers: Mapping[str, str]) -> tuple[Decoder, list[Chunk], Relay]:
        """Who reads on: the same decoder and relay, which have read all that came."""
        assert self._relay is not None
        return self._decoder, self._shown, self._relay


def translating(target: Target) -> Translating | None:
    """The short way for a target; None where requests are signed one by one, or cannot be made."""
    try:
        found = Translating(target)
        signed = target.dialect.sign(found.whole, target, 0.0)
    except ValueError:
        return None
    return found if signed is found.whole else None


def relay_of(target: Target, decoder: Decoder, shown: list[Chunk]) -> Relay:
    """The relay that goes on with a decoder: the dialect's own, or the one for all."""
    own = getattr(target.dialect, "open_relay", None)
    relay: Relay = EncodingRelay(decoder, shown) if own is None else own(decoder, shown)
    return relay


def told(usage: Any) -> Told | None:
    """A usage whose two counts are clean; None where there is none, or it says what the call cost."""
    if not isinstance(usage, dict) or "cost" in usage:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:
        return None
    return None if clean_int(prompt) is None or clean_int(completion) is None else Told(usage, prompt, completion)


def _call(asked: Asked, *, stream: bool) -> Call:
    """The call as answers know it: those of usual requests do not depend on its texts and settings."""
    return Call([], {}, stream=stream, created=asked.ts_ms // 1000, fallback_id=asked.trace_id, forwards=True)

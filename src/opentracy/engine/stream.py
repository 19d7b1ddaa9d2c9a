"""A stream that has begun: provider bytes in, client bytes out, until `[DONE]` or an error event.

Belongs here: what happens after the first content, when nothing can be retried any more. Provider bytes are pushed in
by the transport on the event loop; there is no task and no timer per stream, and a slow reader stops the provider. Not
here: how bytes become events (the dialect's relay), and everything before the first content (`served`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentracy.core.failure import hide, interrupted
from opentracy.core.jsonio import encode
from opentracy.core.plan import Opened
from opentracy.core.relay import MessageFold, finish_of, folded, sse, sse_chunks, tail
from opentracy.core.translated import relay_of
from opentracy.core.wire import Chunk, Failure, Relay
from opentracy.traces import TraceRecord

from . import record as records
from .errors import failure_object
from .paced import PacedWriter

if TYPE_CHECKING:
    from opentracy.transport.aanswer import Answer

    from .served import ServedCall

log = logging.getLogger("opentracy.engine")
_now = time.monotonic
EVENTS = b"text/event-stream; charset=utf-8"
NO_CACHE = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
_KEEPALIVE = b": keepalive\n\n"


class Stream:
    """The second half of a streamed call; the transport's sink."""

    __slots__ = (
        "_answer", "_call", "_closed", "_idle", "_keepalive", "_last_progress", "_limit", "_opened", "_out", "_paused",
        "_relay", "_server", "_ttft_ms",
    )  # fmt: skip

    def __init__(self, call: ServedCall, opened: Opened, answer: Answer | None) -> None:
        limits = call.snapshot.config.limits
        self._call = call
        self._opened = opened
        self._answer = answer
        self._relay: Relay | None = None
        self._closed = False
        self._paused = False
        self._last_progress = 0
        self._idle = call.resolved.timeout or limits.idle if call.resolved is not None else limits.idle
        self._keepalive = limits.keepalive
        total = limits.total
        if call.tags is not None and call.tags.timeout is not None:
            total = min(total, call.tags.timeout)
        self._limit = call.started + total
        self._server = call.engine.server
        self._out = PacedWriter(call.exchange)
        self._ttft_ms = round((_now() - call.started) * 1000, 3)

    def start(self) -> None:
        """Sends the head and what the plan has read already, then lets the transport push the rest."""
        opened = self._opened
        chunks = opened.chunks
        decoder = opened.decoder
        if decoder is not None and decoder.failure is not None:
            self._open(sse_chunks(chunks))
            self.broken(decoder.failure)
            return
        if opened.ended or decoder is None or decoder.done:
            self._open(sse_chunks(chunks[:-1]))
            if self._answer is not None:
                self._answer.finish()
            self._succeed(chunks[-1] if chunks else None)
            return
        self._open(sse_chunks(chunks))
        self._read_on(relay_of(opened.target, decoder, chunks))

    def _read_on(self, relay: Relay) -> None:
        """What lies with the relay already, then all that is still to come."""
        self._relay = relay
        if self._call.exchange.connection.paused_at:
            self.pause()
        # without anything pending, too: it may be over already
        self._pass_on(getattr(relay, "pending", bytes))
        if not self._closed and self._answer is not None:
            self._answer.attach(self, _now() + self._idle)

    def go_on(self, relay: Relay, out: PacedWriter, ttft_ms: float) -> None:
        """Instead of `start`, where the stream began without us: what came last lies with `relay`."""
        self._out, self._ttft_ms = out, ttft_ms
        self._read_on(relay)

    def _open(self, data: bytes) -> None:
        call = self._call
        call.exchange.open_stream(200, EVENTS, call.headers(self._opened.target) + NO_CACHE, data)

    # ---------------------------------------------------------------- the transport's sink
    def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
        """Provider bytes."""
        assert self._relay is not None
        self._pass_on(self._relay.feed, data, cut)

    def _pass_on(self, take: Callable[..., bytes], *data: Any) -> None:
        """Sends what a relay makes of provider bytes, and heeds what it found in them."""
        relay = self._relay
        assert relay is not None
        try:
            out = take(*data)
        except Exception:
            log.exception("request %s: the relay failed", self._call.trace_id)
            self.broken(Failure("bad_event", "the engine could not read the provider's stream"))
            return
        if out:
            self._out.write(out)
        progress = relay.progress
        if progress != self._last_progress:
            self._last_progress = progress
            if self._answer is not None:
                self._answer.extend(self._server.now_monotonic + self._idle)
        if relay.failure is not None:
            self.broken(relay.failure)
        elif relay.done:
            self._finished()

    def end(self, failure: Failure | None) -> None:
        """The provider's body ended, well or not."""
        relay = self._relay
        assert relay is not None
        if self._closed:
            return
        self._answer = None
        if failure is not None:
            self.broken(interrupted(failure))
            return
        out = relay.close()
        if out:
            self._out.write(out)
        if relay.failure is not None:
            self.broken(relay.failure)
        else:
            self._finished()

    def _finished(self) -> None:
        assert self._relay is not None
        if self._answer is not None:
            self._answer.finish()
            self._answer = None
        self._succeed(self._relay.last)

    # ---------------------------------------------------------------- ends
    def _succeed(self, last: Chunk | None) -> None:
        if self._closed:
            return
        self._closed = True
        call, target = self._call, self._opened.target
        usage = last.get("usage") if last is not None else None
        served = last.get("model") if last else None
        price = records.cost(target.provider, target.model, served, usage, call.ts_ms / 1000)
        options = call.body.get("stream_options")
        wanted = isinstance(options, dict) and options.get("include_usage") is True
        extras = encode(call.extras(target, price.usd if price is not None else None))[1:-1]
        data = self._out.rest(tail(last, include_usage=wanted, extras=extras))
        record = call.record("ok", 200)
        record.model, record.provider = target.model, target.provider
        record.ttft_ms = self._ttft_ms
        rows = record.attempts = records.attempt_rows(call.attempts, call.started, usage, price)
        rows[-1].ms = round((_now() - call.attempts[-1].started) * 1000, 3)
        rows[-1].ttft_ms = self._ttft_ms
        records.add_usage(record, usage, price)
        if len(rows) > 1:
            record.fallback_from = rows[0].target if rows[0].target != target.name else None
            record.cost_nano = records.total_cost(rows)
        record.finish_reason = finish_of(last)
        record.response = self._folded(last, usage)
        if call.snapshot.config.traces.durability == "strict":
            call.after_commit(record, lambda: call.exchange.finish(data))
        else:
            call.exchange.finish(data)
            call.engine.traces.put(record)
        call.end(record)

    def broken(self, failure: Failure, *, blame: bool = True) -> None:
        """The stream cannot be completed: an error event instead of `[DONE]`. `blame`: the deployment failed."""
        if self._closed:
            return
        self._closed = True
        call, target = self._call, self._opened.target
        self._drop()
        if call.attempts:
            hide(failure, target.credentials.secrets())
            call.attempts[-1].failure = failure
            call.attempts[-1].ended = _now()
            if blame:
                call.engine.health.failed(target.name, failure)
        status, shown = failure_object(failure, target.provider, call.trace_id)
        base = self._opened.chunks[0] if self._opened.chunks else {}
        shown["status"] = failure.status or status
        call.exchange.finish(self._out.rest(sse({"error": shown, **_error_chunk(base)})))
        record = call.record("ok", 200)
        record.ttft_ms = self._ttft_ms
        record.response = self._folded(None, None)
        self._estimate(record)
        call.fail(failure, 200, shown["code"], target, record)

    def client_gone(self) -> None:
        """The client left: the provider's connection is closed now."""
        if self._closed:
            return
        self._closed = True
        call, target = self._call, self._opened.target
        self._drop()
        gone = Failure("cancelled", "the client left before the stream was complete")
        if call.attempts:
            call.attempts[-1].failure = gone
            call.attempts[-1].ended = _now()
        record = call.record("client_cancelled", 200)
        record.ttft_ms = self._ttft_ms
        record.response = self._folded(None, None)
        self._estimate(record)
        call.fail(gone, 499, "client_cancelled", target, record)

    def _drop(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    # ---------------------------------------------------------------- the client's pace
    def pause(self) -> None:
        """Stops reading from the provider."""
        if self._answer is not None and not self._paused:
            self._paused = True
            self._answer.pause()

    def resume(self) -> None:
        """Reads on."""
        if self._answer is not None and self._paused:
            self._paused = False
            self._answer.resume()

    def tick(self, now: float) -> None:
        """Keeps the connection of a waiting client alive, and bounds the whole call."""
        if self._closed:
            return
        if _now() > self._limit:
            # the provider was talking all the while
            self.broken(Failure("timeout", "the request took longer than it may in all"), blame=False)
        elif now - self._out.written >= self._keepalive:
            self._out.write(_KEEPALIVE)

    # ---------------------------------------------------------------- what it said
    def _message(self) -> dict[str, Any]:
        if self._relay is not None:
            return self._relay.message()
        fold = MessageFold()
        for chunk in self._opened.chunks:
            fold.add(chunk)
        return fold.message()

    def _folded(self, last: Chunk | None, usage: Any) -> bytes | None:
        """The stream as the `chat.completion` it would have been; None where no text is kept."""
        call = self._call
        if call.snapshot.config.traces.content == "none" or (call.tags is not None and not call.tags.store):
            return None
        first = self._opened.chunks[0] if self._opened.chunks else {}
        return folded(first, self._message(), finish_of(last), usage)

    def _estimate(self, record: TraceRecord) -> None:
        """Nobody told the usage of a stream that broke: counted from the texts, and said to be so."""
        text = self._message()
        said = len(text.get("content") or "") + len(text.get("reasoning_content") or "")
        record.tokens_out = -(-said // 4)
        record.tokens_in = -(-len(self._call.exchange.body) // 4)
        record.cost_estimated = True


def _error_chunk(base: Chunk) -> Chunk:
    """The error event is also a chunk with finish_reason "error", for clients that only read chunks."""
    names = ("id", "created", "model")
    shown: Chunk = {name: base[name] for name in names if name in base}
    return {
        **shown,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
    }

"""A usual streamed call, the short way: clean events go from the provider to the client as the bytes they are.

Up to its first content nothing has been shown, and for anything unusual a `ServedCall` takes over with all that came,
as for a plain call. After that a `Stream` does, from the event on that is unusual: the client cannot tell.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentracy.core.forwarding import ForwardedStream
from opentracy.core.plan import Opened
from opentracy.core.relay import tail
from opentracy.core.wire import Attempt, Failure, HttpHead
from opentracy.transport.aanswer import Answer

from .direct_call import DirectCall
from .lane import routing_headers
from .paced import PacedWriter
from .stream import EVENTS, NO_CACHE, Stream

if TYPE_CHECKING:

    from .served import ServedCall

log = logging.getLogger("opentracy.engine")
_now = time.monotonic


class DirectStream(DirectCall):
    """One such call. From the head on it holds the open answer; from the first content on it is the answer's sink."""

    __slots__ = (
        "_answer", "_committed", "_forwarded", "_idle", "_out", "_over", "_progress", "_ttft_ms", "_wanted",
    )  # fmt: skip

    streams = True

    def _prepare(self, wanted: bool) -> None:
        self._answer: Answer | None = None
        self._forwarded: ForwardedStream | None = None
        self._committed = 0.0  # when the first content was there; 0 before
        self._over = False
        self._wanted = wanted

    # ---------------------------------------------------------------- a waiter of the connection
    def done(self) -> bool:
        """Whether nothing more is to be heard."""
        return self._over or self._committed > 0

    def set_result(self, result: None, /) -> None:
        """Something arrived, or the connection ended."""
        answer = self._answer
        if answer is None:
            connection = self._connection
            if connection is None or not connection.begun():
                return
            self._connection = None
            outcome = self.engine.transport.outcome(connection)
            if type(outcome) is not Answer:
                self._over = True
                self._goes_on(outcome)
                return
            self._answer = answer = outcome
            if answer.head.status != 200 or answer.head.content_type != self._lane.forwarding.events:
                self._before_content()
                return
            self._forwarded = self._lane.forwarding.stream(answer.head, self)
        self._first(answer)

    def _first(self, answer: Answer) -> None:
        """Looks for content in all that has come so far; what is not taken remains for whoever goes on."""
        forwarded = self._forwarded
        assert forwarded is not None
        data = answer.peek()
        out = forwarded.open(data) if data else b""
        if out:
            answer.poll()
            self._commit(answer, out)
        elif out is None or answer.over:
            self._before_content()
        else:
            answer.notify(self._deadline, self)

    def set_exception(self, exception: TimeoutError, /) -> None:
        """The deadline passed."""
        if self._answer is None:
            super().set_exception(exception)
            return
        call = self._before_content()
        if call.drive is not None:
            call.drive.set_exception(exception)

    def _before_content(self) -> ServedCall:
        """A `ServedCall` goes on with an answer of which nothing was shown."""
        answer, self._answer = self._answer, None
        self._over = True
        return self._goes_on(answer)

    # ---------------------------------------------------------------- from the first content on
    def _commit(self, answer: Answer, out: bytes) -> None:
        engine, exchange, lane = self.engine, self.exchange, self._lane
        forwarded = self._forwarded
        assert forwarded is not None
        self._committed = now = _now()
        self._ttft_ms = round((now - self.started) * 1000, 3)
        limits = engine.state.config.limits
        self._idle = lane.resolved.timeout or limits.idle
        self._progress = forwarded.progress
        engine.health.succeeded(lane.target.name)
        marker = self.trace_id.encode()
        headers = lane.headers % (marker, marker)
        if self._routed is not None:
            headers += routing_headers(self._routed.routing, self._routing_ms)
        exchange.open_stream(200, EVENTS, headers + NO_CACHE, out)
        self._out = PacedWriter(exchange)
        if forwarded.done:
            self._finished()
        elif forwarded.odd or exchange.connection.paused_at:
            self._not_usual()
        else:
            answer.attach(self, now + self._idle)

    def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
        """Provider bytes."""
        forwarded = self._forwarded
        assert forwarded is not None
        try:
            out = forwarded.feed(data, cut)
        except Exception:
            log.exception("request %s: forwarding failed", self.trace_id)
            stream = self._not_usual().stream
            if stream is not None:
                stream.broken(Failure("bad_event", "the engine could not read the provider's stream"))
            return
        if out:
            self._out.write(out)
        progress = forwarded.progress
        if progress != self._progress:
            self._progress = progress
            if self._answer is not None:
                self._answer.extend(self.engine.server.now_monotonic + self._idle)
        if forwarded.odd:
            self._not_usual()
        elif forwarded.done:
            self._finished()

    def end(self, failure: Failure | None) -> None:
        """The provider's body ended before its end marker, well or not."""
        if self._over:
            return
        self._answer = None
        forwarded = self._forwarded
        assert forwarded is not None
        if failure is None:
            out = forwarded.close()
            if out:
                self._out.write(out)
            if forwarded.done:
                self._finished()
                return
        stream = self._not_usual().stream
        if stream is not None:
            stream.end(failure)

    def _finished(self) -> None:
        answer, forwarded, lane = self._answer, self._forwarded, self._lane
        assert forwarded is not None
        self._answer = None
        self._over = True
        if answer is not None:
            answer.finish()
        usage, finish = forwarded.usage, forwarded.finish_reason
        assert usage is not None and finish is not None
        price = self._price(forwarded.model, usage)
        now = _now()
        latency = round((now - self.started) * 1000, 3)
        cost = b"null" if price is None else b"%.9f" % (price.total / 1e9)
        extras = self._extras(cost, latency, self.trace_id.encode())
        data = tail(forwarded.last(), include_usage=self._wanted, extras=extras)
        request = self.exchange.body
        self.exchange.finish(self._out.rest(data))
        kept = self.engine.state.config.traces.content != "none"
        record = self._record(finish, usage, price, latency, request, forwarded.response() if kept else None)
        self.engine.health.active[lane.target.provider] -= 1
        record.stream = True
        record.ttft_ms = record.attempts[0].ttft_ms = self._ttft_ms
        self._done(record, latency, usage, price)

    # ---------------------------------------------------------------- anything else
    def _not_usual(self) -> ServedCall:
        """A `ServedCall` goes on with what comes next, and with its `Stream` if that has not ended there and then."""
        answer, forwarded, target = self._answer, self._forwarded, self._lane.target
        assert forwarded is not None
        self._answer = None
        self._over = True
        call = self._general()
        sent = Attempt(target, "first", self.started, dropped=self._dropped)
        sent.status, sent.ended = 200, self._committed
        call.attempts.append(sent)
        head = HttpHead(200, {}) if answer is None else answer.head
        decoder, chunks, relay = forwarded.go_on(call.call(), target, head.headers)
        opened = Opened(decoder, chunks, target, call.attempts, head, False, 0.0)
        call.stream = stream = Stream(call, opened, answer)
        stream.go_on(relay, self._out, self._ttft_ms)
        return call

    # ---------------------------------------------------------------- owner of the exchange
    def client_gone(self) -> None:
        """The client left."""
        self._handed_over().client_gone()

    def client_paused(self) -> None:
        """The client is slow: so is the provider, from here on."""
        if self._committed:
            self._not_usual()

    def tick(self, now: float) -> None:
        """A few times a second: the whole call is bounded, and a client that waits hears that we are there."""
        if self._committed and not self._over:
            limits = self.engine.state.config.limits
            if _now() - self.started > limits.total or now - self._out.written >= limits.keepalive:
                self._not_usual().tick(now)

    def stop(self) -> None:
        """The engine shuts down."""
        self._handed_over().stop()

    def _handed_over(self) -> ServedCall:
        if self._committed:
            return self._not_usual()
        return self._hand_over() if self._answer is None else self._before_content()

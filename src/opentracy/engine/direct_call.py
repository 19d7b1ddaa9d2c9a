"""A usual call on its way, from its request to its clean answer.

It performs the first step of the plan as the plan would, and if the answer is what nearly every answer is, the call is
over. Whatever else comes, a `ServedCall` takes over: its plan begins after that first request, with what came of it, so
retries, fallbacks and failures are decided in one place only. Streams: `direct_stream`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from opentracy.core.forwarding import Forwarded
from opentracy.core.jsonio import encode
from opentracy.core.pricing import Cost, cost_of_plain
from opentracy.core.usage import CleanUsage
from opentracy.traces import Attempt, TraceRecord

from .auth import Identity
from .exchange import Exchange
from .lane import Lane, routing_headers
from .record import add_details, add_routing
from .route import Routed

if TYPE_CHECKING:
    from opentracy.transport.aconnection import Connection

    from .app import Engine
    from .served import ServedCall

_monotonic = time.monotonic
_time_ns = time.time_ns
_NO_HEADERS: Mapping[str, str] = {}


class DirectCall:
    """One such call, up to its clean answer. It owns its exchange until then, or until a `ServedCall` takes over."""

    __slots__ = (
        "_connection", "_deadline", "_dropped", "_lane", "_routed", "_routing_ms", "engine", "exchange", "identity",
        "requested", "slot", "started", "trace_id", "ts_ms",
    )  # fmt: skip

    streams = False

    def __init__(
        self,
        engine: Engine,
        exchange: Exchange,
        identity: Identity,
        lane: Lane,
        connection: Connection,
        requested: str,
        body: bytes,
        dropped: tuple[str, ...],
        routed: Routed | None,
        routing_ms: float | None,
        wanted: bool,
    ) -> None:
        """Sends the request. `routed`, `routing_ms`: what `auto` decided and how long it took. `wanted`: the client of
        a stream asked for the usage."""
        self.engine = engine
        self.exchange = exchange
        self.identity = identity
        self.requested = requested
        self._lane = lane
        self._dropped = dropped
        self._routed = routed
        self._routing_ms = routing_ms
        self._connection: Connection | None = connection
        self.ts_ms = ts_ms = _time_ns() // 1_000_000
        self.trace_id = trace_id = engine.new_id(ts_ms)
        self.started = started = _monotonic()
        engine.calls.add(self)
        self.slot = engine.traces.begin(trace_id, ts_ms, requested, identity.key_id)
        engine.health.active[lane.target.provider] += 1
        exchange.owner = self
        if self.streams:
            self._prepare(wanted)
            seconds, head = lane.first, lane.stream_head
        else:
            seconds, head = lane.seconds, lane.whole_head
        self._deadline = deadline = started + seconds
        payload = b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        taker = self._take if lane.verbatim and not self.streams else None
        connection.begin(payload, deadline, self, stream=self.streams, taker=taker)

    def _prepare(self, wanted: bool) -> None:
        """What a stream needs before anything of it can arrive."""

    def _take(self, body: bytes) -> bool:
        """The body of a good answer that came at once, if it is a clean one. Nobody has looked at its head."""
        answer, connection = self._lane.forwarding.answer(body, _NO_HEADERS, self), self._connection
        if answer is None or connection is None:
            return False
        self._connection = None
        self.engine.transport.keep(connection)
        self._answered(*answer)
        return True

    # ---------------------------------------------------------------- a waiter of the connection
    def done(self) -> bool:
        """Whether nothing more is to be heard."""
        return self._connection is None

    def set_result(self, result: None, /) -> None:
        """Something arrived, or the connection ended."""
        connection = self._connection
        if connection is None or not connection.begun():
            return
        self._connection = None
        transport = self.engine.transport
        whole = transport.whole(connection)
        if whole is None:
            self._goes_on(transport.outcome(connection))
            return
        if whole.status == 200:
            answer = self._lane.forwarding.answer(whole.body, whole.headers, self)
            if answer is not None:
                self._answered(*answer)
                return
        self._goes_on(whole)

    def set_exception(self, exception: TimeoutError, /) -> None:
        """The deadline passed."""
        call = self._hand_over()
        if call.drive is not None:
            call.drive.set_exception(exception)

    # ---------------------------------------------------------------- the clean answer
    def _answered(self, answer: Forwarded, body: bytes) -> None:
        lane, usage = self._lane, answer.usage
        price = self._price(answer.model, usage)
        marker = self.trace_id.encode()
        latency = int((_monotonic() - self.started) * 1e6) / 1000
        if price is None:
            cost, headers = b"null", lane.headers % (marker, marker)
        else:
            cost = b"%.9f" % (price.total / 1e9)  # nano-USD exactly, and a JSON number
            headers = lane.priced_headers % (marker, marker, cost)
        inside = body[:-1] if body.endswith(b"}") else body.rstrip()[:-1]
        body = b"%b,%b}" % (inside, self._extras(cost, latency, marker))
        if self._routed is not None:
            headers += routing_headers(self._routed.routing, self._routing_ms)
        request = self.exchange.body
        self.exchange.respond_json(body, headers)
        record = self._record(answer.finish_reason, usage, price, latency, request, body)
        self.engine.health.answered(lane.target.provider, lane.target.name)
        self._done(record, latency, usage, price)

    def _price(self, served: str, usage: CleanUsage) -> Cost | None:
        target = self._lane.target
        at = self.ts_ms / 1000
        price = cost_of_plain(target.provider, target.model, usage, at)
        if price is None and served != target.model:
            price = cost_of_plain(target.provider, served, usage, at)
        return price

    def _extras(self, cost: bytes, latency: float, marker: bytes) -> bytes:
        """The four extras of the contract, as members of an object."""
        before_cost, before_latency, before_trace = self._lane.extras
        routed, more = self._routed, b""
        if routed is not None:
            before_trace = self._lane.auto_extras
            more = b',%b,"routing_ms":%a' % (routed.members, self._routing_ms)
        if self._dropped:
            more += b',"dropped_params":%b' % encode(self._dropped)
        return b"".join((before_cost, cost, before_latency, b"%a" % latency, before_trace, marker, b'"', more, b"}"))

    def _done(self, record: TraceRecord, latency: float, usage: CleanUsage, price: Cost | None) -> None:
        """The client has its answer, and this is its trace."""
        engine, lane = self.engine, self._lane
        target = lane.target
        engine.traces.put(record)
        engine.calls.discard(self)
        engine.traces.end(self.slot)
        tally = lane.tally
        if tally is None:
            tally = lane.tally = engine.metrics.answers_of(target.provider, target.model)
        total = None if price is None else price.total
        engine.metrics.answered(tally, latency, usage.prompt_tokens, usage.completion_tokens, total, record.ttft_ms)
        if self._routed is not None:
            engine.metrics.decided(target.provider, target.model, record.cluster_id)

    def _record(
        self, finish: str, usage: CleanUsage, price: Cost | None, latency: float, request: bytes, response: bytes | None
    ) -> TraceRecord:
        lane, target = self._lane, self._lane.target
        tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
        total = None if price is None else price.total
        attempt = Attempt(target.name, target.provider, 200, None, 0.0, latency, 0, tokens_in, tokens_out, total)
        record = replace(
            lane.record, trace_id=self.trace_id, ts_ms=self.ts_ms, requested_model=self.requested,
            key_id=self.identity.key_id, finish_reason=finish, attempts=[attempt], latency_ms=latency,
            tokens_in=tokens_in, tokens_out=tokens_out, request=request, response=response,
        )  # fmt: skip
        if price is not None:
            record.cost_source = "table"
            record.cost_nano = price.total
            record.cost_in_nano = price.total - price.output
            record.cost_out_nano = price.output
        if not usage.flat:
            add_details(record, usage.as_dict())
        else:  # where the provider reports these, it reports none
            if usage.prompt_tokens_details is not UNSET:
                record.tokens_cached = 0
            if usage.completion_tokens_details is not UNSET:
                record.tokens_reasoning = 0
        if self._routed is not None:
            record.alias = None
            add_routing(record, self.routing())
        return record

    # ---------------------------------------------------------------- anything else
    def _general(self) -> ServedCall:
        """The call that goes on in this one's place."""
        from .served import ServedCall  # it knows this module

        if self._routed is None:
            return ServedCall.in_place_of(self, self._lane.resolved, None)
        return ServedCall.in_place_of(self, self._routed.resolved, self.routing())

    def routing(self) -> dict[str, Any]:
        """What `auto` says of this call."""
        routed = self._routed
        assert routed is not None
        return {**routed.routing, "routing_ms": self._routing_ms, "selected_by_router": routed.first}

    def _goes_on(self, outcome: Any) -> ServedCall:
        call = self._general()
        call.go_on(self.started, None, self._deadline)
        call.answered(outcome)
        return call

    def _hand_over(self) -> ServedCall:
        """As `_general`, while the answer is still to come: the connection goes with it."""
        connection, self._connection = self._connection, None
        call = self._general()
        call.go_on(self.started, connection, self._deadline)
        return call

    # ---------------------------------------------------------------- owner of the exchange
    def client_gone(self) -> None:
        """The client left."""
        self._hand_over().client_gone()

    def client_paused(self) -> None:
        """The client is slow: nothing was written yet that it could be slow with."""

    def client_resumed(self) -> None:
        """The client caught up."""

    def tick(self, now: float) -> None:
        """A few times a second: the connection has its own deadline."""

    def stop(self) -> None:
        """The engine shuts down."""
        self._hand_over().stop()

"""The usual call, the short way: a text request to a provider that speaks OpenAI, and its clean answer.

It performs the first step of the plan as the plan would, and if the answer is what nearly every answer is, the call is
over. Whatever else comes, a `ServedCall` takes over: its plan begins after that first request, with what came of it, so
retries, fallbacks, streams and failures are decided in one place only. This is the hottest code there is; what it looks
up it looks up once, and what is the same for all requests of a model stands in its `Lane`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentracy.core.jsonio import encode
from opentracy.core.pricing import Cost, cost_of_plain
from opentracy.core.usual import doubled, more_keys, read_usual
from opentracy.core.wire import Forwarded
from opentracy.traces import Attempt, TraceRecord

from .auth import Identity
from .errors import Refused
from .http import Exchange
from .lane import Lane, lane_of, routing_headers
from .record import add_routing
from .route import Routed, auto_usual
from .state import Snapshot

if TYPE_CHECKING:
    from opentracy.transport.aconnection import Connection

    from .app import Engine
    from .chat import ServedCall

_monotonic = time.monotonic
_time_ns = time.time_ns


def direct(engine: Engine, exchange: Exchange) -> bool:
    """Starts the call when it is a usual one; False when it has to go the general way."""
    head = exchange.head
    assert head is not None
    snapshot, identity, plain = head.admitted
    if not plain or snapshot is not engine.state or engine.server.draining:
        return False
    data = exchange.body
    chat = read_usual(data)
    if chat is None:
        return False
    requested, streaming = chat.model, chat.stream is True
    routed: Routed | None = None
    if requested == "auto":
        started = _monotonic()
        try:
            routed = auto_usual(snapshot, engine.health, chat)
        except Refused:
            return False  # the general way says why
        lane: Any = routed.lane or _lane(snapshot, routed)
        ms = round((_monotonic() - started) * 1000, 3)
        guarded = len(routed.resolved.targets) > 1
    else:
        lanes = snapshot.lanes
        lane = lanes[requested] if requested in lanes else lane_of(snapshot, requested)
        ms, guarded = None, lane is not None and lane.guarded
    if lane is None or len(engine.calls) >= lane.room:
        return False
    if guarded and not engine.health.well(lane.target.name):
        return False
    written = lane.forwarding.request(chat)
    if written is None:
        return False
    body, dropped = written
    # as long as what came, but for the name: then nothing stood there twice, or was left out
    if len(body) + len(requested) - len(data) != lane.named and more_keys(data, body) and doubled(data, chat):
        return False
    connection = engine.transport.ready(lane.origin)
    if connection is None:
        return False
    if connection.proxy is not None:
        engine.transport.release(connection)
        return False
    DirectCall(engine, exchange, identity, lane, connection, requested, body, streaming, dropped, routed, ms)
    return True


def _lane(snapshot: Snapshot, routed: Routed) -> Lane | None:
    """The lane of what `auto` chose, and its routing as it stands in answers."""
    name = routed.resolved.targets[0].name
    lane = snapshot.lanes[name] if name in snapshot.lanes else lane_of(snapshot, name)
    routed.members = encode(routed.routing)[1:-1]
    routed.lane = lane
    return routed.lane  # type: ignore[no-any-return]


class DirectCall:
    """One such call, up to its clean answer. It owns its exchange until then, or until a `ServedCall` takes over."""

    __slots__ = (
        "_connection", "_deadline", "_dropped", "_lane", "_routed", "_routing_ms", "engine", "exchange", "identity",
        "requested", "slot", "started", "trace_id", "ts_ms",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        exchange: Exchange,
        identity: Identity,
        lane: Lane,
        connection: Connection,
        requested: str,
        body: bytes,
        streaming: bool,
        dropped: tuple[str, ...],
        routed: Routed | None,
        routing_ms: float | None,
    ) -> None:
        """Sends the request. `routed`, `routing_ms`: what `auto` decided and how long it took."""
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
        self.slot = engine.traces.begin(trace_id, ts_ms, requested, identity)
        engine.health.active[lane.target.provider] += 1
        exchange.owner = self
        seconds = lane.first if streaming else lane.seconds
        self._deadline = deadline = started + seconds
        head = lane.stream_head if streaming else lane.whole_head
        payload = b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        connection.begin(payload, deadline, self, stream=streaming)

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
            body = whole.body
            answer = self._lane.forwarding.answer(body)
            if answer is not None:
                self._answered(answer, body)
                return
        self._goes_on(whole)

    def set_exception(self, exception: TimeoutError, /) -> None:
        """The deadline passed."""
        call = self._hand_over()
        if call.drive is not None:
            call.drive.set_exception(exception)

    # ---------------------------------------------------------------- the clean answer
    def _answered(self, answer: Forwarded, body: bytes) -> None:
        engine, lane, trace_id = self.engine, self._lane, self.trace_id
        target, usage = lane.target, answer.usage
        price = cost_of_plain(target.provider, target.model, usage)
        if price is None and answer.model != target.model:
            price = cost_of_plain(target.provider, answer.model, usage)
        marker = trace_id.encode()
        latency = round((_monotonic() - self.started) * 1000, 3)
        before_cost, before_latency, before_trace = lane.extras
        routed, more = self._routed, b""
        if routed is not None:
            before_trace = lane.auto_extras
            more = b',%b,"routing_ms":%a' % (routed.members, self._routing_ms)
        if self._dropped:
            more += b',"dropped_params":%b' % encode(self._dropped)
        if price is None:
            total, cost, headers = None, b"null", lane.headers % (marker, marker)
        else:
            total = price.total
            cost = b"%.9f" % (total / 1e9)  # nano-USD exactly, and a JSON number
            headers = lane.priced_headers % (marker, marker, cost)
        inside = body[:-1] if body.endswith(b"}") else body.rstrip()[:-1]
        body = b"".join(
            (inside, before_cost, cost, before_latency, b"%a" % latency, before_trace, marker, b'"', more, b"}}")
        )
        if routed is not None:
            headers += routing_headers(routed.routing, self._routing_ms)
        request = self.exchange.body
        self.exchange.respond_json(body, headers)
        record = self._record(answer, price, latency, request, body)
        engine.traces.put(record)
        engine.calls.discard(self)
        engine.traces.end(self.slot)
        engine.health.answered(target.provider, target.name)
        tally = lane.tally
        if tally is None:
            tally = lane.tally = engine.metrics.answers_of(target.provider, target.model)
        engine.metrics.answered(tally, latency, usage.prompt_tokens, usage.completion_tokens, total)
        if routed is not None:
            engine.metrics.decided(target.provider, target.model, record.cluster_id)

    def _record(
        self, answer: Forwarded, price: Cost | None, latency: float, request: bytes, response: bytes
    ) -> TraceRecord:
        engine, lane, usage = self.engine, self._lane, answer.usage
        target, tokens_in, tokens_out = lane.target, usage.prompt_tokens, usage.completion_tokens
        total = None if price is None else price.total
        attempt = Attempt(target.name, target.provider, 200, None, 0.0, latency, 0, tokens_in, tokens_out, total)
        record = TraceRecord(
            self.trace_id, self.ts_ms, "ok", 200, self.requested, target.model, target.provider, lane.resolved.alias,
            None, self.identity.key_id, config_hash=engine.state.hash, finish_reason=answer.finish_reason,
            attempts=[attempt], latency_ms=latency, tokens_in=tokens_in, tokens_out=tokens_out, cost_nano=total,
            engine_version=engine.version, request=request, response=response,
        )  # fmt: skip
        if price is not None:
            record.cost_source = "table"
            record.cost_in_nano = price.total - price.output
            record.cost_out_nano = price.output
        if not usage.flat:
            _add_details(record, usage)
        if self._routed is not None:
            record.alias = None
            add_routing(record, self.routing())
        return record

    # ---------------------------------------------------------------- anything else
    def _general(self) -> ServedCall:
        """The call that goes on in this one's place."""
        from .chat import ServedCall  # it knows this module

        if self._routed is None:
            return ServedCall.in_place_of(self, self._lane.resolved, None)
        return ServedCall.in_place_of(self, self._routed.resolved, self.routing())

    def routing(self) -> dict[str, Any]:
        """What `auto` says of this call."""
        routed = self._routed
        assert routed is not None
        return {**routed.routing, "routing_ms": self._routing_ms, "selected_by_router": routed.first}

    def _goes_on(self, outcome: Any) -> None:
        call = self._general()
        call.go_on(self.started, None, self._deadline)
        call.answered(outcome)

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
        """Nothing was written yet that it could be slow with."""

    def client_resumed(self) -> None:
        """As before."""

    def tick(self, now: float) -> None:
        """The connection has its own deadline."""

    def stop(self) -> None:
        """The engine shuts down."""
        self._hand_over().stop()


def _add_details(record: TraceRecord, usage: Any) -> None:
    if usage.prompt_tokens_details:
        record.tokens_cached = usage.prompt_tokens_details.cached_tokens
    if usage.completion_tokens_details:
        record.tokens_reasoning = usage.completion_tokens_details.reasoning_tokens

"""One call from the first request to a provider to its trace: what comes of it, and what the answer carries.

Belongs here: the order of things for one call in the general way. Not here: what comes before (`asked`), how a stream
runs once it has begun (`stream`), what a trace says of attempts and costs (`record`).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentracy.core.jsonio import encode
from opentracy.core.plan import Completed, Opened, PlanFailed, Policy, Run, run
from opentracy.core.relay import finish_of
from opentracy.core.wire import Call, Failure, Passing, Target
from opentracy.traces import TraceRecord

from . import record as records
from .asked import AskedCall
from .direct_call import DirectCall
from .drive import Drive
from .errors import Refused, error_body, error_object, failure_object
from .idempotency import Recorder
from .lane import policy_of, routing_headers, served_by
from .state import Resolved
from .stream import Stream
from .tags import NOTHING

if TYPE_CHECKING:
    from opentracy.transport.aanswer import Answer
    from opentracy.transport.aconnection import Connection

log = logging.getLogger("opentracy.engine")
_now = time.monotonic
_LOCAL = frozenset({"model", "messages", "stream", "strict_params"})
_JSON = b"application/json"


class ServedCall(AskedCall):
    """One call from its request to its trace. It owns its exchange until the answer is complete."""

    stream: Stream | None = None
    drive: Drive | None = None
    guard: Any = None
    ended = False

    @classmethod
    def in_place_of(cls, call: DirectCall, resolved: Resolved, routing: dict[str, Any] | None) -> ServedCall:
        """Goes on with a call whose first request is on its way, or is answered; see `go_on`."""
        self = cls(call.engine, call.exchange, "chat")
        self.trace_id, self.ts_ms, self.started = call.trace_id, call.ts_ms, call.started
        self.identity, self.resolved, self.routing = call.identity, resolved, routing
        call.engine.replaced(call, self)
        call.exchange.owner = self
        self.read()
        return self

    def call(self) -> Call:
        """The request as dialects read it."""
        params = {k: v for k, v in self.body.items() if k not in _LOCAL and v is not None}
        return Call(
            self.body.get("messages") or [],
            params,
            stream=self.streaming,
            strict_params=self.body.get("strict_params") is True,
            created=self.ts_ms // 1000,
            fallback_id=self.trace_id,
            operation="chat" if self.operation == "chat" else "embedding",
            forwards=True,
        )

    def _policy(self) -> Policy:
        resolved, tags = self.resolved, self.tags
        assert resolved is not None and tags is not None
        usual = policy_of(self.snapshot, resolved)
        if tags is NOTHING:
            return usual
        total = usual.total if tags.timeout is None else min(usual.total or tags.timeout, tags.timeout)
        assert total is not None and usual.first_token is not None
        retries = resolved.num_retries if tags.num_retries is None else min(tags.num_retries, 2)
        times = min(usual.timeout, total), usual.connect, retries, min(usual.first_token, total), total
        return Policy(*times, max_wait=usual.max_wait)

    def _patience(self, policy: Policy) -> float:
        """Seconds that a provider may take by the configuration, where the caller gives less; else 0."""
        assert self.resolved is not None
        usual = policy_of(self.snapshot, self.resolved)
        if policy.total == usual.total:
            return 0.0
        return (usual.first_token if self.streaming else None) or usual.timeout

    def begin(self) -> None:
        """Starts the provider call."""
        assert self.resolved is not None
        self.engine.started(self, self.resolved.targets[0].provider)
        self.exchange.owner = self
        self.drive = Drive(self.engine.transport, self._plan(None), self)
        self.drive.start()

    def _plan(self, began: float | None) -> Run:
        assert self.resolved is not None
        policy = self._policy()
        self.guard = self.engine.health.guard(self._patience(policy), policy.connect)
        return run(
            self.call(), self.resolved.targets, policy, clock=_now, wall=time.time, uniform=random.random,
            guard=self.guard, attempts=self.attempts, began=began,
        )  # fmt: skip

    def go_on(self, began: float, connection: Connection | None, deadline: float) -> None:
        """After a first request that was sent at `began`: its answer is to come on `connection`, or is in hand and
        handed to `answered`."""
        self.drive = Drive(self.engine.transport, self._plan(began), self)
        self.drive.take_over(connection, deadline)

    def answered(self, outcome: Any) -> None:
        """What came of the first request, after `go_on`."""
        assert self.drive is not None
        self.drive.answered(outcome)

    # ---------------------------------------------------------------- what came of it
    def completed(self, done: Completed) -> None:
        """A whole answer."""
        try:
            self._answer(done)
        except Exception as e:
            self.failed(e)

    def opened(self, opened: Opened, answer: Answer | None) -> None:
        """A stream with its first content in hand."""
        self.stream = Stream(self, opened, answer)
        try:
            self.stream.start()
        except Exception as e:
            self.failed(e)

    def failed(self, problem: Exception) -> None:
        """It cannot be answered."""
        if self.ended:
            return
        if isinstance(problem, PlanFailed):
            self._exhausted(problem)
        elif isinstance(problem, ValueError) and self.drive is not None and not self.exchange.started:
            self._bad_request(problem)
        else:
            log.error("request %s failed", self.trace_id, exc_info=problem)
            self._bug()

    def _answer(self, done: Completed) -> None:
        target, response = done.target, done.response
        finish: str | None
        if type(response) is Passing:
            served, usage, finish = response.model, response.usage, response.finish_reason
        else:
            served, usage, finish = response.get("model"), response.get("usage"), finish_of(response)
        price = records.cost(target.provider, target.model, served, usage, self.ts_ms / 1000)
        extras = self.extras(target, price.usd if price is not None else None)
        body = response.with_extras(encode(extras)) if type(response) is Passing else encode({**response, **extras})
        headers = self.headers(target)
        if price is not None:
            headers += b"x-opentracy-cost-usd: %.9f\r\n" % price.usd
        strict = self.snapshot.config.traces.durability == "strict"
        if not strict:
            self.exchange.respond(200, body, _JSON, headers)
        record = self.record("ok", 200)
        record.model, record.provider = target.model, target.provider
        rows = record.attempts = records.attempt_rows(done.attempts, self.started, usage, price)
        records.add_usage(record, usage, price)
        if len(rows) > 1:
            record.fallback_from = rows[0].target if rows[0].target != target.name else None
            record.cost_nano = records.total_cost(rows)
        record.finish_reason = finish
        self.keep_response(record, body)
        if strict:
            self.after_commit(record, lambda: self.exchange.respond(200, body, _JSON, headers))
        else:
            self.engine.traces.put(record)
        self.end(record)

    def keep_response(self, record: TraceRecord, body: bytes | None) -> None:
        """The answer's text for the trace, unless the caller does not want it kept."""
        if self.tags is None or self.tags.store:
            record.response = body

    def after_commit(self, record: TraceRecord, then: Callable[[], None]) -> None:
        """With strict durability an answer is complete only once its trace is on disk."""
        loop = self.engine.loop
        future = self.engine.traces.put_durable(record)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(then))

    def _exhausted(self, problem: PlanFailed) -> None:
        """Every target failed: the last one's error is the answer."""
        self.attempts = problem.attempts
        target, failure = problem.failures[-1]
        status, shown = failure_object(failure, target.provider, self.trace_id)
        notes = [f"{t.name}: {f.message}"[:300] for t, f in problem.failures[:-1]]
        if notes:
            shown["earlier"] = notes
        headers = self.headers(target) + b"x-should-retry: false\r\n"
        if failure.retry_after is not None and failure.retry_after > 0:
            headers += b"retry-after: %d\r\n" % math.ceil(failure.retry_after)  # never sooner than asked
        elif status == 503:
            headers += b"retry-after: 1\r\n"
        self.exchange.respond(status, encode({"error": shown}), _JSON, headers)
        self.fail(failure, status, shown["code"], target)

    def _bad_request(self, problem: ValueError) -> None:
        """The dialect cannot say this (a local mistake of the caller's)."""
        self.settle(None)
        self.refuse(Refused(400, str(problem)[:2000]))
        self.end(None)

    def _bug(self) -> None:
        text = "The engine failed to answer; its log says why under this request id"
        if self.exchange.started:
            self.exchange.abort()
        else:
            self.exchange.respond(500, error_body(500, text, request_id=self.trace_id), _JSON, self.headers(None))
        record = self.record("upstream_error", 500)
        record.error_type, record.error_code, record.error_msg = "internal_error", "internal_error", text
        record.attempts = records.attempt_rows(self.attempts, self.started, None, None)
        self.engine.traces.put(record)
        self.end(record)

    def fail(self, failure: Failure, status: int, code: str, target: Target, record: TraceRecord | None = None) -> None:
        """The trace of a call that did not succeed, once its client has been told."""
        record = record or self.record("ok", status)
        record.model, record.provider = target.model, target.provider
        records.add_failure(record, failure, status, code)
        if failure.kind == "unavailable" and failure.message.startswith("the engine"):
            record.outcome = "interrupted"
        rows = record.attempts = records.attempt_rows(self.attempts, self.started, None, None)
        if self.stream is not None and rows:
            rows[-1].cost_nano = None  # it had begun to answer, so it may have been billed
        record.cost_nano = records.total_cost(rows)
        self.engine.traces.put(record)
        self.end(record)

    # ---------------------------------------------------------------- what answers carry
    def extras(self, target: Target, cost_usd: float | None) -> dict[str, Any]:
        """The four extras of the contract."""
        resolved = self.resolved
        assert resolved is not None
        routing: dict[str, Any] = {
            "requested_model": self.requested,
            "selected_model": target.model,
            "provider": target.provider,
            "attempts": sum([a.sent for a in self.attempts]),
            "trace_id": self.trace_id,
        }
        if resolved.alias is not None:
            routing["alias"] = resolved.alias
        if self.routing is not None:
            routing.update(self.routing)
            routing.pop("selected_by_router", None)
        dropped = self.attempts[-1].dropped if self.attempts else ()
        if dropped:
            routing["dropped_params"] = list(dropped)
        return {
            "_provider": target.provider,
            "_cost": cost_usd,
            "_latency_ms": round((_now() - self.started) * 1000, 3),
            "_routing": routing,
        }

    def headers(self, target: Target | None) -> bytes:
        """Header lines that every answer of this call carries."""
        trace_id = self.trace_id.encode()
        if target is None:
            lines = b"x-request-id: %b\r\nx-opentracy-trace-id: %b\r\n" % (trace_id, trace_id)
        else:
            lines = b"x-request-id: %b\r\nx-opentracy-trace-id: %b\r\n%bx-opentracy-attempts: %d\r\n" % (
                trace_id, trace_id, served_by(target), len(self.attempts),
            )  # fmt: skip
        if self.reservation is not None:
            lines += self.reservation.headers
        if self.routing is not None:
            lines += routing_headers(self.routing, self.routing.get("routing_ms"))
        return lines

    # ---------------------------------------------------------------- owner of the exchange
    def client_gone(self) -> None:
        """The client left: the provider is stopped, and the trace says how far it came."""
        if self.ended:
            return  # its answer is there, and only waits for its trace to be on disk
        if self.stream is not None:
            self.stream.client_gone()
        elif self.drive is not None:
            self.drive.cancel()
            self.cancelled()
        exchange: Any = self.exchange
        if isinstance(exchange, Recorder):
            exchange.gave_up()

    def client_paused(self) -> None:
        """The client is slow: so is the provider, from here on."""
        if self.stream is not None:
            self.stream.pause()

    def client_resumed(self) -> None:
        """The client caught up."""
        if self.stream is not None:
            self.stream.resume()

    def tick(self, now: float) -> None:
        """A few times a second."""
        if self.stream is not None:
            self.stream.tick(now)

    def stop(self) -> None:
        """The engine shuts down and this call is not through."""
        failure = Failure("unavailable", "the engine is shutting down")
        if self.stream is not None:
            self.stream.broken(failure)
        elif not self.ended:
            target = self.resolved.targets[0] if self.resolved is not None else None
            shown = error_object(503, failure.message, code="shutting_down", request_id=self.trace_id)
            self.exchange.respond(503, encode({"error": shown}), _JSON, self.headers(target) + b"retry-after: 1\r\n")
            if self.drive is not None:
                self.drive.cancel()
            self.cancelled()

    def cancelled(self) -> None:
        """The call was given up before it was committed."""
        assert self.resolved is not None
        now = _now()
        gone = Failure("cancelled", "the client left before the answer was complete")
        for attempt in self.attempts:
            if not attempt.ended:
                attempt.ended, attempt.failure = now, gone
        failure = gone if self.exchange.gone else Failure("unavailable", "the engine was shut down")
        target = self.attempts[-1].target if self.attempts else self.resolved.targets[0]
        record = self.record("client_cancelled", 499)
        record.cost_estimated = True
        self.fail(failure, 499 if self.exchange.gone else 503, failure.kind, target, record)

    # ---------------------------------------------------------------- the end
    def settle(self, record: TraceRecord | None) -> None:
        """Gives back what the call held: its place among the active ones, its retry, its reservation."""
        if self.guard is not None:
            self.guard.release()
        if self.resolved is not None:
            self.engine.finished(self, self.resolved.targets[0].provider)
        taken, self.reservation = self.reservation, None
        if taken is not None and self.engine.quotas is not None:
            nano = record.cost_nano if record is not None else 0
            tokens = (record.tokens_in or 0) + (record.tokens_out or 0) if record is not None else 0
            spent = record is not None and (bool(tokens) or nano != 0)
            self.engine.quotas.settle(taken, tokens or None, nano, spent=spent)

    def end(self, record: TraceRecord | None) -> None:
        """Nothing more happens to this call."""
        if not self.ended:
            self.ended = True
            self.settle(record)
            if record is not None:
                self.engine.observe(self, record)
            # both refer to the call: let go, so that everything is freed now, and not by the collector
            self.drive = self.stream = None

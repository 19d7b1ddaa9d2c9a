"""A call up to the moment it may begin: what was asked, whether it is allowed, and which targets are to be tried.

Belongs here: reading a request, finding its targets, Idempotency-Keys, taking from the limits of a virtual key, and
refusing. Not here: who may call at all (`chat`), what a valid request is (`validate`), what a name means (`state`,
`route`), everything from the first request to a provider on (`served`).
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from opentracy.core.wire import Attempt
from opentracy.traces import TraceRecord

from . import record as records
from .auth import Identity
from .errors import Refused
from .exchange import Exchange
from .idempotency import Answer as Earlier
from .idempotency import Recorder, replay
from .route import auto, auto_apart
from .state import Resolved
from .tags import NOTHING, Tags, read_tags
from .validate import check_chat, check_embedding, decode_body

if TYPE_CHECKING:
    from .app import Engine

_now = time.monotonic
_time_ns = time.time_ns
_JSON = b"application/json"


def refuse(exchange: Exchange, refusal: Refused, trace_id: str) -> None:
    lines = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode("latin-1", "replace")) for k, v in refusal.headers.items())
    lines += b"x-request-id: %b\r\nx-opentracy-trace-id: %b\r\n" % (trace_id.encode(), trace_id.encode())
    exchange.respond(refusal.status, refusal.body(trace_id), _JSON, lines)


class AskedCall(ABC):
    """One call that has not begun. What it leads to is a `ServedCall`."""

    identity: Identity | None = None
    body: dict[str, Any]
    requested = ""
    resolved: Resolved | None = None
    routing: dict[str, Any] | None = None
    streaming = False
    tags: Tags | None = None
    reservation: Any = None
    slot = -1

    def __init__(self, engine: Engine, exchange: Exchange, operation: str) -> None:
        self.engine = engine
        self.exchange = exchange
        self.operation = operation
        self.snapshot = engine.state
        self.started = _now()
        self.trace_id = engine.new_id()
        self.ts_ms = _time_ns() // 1_000_000
        self.attempts: list[Attempt] = []

    def read(self) -> None:
        """The body, checked."""
        self.body = {}  # for a trace of what could not be read
        self.body = body = decode_body(self.exchange.body)
        model = body.get("model")
        if isinstance(model, str):
            self.requested = model[:256]
        if self.operation == "chat":
            check_chat(body)
            self.streaming = body.get("stream") is True
        else:
            check_embedding(body)
        self.tags = read_tags(self.exchange.headers, body)

    def resolve(self) -> None:
        """Which targets are to be tried."""
        model = self.body["model"]
        allowed = self.identity.models if self.identity is not None else None
        if model == "auto":
            if self.operation != "chat":
                raise Refused(400, "'auto' chooses chat models; name an embedding model", param="model")
            self.resolved, self.routing = auto(self.snapshot, self.engine.health, self.body, allowed)
            return
        self.resolved = self.snapshot.resolve(model)
        if allowed is not None and model not in allowed and self.resolved.targets[0].name not in allowed:
            raise Refused(403, f"This key may not use {model}", code="model_not_allowed", param="model")

    def go(self) -> None:
        """On from the targets: the call begins, unless it is a replay or is counted elsewhere first."""
        if b"idempotency-key" in self.exchange.headers and not self.claim():
            return
        if self.reserve():
            self.begin()

    async def decide(self) -> None:
        """`resolve` and the rest where deciding takes time."""
        try:
            if self.operation == "chat":
                allowed = self.identity.models if self.identity is not None else None
                self.resolved, self.routing = await auto_apart(self.engine, self.snapshot, self.body, allowed)
            else:
                self.resolve()
            if self.exchange.gone:
                self.cancelled()
            else:
                self.go()
        except Refused as e:
            self.refuse(e)
        except Exception as e:
            self.failed(e)

    def claim(self) -> bool:
        """Whether this call is to be made; else its Idempotency-Key has its answer already, or will have."""
        replays, exchange = self.engine.replays, self.exchange
        if replays is None:
            return True

        def again() -> None:
            if not exchange.gone:
                self.engine.dispatch(exchange)

        key_id = self.identity.key_id if self.identity is not None else None
        found = replays.enter(key_id, exchange, exchange.headers[b"idempotency-key"], again)
        if isinstance(found, Earlier):
            replay(exchange, found)
            self.engine.metrics.replayed()
        elif found is not None:
            self.exchange = cast(Exchange, Recorder(exchange, replays, found, self.storable))
            return True
        return False

    def storable(self) -> bool:
        """Whether the texts of this call may be written down as they are."""
        virtual = self.identity.virtual if self.identity is not None else None
        kept = self.snapshot.config.traces.content == "all" and (self.tags is None or self.tags.store)
        return kept and (virtual is None or virtual.content in (None, "", "all"))

    def reserve(self) -> bool:
        """Counts the call under the limits of its virtual key, if it came with one. False where they are counted
        elsewhere: the call then begins, or is refused, as soon as that is known."""
        quotas, identity = self.engine.quotas, self.identity
        if quotas is None or identity is None or identity.virtual is None or self.resolved is None:
            return True
        key, target = identity.virtual, self.resolved.targets[0]
        if not key.may_use(self.requested):
            # an alias or `auto` that the key does not name leads only where the key may go itself
            targets = tuple(t for t in self.resolved.targets if key.may_use(t.name, t.model))
            if not targets:
                raise Refused(403, f"This key may not use {self.requested}", code="model_not_allowed", param="model")
            target = targets[0]
            self.resolved = dataclasses.replace(self.resolved, targets=targets)
        if quotas.far:
            self.exchange.owner = cast(Any, self)  # what goes on with it is one
            counted = quotas.later(key, self.body, len(self.exchange.body), target)
            counted.add_done_callback(lambda done: self.engine.loop.call_soon_threadsafe(self._reserved, done))
            return False
        self.reservation = quotas.take(key, self.body, len(self.exchange.body), target)
        return True

    def _reserved(self, counted: Future[Any]) -> None:
        """What came of counting elsewhere."""
        try:
            self.reservation = counted.result()
            if self.exchange.gone:
                self.cancelled()
            else:
                self.begin()
        except Refused as e:
            self.refuse(e)
        except Exception as e:
            self.failed(e)

    def refuse(self, refusal: Refused) -> None:
        """Ends the call before it began; the trace says why."""
        refuse(self.exchange, refusal, self.trace_id)
        record = self.record("shed" if refusal.code == "overloaded" else "rejected", refusal.status)
        record.error_type, record.error_code, record.error_msg = "refused", refusal.code, refusal.message[:500]
        self.engine.traces.put(record)
        self.engine.metrics.rejected(record)

    def record(self, outcome: str, status: int) -> TraceRecord:
        """A trace of this call as it stands now."""
        record = TraceRecord(self.trace_id, self.ts_ms, outcome, status, self.requested)
        record.operation = self.operation
        record.stream = self.streaming
        record.latency_ms = round((_now() - self.started) * 1000, 3)
        record.request = self.exchange.body
        record.config_hash = self.snapshot.hash
        record.engine_version = self.engine.version
        if self.identity is not None:
            record.key_id = self.identity.key_id
            virtual = self.identity.virtual
            if virtual is not None:
                record.project, record.content = virtual.project, virtual.content
        if "tools" in self.body:
            record.has_tools = True
        if self.resolved is not None:
            record.alias = self.resolved.alias
        if self.tags is not None and self.tags is not NOTHING:
            self.tags.put(record)
        if self.routing is not None:
            records.add_routing(record, self.routing)
        return record

    # ---------------------------------------------------------------- how it goes on
    @abstractmethod
    def begin(self) -> None:
        """Everything is in order: the first target is asked."""

    @abstractmethod
    def cancelled(self) -> None:
        """The call is given up before anything was answered."""

    @abstractmethod
    def failed(self, problem: Exception) -> None:
        """It cannot be answered."""

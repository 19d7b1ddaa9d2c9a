"""The engine of one worker: its parts, the hot routes, and the list of all others.

Belongs here: composition, admission and the counting of what is being served. Not here: what any route does, processes
and signals (`supervisor`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

import opentracy
from opentracy.traces import TraceRecord, new_trace_id
from opentracy.transport.aio import AioTransport

from . import questions
from .auth import Identity
from .bridge import Bridge
from .chat import chat, embeddings
from .configfile import located
from .cooldowns import Cooldowns
from .deciding import Decider
from .direct import direct
from .direct_call import DirectCall
from .errors import Refused, error_body
from .exchange import Exchange
from .health import Health
from .idempotency import Replays
from .learning import Learning
from .memory import body_budget, memory_limit
from .metrics import Metrics
from .quota import quotas
from .routes import Route, mount
from .served import ServedCall
from .server import HttpLimits, HttpServer
from .shadow import Shadow
from .sharedkeys import SharedKeys
from .state import Snapshot
from .table import ROUTES
from .tracing import Tracing

log = logging.getLogger("opentracy.engine")
Hot = Callable[["Engine", Exchange], None]

# called without any layer between; each checks the caller itself, with the scope named here
HOT: dict[bytes, tuple[str, str, Hot]] = {
    b"/v1/chat/completions": ("POST", "inference", chat),
    b"/v1/embeddings": ("POST", "inference", embeddings),
}


class Engine:
    """Everything that one worker holds."""

    version = opentracy.__version__
    new_id = staticmethod(new_trace_id)

    def __init__(
        self,
        state: Snapshot,
        tracing: Tracing,
        *,
        reload: Callable[[], Snapshot] | None = None,
        parent: int | None = None,
    ) -> None:
        self.state = state
        self.traces = tracing
        shared = state.config.redis
        url = located(shared.url, os.environ, "redis.url")
        self.quotas = quotas(tracing.store.path.parent, shared, url) if tracing.store is not None else None
        if self.quotas is not None:
            state.keys.use(self.quotas.identify)
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics(self)
        self.direct = partial(direct, self)
        self.health = Health(time.monotonic, random.random)
        self.learning, self.shadow = Learning(self), Shadow(self)
        self._cooldowns = Cooldowns(url, shared.prefix, self.health, self.loop) if url is not None else None
        home = tracing.store.path.parent if tracing.store is not None else None
        self._keys = SharedKeys(home, url, shared.prefix) if url is not None and home is not None else None
        self.transport = AioTransport(limit=max(2000, state.config.server.max_in_flight))
        self.calls: set[ServedCall | DirectCall] = set()
        self.decider = Decider()
        self.deciding: set[asyncio.Task[None]] = set()  # calls whose router takes its time
        self.reports: dict[tuple[str, str], asyncio.Future[Any]] = {}  # being made just now, by what was asked
        self.begun = time.time()
        self.config_path: str | None = None  # what a reload reads; None for the defaults
        self._reload = reload
        self._parent = parent
        server, limits = state.config.server, state.config.limits
        self.server = HttpServer(
            self.dispatch,
            HttpLimits(
                max_body=int(server.max_body_mb * (1 << 20)), max_connections=server.max_connections,
                max_held=body_budget(memory_limit(), server.workers),
                header_timeout=limits.header, body_timeout=limits.body, write_stall=limits.write_stall,
            ),
        )  # fmt: skip
        self.server.on_sweep = self.metrics.flush
        self._app = Starlette(
            routes=[mount(self, route) for route in ROUTES],
            exception_handlers={404: _missing, 405: _wrong_method, Exception: _bug},
        )
        self._app.router.redirect_slashes = False  # a redirect would be made from what the caller says is our name
        self._hot: dict[bytes, tuple[str, Hot]] = {path: (m, handler) for path, (m, _, handler) in HOT.items()}

    @cached_property
    def replays(self) -> Replays | None:
        """The answers under Idempotency-Keys; None without a data directory to keep them in."""
        store = self.traces.store
        return None if store is None else Replays(store.path.parent, self.loop.call_later)

    @property
    def routes(self) -> list[Route]:
        """Every route that is not hot."""
        return list(ROUTES)

    # ---------------------------------------------------------------- requests
    def dispatch(self, exchange: Exchange) -> None:
        """Called with every whole request."""
        hot = self._hot.get(exchange.path)
        if hot is not None:
            if exchange.method == hot[0]:
                hot[1](self, exchange)
            else:
                lines = b"allow: %b\r\n" % hot[0].encode()
                exchange.respond(405, error_body(405, f"Use {hot[0]}"), b"application/json", lines)
            return
        try:
            self.state.hosts.check(exchange.headers, http11=exchange.http11)
        except Refused as e:
            exchange.respond(e.status, e.body())
            return
        if exchange.head is not None:  # what several requests share lacks this one's length
            exchange.headers = {**exchange.headers, b"content-length": b"%d" % len(exchange.body)}
        Bridge(self._app, exchange, self.loop)

    @property
    def has_room(self) -> bool:
        """Whether one more call may begin."""
        return len(self.calls) < self.state.config.server.max_in_flight and not self.server.draining

    def admit(self, identity: Identity | None) -> None:
        """Refused 503 at once when this worker has as much as it can do."""
        if not self.has_room:
            text = "The engine is shutting down" if self.server.draining else "The engine is serving as much as it can"
            raise Refused(503, text, code="overloaded", headers={"retry-after": "1"})

    def started(self, call: ServedCall | DirectCall, provider: str) -> None:
        """A call begins, at this provider first."""
        self.calls.add(call)
        key_id = call.identity.key_id if call.identity is not None else None
        call.slot = self.traces.begin(call.trace_id, call.ts_ms, call.requested, key_id)
        self.health.active[provider] += 1

    def finished(self, call: ServedCall | DirectCall, provider: str) -> None:
        """A call is over; may be said twice. `provider`: as said when it started."""
        if call in self.calls:
            self.calls.discard(call)
            self.traces.end(call.slot)
            self.health.active[provider] -= 1

    def replaced(self, call: DirectCall, by: ServedCall) -> None:
        """A call goes on in another form."""
        self.calls.discard(call)
        self.calls.add(by)
        by.slot = call.slot

    def observe(self, call: ServedCall, record: TraceRecord) -> None:
        """A call has its trace."""
        self.metrics.observe(record)

    # ---------------------------------------------------------------- life
    def fresh_state(self) -> Snapshot:
        """The configuration as it is now, ready to be swapped in; ConfigError when it cannot be used."""
        return self.state if self._reload is None else self._reload()

    def swap(self, fresh: Snapshot) -> None:
        """From here on requests are served by this snapshot; those under way keep the one they began with."""
        if fresh is not self.state:
            if self.quotas is not None:
                fresh.keys.use(self.quotas.identify)
            self.learning.onto(fresh)
            self.state = fresh
            self.traces.renew(fresh.config)
            self.health.forget()
            log.info("configuration reloaded (%s)", fresh.hash)

    def tell_siblings(self) -> None:
        """The other workers reload too: the parent passes the signal on."""
        if self._parent is not None:
            os.kill(self._parent, signal.SIGHUP)

    async def shut_down(self, seconds: float) -> int:
        """Drains, tells what is left that it is over, and flushes the traces; returns the number of calls cut short."""
        await self.server.drain(seconds)
        left = list(self.calls)
        for call in left:
            call.stop()
        if left:
            await asyncio.sleep(0.05)
        await self.server.close()
        await self.shadow.stop()
        await self.learning.stop()
        self.transport.close()
        if self._cooldowns is not None:
            self._cooldowns.stop()
        if self._keys is not None:
            self._keys.stop()
        if self.quotas is not None:
            await self.loop.run_in_executor(None, self.quotas.close)
        self.metrics.flush(force=True)
        questions.stop()
        await self.loop.run_in_executor(None, self.traces.close)
        return len(left)


async def _missing(request: Request, exc: Any) -> Response:
    text = f"There is nothing at {request.url.path[:200]}"
    return Response(error_body(404, text), 404, None, "application/json")


async def _wrong_method(request: Request, exc: Any) -> Response:
    allow = getattr(exc, "headers", None) or {}
    text = f"{request.method} is not possible here"
    return Response(error_body(405, text), 405, dict(allow), "application/json")


async def _bug(request: Request, exc: Exception) -> Response:
    return Response(error_body(500, "The engine failed to answer"), 500, None, "application/json")

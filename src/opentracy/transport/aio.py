"""The asyncio driver: performs a plan's steps over asyncio protocols. What to do next is the plan's business.

An opened answer is read in one of two ways: pulled (`await answer.read(deadline)`, the SDK) or pushed
(`answer.attach(sink)`, the engine: no task and no future per piece). One transport belongs to one event loop and ends
with it; `current()` finds that of the running loop.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections import deque
from collections.abc import AsyncGenerator

from ..core.failure import transport_failure
from ..core.plan import Completed, Opened, Run, Send, Step
from ..core.wire import Failure, HttpResponse, Origin, split_url
from .aanswer import Answer
from .aconnect import Dialled, dial
from .aconnection import GULP_S, MAX_GULPS, Connection, Waiter
from .adriving import adrive
from .http1 import MAX_BODY, encode_request
from .pool import IDLE_S, MAX_PER_ORIGIN, Pool
from .proxy import Proxy, authority, proxy_for

_now = time.monotonic
_JUST_NOW = IDLE_S - 0.001  # left to a connection that was used within the last millisecond


class AioTransport:
    """Connections of one event loop."""

    def __init__(self, *, limit: int = MAX_PER_ORIGIN, max_body: int = MAX_BODY) -> None:
        self._pool: Pool[Connection] = Pool(limit)
        self._max_body = max_body
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._everything: set[Connection] = set()
        self._at_end = self._until_shutdown()
        self._begun = False
        self._gulping: list[list[Connection]] = [[] for _ in range(MAX_GULPS + 1)]  # by the moments they still wait
        self._ticking = False
        self.closed = False

    def begin(self, step: Send, waiter: Waiter) -> Connection | None:
        """Sends at once on a connection that lies ready; None when there is none (then `drive` must do it).

        Once `waiter` is told and `connection.begun()`, `outcome` says what came of it.
        """
        origin, target = split_url(step.request.url)
        connection = self.ready(origin)
        if connection is None:
            return None
        try:
            payload = _payload(step, origin, target, connection.proxy)
        except ValueError:
            self.discard(connection)
            raise
        connection.begin(payload, step.deadline, waiter, stream=step.stream)
        return connection

    def ready(self, origin: Origin) -> Connection | None:
        """A connection that lies ready, taken from the pool; None when there is none, or it takes a moment to know."""
        connection = self._pool.take(origin)
        if connection is None:
            return None
        left = connection.expires - _now()
        usable = connection.usable_now(fresh=left > _JUST_NOW) if left > 0 else None
        if usable:
            return connection
        if usable is None:
            self._pool.put(origin, connection, 0.0)
        else:
            self.discard(connection)
        return None

    async def drive(self, run: Run, first: Step | None = None) -> Completed | tuple[Opened, Answer | None]:
        """As `adriving.adrive`."""
        return await adrive(run, self._send, first)

    async def _send(self, step: Send) -> HttpResponse | Failure | Answer:
        origin, target = split_url(step.request.url)
        connection = await self._idle(origin)
        try:
            proxy = connection.proxy if connection is not None else proxy_for(origin, os.environ)
            payload = _payload(step, origin, target, proxy)
            if connection is None:
                made = await self._connect(origin, step.connect_deadline, proxy)
                if isinstance(made, Failure):
                    return made
                connection = made
            reader = connection.reader
            reader.start(stream=step.stream)
            await connection.exchange(payload, step.deadline)
        except TimeoutError:
            assert connection is not None
            self.discard(connection)
            return transport_failure("timeout", "the provider did not answer in time")
        except BaseException:
            if connection is not None:
                self.discard(connection)
            raise
        return self.outcome(connection)

    def outcome(self, connection: Connection) -> HttpResponse | Failure | Answer:
        """What an exchange came to: the whole answer, an opened stream, or why there is neither."""
        reader = connection.reader
        failure = None if reader.complete else reader.broken or (None if reader.streaming else connection.lost)
        if failure is not None:
            self.discard(connection)
            return failure
        head = reader.head
        assert head is not None
        if connection.proxy is not None and head.status == 407:
            self.discard(connection)
            return transport_failure("proxy", f"the proxy {connection.proxy.name} wants other credentials (407)")
        if reader.streaming:
            return Answer(self, connection, head)
        response = reader.response()
        self.release(connection)
        return response

    def whole(self, connection: Connection) -> HttpResponse | None:
        """An answer that is complete without a question, its connection released; else None, and nothing has happened:
        see `outcome`."""
        reader = connection.reader
        head = reader.head
        if head is None or not reader.complete or not reader.reusable or connection.proxy is not None:
            return None
        if reader.streaming or connection.lost is not None:
            return None
        body = reader.take()
        now = _now()
        connection.rest(now + IDLE_S)
        self._put_back(connection, now)
        return HttpResponse(head.status, head.headers, body)

    def keep(self, connection: Connection) -> None:
        """A connection whose answer a taker has taken."""
        now = _now()
        connection.taken(now + IDLE_S)
        self._put_back(connection, now)

    def _put_back(self, connection: Connection, now: float) -> None:
        if not self._pool.keep(connection.origin, connection, now):
            for old in self._pool.put(connection.origin, connection, now):
                self.discard(old)
        if self._waiting:
            self._wake()

    async def _idle(self, origin: Origin) -> Connection | None:
        while True:
            connection = self._pool.take(origin)
            if connection is None or (connection.expires > _now() and await connection.usable()):
                return connection
            self.discard(connection)

    async def _connect(self, origin: Origin, deadline: float, proxy: Proxy | None) -> Connection | Failure:
        while not self._pool.open(origin):
            if not await self._room(deadline):
                return transport_failure("pool", f"no free connection to {origin.host} in time", sent=False)
        made: Dialled | Failure | None = None
        try:
            await self._begin()
            made = await dial(origin, deadline, proxy, lambda: Connection(origin, proxy, self._max_body))
        finally:
            if not isinstance(made, Connection):
                self._forget(origin)
        if isinstance(made, Connection):
            made.on_idle_loss = self._lost_while_idle
            self._everything.add(made)
        return made

    async def _room(self, deadline: float) -> bool:
        """Waits until some connection was closed; False at the deadline."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline - _now())):
                await waiter
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        return True

    def release(self, connection: Connection) -> None:
        """Takes a connection back whose answer is complete, or will be by the time it is wanted again."""
        reader = connection.reader
        if reader.failure is not None or connection.lost is not None or (reader.complete and not reader.reusable):
            self.discard(connection)
            return
        now = _now()
        connection.rest(now + IDLE_S)
        for old in self._pool.put(connection.origin, connection, now):
            self.discard(old)
        self._wake()

    def read_on_soon(self, connection: Connection, moments: int) -> None:
        """One timer, GULP_S long, for all connections that are read in gulps."""
        self._gulping[moments].append(connection)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(GULP_S, self._read_on)

    def _read_on(self) -> None:
        waiting = self._gulping
        due = waiting[1]
        waiting[1:] = [*waiting[2:], []]
        if any(waiting):
            self._loop.call_later(GULP_S, self._read_on)
        else:
            self._ticking = False
        for connection in due:
            connection.next_gulp()

    def discard(self, connection: Connection) -> None:
        """Closes a connection for good."""
        if connection in self._everything:
            self._everything.discard(connection)
            connection.close()
            self._forget(connection.origin)

    def _lost_while_idle(self, connection: Connection) -> None:
        self._pool.remove(connection.origin, connection)
        self.discard(connection)

    def _forget(self, origin: Origin) -> None:
        self._pool.forget(origin)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _begin(self) -> None:
        """Before the first connection: has the loop tell us when it ends (it closes its async generators then)."""
        if not self._begun:
            self._begun = True
            await self._at_end.__anext__()

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()
            _by_loop.pop(self._loop, None)

    def close(self) -> None:
        """Closes every connection; answers still open see a reset."""
        self.closed = True
        for _ in self._pool.drain():
            pass
        for connection in list(self._everything):
            self.discard(connection)

    def abandon(self) -> None:
        """The loop was closed without a word: its transports can only be dropped, with the sockets under them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in self._pool.drain():
                pass
            while self._everything:
                self._everything.pop().drop()


def _payload(step: Send, origin: Origin, target: str, proxy: Proxy | None) -> bytes:
    if proxy is None or origin.scheme == "https":
        return encode_request(step.request, authority(origin), target, stream=step.stream)
    absolute = f"{origin.scheme}://{authority(origin)}{target}"
    return encode_request(
        step.request, authority(origin), absolute, stream=step.stream, proxy_authorization=proxy.authorization
    )


_by_loop: dict[asyncio.AbstractEventLoop, AioTransport] = {}


def current() -> AioTransport:
    """The running loop's transport, made when first asked for. Those of loops that have ended are cleared away here."""
    loop = asyncio.get_running_loop()
    transport = _by_loop.get(loop)
    if transport is None or transport.closed:
        for old in [known for known in list(_by_loop) if known.is_closed()]:
            _by_loop.pop(old).abandon()
        transport = _by_loop[loop] = AioTransport()
    return transport


def _forked() -> None:
    """In the child of a fork: its parent's loops do not run here."""
    _by_loop.clear()


os.register_at_fork(after_in_child=_forked)

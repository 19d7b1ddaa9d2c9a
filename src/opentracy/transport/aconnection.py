"""One asyncio connection: the protocol between a socket and a `ResponseReader`, with a lazily moved deadline."""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..core.failure import transport_failure
from ..core.wire import Failure, Origin
from .at_once import AtOnce
from .http1 import ResponseReader
from .proxy import Proxy

if TYPE_CHECKING:
    from .aanswer import Answer, Sink

HIGH_WATER = 256 << 10
MAX_TAIL = 64 << 10
# A pushed body whose pieces follow each other faster than this is read in gulps: each read costs as much as all that
# is done with its events, and no model speaks that fast. The first gulps come GULP_S after each other; as long as the
# flood goes on they grow to MAX_GULPS times that, which still looks like writing to whoever reads along.
FLOOD_S = 0.0015
FLOOD_RATE = 100_000  # bytes a second; five hundred events
GULP_S = 0.005
MAX_GULPS = 4
MOUTHFUL = 32 << 10  # a read of so much was worth its while
PROVEN = 16
_FOREVER = float("inf")
_now = time.monotonic


class Waiter(Protocol):
    """What is told that something changed: a future, or something cheaper that looks like one."""

    def done(self) -> bool:
        """Whether it wants to hear no more."""
        ...

    def set_result(self, result: None, /) -> None:
        """Something arrived, or the connection ended."""
        ...

    def set_exception(self, exception: TimeoutError, /) -> None:
        """The deadline passed."""
        ...


class Connection(asyncio.Protocol):
    """Feeds the reader and wakes who waits: for the whole answer, for its head, or for data; or pushes to a sink.

    `deadline` may be moved at will; the one timer behind it is set anew only when it goes off (or would go off late).
    """

    __slots__ = (
        "_answer", "_at_once", "_gulped", "_gulping", "_gulps", "_loop", "_paused_at", "_poll", "_read_at",
        "_reading_paused", "_sink", "_tail", "_taker", "_timer", "_timer_at", "_tls", "_transport", "_uses", "_waiter",
        "_want_whole", "deadline", "expires", "lost", "on_idle_loss", "origin", "proxy", "reader", "resting",
    )  # fmt: skip

    def __init__(self, origin: Origin, proxy: Proxy | None, max_body: int) -> None:
        self.origin = origin
        self.proxy = proxy
        self.reader = ResponseReader(max_body)
        self.expires = 0.0
        self.lost: Failure | None = None
        self.deadline = _FOREVER
        self.resting = False
        self.on_idle_loss: Callable[[Connection], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: Waiter | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._at_once = AtOnce()
        self._want_whole = False
        self._tail = 0
        self._uses = 0  # answers that a taker has taken
        self._tls = False
        self._poll = select.poll()
        self._sink: Sink | None = None
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _FOREVER
        self._paused_at: float | None = None
        self._reading_paused = False
        self._gulping = self._gulped = False
        self._gulps = 1  # how long the next one waits, and meanwhile how long this one still has to
        self._read_at = 0.0  # on the loop's clock

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream transport, since the socket is one
        self._tls = transport.get_extra_info("sslcontext") is not None
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        taker = self._taker
        if taker is not None:
            self._taker = None
            body = self._at_once.body(data)
            if body is not None and taker(body):
                return
        reader = self.reader
        if self.resting:
            self._data_while_resting(data)
            return
        reader.feed(data)
        if self._sink is not None:
            self._push()
        elif self._waiter is not None:
            if not self._want_whole or reader.complete or reader.streaming or reader.failure is not None:
                self._wake()
        elif not self._reading_paused and reader.pending > HIGH_WATER:
            self._reading_paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        self.reader.eof()
        self._after_end()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.reader.eof()
        if self.lost is None:
            why = getattr(exc, "strerror", None) or exc or "closed"
            self.lost = transport_failure("reset", f"the connection broke before the answer was complete: {why}")
        self._after_end()

    def _after_end(self) -> None:
        if self.resting:
            if self.on_idle_loss is not None:
                self.on_idle_loss(self)
        elif self._sink is not None:
            self._push()
        elif self._waiter is not None:
            self._wake()

    def _data_while_resting(self, data: bytes) -> None:
        """The tail of an answer whose end was not awaited; anything else makes the connection useless."""
        if not self.reader.complete:
            self._tail += len(data)
            self.reader.feed(data)
            self.reader.take()
            fine = self.reader.reusable if self.reader.complete else self._tail < MAX_TAIL
            if fine and self.reader.failure is None:
                return
        if self.on_idle_loss is not None:
            self.on_idle_loss(self)

    # the driver's side

    async def exchange(self, payload: bytes, deadline: float) -> None:
        """Sends a request and waits: for the whole answer, or for the head of a streamed 2xx. TimeoutError at the end.

        What came of it stands in `reader` and `lost`.
        """
        transport = self._transport
        if transport is None or self.lost is not None:
            return
        self._want_whole = True
        transport.write(payload)
        while not self._exchanged() and self.lost is None:
            await self.wait_for_data(deadline)
        self._want_whole = False

    def begin(
        self,
        payload: bytes,
        deadline: float,
        waiter: Waiter,
        *,
        stream: bool,
        taker: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Sends a request; `waiter` is told when its answer (or the head of a streamed one) is there.

        `taker`: is given the body of a good answer that comes whole in one read, before anybody else. If it takes it
        (True), it has called `taken`, and that was the exchange; if not, the answer is read as any other.
        """
        assert self._transport is not None
        reader = self.reader
        if stream or not reader.passed_by:
            reader.start(stream=stream)
        else:
            reader.complete = reader.passed_by = False
        self._want_whole = True
        self._transport.write(payload)
        self._taker = taker
        self.deadline = deadline
        if deadline < self._timer_at:
            self._arm()
        self._waiter = waiter

    def taken(self, expires: float) -> None:
        """Idle from now on, after an answer that a taker was given: the reader is as it was started, but done."""
        self.reader.complete = self.reader.passed_by = True
        self._waiter = None
        self._want_whole = False
        self.deadline = _FOREVER
        self.resting = True
        self._tail = 0
        self._uses += 1
        self.expires = expires

    def notify(self, deadline: float, waiter: Waiter) -> None:
        """Has `waiter` told, once, of whatever happens next: no task, no future."""
        self._taker = None
        if self._reading_paused:
            self._read_on()
        self.deadline = deadline
        self._arm()
        self._waiter = waiter

    def begun(self) -> bool:
        """Whether the answer (or the head of a streamed one) is there, after `begin`; then nobody waits any more."""
        reader = self.reader
        if reader.complete or reader.streaming or reader.failure is not None or self.lost is not None:
            self._waiter = None
            self._want_whole = False
            self.deadline = _FOREVER
            return True
        return False

    def _exchanged(self) -> bool:
        reader = self.reader
        return reader.complete or reader.streaming or reader.failure is not None

    async def wait_for_data(self, deadline: float) -> None:
        """Until something changed; TimeoutError at the deadline."""
        if self._reading_paused:
            self._read_on()
        self.deadline = deadline
        self._arm()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None
            self.deadline = _FOREVER

    def take(self) -> bytes:
        """What the reader has; reads on when that had stopped."""
        data = self.reader.take()
        if self._reading_paused and data:
            self._read_on()
        return data

    def _read_on(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def attach(self, answer: Answer, sink: Sink, deadline: float) -> None:
        """Pushes from now on."""
        self._answer = answer
        self._sink = sink
        self.deadline = deadline
        self._arm()
        if self._reading_paused:
            self._read_on()
        self._push()

    def _push(self) -> None:
        sink, reader, answer = self._sink, self.reader, self._answer
        assert sink is not None and answer is not None
        data, cut = reader.take_cut()
        if data:
            sink.data(data, cut)
            if self._sink is None:  # it has closed or finished the answer
                return
            now = self._loop.time()
            since = now - self._read_at
            # a busy loop may come to a gulp late: what gathered for it tells whether the flood goes on
            flood = since < FLOOD_S or (self._gulped and len(data) >= since * FLOOD_RATE)
            self._gulped = False
            self._read_at = now
            if not flood or len(data) >= MOUTHFUL:
                self._gulps = 1
            elif not reader.complete:
                self._pause_a_moment(answer)
        if reader.complete:
            answer.finish()
            sink.end(None)
        elif reader.failure is not None or self.lost is not None:
            answer.close()
            sink.end(reader.failure or self.lost)

    def _pause_a_moment(self, answer: Answer) -> None:
        if not self._gulping and self._transport is not None and not self._transport.is_closing():
            self._gulping = True
            self._transport.pause_reading()
            answer.read_on_soon(self, self._gulps)
            self._gulps = min(self._gulps * 2, MAX_GULPS)

    def next_gulp(self) -> None:
        """The moment is over; nothing if the body was given up meanwhile."""
        if self._gulping:
            self._gulping = False
            self._gulped = True
            if self._paused_at is None and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def pause(self) -> None:
        """Stops reading; the deadline stands still."""
        if self._paused_at is None and self._transport is not None and not self._transport.is_closing():
            self._paused_at = _now()
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on; the time that was left is left again."""
        if self._paused_at is not None:
            self.deadline += _now() - self._paused_at
            self._paused_at = None
            self._arm()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def rest(self, expires: float) -> None:
        """Idle from now on."""
        if self._sink is not None or self._reading_paused or self._paused_at is not None or self._gulping:
            self._detach()
        self.deadline = _FOREVER
        self.resting = True
        self._tail = 0
        self.expires = expires
        if self.reader.pending:
            self.reader.take()
        if self._reading_paused:
            self._read_on()

    async def usable(self) -> bool:
        """Whether another request may be sent; it then no longer rests.

        What has arrived on the idle socket may not have reached us yet: a close, stray bytes, the tail of an answer.
        """
        if self._poll.poll(0):
            for _ in range(3):  # the loop hears of it in one of its next turns
                await asyncio.sleep(0)
            if self._transport is None or self._transport.is_closing() or (self._poll.poll(0) and not self._tls):
                return False
        return self._wake_up()

    def usable_now(self, *, fresh: bool = False) -> bool | None:
        """As `usable`, for those who cannot wait: None when it takes a moment to know.

        `fresh`: it was used just now. Where that has gone well often enough, the socket is not asked: a peer that hangs
        up within that moment could as well have done so while the request is on its way.
        """
        if not (fresh and self._uses >= PROVEN) and self._poll.poll(0):
            return None
        reader, transport = self.reader, self._transport
        if reader.complete and reader.reusable and self.lost is None and transport is not None:
            if transport.is_closing():
                return False
            self.resting = False
            return True
        return self._wake_up()

    def _wake_up(self) -> bool:
        reader = self.reader
        if self.lost is not None or self._transport is None or self._transport.is_closing():
            return False
        self.resting = not (reader.complete and reader.reusable)
        return not self.resting

    def _detach(self) -> None:
        self._sink = self._answer = None
        self.deadline = _FOREVER
        self._gulps = 1
        self._gulped = False
        if self._paused_at is not None or self._gulping:
            self._paused_at = None
            self._gulping = False
            self._reading_paused = True

    # the deadline

    def _arm(self) -> None:
        """Makes sure that a timer goes off no later than the deadline."""
        if self.deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self.deadline
            self._timer = self._loop.call_later(max(0.0, self.deadline - _now()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = _FOREVER
        if self.deadline == _FOREVER or self._paused_at is not None:
            return
        if self.deadline - _now() > 0.001:
            self._arm()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())
        elif self._sink is not None and self._answer is not None:
            sink = self._sink
            self._answer.close()
            sink.end(transport_failure("timeout", "the answer's next content did not arrive in time"))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # the end

    def close(self) -> None:
        """Closes the socket at once, also with bytes unsent."""
        self._detach()
        self.on_idle_loss = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            if not self._loop.is_closed():
                self._transport.abort()
            self._transport = None
        if self.lost is None:
            self.lost = transport_failure("reset", "the connection was closed here")
        self._wake()
        self.reader.dispose()

    def drop(self) -> None:
        """Closes the socket although the loop is gone and can no longer do it properly."""
        self._detach()
        self.on_idle_loss = None
        transport: Any = self._transport
        self._transport = self._timer = None
        inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        for one in (transport, inner):
            # asyncio offers no way to close a transport without its loop; this is what the loop would have called
            finish = getattr(one, "_call_connection_lost", None)
            with contextlib.suppress(RuntimeError):
                if one is not None:
                    one.abort()
            with contextlib.suppress(RuntimeError):
                if finish is not None:
                    finish(None)
        self.reader.dispose()

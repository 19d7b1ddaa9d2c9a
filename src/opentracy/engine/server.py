"""Who listens: the set of connections, the coarse clock, the sweep over both, and the drain at the end.

Belongs here: everything that is one per worker rather than one per connection. Not here: framing (`http`), routes
(`app`), processes and signals (`supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from .errors import error_body
from .exchange import Exchange
from .http import Connection

SWEEP_S = 0.25
_SAFE = b"x-content-type-options: nosniff\r\n"


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one worker's HTTP side. Sizes in bytes, times in seconds."""

    max_body: int = 10 << 20
    max_held: int = 1 << 30  # of all large bodies together
    max_connections: int = 8192
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    write_stall: float = 60.0
    write_buffer: int = 128 << 10


class HttpServer:
    """Accepts connections and hands each whole request to `app`, which answers through the exchange."""

    def __init__(self, app: Callable[[Exchange], None], limits: HttpLimits | None = None) -> None:
        self.app = app
        self.limits = limits or HttpLimits()
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.held = 0  # bytes of large request bodies that are read or being answered
        self.draining = False
        self.now = self.loop.time()
        self.now_monotonic = time.monotonic()
        self.lag = 0.0  # seconds by which the last sweep came late: how busy the loop is
        self.common_headers = _SAFE
        self._servers: list[asyncio.AbstractServer] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._second = 0
        self.on_sweep: Callable[[], None] | None = None
        self._gathered: list[Callable[[], None]] = []
        self._sweep()

    def soon(self, flush: Callable[[], None]) -> None:
        """Calls `flush` within a millisecond or two: one timer for all streams that have little bits to write."""
        if not self._gathered:
            self.loop.call_later(0.001, self._flush)
        self._gathered.append(flush)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        for flush in gathered:
            flush()

    def error_body(self, status: int, message: str) -> bytes:
        """An error that arose before any handler, in the one shape of all errors."""
        return error_body(status, message)

    async def listen(self, sock: socket.socket) -> None:
        """Starts to accept on a bound socket."""
        server = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=2048)
        self._servers.append(server)

    @property
    def active(self) -> int:
        """Requests being answered."""
        return sum(1 for c in self.connections if c.current is not None)

    def _sweep(self) -> None:
        now = self.loop.time()
        self.lag = max(0.0, now - self.now - SWEEP_S)
        self.now = now
        self.now_monotonic = time.monotonic()
        if int(now) != self._second:
            self._second = int(now)
            self.common_headers = b"date: %b\r\n%b" % (formatdate(usegmt=True).encode(), _SAFE)
        for connection in tuple(self.connections):
            connection.sweep(now)
        if self.on_sweep is not None:
            self.on_sweep()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def stop_accepting(self) -> None:
        """No new connections; answers from now on say `connection: close`."""
        self.draining = True
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float) -> int:
        """Waits until every answer is complete, at most `seconds`; returns how many were not."""
        self.stop_accepting()
        end = self.loop.time() + seconds
        while self.active and self.loop.time() < end:  # noqa: ASYNC110  (connections end in too many ways)
            await asyncio.sleep(0.02)
        return self.active

    async def close(self) -> None:
        """Ends what is left and lets the transports go."""
        self.stop_accepting()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            if connection.current is None:
                connection.close()
            else:
                connection.abort()
        for _ in range(20):
            if not self.connections:
                break
            await asyncio.sleep(0.01)
        for server in self._servers:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.wait_closed(), 1.0)

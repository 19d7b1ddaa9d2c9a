"""The server's side of HTTP/1.1: one `Connection` per socket, over httptools.

Belongs here: framing, limits, pipelining, time-outs and back-pressure of one connection. Not here: one request and its
answer (`exchange`), what a path means (`app`), who listens (`server`), who may call (`auth`). Nothing here makes a task
or a timer: the server sweeps all connections a few times a second and hands them a coarse clock, so a request pays for
neither.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools

from .exchange import STATUS_LINES, Exchange
from .heads import Head, learn

if TYPE_CHECKING:
    from .server import HttpServer

MAX_HEAD = 64 << 10
MAX_URL = 16 << 10
MAX_PIPELINED = 16
COUNTED_FROM = 64 << 10  # smaller bodies are not counted against the memory for all of them
MAX_LEARNED = 4  # a client whose heads differ every time is not worth remembering
_ONCE = frozenset({b"host", b"authorization", b"content-type", b"content-encoding", b"origin"})

_IDLE, _HEAD, _BODY, _BUSY, _LINGER = range(5)


class Connection(asyncio.Protocol):
    """One client socket. At most one exchange is answered at a time; pipelined ones wait in order."""

    __slots__ = (
        "_body", "_counted", "_deadline", "_head", "_headers", "_held", "_host", "_learned", "_parser", "_phase",
        "_raw", "_reading", "_reject", "_size", "_url", "_waiting", "current", "lost", "paused_at",
        "server", "transport",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.transport: Any = None
        self.current: Exchange | None = None
        self.lost = False
        self.paused_at = 0.0
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._phase = _IDLE
        self._deadline = 0.0
        self._reading = True
        self._head: Head | None = None
        self._learned = 0
        self._held = 0  # bytes of bodies that stand in the server's account
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = self._counted = 0
        self._raw = 0
        self._reject: tuple[int, str] | None = None

    # ---------------------------------------------------------------- socket
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Registers with the server, or says 503 at once when there are too many connections."""
        self.transport = transport
        server = self.server
        self._deadline = server.now + server.limits.header_timeout
        transport.set_write_buffer_limits(high=server.limits.write_buffer, low=server.limits.write_buffer // 4)  # type: ignore[attr-defined]
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # the kernel would otherwise hold megabytes for a client that does not read (it doubles this number)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, server.limits.write_buffer)
        if len(server.connections) >= server.limits.max_connections:
            self._refuse(503, "too many connections")
            return
        server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever is answering that nobody listens any more."""
        self.lost = True
        self._release()
        self.server.connections.discard(self)
        self._waiting.clear()
        current, self.current = self.current, None
        if current is not None and not current.finished:
            current.finished = True
            if current.owner is not None:
                current.owner.client_gone()

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, then starts what became complete."""
        phase = self._phase
        if phase == _IDLE:
            head = self._head
            if head is not None and (body := head.body_of(data)) is not None and self._repeated(head, body):
                return
            self._phase = _HEAD
            self._deadline = self.server.now + self.server.limits.header_timeout
        elif phase == _LINGER:
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # the request itself was whole; what follows would be another protocol, which is not offered
            if self._waiting:
                self._waiting[-1].keep_alive = False
        except httptools.HttpParserError as e:
            reject = self._reject
            if reject is None:
                reject = (400, f"not HTTP/1.1: {e}" if str(e) else "not HTTP/1.1")
            self._fail(*reject)
            return
        if self._phase == _HEAD and self._raw > MAX_HEAD:
            self._fail(431, "the request's header block is larger than 64 KiB")
            return
        if self._phase == _BODY and self._raw > self.server.limits.max_body * 2 + (1 << 20):
            self._fail(413, "the request's framing is larger than its body may be")
            return
        if self._waiting and self.current is None:
            if phase == _IDLE and len(self._waiting) == 1 and self._phase == _BUSY and self._learned < MAX_LEARNED:
                self._learn(data)
            self._next()

    def _learn(self, data: bytes) -> None:
        """Remembers the head of the one request that these bytes were."""
        self._learned += 1
        exchange = self._waiting[0]
        if exchange.http11 and exchange.keep_alive and exchange.fault is None:
            found = learn(data, exchange.method, exchange.path, exchange.query, exchange.headers)
            self._head = exchange.head = found

    def _repeated(self, head: Head, body: bytes) -> bool:
        """Serves a request whose head is known; False when the parser must look at it."""
        if len(body) > self.server.limits.max_body:
            return False
        self.current = exchange = Exchange(self)
        exchange.method = head.method
        exchange.path = head.path
        exchange.query = head.query
        exchange.headers = head.headers
        exchange.head = head
        exchange.body = body
        self._phase = _BUSY
        self._deadline = 0.0
        if head.direct is None or not head.direct(exchange):
            self.server.app(exchange)
        return True

    def eof_received(self) -> None:
        """A closed sending side counts as leaving; the transport closes by default."""

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.paused_at = self.server.now
        if self.current is not None and self.current.owner is not None:
            self.current.owner.client_paused()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.paused_at = 0.0
        if self.current is not None and self.current.owner is not None:
            self.current.owner.client_resumed()

    def write(self, data: bytes) -> None:
        """Bytes to the client; nothing once it is gone."""
        if not self.lost:
            self.transport.write(data)

    def abort(self) -> None:
        """Closes without waiting for anything."""
        if not self.lost:
            self.transport.abort()

    def close(self) -> None:
        """Closes after what was written."""
        if not self.lost:
            self.transport.close()

    # ---------------------------------------------------------------- parser callbacks
    def on_message_begin(self) -> None:
        """A new request starts."""
        if self._phase == _BUSY:
            self._raw = 0
            self._phase = _HEAD
            self._deadline = self.server.now + self.server.limits.header_timeout

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        if len(self._url) > MAX_URL:
            self._stop(414, "the request target is longer than 16 KiB")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers, which come while the body is read, are dropped."""
        if self._phase == _BODY:
            return
        self._size += len(name) + len(value) + 4
        if self._size > MAX_HEAD:
            self._stop(431, "the request's header block is larger than 64 KiB")
        name = name.lower()
        if name in self._headers:
            if name in _ONCE:
                self._stop(400, f"the header {name.decode('latin-1')!r} stands more than once")
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Decides from the head whether the body is wanted."""
        self._phase = _BODY
        self._raw = self._size = 0
        limits = self.server.limits
        self._deadline = self.server.now + limits.body_timeout
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > limits.max_body:
            self._stop(413, f"the request body is larger than {limits.max_body >> 20} MiB")
        if not self._url.startswith(b"/"):
            self._stop(400, "the request target must be a path")
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            self._stop(400, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self.current is None and not self._waiting:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._size += len(data)
        if self._size > self.server.limits.max_body:
            self._stop(413, f"the request body is larger than {self.server.limits.max_body >> 20} MiB")
        if self._size - self._counted > COUNTED_FROM:
            self._account()
        self._body.append(data)

    def _account(self) -> None:
        """A large body goes into the account of all of them; where that is overdrawn, it is not read to its end."""
        more, self._counted = self._size - self._counted, self._size
        self._held += more
        self.server.held += more
        if self.server.held > self.server.limits.max_held:
            self._stop(503, "the engine holds as many large requests as its memory allows")

    def _release(self) -> None:
        self.server.held -= self._held
        self._held = 0

    def on_message_complete(self) -> None:
        """The request is whole: it waits for its turn."""
        parser = self._parser
        exchange = Exchange(self)
        exchange.method = parser.get_method().decode("latin-1")
        exchange.path, _, exchange.query = self._url.partition(b"?")
        exchange.headers = self._headers
        body = self._body
        exchange.body = body[0] if len(body) == 1 else b"".join(body)
        exchange.http11 = parser.get_http_version() == "1.1"
        exchange.keep_alive = parser.should_keep_alive()
        self._waiting.append(exchange)
        self._phase = _BUSY
        self._deadline = 0.0
        self._reset()
        if len(self._waiting) >= MAX_PIPELINED and self._reading:
            self._reading = False
            self.transport.pause_reading()

    # ---------------------------------------------------------------- turns
    def _next(self) -> None:
        """Hands the next waiting request to the application, until one of them takes its time."""
        while self._waiting and self.current is None and not self.lost:
            exchange = self._waiting.popleft()
            if exchange.fault is not None:
                self._refuse(*exchange.fault)
                return
            exchange.received = self.server.now
            self.current = exchange
            self.server.app(exchange)
        if not self._reading and len(self._waiting) < MAX_PIPELINED // 2 and not self.lost:
            self._reading = True
            self.transport.resume_reading()

    def exchange_done(self, exchange: Exchange) -> None:
        """The current answer is written: close, or wait for the next request."""
        self.current = None
        if self._held and not self._waiting and self._phase == _BUSY:
            self._release()
        exchange.owner = None  # who knows the exchange: a cycle that only the collector would find
        if self.lost:
            return
        if not exchange.keep_alive:
            self._waiting.clear()
            self._phase = _LINGER
            self._deadline = self.server.now + self.server.limits.write_stall
            self.transport.close()
            return
        if self._phase == _BUSY:
            self._phase = _IDLE
            self._deadline = self.server.now + self.server.limits.idle_timeout
        if self._waiting:
            self.server.loop.call_soon(self._next)

    def _stop(self, status: int, message: str) -> None:
        """Ends parsing from within a callback; `data_received` says why to the client."""
        if self._reject is None:
            self._reject = (status, message)
        raise ValueError(message)

    def _fail(self, status: int, message: str) -> None:
        """Nothing after this can be trusted: answers what came before it, then this refusal, then closes."""
        self._phase = _LINGER
        self._body = []
        if self.current is None and not self._waiting:
            self._release()
            self._refuse(status, message)
            return
        poison = Exchange(self)
        poison.fault = (status, message)  # type: ignore[assignment]
        self._waiting.append(poison)
        if self.current is None:
            self._next()

    def _refuse(self, status: int, message: Any) -> None:
        """An error answer and the end of the connection; reads on a little, so that the client can read it."""
        self._phase = _LINGER
        self._deadline = self.server.now + 2.0
        body = self.server.error_body(status, message)
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%bconnection: close\r\n\r\n%b"
            % (STATUS_LINES[status], len(body), retry, self.server.common_headers, body)
        )
        if not self.lost and self.transport.can_write_eof():
            self.transport.write_eof()
        elif not self.lost:
            self.transport.close()

    # ---------------------------------------------------------------- time
    def sweep(self, now: float) -> None:
        """Called a few times a second by the server."""
        if self.paused_at and now - self.paused_at > self.server.limits.write_stall:
            self.abort()
            return
        if self._deadline and now >= self._deadline:
            self._expire()
            return
        current = self.current
        if current is not None and current.owner is not None:
            current.owner.tick(now)

    def _expire(self) -> None:
        if self.current is not None and self._phase != _LINGER:
            return  # the next request comes slowly while this one is answered: judged afterwards
        self._deadline = 0.0
        if self._phase == _HEAD:
            self._fail(408, "the request's headers took too long")
        elif self._phase == _BODY:
            self._fail(408, "the request's body took too long")
        elif self._phase == _LINGER:
            self.abort()
        else:
            self.close()

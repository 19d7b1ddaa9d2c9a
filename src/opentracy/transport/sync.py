"""The blocking driver: performs a plan's steps over sockets. What to do next is the plan's business, never this file's.

Thread-safe. After a fork the child starts with an empty pool: a connection shared by two processes would mix answers.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING

from ..core.failure import transport_failure
from ..core.plan import MAX_CONNECT_S, Completed, Opened, Run, Send
from ..core.wire import Failure, HttpRequest, HttpResponse, Origin, split_url
from .connect import Connected, connect
from .driving import Held, drive
from .http1 import ResponseReader, encode_request
from .pool import IDLE_S, Pool
from .proxy import Proxy, authority, proxy_for
from .socketio import Timeouts

if TYPE_CHECKING:
    import ssl

_TAIL_MS = 5  # milliseconds
_READ = 1 << 16
_now = time.monotonic


class Connection:
    """One socket and the reader of its answers."""

    __slots__ = ("__weakref__", "_poll", "_timeouts", "expires", "origin", "proxy", "reader", "sock", "tls")

    def __init__(self, origin: Origin, made: Connected) -> None:
        self.origin = origin
        self.sock: socket.socket | ssl.SSLSocket = made.sock
        self.tls = made.tls
        self.proxy = made.proxy
        self.reader = ResponseReader()
        self.expires = 0.0
        self._timeouts = Timeouts(made.sock, made.tls)
        self._poll = select.poll()
        self._poll.register(made.sock, select.POLLIN)

    def send(self, data: bytes, deadline: float) -> None:
        """All of `data`, or TimeoutError / OSError."""
        view: bytes | memoryview = data
        while True:
            self._timeouts.before_send(deadline)
            try:
                sent = self.sock.send(view)
            except (BlockingIOError, TimeoutError):
                continue  # `before_send` raises once the deadline has passed
            if sent == len(view):
                return
            view = memoryview(view)[sent:]

    def receive(self, deadline: float) -> None:
        """Feeds the reader with what comes next; TimeoutError at the deadline."""
        while True:
            self._timeouts.before_receive(deadline)
            try:
                data = self.sock.recv(_READ)
            except (BlockingIOError, TimeoutError):
                continue  # `before_receive` raises once the deadline has passed
            if data:
                self.reader.feed(data)
            else:
                self.reader.eof()
            return

    def usable(self) -> bool:
        """Whether another request may be sent: nothing has arrived on the idle socket, no close and no stray bytes.

        An answer whose last bytes (after the stream's own end marker) were not awaited is read to its end here.
        """
        reader = self.reader
        # those last bytes are on their way, and a moment's wait costs less than another connection
        if not self._poll.poll(0 if reader.complete else _TAIL_MS):
            return reader.complete and reader.reusable
        try:
            data = self._read_now()
        except OSError:
            return False
        if data and not reader.complete:
            reader.feed(data)
        elif data is not None:
            return False
        # a close may stand behind those bytes, and sending to it would be an answer that never comes
        return bool(reader.complete and reader.reusable and not self._poll.poll(0))

    def _read_now(self) -> bytes | None:
        """What is there, without waiting; None for nothing (TLS: only records of the protocol itself)."""
        try:
            if not self.tls:
                return self.sock.recv(_READ, socket.MSG_DONTWAIT)
            return self._timeouts.without_waiting(self.sock.recv, _READ)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Closes the socket; harmless when repeated."""
        self.reader.dispose()
        self.sock.close()

    def __del__(self) -> None:
        self.sock.close()  # a socket that is only dropped would complain


class Answer(Held[Connection, "SyncTransport"]):
    """The rest of an opened answer. Not thread-safe. Dropping it closes the connection."""

    __slots__ = ()

    def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end."""
        connection = self._connection
        if connection is None:
            return b""
        reader = connection.reader
        try:
            while True:
                data = reader.take()
                if data:
                    return data
                if reader.complete:
                    self.finish()
                    return b""
                if reader.failure is not None:
                    self.close()
                    return reader.failure
                connection.receive(deadline)
        except TimeoutError:
            self.close()
            return transport_failure("timeout", "the answer's next content did not arrive in time")
        except OSError as e:
            self.close()
            return transport_failure("reset", f"the connection broke while the answer was read: {e.strerror or e}")
        except BaseException:
            self.close()
            raise


class SyncTransport:
    """Connections of one process, for any number of threads."""

    def __init__(self) -> None:
        self._pool: Pool[Connection] = Pool()
        self._lock = threading.Condition()
        _transports.add(self)

    def drive(self, run: Run) -> Completed | tuple[Opened, Answer | None]:
        """As `driving.drive`."""
        return drive(run, self._send)

    def request(self, request: HttpRequest, timeout: float) -> HttpResponse | Failure:
        """One request by itself, its answer read to the end; never repeated, redirects are not followed. Seconds."""
        deadline = _now() + timeout
        outcome = self._send(Send(request, False, deadline, min(deadline, _now() + MAX_CONNECT_S)))
        assert not isinstance(outcome, Answer)  # only streams are opened
        return outcome

    def _send(self, step: Send) -> HttpResponse | Failure | Answer:
        origin, target = split_url(step.request.url)
        connection = self._idle(origin)
        try:
            proxy = connection.proxy if connection is not None else proxy_for(origin, os.environ)
            payload = _payload(step, origin, target, proxy)
            if connection is None:
                made = self._connect(origin, step.connect_deadline, proxy)
                if isinstance(made, Failure):
                    return made
                connection = made
            return self._exchange(connection, step, payload)
        except BaseException:
            if connection is not None:
                self.discard(connection)
            raise

    def _exchange(self, connection: Connection, step: Send, payload: bytes) -> HttpResponse | Failure | Answer:
        reader = connection.reader
        reader.start(stream=step.stream)
        problem: OSError | None = None
        try:
            try:
                connection.send(payload, step.deadline)
            except (BrokenPipeError, ConnectionResetError) as e:
                problem = e  # it may have answered (and refused) before all was sent
            while not reader.complete and reader.failure is None:
                connection.receive(step.deadline)
                if reader.streaming:
                    break
        except TimeoutError:
            self.discard(connection)
            return transport_failure("timeout", "the provider did not answer in time")
        except OSError as e:
            self.discard(connection)
            return transport_failure("reset", f"the connection broke before the answer: {e.strerror or e}")
        if reader.broken is not None:
            self.discard(connection)
            if problem is not None and reader.broken.kind == "eof":
                return transport_failure("reset", f"the connection broke before the answer: {problem.strerror}")
            return reader.broken
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

    def _idle(self, origin: Origin) -> Connection | None:
        while True:
            with self._lock:
                connection = self._pool.take(origin)
            if connection is None or (connection.expires > _now() and connection.usable()):
                return connection
            self.discard(connection)

    def _connect(self, origin: Origin, deadline: float, proxy: Proxy | None) -> Connection | Failure:
        with self._lock:
            while not self._pool.open(origin):
                if not self._lock.wait(max(0.0, deadline - _now())) and deadline <= _now():
                    return transport_failure("pool", f"no free connection to {origin.host} in time", sent=False)
        made: Connected | Failure | None = None
        try:
            made = connect(origin, deadline, proxy)
            return made if isinstance(made, Failure) else Connection(origin, made)
        finally:
            if not isinstance(made, Connected):
                self._forget(origin)

    def release(self, connection: Connection) -> None:
        """Takes a connection back whose answer is complete, or will be by the time it is wanted again."""
        reader = connection.reader
        if reader.failure is not None or (reader.complete and not reader.reusable):
            self.discard(connection)
            return
        now = _now()
        connection.expires = now + IDLE_S
        with self._lock:
            gone = self._pool.put(connection.origin, connection, now)
        for old in gone:
            self.discard(old)

    def discard(self, connection: Connection) -> None:
        """Closes a connection for good."""
        connection.close()
        self._forget(connection.origin)

    def _forget(self, origin: Origin) -> None:
        with self._lock:
            self._pool.forget(origin)
            self._lock.notify()

    def close(self) -> None:
        """Closes the idle connections; those in use close with their answers."""
        with self._lock:
            idle = list(self._pool.drain())
        for connection in idle:
            self.discard(connection)

    def after_fork(self) -> None:
        """In the child: forgets the parent's connections (closing our copies of their descriptors) and its lock."""
        idle = list(self._pool.drain())
        self._lock = threading.Condition()
        self._pool = Pool(self._pool.limit)
        for connection in idle:
            connection.close()


def _payload(step: Send, origin: Origin, target: str, proxy: Proxy | None) -> bytes:
    if proxy is None or origin.scheme == "https":
        return encode_request(step.request, authority(origin), target, stream=step.stream)
    absolute = f"{origin.scheme}://{authority(origin)}{target}"
    return encode_request(
        step.request, authority(origin), absolute, stream=step.stream, proxy_authorization=proxy.authorization
    )


_transports: weakref.WeakSet[SyncTransport] = weakref.WeakSet()


def _forked() -> None:
    from .dial import forget_lookups

    forget_lookups()
    for transport in list(_transports):
        transport.after_fork()


os.register_at_fork(after_in_child=_forked)

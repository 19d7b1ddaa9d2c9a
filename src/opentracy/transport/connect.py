"""Making a connection on a blocking socket: name, addresses side by side, proxy, TLS; all before one deadline."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from typing import NamedTuple

from ..core.failure import transport_failure
from ..core.wire import Failure, Origin
from .dial import STAGGER_S, Address, Resolved, connect_failure, literal, new_socket, resolve, tls_context, tls_failure
from .http1 import USER_AGENT, ResponseReader
from .proxy import Proxy, connect_request

_now = time.monotonic


class Connected(NamedTuple):
    """A socket ready for a request."""

    sock: socket.socket
    tls: bool
    proxy: Proxy | None


def connect(origin: Origin, deadline: float, proxy: Proxy | None) -> Connected | Failure:
    """A connection to `origin`, through `proxy` where there is one."""
    via = origin if proxy is None else Origin("http", proxy.host, proxy.port)
    sock = _tcp(via, deadline)
    if isinstance(sock, Failure):
        return sock if proxy is None else proxy_failure(proxy, sock.message)
    done = False
    try:
        if proxy is not None and origin.scheme == "https":
            refused = _tunnel(sock, origin, proxy, deadline)
            if refused is not None:
                return refused
        if origin.scheme == "https":
            secured = _secure(sock, origin, deadline)
            if isinstance(secured, Failure):
                return secured
            sock = secured
        done = True
        return Connected(sock, origin.scheme == "https", proxy)
    finally:
        if not done:
            sock.close()


def proxy_failure(proxy: Proxy, why: str) -> Failure:
    """A proxy that does not let us through; never retried, since it is configuration that is wrong."""
    return transport_failure("proxy", f"the proxy {proxy.name} of the environment failed: {why}", sent=False)


def _tcp(origin: Origin, deadline: float) -> socket.socket | Failure:
    addresses: Resolved | None = literal(origin.host, origin.port)
    if addresses is None:
        lookup = resolve(origin.host, origin.port)
        ready = threading.Event()
        lookup.when_done(ready.set)
        ready.wait(max(0.0, deadline - _now()))
        addresses = lookup.result
        if addresses is None:
            return transport_failure("timeout", f"resolving {origin.host} timed out", sent=False)
    if isinstance(addresses, Failure):
        return Failure(**{f: getattr(addresses, f) for f in ("kind", "message", "retryable", "sent")})
    return _race(addresses, origin, deadline)


def _race(addresses: list[Address], origin: Origin, deadline: float) -> socket.socket | Failure:
    """The first address that answers; a new one joins every `STAGGER_S`, or at once when all so far have failed."""
    waiting = list(addresses)
    running: dict[int, socket.socket] = {}
    poll = select.poll()
    last: OSError = TimeoutError()
    next_start = _now()
    try:
        while waiting or running:
            now = _now()
            if now >= deadline:
                return connect_failure(TimeoutError(), origin)
            if waiting and (now >= next_start or not running):
                next_start = now + STAGGER_S
                try:
                    sock, done = _start(waiting.pop(0))
                except OSError as e:
                    last = e
                    continue
                if done:
                    return sock
                running[sock.fileno()] = sock
                poll.register(sock, select.POLLOUT)
            until = min(deadline, next_start) if waiting else deadline
            for fd, _ in poll.poll(max(0.0, until - now) * 1000 + 1):
                poll.unregister(fd)
                sock = running.pop(fd)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return sock
                sock.close()
                last = _os_error(code)
        return connect_failure(last, origin)
    finally:
        for sock in running.values():
            sock.close()


def _start(address: Address) -> tuple[socket.socket, bool]:
    sock = new_socket(address)
    code = sock.connect_ex(address.sockaddr)
    if code in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        return sock, code == 0
    sock.close()
    raise _os_error(code)


def _os_error(code: int) -> OSError:
    import os

    return OSError(code, os.strerror(code))


def _tunnel(sock: socket.socket, origin: Origin, proxy: Proxy, deadline: float) -> Failure | None:
    """Asks the proxy for a way to `origin`."""
    reader = ResponseReader()
    reader.start(stream=True)
    try:
        sock.settimeout(max(0.001, deadline - _now()))
        sock.sendall(connect_request(origin, proxy, USER_AGENT))
        while reader.head is None and reader.failure is None:
            sock.settimeout(max(0.001, deadline - _now()))
            data = sock.recv(1)  # never more: what follows the head belongs to the tunnel
            if data:
                reader.feed(data)
            else:
                reader.eof()
            if _now() >= deadline:
                return proxy_failure(proxy, "it did not answer in time")
    except OSError as e:
        return proxy_failure(proxy, e.strerror or str(e) or "it did not answer in time")
    finally:
        reader.dispose()
    if reader.head is not None and 200 <= reader.head.status < 300:
        return None
    status = f"it answered CONNECT with {reader.head.status}" if reader.head is not None else "it closed the connection"
    return proxy_failure(proxy, status)


def _secure(sock: socket.socket, origin: Origin, deadline: float) -> socket.socket | Failure:
    try:
        sock.settimeout(max(0.001, deadline - _now()))
        return tls_context().wrap_socket(sock, server_hostname=origin.host)
    except OSError as e:
        return tls_failure(e, origin)

"""Names, addresses and certificates: what stands before a connection and is the same for both drivers.

Names are resolved on threads of our own. The event loop's default executor would make the end of `asyncio.run` wait for
a name server that never answers, and a blocking caller could not give up at its deadline.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.failure import transport_failure
from ..core.wire import Failure, Origin

if TYPE_CHECKING:
    import ssl

STAGGER_S = 0.2
"""How long the first address may take before the next one is tried beside it (RFC 8305)."""


class Address(NamedTuple):
    """One place to connect to."""

    family: int
    sockaddr: Any


Resolved = list[Address] | Failure


class Lookup:
    """One running resolution; several callers may wait for it. Callbacks run on the resolving thread."""

    __slots__ = ("_lock", "_waiting", "result")

    def __init__(self) -> None:
        self.result: Resolved | None = None
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    def when_done(self, callback: Callable[[], None]) -> None:
        """Calls back once `result` is there, at once if it is."""
        with self._lock:
            if self.result is None:
                self._waiting.append(callback)
                return
        callback()

    def finish(self, result: Resolved) -> None:
        """Hands the result to everybody waiting."""
        with self._lock:
            self.result = result
            waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


_running: dict[tuple[str, int], Lookup] = {}
_running_lock = threading.Lock()


def literal(host: str, port: int) -> list[Address] | None:
    """The address of a host that is written as one, else None."""
    for family, tail in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [Address(family, (host, port, *tail))]
    return None


def resolve(host: str, port: int) -> Lookup:
    """Starts resolving, or joins a resolution of the same name that is under way."""
    key = (host, port)
    with _running_lock:
        lookup = _running.get(key)
        if lookup is not None:
            return lookup
        lookup = _running[key] = Lookup()
    threading.Thread(target=_resolve, args=(key, lookup), name="opentracy-dns", daemon=True).start()
    return lookup


def _resolve(key: tuple[str, int], lookup: Lookup) -> None:
    host, port = key
    result: Resolved
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        result = interleaved([Address(f[0], f[4]) for f in found])
    except (OSError, UnicodeError) as e:
        result = transport_failure("dns", f"cannot resolve {host}: {getattr(e, 'strerror', None) or e}", sent=False)
        if host.lower() == "localhost":  # the machine itself (RFC 6761), also where no hosts file says so
            result = [Address(socket.AF_INET, ("127.0.0.1", port)), Address(socket.AF_INET6, ("::1", port, 0, 0))]
    with _running_lock:
        _running.pop(key, None)
    lookup.finish(result)


def forget_lookups() -> None:
    """After a fork: the threads that would finish these lookups do not exist in the child."""
    global _running_lock
    _running_lock = threading.Lock()
    _running.clear()


def interleaved(addresses: list[Address]) -> list[Address]:
    """The resolver's order with the families taking turns, without doubles (RFC 8305 section 4)."""
    unique = list(dict.fromkeys(addresses))
    if len(unique) < 2:
        return unique
    first = [a for a in unique if a.family == unique[0].family]
    other = [a for a in unique if a.family != unique[0].family]
    mixed: list[Address] = []
    for i in range(max(len(first), len(other))):
        mixed += first[i : i + 1] + other[i : i + 1]
    return mixed


def new_socket(address: Address) -> socket.socket:
    """A non-blocking TCP socket that notices a vanished peer and sends small writes at once."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def connect_failure(error: OSError, origin: Origin) -> Failure:
    """Why no connection came about."""
    where = f"{origin.host}:{origin.port}"
    if isinstance(error, ConnectionRefusedError):
        return transport_failure("refused", f"connection to {where} refused", sent=False)
    if isinstance(error, TimeoutError):
        return transport_failure("timeout", f"connecting to {where} timed out", sent=False)
    if isinstance(error, ConnectionResetError):
        return transport_failure("reset", f"connection to {where} was reset while it was being made", sent=False)
    if isinstance(error, PermissionError):
        return transport_failure("unreachable", f"connecting to {where} is not permitted here", sent=False)
    return transport_failure("unreachable", f"cannot connect to {where}: {error.strerror or error}", sent=False)


def tls_failure(error: Exception, origin: Origin) -> Failure:
    """Why no trusted channel came about. Verification problems are never retried; a lost connection is."""
    import ssl

    where = f"{origin.host}:{origin.port}"
    if isinstance(error, TimeoutError):
        return transport_failure("timeout", f"the TLS handshake with {where} timed out", sent=False)
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return transport_failure("tls", f"TLS: the certificate of {where} is not trusted: {why}", sent=False)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return transport_failure("eof", f"{where} closed the connection during the TLS handshake", sent=False)
    if isinstance(error, ssl.SSLError):
        return transport_failure("tls", f"TLS: no secure connection to {where}: {error.reason or error}", sent=False)
    return transport_failure("reset", f"{where} broke off the TLS handshake: {error}", sent=False)


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """The one client context: the system's certificates, else certifi's. Built once, since it takes milliseconds."""
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    paths = ssl.get_default_verify_paths()
    file: str | None = paths.cafile  # typeshed does not know that either may be None
    folder: str | None = paths.capath
    if file is None and (folder is None or not any(Path(folder).iterdir())):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context

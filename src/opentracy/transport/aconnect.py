"""Making a connection on an event loop: name, addresses side by side, proxy, TLS; all before one deadline."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from ..core.failure import transport_failure
from ..core.wire import Failure, Origin
from .aconnection import Connection
from .connect import proxy_failure
from .dial import (
    STAGGER_S,
    Address,
    Lookup,
    Resolved,
    connect_failure,
    literal,
    new_socket,
    resolve,
    tls_context,
    tls_failure,
)
from .http1 import USER_AGENT, ResponseReader
from .proxy import Proxy, connect_request

Dialled = Connection
_now = time.monotonic


async def dial(
    origin: Origin, deadline: float, proxy: Proxy | None, protocol: Callable[[], Connection]
) -> Connection | Failure:
    """A connection to `origin`, through `proxy` where there is one. Failures as in `connect.connect`."""
    phase = ["connect"]
    try:
        async with asyncio.timeout(max(0.0, deadline - _now())):
            return await _dial(origin, proxy, protocol, phase)
    except TimeoutError:
        if proxy is not None:
            return proxy_failure(proxy, "it did not answer in time")
        if phase[0] == "tls":
            return tls_failure(TimeoutError(), origin)
        if phase[0] == "dns":
            return transport_failure("timeout", f"resolving {origin.host} timed out", sent=False)
        return connect_failure(TimeoutError(), origin)


async def _dial(
    origin: Origin, proxy: Proxy | None, protocol: Callable[[], Connection], phase: list[str]
) -> Connection | Failure:
    via = origin if proxy is None else Origin("http", proxy.host, proxy.port)
    phase[0] = "dns"
    addresses: Resolved | None = literal(via.host, via.port)
    if addresses is None:
        addresses = await _resolved(resolve(via.host, via.port))
    phase[0] = "connect"
    sock = addresses if isinstance(addresses, Failure) else await _race(addresses, via)
    if isinstance(sock, Failure):
        failure = Failure(sock.kind, sock.message, retryable=sock.retryable, sent=False)
        return failure if proxy is None else proxy_failure(proxy, failure.message)
    done = False
    loop = asyncio.get_running_loop()
    try:
        if proxy is not None and origin.scheme == "https":
            refused = await _tunnel(sock, origin, proxy)
            if refused is not None:
                return refused
        secure = origin.scheme == "https"
        phase[0] = "tls" if secure else "connect"
        try:
            _, connection = await loop.create_connection(
                protocol,
                sock=sock,
                ssl=tls_context() if secure else None,
                server_hostname=origin.host if secure else None,
            )
        except TimeoutError:
            raise
        except OSError as e:
            return tls_failure(e, origin) if secure else connect_failure(e, origin)
        done = True
        return connection
    finally:
        if not done:
            sock.close()


async def _resolved(lookup: Lookup) -> Resolved:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have ended while the name server was thinking
            loop.call_soon_threadsafe(ready.set)

    lookup.when_done(tell)
    await ready.wait()
    assert lookup.result is not None
    return lookup.result


async def _race(addresses: list[Address], origin: Origin) -> socket.socket | Failure:
    """The first address that answers; a new one joins every `STAGGER_S`, or at once when all so far have failed."""
    if len(addresses) == 1:
        try:
            return await _connected(addresses[0])
        except OSError as e:
            return connect_failure(e, origin)
    waiting = list(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    last: OSError = OSError("no address")
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.add(asyncio.ensure_future(_connected(waiting.pop(0))))
            done, running = await asyncio.wait(
                running, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()
                elif error is None:
                    task.result().close()
                elif isinstance(error, OSError):
                    last = error
        return winner if winner is not None else connect_failure(last, origin)
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_loser)


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(address: Address) -> socket.socket:
    sock = new_socket(address)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


async def _tunnel(sock: socket.socket, origin: Origin, proxy: Proxy) -> Failure | None:
    """Asks the proxy for a way to `origin`."""
    loop = asyncio.get_running_loop()
    reader = ResponseReader()
    reader.start(stream=True)
    try:
        await loop.sock_sendall(sock, connect_request(origin, proxy, USER_AGENT))
        while reader.head is None and reader.failure is None:
            data = await loop.sock_recv(sock, 1)  # never more: what follows the head belongs to the tunnel
            if data:
                reader.feed(data)
            else:
                reader.eof()
    except TimeoutError:
        raise
    except OSError as e:
        return proxy_failure(proxy, e.strerror or str(e))
    finally:
        reader.dispose()
    if reader.head is not None and 200 <= reader.head.status < 300:
        return None
    status = f"it answered CONNECT with {reader.head.status}" if reader.head is not None else "it closed the connection"
    return proxy_failure(proxy, status)

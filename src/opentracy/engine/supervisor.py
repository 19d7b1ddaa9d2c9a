"""Processes and signals: one worker in this process, or several sharing the port.

Belongs here: binding, forking, replacing a crashed worker, draining on SIGTERM, reloading on SIGHUP. Not here: what a
worker does (`app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from opentracy.traces import Store, TraceStoreError

from .auth import is_loopback
from .config import Config
from .configfile import ConfigError
from .state import Snapshot

log = logging.getLogger("opentracy.engine")


class StartError(Exception):
    """The engine cannot start; one line that says why."""


def refuse_open_bind(config: Config, *, virtual_keys: bool = False) -> None:
    """Raises StartError for a bind that others can reach although anyone would be let in."""
    server = config.server
    if not is_loopback(server.host) and not (server.api_keys or server.admin_keys or virtual_keys):
        raise StartError(
            f"refusing to listen on {server.host} without a key: set server.api_keys (e.g. [\"env:OPENTRACY_API_KEY\"]), "
            "or bind to 127.0.0.1"
        )


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; StartError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.strip("[]"), port))
        sock.listen(2048)
    except OSError as e:
        sock.close()
        raise StartError(f"cannot listen on {host}:{port}: {e.strerror or e}") from None
    sock.setblocking(False)
    return sock


def load_router(config: Config, needed: bool = True) -> tuple[Any, str | None]:
    """The router and None, or None and why there is none."""
    from opentracy.routing import load

    try:
        return load(config.auto.router), None
    except (OSError, ValueError) as e:
        log.warning("the router cannot be loaded: %s", e)
        return None, f"router_unavailable: {e}"[:200]


def serve_one(
    sock: socket.socket, snapshot: Snapshot, store: Store | None, *, reload: Callable[[], Snapshot] | None = None,
    ready: Callable[[], None] | None = None,
) -> int:  # fmt: skip
    """Runs one worker until it is told to stop; returns the exit status."""
    import uvloop

    return uvloop.run(_worker(sock, snapshot, store, reload, ready))


async def _worker(
    sock: socket.socket, snapshot: Snapshot, store: Store | None, reload: Callable[[], Snapshot] | None,
    ready: Callable[[], None] | None,
) -> int:  # fmt: skip
    from .app import Engine
    from .tracing import Tracing

    loop = asyncio.get_running_loop()
    engine = Engine(snapshot, Tracing(snapshot.config.traces, store), reload=reload)
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_stop() -> None:
        (hurry if stop.is_set() else stop).set()

    def on_reload() -> None:
        try:
            engine.reload()
        except (ConfigError, OSError, ValueError) as e:
            log.error("configuration not reloaded: %s", e)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    await engine.server.listen(sock)
    if ready is not None:
        ready()
    await stop.wait()
    down = asyncio.ensure_future(engine.shut_down(snapshot.config.server.drain_seconds))
    impatient = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({down, impatient}, return_when=asyncio.FIRST_COMPLETED)
    if not down.done():
        down.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await down
        await engine.shut_down(0)
    impatient.cancel()
    return 0


def open_store(config: Config, environ: Mapping[str, str]) -> Store | None:
    """The trace store; StartError when its place cannot be used."""
    from .tracing import store_path

    if not config.traces.enabled:
        return None
    try:
        return Store.open(store_path(config.traces, environ))
    except (TraceStoreError, OSError) as e:
        raise StartError(str(e)) from None


def environment() -> dict[str, str]:
    """The environment as it is now."""
    return dict(os.environ)

"""One worker from its first to its last moment: event loop, engine, signals, drain.

Belongs here: what happens in a worker's process around the engine. Not here: how many there are (`supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from opentracy.core.pricing import price_of
from opentracy.traces import Store
from opentracy.traces.memory import share_heaps

from .app import Engine
from .configfile import ConfigError
from .tracing import Tracing
from .watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import Snapshot
    from .supervisor import Service

log = logging.getLogger("opentracy.engine")


def work(sock: socket.socket, service: Service, *, first: bool, parent: int | None = None) -> int:
    """Serves on a listening socket until told to stop; the exit status. `first`: does what is done once per start."""
    import uvloop

    share_heaps()
    return uvloop.run(_work(sock, service, first, parent))


async def _work(sock: socket.socket, service: Service, first: bool, parent: int | None) -> int:
    loop = asyncio.get_running_loop()
    # before anything is opened: a worker that is told to stop while it starts leaves nothing behind either
    stop, hurry = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    snapshot = service.first
    if parent is not None:
        # a replacement starts with what is in force now, not with what was when the engine started
        with contextlib.suppress(ConfigError, OSError):
            snapshot = service.accepted()
    # looked at for damage before the workers began, and once is enough: it may take seconds
    store = Store.open(service.store, check=False) if service.store is not None else None
    tracing = Tracing(snapshot.config, store, os.environ)
    if first:
        await loop.run_in_executor(None, tracing.recover)
    engine = Engine(snapshot, tracing, reload=service.snapshot, parent=parent)
    engine.config_path = service.config_path
    _warm_up(engine)
    loop.add_signal_handler(signal.SIGHUP, _reload, engine, service.snapshot if parent is None else service.accepted)
    await engine.learning.start()
    engine.shadow.start()
    await engine.server.listen(sock)
    watchdog = Watchdog(lambda: engine.server.now_monotonic)
    watcher = loop.create_task(_orphaned(parent, stop)) if parent is not None else None
    await stop.wait()
    watchdog.stop()  # the last flush may take its time
    await _shut_down(engine, hurry)
    if watcher is not None:
        watcher.cancel()
    return 0


def _warm_up(engine: Engine) -> None:
    """Loads what the first request would otherwise wait for, then takes it out of the collector's sight."""
    price_of("", "")
    for model in engine.state.auto_models:
        with contextlib.suppress(ValueError):
            engine.state.target(model)
    gc.collect()
    gc.freeze()
    # requests leave hardly any cycles behind; the default threshold would walk the young ones every few requests
    gc.set_threshold(20_000, 20, 50)
    # a background thread that computes (projection, text index) gives the loop its turn after half a millisecond, not
    # after five: a request needs several turns
    sys.setswitchinterval(0.0005)


def _reload(engine: Engine, fresh: Callable[[], Snapshot]) -> None:
    try:
        engine.swap(fresh())
    except (ConfigError, OSError, ValueError) as e:
        log.error("the configuration was not reloaded: %s", e)


async def _orphaned(parent: int | None, stop: asyncio.Event) -> None:
    """Without its parent nobody would stop or replace this worker."""
    while os.getppid() == parent:  # noqa: ASYNC110  (nothing tells of it, it must be looked at)
        await asyncio.sleep(0.5)
    stop.set()


async def _shut_down(engine: Engine, hurry: asyncio.Event) -> None:
    """Drains; a second signal ends at once."""
    drain = asyncio.ensure_future(engine.shut_down(engine.state.config.server.drain_seconds))
    impatient = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({drain, impatient}, return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if not drain.done():
        drain.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drain
        await engine.shut_down(0)

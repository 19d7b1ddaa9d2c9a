"""Processes and signals: one worker in this process, or several sharing the port under a parent that replaces them.

Belongs here: binding, forking, replacing a crashed worker, draining on SIGTERM, reloading on SIGHUP. Not here: what a
worker does (`worker`), flags and the banner (`cli.serve`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentracy.traces import Store, TraceStoreError
from opentracy.traces.locks import FileLock

from .auth import is_loopback
from .config import Config
from .configfile import ConfigError
from .idempotency import free_open
from .inforce import InForce
from .state import Snapshot
from .tracing import store_path

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("opentracy.engine")
_CRASHES_PER_MINUTE = 30
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartError(Exception):
    """The engine cannot start; one line that says why. `status`: the process's exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Service:
    """What every worker needs. `snapshot` reads the configuration afresh (ConfigError when it cannot be used), and
    what it could use is in force from then on, for all workers; `accepted` is what is in force.

    `config_path`: the file that is read, None for the defaults.
    """

    first: Snapshot
    snapshot: Callable[[], Snapshot]
    accepted: Callable[[], Snapshot]
    in_force: InForce
    store: Path | None
    config_path: str | None = None


def refuse_open_bind(config: Config, *, virtual_keys: bool = False) -> None:
    """Raises StartError for a bind that others can reach although anyone would be let in."""
    server = config.server
    if not is_loopback(server.host) and not (server.api_keys or server.admin_keys or virtual_keys):
        raise StartError(
            f'refusing to listen on {server.host} without a key: set server.api_keys (e.g. ["env:OPENTRACY_API_KEY"]), '
            "or bind to 127.0.0.1",
            2,
        )


def bind(host: str, port: int, *, shared: bool = False, listen: bool = True) -> socket.socket:
    """A bound socket; StartError when the address cannot be had. `shared`: several processes bind the same."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host.strip("[]"), port))
        if listen:
            sock.listen(2048)
    except (OSError, OverflowError) as e:
        sock.close()
        raise StartError(f"cannot listen on {host}:{port}: {getattr(e, 'strerror', None) or e}") from None
    sock.setblocking(False)
    return sock


def load_router(config: Config) -> tuple[Any, str | None]:
    """The router and None, or None and why there is none. Loaded again only once its files have changed.

    Where what now stands in the directory cannot be trusted, the router that was loaded from it before stays in use.
    """
    source = config.auto.router
    manifest = Path(source) / "router.json"
    found, problem = _loaded(source, manifest.stat().st_mtime_ns if manifest.exists() else 0)
    if found is not None:
        _good[source] = found
    elif source in _good:
        return _good[source], f"{problem}; version {_good[source].version} stays in use"
    return found, problem


_good: dict[str, Any] = {}


@lru_cache(maxsize=2)
def _loaded(source: str, stamp: int) -> tuple[Any, str | None]:
    """`stamp`: when the artifact was written."""
    from opentracy.routing import load

    try:
        return load(source), None
    except (OSError, ValueError) as e:
        log.warning("the router cannot be loaded: %s", e)
        return None, f"router_unavailable: {e}"[:200]


def prepare_store(config: Config, environ: Mapping[str, str]) -> tuple[Path | None, FileLock | None]:
    """Makes, checks and claims the trace store; StartError when it cannot be used. Keep the lock while you run."""
    if not config.traces.enabled:
        return None, None
    path = store_path(config.traces, environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(path.with_name(path.name + ".engine"))
        if not lock.acquire():
            holder = lock.path.read_text()[:20].strip()
            raise StartError(
                f"another engine (pid {holder}) uses the trace store {path}: "
                "stop it, or give this one its own with --store"
            )
        lock.note(f"{os.getpid()}\n")
        store = Store.open(path)
        store.close()
    except (TraceStoreError, OSError) as e:
        raise StartError(str(e)) from None
    from .metrics import clear

    clear(path)
    free_open(path.parent)
    return path, lock


def run_one(sock: socket.socket, service: Service) -> int:
    """A single worker in this process, until it is told to stop; the exit status."""
    from .worker import work

    return work(sock, service, first=True)


class Supervisor:
    """The parent of several workers. It serves nothing itself: it forks, waits and passes signals on."""

    def __init__(self, config: Config, service: Service) -> None:
        self._config = config
        self._service = service
        self._workers: dict[int, int] = {}  # pid -> number
        self._starts: list[float] = []
        self._stopping = 0
        self._known = service.in_force.number()  # of the configuration that was passed on last
        server = config.server
        bind(server.host, server.port).close()  # a plain bind fails where somebody else listens, a shared one would not
        self._reserve = bind(server.host, server.port, shared=True, listen=False)
        self.address = self._reserve.getsockname()

    def run(self) -> int:
        """Until every worker has ended after SIGTERM or SIGINT; the exit status."""
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        from . import worker  # noqa: F401  (imported here once, not in every child)

        for number in range(self._config.server.workers):
            self._start(number)
        status = 0
        while self._workers:
            try:
                pid, code = os.wait()
            except InterruptedError:
                continue
            except ChildProcessError:
                break
            if pid not in self._workers:
                continue
            number = self._workers.pop(pid)
            if self._stopping:
                if code:
                    log.error("worker %d (pid %d) ended with status %d", number, pid, code)
                    status = 1
                continue
            log.error("worker %d (pid %d) ended with status %d, starting another", number, pid, code)
            if not self._restart(number):
                return 1
        return status

    def _restart(self, number: int) -> bool:
        now = time.monotonic()
        self._starts = [t for t in self._starts if now - t < 60]
        self._starts.append(now)
        if len(self._starts) > _CRASHES_PER_MINUTE:
            log.error("workers crash too often, giving up")
            self._pass_on(signal.SIGTERM)
            return False
        self._start(number)
        return True

    def _start(self, number: int) -> None:
        # held back until the child has handlers of its own: with ours it would pass a signal on and live
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid:
            self._workers[pid] = number
            if self._stopping:  # it was told before there was this one
                os.kill(pid, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return
        status = 1
        try:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for caught in (signal.SIGTERM, signal.SIGINT):
                signal.signal(caught, lambda *_: os._exit(0))  # told to stop before there was anything to stop
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            from .worker import work

            server = self._config.server
            host, port = server.host, self.address[1]
            self._reserve.close()
            status = work(bind(host, port, shared=True), self._service, first=number == 0, parent=os.getppid())
        except BaseException:
            log.exception("worker %d failed", number)
        finally:
            logging.shutdown()
            os._exit(status)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping += 1
        self._pass_on(signal.SIGTERM)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        """From a worker that has reloaded: the others follow it. From anybody else: the file is read, here and once."""
        in_force = self._service.in_force
        if in_force.number() == self._known:
            try:
                self._service.snapshot()
            except (ConfigError, OSError, ValueError) as e:
                log.error("the configuration was not reloaded: %s", e)
                return
        self._known = in_force.number()
        self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: int) -> None:
        for pid in list(self._workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

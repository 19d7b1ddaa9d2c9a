"""What is done once per database and not on the request path: the leader's thread.

Belongs here: the order and the pace of background duties. Every worker has this thread; the one that holds the leader
lock works, the others look every few seconds whether it is free. Duties run only while the process is not busy, except
those that cannot wait for ever.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from . import chunks, outbox, project, segments, words
from .locks import leader_lock
from .memory import give_back
from .outbox import Sink
from .retention import Retention, old, prune
from .retire import MORE, NICENESS
from .sqlite import Store

log = logging.getLogger("opentracy.traces")


#: how long a process that removes old traces works at a time: beginning one costs as much as removing some thousand
RETIRE_SECONDS = 600.0
#: rows that are sealed also while requests come: so many at most are summed up row by row when somebody looks
RESTLESS_SEAL_ROWS = 2 * segments.SEAL_ROWS
#: how long one round adds to the text index; the other duties wait meanwhile
INDEX_SECONDS = 2.0
#: how often memory that the duties have freed goes back to the system: they work in bursts of some megabytes
TRIM_SECONDS = 10.0
#: traces per second up to which there is time for what can wait
CALM_ROWS = 100


class Maintenance:
    """The background duties of a store.

    `busy` says whether the process has better things to do; `sinks` are destinations by the name of their mark
    (`outbox.destination`); `every` are further callables (alerts) with their interval in seconds. `apart`: retention
    and sealing work in processes of their own, since this one serves (see `retire`, `sealing`). `settled`: what takes a
    second of the processor waits for so many seconds of calm, since requests that come in bursts come again.
    """

    def __init__(
        self,
        store: Store,
        *,
        retention: Retention | None = None,
        busy: Callable[[], bool] = lambda: False,
        sinks: dict[str, Sink] | None = None,
        every: list[tuple[float, Callable[[], object]]] | None = None,
        pause: float = 1.0,
        prune_seconds: float = 60.0,
        apart: bool = False,
        settled: float = 0.0,
    ) -> None:
        self.store = store
        self.retention = retention or Retention()
        self.failing: dict[str, str] = {}
        self._busy = busy
        self._sinks = sinks or {}
        self._every = [(seconds, call, [0.0]) for seconds, call in every or []]
        self._pause = pause
        self._stop = threading.Event()
        self._lock = leader_lock(store.path)
        self._prune_seconds = prune_seconds
        self._pruned = 0.0
        self._apart = apart
        self._settled = settled
        self._restless = time.monotonic()  # when it was not calm last
        self._retiring: subprocess.Popen[bytes] | None = None
        self._sealing: subprocess.Popen[bytes] | None = None
        self._newest = 0
        self._worked = False  # since memory was given back
        self._trimmed = 0.0
        self._looked = 0.0
        self._thread = threading.Thread(target=self._run, name="opentracy-maintenance", daemon=True)

    @property
    def leads(self) -> bool:
        """True while this process does the work."""
        return self._lock.held

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends after the slice that is running and lets another process lead."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._end_retiring()
        _end(self._sealing)
        self._lock.release()

    def keep(self, retention: Retention) -> None:
        """Other lifetimes from the next round on."""
        if retention != self.retention:
            self.retention, self._pruned = retention, 0.0
            self._end_retiring()

    def _end_retiring(self) -> None:
        process, self._retiring = self._retiring, None
        _end(process)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                if self._lock.acquire():
                    self.round()
            except Exception:
                log.exception("Maintenance of traces failed and goes on")

    def round(self) -> None:
        """One pass over all duties. Each stands alone: what fails is noted in `failing` and does not stop the next."""
        with contextlib.closing(self.store.connect(timeout=5.0)) as connection:
            # what it reads it reads once: a large cache would only be a burst of memory, each second anew
            connection.execute("PRAGMA cache_size = -2000")
            for name in self._sinks:
                outbox.register(connection, name)
            calm = self._calm(connection)
            if not calm:
                self._restless = time.monotonic()
            if calm:
                # under load the writers project themselves, in larger portions
                self._duty("projection", lambda: self._project(connection))
            for name, sink in self._sinks.items():
                self._duty(name, partial(outbox.deliver, connection, name, sink, max_blocks=1000))
            # what sums and lists wait for comes before the words: a million traces take a minute to index
            if segments.available():
                settled = calm and time.monotonic() - self._restless >= self._settled
                rows = segments.SEAL_ROWS if settled else RESTLESS_SEAL_ROWS
                self._duty("sealing", lambda: self._seal(connection, rows))
            if calm:
                self._duty("chunks", lambda: self._chunk(connection))
            if calm:
                self._duty("index", lambda: self._index(connection))
            self._duty("retention", lambda: self._prune(connection))
            for seconds, call, last in self._every:
                if time.monotonic() - last[0] >= seconds:
                    last[0] = time.monotonic()
                    self._duty(getattr(call, "__name__", "duty"), call)
        self._trim()

    def _trim(self) -> None:
        """Without it the process keeps what its busiest moment took, and the busiest moments add up for hours."""
        now = time.monotonic()
        if self._worked and now - self._trimmed >= TRIM_SECONDS:
            self._trimmed, self._worked = now, False
            give_back()

    def _duty(self, name: str, work: Callable[[], object]) -> None:
        if self._stop.is_set():
            return
        try:
            work()
        except sqlite3.OperationalError as error:
            self.failing[name] = str(error)
        except Exception as error:
            if name not in self.failing:
                log.warning("Traces: %s fails: %s", name, type(error).__name__)
            self.failing[name] = type(error).__name__
        else:
            self.failing.pop(name, None)

    def _calm(self, connection: sqlite3.Connection) -> bool:
        """True when few traces arrived since the last look and the process says that it has time."""
        newest, rows = connection.execute(
            "SELECT ifnull(max(id), ?), ifnull(sum(rows), 0) FROM blocks WHERE id > ?", (self._newest, self._newest)
        ).fetchone()
        now = time.monotonic()
        first, self._newest = not self._looked, int(newest)
        self._worked = self._worked or int(rows) > 0
        seconds, self._looked = now - self._looked, now
        return (first or int(rows) <= CALM_ROWS * max(seconds, self._pause / 10)) and not self._busy()

    def _project(self, connection: sqlite3.Connection) -> None:
        """Rows for what waits, portion by portion: traffic may begin at any moment."""
        while True:
            with self.store.projecting:
                added = project.catch_up(connection, max_rows=1)
            if not added or self._stop.is_set() or not self._calm(connection):
                break
            self._worked = True
            time.sleep(0.005)

    def _index(self, connection: sqlite3.Connection) -> None:
        """Adds to the text index while nobody needs the processor; search is right without it."""
        end = time.monotonic() + INDEX_SECONDS
        while words.add_some(connection, blocks=4) and time.monotonic() < end:
            self._worked = True
            if self._stop.is_set() or not self._calm(connection):
                break
            time.sleep(0.005)

    def _chunk(self, connection: sqlite3.Connection) -> None:
        """Columns for what is projected; lists are right without them."""
        while chunks.build(connection) and not self._stop.is_set() and self._calm(connection):
            chunks.merge(connection)
            self._worked = True
            time.sleep(0.01)

    def _prune(self, connection: sqlite3.Connection) -> None:
        if self._pruned and time.monotonic() - self._pruned < self._prune_seconds:
            return
        if self._apart:
            self._retire(connection)
            return
        # a tenth of the time at most: retention must not be felt while serving
        done = prune(self.store, connection, self.retention, time.time_ns() // 1_000_000, seconds=0.1)
        if not done.more:
            self._pruned = time.monotonic()

    def _seal(self, connection: sqlite3.Connection, rows: int) -> None:
        if not self._apart:
            segments.seal(self.store, connection, min_rows=rows)
            return
        process = self._sealing
        if process is not None:
            code = process.poll()
            if code is None:
                return
            self._sealing = None
            if code:
                raise OSError(f"the process that seals traces ended with {code}")
        if segments.waiting(connection, rows):
            self._sealing = _begin("opentracy.traces.sealing", str(self.store.path), str(rows))

    def _retire(self, connection: sqlite3.Connection) -> None:
        """Begins a process that removes what is old, or looks whether the last one is done."""
        process = self._retiring
        if process is not None:
            code = process.poll()
            if code is None:
                return
            self._retiring = None
            if code != MORE:
                self._pruned = time.monotonic()
                if code:
                    raise OSError(f"the process that removes old traces ended with {code}")
                return
        if not old(connection, self.retention, time.time_ns() // 1_000_000):
            self._pruned = time.monotonic()
            return
        days = (self.retention.metrics_days or 0, self.retention.bodies_days or 0)
        self._retiring = _begin("opentracy.traces.retire", str(self.store.path), *map(str, days), str(RETIRE_SECONDS))


#: lowers the priority before anything is imported: that alone takes a tenth of a second of the processor
_GENTLY = (
    "import os, runpy, sys; os.nice({nice}); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def _begin(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603  (our own module, with numbers and a path of the configuration)
        [sys.executable, "-c", _GENTLY.format(nice=NICENESS), module, *arguments],
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
    )


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        # between two slices or within one: each is one transaction
        process.terminate()
        process.wait()

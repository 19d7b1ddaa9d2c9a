"""The engine's end of the trace store: opens it, hands records over, closes it; a silent stand-in where it is off.

Belongs here: how the engine's configuration maps onto `opentracy.traces`. Not here: anything about storage itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from opentracy.traces import Reader, Store, TraceRecord, TraceWriter
from opentracy.traces.inflight import Inflight, recover
from opentracy.traces.maintenance import Maintenance
from opentracy.traces.redact import Redactor, masked_name
from opentracy.traces.retention import Retention

from .config import Config, TracesConfig
from .outlets import Outlets, alerting

log = logging.getLogger("opentracy.engine")
_FLUSH_S = 2.0
#: a question waits so long for rows to be made; only after an import or a crash is that not enough for all
_ROWS_S = 0.5


def store_path(config: TracesConfig, environ: Mapping[str, str]) -> Path:
    """Where the traces of this configuration are."""
    if config.path is not None:
        return Path(config.path).expanduser()
    home = environ.get("OPENTRACY_DATA_HOME")
    return (Path(home) if home else Path("~/.opentracy")).expanduser() / "traces.db"


class Tracing:
    """Takes finished records. Made after the fork of a worker, never before."""

    def __init__(self, config: Config, store: Store | None, environ: Mapping[str, str]) -> None:
        self.store = store
        self.reader = Reader(store, seconds=_ROWS_S) if store is not None else None
        self.redact = Redactor(config.traces.content)
        self.writer: TraceWriter | None = None
        self.outlets: Outlets | None = None
        self._maintenance: Maintenance | None = None
        if store is not None:
            self.writer = TraceWriter(store, before_write=self.redact)
            self.outlets = Outlets(config, store, environ)
            self._maintenance = self._look_after(config, store, environ)
            self._maintenance.start()
        self._flush: asyncio.Future[bool] | None = None  # the one that waits for the writer
        self._inflight = Inflight(store.path) if store is not None else None
        #: notes that a request is open, where even a killed process leaves it behind; a slot for `end`
        self.begin: Callable[[str, int, str, str | None], int] = _nowhere
        #: the request has its record
        self.end: Callable[[int], None] = _nothing
        self._note_openings()
        self.put: Callable[[TraceRecord], object] = self.writer.put if self.writer is not None else _nothing

    def _note_openings(self) -> None:
        """Straight into the table, unless a name may have to be masked first."""
        if self._inflight is not None:
            whole = self.redact.content == "all"
            self.begin, self.end = self._inflight.begin if whole else self._begin_masked, self._inflight.end

    def _begin_masked(self, trace_id: str, ts_ms: int, model: str, key_id: str | None) -> int:
        assert self._inflight is not None
        return self._inflight.begin(trace_id, ts_ms, masked_name(model), key_id)

    def _look_after(self, config: Config, store: Store, environ: Mapping[str, str]) -> Maintenance:
        writer, outlets, traces = self.writer, self.outlets, config.traces
        assert writer is not None and outlets is not None
        keep = _lifetimes(traces)
        watch = alerting(config.alerts, store, environ, lambda: sum(writer.counters.dropped.values()))
        return Maintenance(store, retention=keep, sinks=outlets.sinks, every=watch, apart=True, settled=20.0)

    def renew(self, config: Config) -> None:
        """The configuration was read again: texts follow it at once, lifetimes from the next round on."""
        self.redact.content = config.traces.content
        self._note_openings()
        if self._maintenance is not None:
            self._maintenance.keep(_lifetimes(config.traces))

    @property
    def failing(self) -> dict[str, str]:
        """What the leader could not do in its last round, by duty; empty in the other workers."""
        return dict(self._maintenance.failing) if self._maintenance is not None else {}

    def recover(self) -> int:
        """Gives a record to each request that an earlier run left open; returns how many there were."""
        if self.store is None or self.reader is None or self.writer is None:
            return 0
        find = self.reader.find
        return recover(self.store.path, lambda trace_id: find(trace_id) is not None, self.writer.put)

    def put_durable(self, record: TraceRecord) -> Future[str]:
        """The future is done once the record is committed, or had to be dropped."""
        if self.writer is None:
            done: Future[str] = Future()
            done.set_result(record.trace_id)
            return done
        return self.writer.put_durable(record)

    async def durable(self, record: TraceRecord) -> None:
        """Returns once the record is committed; a store that fails is logged, never the caller's problem."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self.put_durable(record)), 5.0)
        except (RuntimeError, OSError, TimeoutError) as e:
            log.warning("trace %s is not durable: %s", record.trace_id, e)

    async def current(self) -> None:
        """Waits (at most 2 s) until what was handed over so far can be read. However many wait, it takes one thread."""
        if self.writer is None or self.writer.settled:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                under_way = self._flush
                if under_way is not None and not under_way.done():
                    await asyncio.shield(under_way)  # it began before our traces were handed over
                if self._flush is under_way or self._flush is None:
                    self._flush = asyncio.get_running_loop().run_in_executor(None, self.writer.flush, _FLUSH_S)
                await asyncio.shield(self._flush)

    @property
    def degraded(self) -> str | None:
        """None while the store keeps up, else a sentence for /health."""
        return self.writer.degraded if self.writer is not None else None

    def close(self) -> None:
        """Commits what waits."""
        if self._maintenance is not None:
            self._maintenance.stop()
            self._maintenance = None
        if self.outlets is not None:
            self.outlets.close()
        if self.writer is not None:
            self.writer.close()
        if self._inflight is not None:
            self._inflight.close()
            self._inflight = None
            self.begin, self.end = _nowhere, _nothing
        if self.store is not None:
            self.store.close()


def _lifetimes(traces: TracesConfig) -> Retention:
    """Zero means for ever."""
    return Retention(traces.metrics_days or None, traces.bodies_days or None)


def _nowhere(trace_id: str, ts_ms: int, model: str, key_id: str | None) -> int:
    """Nothing is kept."""
    return -1


def _nothing(what: object) -> None:
    """Traces are off, or closed."""

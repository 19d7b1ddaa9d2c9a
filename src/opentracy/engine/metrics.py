"""Counters of all workers in Prometheus' text form: each worker writes its own file, and whoever is asked sums them.

Belongs here: what is counted, its labels, and the sum. Label values are bounded: a model that no configuration and no
price table knows counts as `other`, since callers could otherwise invent as many series as they like.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.pricing import price_of
from opentracy.traces import TraceRecord

if TYPE_CHECKING:
    from .app import Engine

BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_HELP = {
    "opentracy_requests_total": ("counter", "Requests answered, by provider, model and outcome"),
    "opentracy_replays_total": ("counter", "Answers of before, given again under their Idempotency-Key"),
    "opentracy_refused_total": ("counter", "Requests without the right to be answered, by status"),
    "opentracy_request_duration_seconds": ("histogram", "From the request to the last byte"),
    "opentracy_ttft_seconds": ("histogram", "From the request to the first content of a stream"),
    "opentracy_overhead_seconds_total": ("counter", "Time of requests that no provider attempt accounts for"),
    "opentracy_tokens_total": ("counter", "Tokens, by kind"),
    "opentracy_cost_usd_total": ("counter", "Known cost"),
    "opentracy_unpriced_total": ("counter", "Answers whose cost is unknown"),
    "opentracy_attempts_total": ("counter", "Requests sent to providers"),
    "opentracy_fallbacks_total": ("counter", "Requests that another model had to answer"),
    "opentracy_route_decisions_total": ("counter", "Decisions of auto, by cluster and model"),
    "opentracy_in_flight": ("gauge", "Requests being answered"),
    "opentracy_trace_queue_depth": ("gauge", "Traces waiting to be committed"),
    "opentracy_traces_dropped_total": ("counter", "Traces that could not be kept, by reason"),
    "opentracy_process_start_time_seconds": ("gauge", "When the oldest worker started"),
}
_STARTED = "opentracy_process_start_time_seconds"
_Series = dict[str, float]


class Tally:
    """What was counted for one provider, model and outcome; turned into named series only when somebody looks."""

    __slots__ = ("attempts", "buckets", "cost", "count", "fallbacks", "seconds", "tokens_in", "tokens_out", "ttft",
                 "ttft_seconds", "unpriced", "upstream")  # fmt: skip

    def __init__(self) -> None:
        self.count = self.attempts = self.fallbacks = self.unpriced = self.tokens_in = self.tokens_out = self.cost = 0
        self.seconds = self.ttft_seconds = self.upstream = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.ttft: list[int] | None = None

    def first_content(self, seconds: float) -> None:
        """A stream had its first content so long after its request."""
        if self.ttft is None:
            self.ttft = [0] * (len(BUCKETS) + 1)
        self.ttft[bisect_left(BUCKETS, seconds)] += 1
        self.ttft_seconds += seconds


class Metrics:
    """What this worker counts. Series are keyed by their text form, so that a sum over workers is a sum of dicts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: _Series = {}
        self._tallies: dict[tuple[str, str, str, int], Tally] = {}
        self._decisions: dict[tuple[int, str, str], int] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._written = 0.0
        self._dirty = False
        store = engine.traces.store
        self._gauges: _Series = {}
        # a process id may come again; what a dead worker counted must not be written over
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file = None if store is None else store.path.with_name(f"{store.path.name}.metrics.{name}")

    def _add(self, key: str, amount: float = 1) -> None:
        self._counts[key] = self._counts.get(key, 0) + amount
        self._dirty = True

    def refused(self, status: int) -> None:
        """A request without the right to be answered."""
        self._add(f'opentracy_refused_total{{status="{status}"}}')

    def replayed(self) -> None:
        """An answer of before was given again under its Idempotency-Key."""
        self._add("opentracy_replays_total")

    def rejected(self, record: TraceRecord) -> None:
        """A request that was accepted but not served."""
        labels = f'provider="",model="",outcome="{record.outcome}",status="{record.http_status // 100}xx"'
        self._add(f"opentracy_requests_total{{{labels}}}")

    def observe(self, record: TraceRecord) -> None:
        """A call that was served, well or not."""
        provider = record.provider
        model = self._names.get((provider, record.model)) or self._model(provider, record.model)
        tally = self._tally(provider, model, record.outcome, record.http_status // 100)
        seconds = record.latency_ms / 1000
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(BUCKETS, seconds)] += 1
        if record.ttft_ms is not None:
            tally.first_content(record.ttft_ms / 1000)
        tally.tokens_in += record.tokens_in or 0
        tally.tokens_out += record.tokens_out or 0
        if record.cost_nano is not None:
            tally.cost += record.cost_nano
        elif record.outcome == "ok":
            tally.unpriced += 1
        for attempt in record.attempts:
            tally.attempts += 1
            tally.upstream += attempt.ms
        if record.fallback_from is not None:
            tally.fallbacks += 1
        self.decided(provider, record.model, record.cluster_id)
        self._dirty = True

    def _tally(self, provider: str, model: str, outcome: str, status: int) -> Tally:
        key = (provider, model, outcome, status)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def decided(self, provider: str, model: str, cluster_id: int | None) -> None:
        """`auto` chose a model for a prompt of this cluster."""
        if cluster_id is not None:
            decision = (cluster_id, provider, self._names.get((provider, model)) or self._model(provider, model))
            self._decisions[decision] = self._decisions.get(decision, 0) + 1

    def answers_of(self, provider: str, model: str) -> Tally:
        """Where `answered` counts the good answers of a model."""
        return self._tally(provider, self._model(provider, model), "ok", 2)

    def answered(
        self, tally: Tally, ms: float, tokens_in: int, tokens_out: int, cost: int | None, ttft_ms: float | None
    ) -> None:
        """What `observe` would note of a call that its first request answered well."""
        seconds = ms / 1000
        tally.count += 1
        tally.attempts += 1
        tally.seconds += seconds
        tally.upstream += ms
        tally.buckets[bisect_left(BUCKETS, seconds)] += 1
        tally.tokens_in += tokens_in
        tally.tokens_out += tokens_out
        if cost is None:
            tally.unpriced += 1
        else:
            tally.cost += cost
        if ttft_ms is not None:
            tally.first_content(ttft_ms / 1000)
        self._dirty = True

    def _model(self, provider: str, model: str) -> str:
        """The label for a model: its name when a price table knows it, since anybody can invent others."""
        known = price_of(provider, model) is not None
        if len(self._names) > 2000:
            return "other"
        name = self._names[provider, model] = model if known else "other"
        return name

    def _series(self) -> _Series:
        """Everything counted so far, by the name of its series."""
        series = dict(self._counts)
        writer = self._engine.traces.writer
        if writer is not None:
            for reason, count in list(writer.counters.dropped.items()):
                series[f'opentracy_traces_dropped_total{{reason="{_safe(reason)}"}}'] = count

        def add(key: str, amount: float) -> None:
            if amount:
                series[key] = series.get(key, 0) + amount

        for (provider, model, outcome, status), t in self._tallies.items():
            labels = f'provider="{_safe(provider)}",model="{_safe(model)}"'
            add(f'opentracy_requests_total{{{labels},outcome="{outcome}",status="{status}xx"}}', t.count)
            _spread(add, "opentracy_request_duration_seconds", labels, t.buckets, t.seconds)
            if t.ttft is not None:
                _spread(add, "opentracy_ttft_seconds", labels, t.ttft, t.ttft_seconds)
            add(f'opentracy_tokens_total{{{labels},type="input"}}', t.tokens_in)
            add(f'opentracy_tokens_total{{{labels},type="output"}}', t.tokens_out)
            add(f"opentracy_cost_usd_total{{{labels}}}", t.cost / 1e9)
            add(f"opentracy_unpriced_total{{{labels}}}", t.unpriced)
            add("opentracy_attempts_total", t.attempts)
            add("opentracy_overhead_seconds_total", max(0.0, t.seconds - t.upstream / 1000))
            add(f"opentracy_fallbacks_total{{{labels}}}", t.fallbacks)
        for (cluster, provider, model), count in self._decisions.items():
            labels = f'cluster="{cluster}",provider="{_safe(provider)}",model="{_safe(model)}"'
            add(f"opentracy_route_decisions_total{{{labels}}}", count)
        return series

    # ---------------------------------------------------------------- over all workers
    def _now(self) -> _Series:
        """What is so just now, in this worker."""
        engine, writer = self._engine, self._engine.traces.writer
        now: _Series = {_STARTED: engine.begun, "opentracy_in_flight": len(engine.calls)}
        if writer is not None:
            now["opentracy_trace_queue_depth"] = writer.counters.queue_rows
            # drops count as soon as they happen, without any call that was observed
            now["dropped"] = sum(writer.counters.dropped.values())
        return now

    def flush(self, *, force: bool = False) -> None:
        """Writes this worker's counts where the others find them; called about once a second."""
        now = time.monotonic()
        if self._file is None or (not force and now - self._written < 1.0):
            return
        gauges = self._now()
        if not self._dirty and gauges == self._gauges:
            return
        self._written, self._dirty, self._gauges = now, False, gauges
        with contextlib.suppress(OSError):
            # of this worker alone: `with_suffix` would take the worker's own part of the name off
            fresh = self._file.with_name(self._file.name + ".part")
            fresh.write_bytes(msgspec.msgpack.encode((gauges, self._series())))
            fresh.replace(self._file)

    def total(self) -> _Series:
        """The counts of all workers, dead ones of this run included: a counter never falls. Gauges of living ones."""
        self.flush(force=True)
        if self._file is None:
            return self._series() | self._now()
        total: _Series = {}
        for path in self._file.parent.glob(f"{_stem(self._file)}.metrics.*"):
            if path.suffix == ".part":
                continue
            try:
                gauges, counts = msgspec.msgpack.decode(path.read_bytes(), type=tuple[_Series, _Series])
            except (OSError, msgspec.DecodeError):
                continue
            for key, amount in counts.items():
                total[key] = total.get(key, 0) + amount
            total[_STARTED] = min(total.get(_STARTED, gauges[_STARTED]), gauges.pop(_STARTED))
            for key, amount in gauges.items():
                total[key] = total.get(key, 0) + (amount if _lives(path) else 0)
        return total

    def text(self) -> str:
        """Everything in Prometheus' text form."""
        return _render(self.total())


def _lives(path: Path) -> bool:
    """Whether the worker that wrote a file is still there."""
    pid = path.name.rpartition(".")[2].partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        return True
    return True


def _stem(path: Path) -> str:
    return path.name.partition(".metrics.")[0]


def clear(database: Path) -> None:
    """Forgets the counts of an earlier run; called once, before the first worker starts."""
    for path in database.parent.glob(f"{database.name}.metrics.*"):
        path.unlink(missing_ok=True)


def _spread(add: Callable[[str, float], None], name: str, labels: str, buckets: list[int], total: float) -> None:
    for bound, count in zip((*BUCKETS, float("inf")), buckets, strict=True):
        add(f"{name}|{labels}|{bound}", count)
    add(f"{name}|{labels}|sum", total)


def _safe(text: str) -> str:
    return re.sub(r'[\\"\n]', "_", text)[:100]


def _render(series: _Series) -> str:
    lines = []
    by_name: dict[str, list[str]] = {}
    for key in series:
        by_name.setdefault(re.split(r"[{|]", key, maxsplit=1)[0], []).append(key)
    for name, (kind, text) in _HELP.items():
        keys = by_name.get(name)
        if keys:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += (
                _histogram_lines(name, keys, series)
                if kind == "histogram"
                else [f"{k} {_number(series[k])}" for k in sorted(keys)]
            )
    return "\n".join(lines) + "\n"


def _histogram_lines(name: str, keys: Iterable[str], series: _Series) -> list[str]:
    groups: dict[str, dict[str, float]] = {}
    for key in keys:
        _, labels, part = key.split("|")
        groups.setdefault(labels, {})[part] = series[key]
    lines = []
    for labels, parts in sorted(groups.items()):
        running = 0.0
        for bound in (*BUCKETS, float("inf")):
            running += parts.get(str(bound), 0)
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'{name}_bucket{{{labels},le="{shown}"}} {_number(running)}')
        lines += [f"{name}_sum{{{labels}}} {parts.get('sum', 0):.6f}", f"{name}_count{{{labels}}} {_number(running)}"]
    return lines


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.9g}"


async def expose(engine: Engine, request: Request) -> Response:
    """`GET /metrics`."""
    return Response(engine.metrics.text(), 200, None, "text/plain; version=0.0.4; charset=utf-8")

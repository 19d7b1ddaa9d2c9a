"""`opentracy top`: who is being asked right now, as a table that renews itself.

Belongs here: asking again and again, and the table. The figures are those of `opentracy stats` over the last minute (or
another window), from a running engine or from the store it writes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from opentracy.cli import traces_view as view
from opentracy.cli.local import filter_option, json_option, open_reader, read_filters, store_option
from opentracy.cli.remote import Remote, Unreachable, engine_option, pairs, remote
from opentracy.traces.errors import TraceStoreError

if TYPE_CHECKING:
    from rich.console import RenderableType

METRICS: Final = ("requests", "errors", "p50", "p95", "ttft_avg", "tokens_out", "cost", "unpriced")
_GAUGES: Final = {"opentracy_in_flight": "in_flight", "opentracy_trace_queue_depth": "queue"}
Row = dict[str, Any]
#: groups -> the figures of the last window
Ask = Callable[[Sequence[str]], list[Row]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What was asked within the window before `ts_ms`. `gauges` are known of running engines only."""

    ts_ms: int
    rows: list[Row]
    total: Row
    gauges: dict[str, int]


@click.command()
@click.option("--by", default="model", show_default=True, help="Groups, separated by commas: model, provider, key, ...")
@click.option("--window", default="1m", show_default=True, help="The span the figures are of: 30s, 1m, 1h.")
@click.option("--every", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--count", "-c", type=click.IntRange(min=0), help="Looks; 0 for no end (the default on a terminal; else 1)."
)
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@filter_option
@store_option
@engine_option
@json_option
def top(
    by: str, window: str, every: float, count: int | None, limit: int, query: str, store: Path | None,
    engine_url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Watch models live: requests a second, errors, latency, cost. Ctrl-C ends it."""
    from opentracy.traces.filters import span_ms

    groups = tuple(name for name in by.split(",") if name)
    try:
        seconds = span_ms(window) / 1000
    except TraceStoreError as error:
        raise click.UsageError(str(error)) from error
    if not groups or seconds <= 0:
        raise click.UsageError("Name at least one group and a window longer than nothing")
    engine = remote(store, engine_url)
    ask = _local(store, query, window, limit) if engine is None else _there(engine, query, window, limit)
    looks = count if count is not None else (0 if sys.stdout.isatty() and not as_json else 1)
    moments = _moments(lambda: _look(ask, groups, seconds, engine), looks, every)
    if as_json:
        for moment in moments:
            click.echo(json.dumps(_plain(moment, seconds)))
    elif sys.stdout.isatty():
        _live(moments, groups, window)
    else:
        for moment in moments:
            _print(moment, groups)


def _local(store: Path | None, query: str, window: str, limit: int) -> Ask:
    from opentracy.traces.compile import Query
    from opentracy.traces.stats import answer

    reader = open_reader(store)

    def ask(groups: Sequence[str]) -> list[Row]:
        try:
            asked = Query(METRICS, tuple(groups), None, read_filters(query, window), limit if groups else None)
        except TraceStoreError as error:
            raise click.UsageError(str(error)) from error
        return answer(reader, asked)

    return ask


def _there(engine: Remote, query: str, window: str, limit: int) -> Ask:
    def ask(groups: Sequence[str]) -> list[Row]:
        more = [("metric", ",".join(METRICS))]
        if groups:
            more += [("group_by", ",".join(groups)), ("limit", str(limit))]
        return engine.figures(pairs(query, window, None, more=more))

    return ask


def _look(ask: Ask, groups: Sequence[str], seconds: float, engine: Remote | None) -> Moment:
    total, rows = ask(())[0], ask(groups)
    for row in (total, *rows):
        row["requests_per_s"] = row["requests"] / seconds
        row["error_rate"] = row["errors"] / row["requests"] if row["requests"] else None
        row["cost_per_hour"] = row["cost"] * 3600 / seconds
    return Moment(time.time_ns() // 1_000_000, rows, total, {} if engine is None else _gauges(engine))


def _gauges(engine: Remote) -> dict[str, int]:
    """What an engine's workers together have at hand. A key that may not see it leaves it out."""
    with contextlib.suppress(click.ClickException):
        lines = [line.split() for line in engine.text("/metrics").splitlines() if line.startswith(tuple(_GAUGES))]
        return {_GAUGES[name]: int(float(value)) for name, value in lines if name in _GAUGES}
    return {}


def _moments(look: Callable[[], Moment], looks: int, every: float) -> Iterator[Moment]:
    """One look after another. Unreachable when the engine is gone at the first; a view without end waits for it."""
    number = 0
    while True:
        begun = time.monotonic()
        try:
            yield look()
        except Unreachable as error:
            if number == 0 or looks:
                raise
            click.echo(f"{error}; it is asked again", err=True)
        number += 1
        if number == looks:
            return
        time.sleep(max(0.0, begun + every - time.monotonic()))


def _plain(moment: Moment, seconds: float) -> dict[str, Any]:
    return {
        "ts_ms": moment.ts_ms, "window_s": seconds, "total": moment.total, **moment.gauges, "rows": moment.rows,
    }  # fmt: skip


# ---------------------------------------------------------------- table
_COLUMNS: Final = ("req/s", "requests", "errors", "p50", "p95", "first token", "tokens out", "cost", "cost/h")


def _cells(row: Row) -> tuple[str, ...]:
    errors = "0" if not row["errors"] else f"{row['errors']} ({row['error_rate']:.1%})"
    cost = view.money(round(row["cost"] * 1e9)) + ("+?" if row["unpriced"] else "")
    return (
        f"{row['requests_per_s']:.2f}", str(row["requests"]), errors, view.duration(row["p50"]),
        view.duration(row["p95"]), view.duration(row["ttft_avg"]), str(row["tokens_out"]), cost,
        view.money(round(row["cost_per_hour"] * 1e9)),
    )  # fmt: skip


def _table(moment: Moment, groups: Sequence[str]) -> list[tuple[str, ...]]:
    named = [(*("-" if row[name] is None else str(row[name]) for name in groups), *_cells(row)) for row in moment.rows]
    return [*named, ("all", *[""] * (len(groups) - 1), *_cells(moment.total))] if named else []


def _print(moment: Moment, groups: Sequence[str]) -> None:
    view.table(_table(moment, groups), (*groups, *_COLUMNS), empty="No requests in this time.", right=_COLUMNS)


def _live(moments: Iterator[Moment], groups: Sequence[str], window: str) -> None:
    """The whole screen, until the looks are over or Ctrl-C; what was there before comes back."""
    from rich.console import Console
    from rich.live import Live

    shown: Moment | None = None
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        for shown in moments:
            live.update(_screen(shown, groups, window), refresh=True)
    if shown is not None:
        _print(shown, groups)


def _screen(moment: Moment, groups: Sequence[str], window: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts = [f"{view.when(moment.ts_ms)} UTC", f"the last {window}"]
    total = moment.total
    parts += [f"{total['requests_per_s']:.2f} requests/s", f"{view.money(round(total['cost_per_hour'] * 1e9))}/h"]
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in moment.gauges.items()]
    rows = _table(moment, groups)
    body = view.grid(rows, (*groups, *_COLUMNS), _COLUMNS) if rows else Text("No requests in this time.", style="dim")
    return Group(Text(" . ".join(parts), style="dim"), Text(), body)

"""How traces look in a terminal: tables, one line each, and the page of a single trace.

Belongs here: formatting only. With `--json` or when the output is no terminal nothing is coloured or cut.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from opentracy.traces.model import Attempt, TraceRecord, to_dict
from opentracy.traces.reader import TraceRow

if TYPE_CHECKING:
    from rich.table import Table


def money(nano: int | None) -> str:
    """Nano-USD as dollars; never $0.00 for something that cost, `?` for unknown."""
    if nano is None:
        return "?"
    usd = nano / 1e9
    if usd == 0:
        return "$0"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.3g}" if usd >= 1e-4 else f"${usd:.2e}"


def duration(ms: float | None) -> str:
    """Milliseconds as people read them."""
    if ms is None:
        return "-"
    if ms < 1:
        return f"{ms * 1000:.0f} us"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def when(ts_ms: int) -> str:
    """Epoch milliseconds as UTC."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: int | None) -> str:
    """A count, `-` when it is unknown."""
    return "-" if value is None else str(value)


def row_json(row: TraceRow) -> str:
    """A list row as one line of JSON, with the cost in USD beside nano-USD."""
    values = msgspec.structs.asdict(row)
    values["cost_usd"] = None if row.cost_nano is None else row.cost_nano / 1e9
    return json.dumps(values, ensure_ascii=False)


_COLUMNS = ("time", "trace", "status", "model", "tokens", "cost", "latency", "cluster")


def _cells(row: TraceRow) -> tuple[str, ...]:
    model = f"{row.provider}/{row.model}" if row.provider else row.model or row.requested_model
    status = row.outcome if row.outcome == "ok" else f"{row.outcome} {row.http_status}"
    tokens = f"{number(row.tokens_in)}>{number(row.tokens_out)}"
    cluster = "-" if row.cluster_id is None else str(row.cluster_id)
    return (
        when(row.ts_ms), row.trace_id, status + (" (fallback)" if row.fallback else ""), model, tokens,
        money(row.cost_nano), duration(row.latency_ms), cluster,
    )  # fmt: skip


def listing(found: Iterable[TraceRow], *, form: str | None) -> None:
    """A table of list rows, one JSON object per line (`json`), or CSV with every column (`csv`)."""
    if form == "json":
        for row in found:
            click.echo(row_json(row))
        return
    if form == "csv":
        comma_separated([json.loads(row_json(row)) for row in found], [*TraceRow.__struct_fields__, "cost_usd"])
        return
    table([_cells(row) for row in found], _COLUMNS, empty="No traces match.")


def comma_separated(found: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """CSV on stdout, with a header also where nothing is found; no cell is a formula to a spreadsheet."""
    from opentracy.traces.export import cell

    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(columns)
    for row in found:
        write([cell(row[name]) for name in columns])


def lines(found: Iterable[TraceRow], *, as_json: bool) -> None:
    """One line per row, for output that goes on."""
    for row in found:
        click.echo(row_json(row) if as_json else "  ".join(_cells(row)))


def table(cells: Sequence[Sequence[str]], columns: Sequence[str], *, empty: str, right: Sequence[str] = ()) -> None:
    """A rich table on a terminal, tab-separated lines elsewhere."""
    if not cells:
        click.echo(empty, err=True)
        return
    stream = sys.stdout
    if not stream.isatty():
        click.echo("\t".join(columns))
        for line in cells:
            click.echo("\t".join(line))
        return
    from rich.console import Console

    Console(file=stream).print(grid(cells, columns, right))


def grid(cells: Sequence[Sequence[str]], columns: Sequence[str], right: Sequence[str] = ()) -> Table:
    """The table as a terminal shows it; `right` names the columns that stand at the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        made.add_column(name, no_wrap=True, justify="right" if name in right else "left")
    for line in cells:
        made.add_row(*[Text(cell, style="red" if "error" in cell or "timeout" in cell else "") for cell in line])
    return made


def one(record: TraceRecord, *, as_json: bool) -> None:
    """Everything about one trace."""
    if as_json:
        click.echo(json.dumps(to_dict(record), ensure_ascii=False))
        return
    click.echo(f"trace     {record.trace_id}")
    for name, value in _facts(record):
        if value:
            click.echo(f"{name:<10}{value}")
    click.echo()
    for line in waterfall(record):
        click.echo(line)
    for name, body in (("request", record.request), ("response", record.response)):
        click.echo(f"\n{name} ({record.body_state})" if body is None else f"\n{name}")
        if body is not None:
            click.echo(pretty(body))


def _facts(record: TraceRecord) -> list[tuple[str, str]]:
    served = f"{record.provider}/{record.model}"
    asked = f" (asked for {record.requested_model})" if record.requested_model != served else ""
    cluster = "" if record.cluster_id is None else f"{record.cluster_id} {record.cluster_label or ''}".strip()
    error = " ".join(part for part in (record.error_type, record.error_code, record.error_msg) if part)
    counts = (number(record.tokens_in), number(record.tokens_out), number(record.tokens_cached))
    tokens = "{} in, {} out, {} cached".format(*counts)
    estimated = " (estimated)" if record.cost_estimated else ""
    return [
        ("time", f"{when(record.ts_ms)} UTC"),
        ("outcome", f"{record.outcome} {record.http_status}"),
        ("error", error),
        ("model", served + asked),
        ("cluster", cluster),
        ("fallback", f"from {record.fallback_from}" if record.fallback_from else record.fallback_reason or ""),
        ("tokens", tokens),
        ("cost", money(record.cost_nano) + estimated),
        ("latency", f"{duration(record.latency_ms)}, first token {duration(record.ttft_ms)}"),
        ("key", record.key_id or ""),
        ("user", record.user_id or ""),
        ("session", record.session_id or ""),
        ("tags", ", ".join(record.tags or [])),
    ]


_WIDTH = 40


def waterfall(record: TraceRecord) -> list[str]:
    """The stages of a request as bars on one time axis."""
    total = max(record.latency_ms, *[a.start_ms + a.ms for a in record.attempts], 1e-9)
    stages: list[tuple[str, float, float]] = []
    start = 0.0
    for name, ms in (("queue", record.queue_ms), ("embed", record.embedding_ms), ("route", record.routing_ms)):
        if ms is not None:
            stages.append((name, start, ms))
            start += ms
    for number_, attempt in enumerate(record.attempts, 1):
        stages.append((f"{number_}. {attempt.target}{_result(attempt)}", attempt.start_ms, attempt.ms))
    if record.ttft_ms is not None and record.stream:
        stages.append(("first token", record.ttft_ms, 0.0))
    lines_ = []
    for name, begin, ms in stages:
        left = min(_WIDTH - 1, int(begin / total * _WIDTH))
        bar = "#" * max(1, min(_WIDTH - left, round(ms / total * _WIDTH)))
        lines_.append(f"{' ' * left}{bar}".ljust(_WIDTH) + f"  {duration(ms):>8}  {name}")
    return lines_


def _result(attempt: Attempt) -> str:
    parts = [str(part) for part in (attempt.status, attempt.code) if part is not None]
    why = f" -> {attempt.reason}" if attempt.reason else ""
    return (f" [{' '.join(parts)}]" if parts else "") + f" {money(attempt.cost_nano)}" + why


def pretty(body: bytes) -> str:
    """A body as indented JSON where it is JSON, as text otherwise."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body.decode("utf-8", "replace")


def figures(found: Sequence[dict[str, Any]], *, form: str | None) -> None:
    """The answer of a query: one line per bucket and group."""
    if form == "csv":
        comma_separated(found, list(found[0]) if found else [])
        return
    if form == "json":
        for row in found:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    columns = list(found[0]) if found else []
    table([[figure(name, row[name]) for name in columns] for row in found], columns, empty="Nothing in this time.")


def figure(name: str, value: Any) -> str:
    """One figure as people read it."""
    if value is None:
        return "-"
    if name == "bucket":
        return when(value)
    if name.startswith(("cost", "counterfactual_cost")) and isinstance(value, float):
        return money(round(value * 1e9))
    if name.endswith("_rate"):
        return f"{value:.1%}"
    if name in ("p50", "p90", "p95", "p99", "latency_avg", "ttft_avg"):
        return duration(value)
    return str(value)


@contextlib.contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Progress on stderr: a bar on a terminal, a line every five seconds elsewhere. Yields `step(count)`."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, last = 0, time.monotonic()

    def step(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= 5.0:
            last = time.monotonic()
            click.echo(f"{done} {what}", err=True)

    yield step


def outcome(sentence: str, done: Mapping[str, object], *, as_json: bool) -> None:
    """What a command did: a sentence on stderr, or a JSON object on stdout."""
    if as_json:
        click.echo(json.dumps(done, ensure_ascii=False))
    else:
        click.echo(sentence, err=True)


def download(pieces: Iterator[bytes], output: Path | None) -> None:
    """Bytes to stdout, or to a file that appears once it is whole."""
    if output is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    part = output.with_name(output.name + ".part")
    with part.open("wb") as out, counting("bytes") as step:
        for piece in pieces:
            step(out.write(piece))
    part.replace(output)
    click.echo(f"{output.stat().st_size} bytes in {output}", err=True)


_T = TypeVar("_T")


def counted(found: Iterable[_T], step: Callable[[int], None]) -> Iterator[_T]:
    """Passes items on, telling `step` of each."""
    for item in found:
        yield item
        step(1)

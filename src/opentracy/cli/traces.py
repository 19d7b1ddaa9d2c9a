"""`opentracy traces`, `stats` and `feedback`: looking at what an engine recorded.

Belongs here: arguments, and handing rows to `traces_view`. The store is read where the engine left it (`--store`, or
OPENTRACY_DATA_HOME, or ~/.opentracy); no engine needs to run. With `--engine` or OPENTRACY_ENGINE_URL a running one is
asked, here or elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opentracy.cli import traces_view as view
from opentracy.cli.local import (
    filter_option,
    form_option,
    json_option,
    open_reader,
    read_filters,
    since_option,
    store_option,
    until_option,
)  # fmt: skip
from opentracy.cli.remote import engine_option, pairs, remote
from opentracy.cli.traces_move import export_, import_, rm
from opentracy.traces.errors import TraceStoreError

if TYPE_CHECKING:
    from opentracy.traces.filters import Filters
    from opentracy.traces.reader import Reader, TraceRow


@click.group()
def traces() -> None:
    """Look at recorded requests."""


for _command in (export_, import_, rm):
    traces.add_command(_command)


@traces.command("ls")
@click.argument("query", nargs=-1)
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True)
@since_option
@until_option
@store_option
@engine_option
@form_option
def ls(
    query: tuple[str, ...], limit: int, since: str | None, until: str | None, store: Path | None,
    engine_url: str | None, form: str | None,
) -> None:  # fmt: skip
    """List traces, newest first. QUERY: model:gpt-4o status:error cost>0.01 "some text"."""
    text = " ".join(query)
    view.listing(_found(store, engine_url, text, since, until, limit), form=form)


def _found(
    store: Path | None, engine_url: str | None, query: str, since: str | None, until: str | None, limit: int,
    text: str = "",
) -> Iterator[TraceRow]:  # fmt: skip
    """The rows of a list or search, from an engine or the local store."""
    engine = remote(store, engine_url)
    if engine is not None:
        return engine.rows(pairs(query, since, until, text), limit)
    reader = open_reader(store)
    return _take(reader, read_filters(query, since, until, text), limit)


def _take(reader: Reader, filters: Filters, limit: int) -> Iterator[TraceRow]:
    cursor: str | None = None
    while limit > 0:
        try:
            page = reader.page(filters, limit=limit, cursor=cursor)
        except TraceStoreError as error:
            raise click.UsageError(str(error)) from error
        yield from page.rows
        limit -= len(page.rows)
        cursor = page.next
        if cursor is None:
            return


@traces.command("show")
@click.argument("trace_id")
@store_option
@engine_option
@json_option
def show(trace_id: str, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """Show one trace: where its time went, its attempts, its text. TRACE_ID may be `last`."""
    engine = remote(store, engine_url)
    if engine is not None:
        newest = list(engine.rows([], 1)) if trace_id == "last" else []
        if trace_id == "last" and not newest:
            raise click.ClickException("No traces yet")
        view.one(engine.record(newest[0].trace_id if newest else trace_id), as_json=as_json)
        return
    reader = open_reader(store)
    try:
        if trace_id == "last":
            page = reader.page(limit=1)
            record = reader.get(page.rows[0].trace_id) if page.rows else None
        else:
            record = reader.get(trace_id)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if record is None:
        raise click.ClickException("No such trace" if trace_id != "last" else "No traces yet")
    view.one(record, as_json=as_json)


@traces.command("tail")
@click.option("--follow/--no-follow", "-F", default=True, help="Keep waiting for new traces (the default).")
@click.option("--last", "-n", type=click.IntRange(min=0), default=10, show_default=True, help="Begin with so many.")
@filter_option
@store_option
@engine_option
@json_option
def tail(follow: bool, last: int, query: str, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """Print traces as they arrive."""
    engine = remote(store, engine_url)
    if engine is not None:
        asked = pairs(query, None, None)
        view.lines(reversed(list(engine.rows(asked, last))), as_json=as_json)
        for row in engine.tail(asked) if follow else ():
            view.lines([row], as_json=as_json)
            sys.stdout.flush()
        return
    reader = open_reader(store)
    filters = read_filters(query)
    _, mark = reader.tail()
    if last:
        view.lines(reversed(reader.page(filters, limit=last).rows), as_json=as_json)
    while True:
        if not follow:
            return
        rows, mark = reader.tail(mark, filters)
        view.lines(rows, as_json=as_json)
        sys.stdout.flush()
        if not rows:
            time.sleep(0.25)


@traces.command("search")
@click.argument("text")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@filter_option
@since_option
@until_option
@store_option
@engine_option
@form_option
def search(
    text: str, limit: int, query: str, since: str | None, until: str | None, store: Path | None,
    engine_url: str | None, form: str | None,
) -> None:  # fmt: skip
    """Find traces by the words of their request or answer. TEXT: words, "a phrase", prefix*."""
    view.listing(_found(store, engine_url, query, since, until, limit, text), form=form)


@click.command("stats")
@click.option("--by", default="model", show_default=True, help="Groups, separated by commas.")
@click.option(
    "--metrics", "-m", default="requests,error_rate,p50,p95,tokens_in,tokens_out,cost,unpriced", show_default=True,
    help="Figures, separated by commas; an unknown one is answered with all that there are.",
)
@click.option("--bucket", default=None, help="A series by time: 15m, 1h, 1d.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--since", default="24h", show_default=True, help="A time, a span like 24h or 7d, or `all`.")
@until_option
@filter_option
@store_option
@engine_option
@form_option
def stats(
    by: str, metrics: str, bucket: str | None, limit: int, since: str, until: str | None, query: str,
    store: Path | None, engine_url: str | None, form: str | None,
) -> None:  # fmt: skip
    """Sums and percentiles by model, key, tag, hour, ..."""
    from opentracy.traces.compile import Query
    from opentracy.traces.filters import span_ms
    from opentracy.traces.stats import answer

    engine = remote(store, engine_url)
    if engine is not None:
        more = [("metric", metrics), ("group_by", by), ("limit", str(limit))]
        try:
            more += [("bucket", str(span_ms(bucket)))] if bucket else []
        except TraceStoreError as error:
            raise click.UsageError(str(error)) from error
        view.figures(engine.figures(pairs(query, None if since == "all" else since, until, more=more)), form=form)
        return
    reader = open_reader(store)
    filters = read_filters(query, None if since == "all" else since, until)
    try:
        asked = Query(
            tuple(name for name in metrics.split(",") if name),
            tuple(name for name in by.split(",") if name),
            None if bucket is None else span_ms(bucket),
            filters,
            limit,
        )
    except TraceStoreError as error:
        raise click.UsageError(str(error)) from error
    view.figures(answer(reader, asked), form=form)


@click.command("feedback")
@click.argument("trace_id")
@click.option("--metric", "-m", required=True, help="A name: good, score, comment, ...")
@click.option("--value", "-v", "text", required=True, help="true, false, a number, or a text.")
@click.option("--author", default=None, help="Who says so (local store only; an engine knows its caller).")
@store_option
@engine_option
@json_option
def feedback(
    trace_id: str, metric: str, text: str, author: str | None, store: Path | None, engine_url: str | None, as_json: bool
) -> None:
    """Say what an answer was worth. TRACE_ID may be `last`."""
    import contextlib

    from opentracy.traces.feedback import add

    value = _value(text)
    engine = remote(store, engine_url)
    if engine is not None:
        newest = list(engine.rows([], 1)) if trace_id == "last" else []
        said = {"trace_id": newest[0].trace_id if newest else trace_id, "metric": metric, "value": value}
        engine.say(said)
        view.outcome(f"{metric} noted", said, as_json=as_json)
        return
    reader = open_reader(store)
    try:
        page = reader.page(limit=1).rows if trace_id == "last" else []
        record = reader.get(page[0].trace_id if page else trace_id, bodies=False)
        if record is None:
            raise click.ClickException("No such trace")
        with contextlib.closing(reader.store.connect(durable=True)) as connection:
            now = time.time_ns() // 1_000_000
            add(connection, record.trace_id, metric, value, author=author, now_ms=now)
    except (ValueError, TraceStoreError) as error:
        raise click.UsageError(str(error)) from error
    view.outcome(f"{metric} noted", {"trace_id": record.trace_id, "metric": metric, "value": value}, as_json=as_json)


def _value(text: str) -> bool | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text

"""`opentracy traces` and `opentracy stats`: looking at what the engine recorded, from the local store.

Belongs here: arguments, and handing rows to `traces_view`. The store is read where the engine left it (`--store`, or
OPENTRACY_DATA_HOME, or ~/.opentracy); no engine needs to run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from opentracy.cli import traces_view as view
from opentracy.traces.errors import TraceStoreError
from opentracy.traces.export import FORMATS

if TYPE_CHECKING:
    from opentracy.traces.filters import Filters
    from opentracy.traces.reader import Reader, TraceRow

store_option = click.option(
    "--store", type=click.Path(path_type=Path), default=None, help="Trace database (default: ~/.opentracy/traces.db)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
filter_option = click.option("--filter", "-f", "query", default="", help="As in `ls`: model:gpt-4o status:error")
since_option = click.option("--since", default=None, help="A time, or a span like 24h or 7d.")
until_option = click.option("--until", default=None, help="A time, or a span like 1h.")


def open_reader(store: Path | None) -> Reader:
    """The store of `--store`. Exits with 1 and one line when there is none."""
    from opentracy.traces import Reader, Store

    try:
        return Reader(Store.open(store, create=False, check=False))
    except TraceStoreError as error:
        raise click.ClickException(str(error)) from error


def read_filters(query: str, since: str | None = None, until: str | None = None, text: str = "") -> Filters:
    """The filters of the options. Exits with 2 for one that means nothing."""
    from dataclasses import replace

    from opentracy.traces.filters import moment, parse

    now = time.time_ns() // 1_000_000
    try:
        filters = parse(query, now_ms=now)
        start = moment(since, now) if since else None
        end = moment(until, now) if until else None
    except TraceStoreError as error:
        raise click.UsageError(str(error)) from error
    filters = filters.between(start, end)
    return replace(filters, text=f"{filters.text} {text}".strip()) if text else filters


@click.group()
def traces() -> None:
    """Look at recorded requests."""


@traces.command("ls")
@click.argument("query", nargs=-1)
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True)
@since_option
@until_option
@store_option
@json_option
def ls(
    query: tuple[str, ...], limit: int, since: str | None, until: str | None, store: Path | None, as_json: bool
) -> None:
    """List traces, newest first. QUERY: model:gpt-4o status:error cost>0.01 "some text"."""
    reader = open_reader(store)
    filters = read_filters(" ".join(query), since, until)
    view.listing(_take(reader, filters, limit), as_json=as_json)


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
@json_option
def show(trace_id: str, store: Path | None, as_json: bool) -> None:
    """Show one trace: where its time went, its attempts, its text. TRACE_ID may be `last`."""
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
@json_option
def tail(follow: bool, last: int, query: str, store: Path | None, as_json: bool) -> None:
    """Print traces as they arrive."""
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
@json_option
def search(
    text: str, limit: int, query: str, since: str | None, until: str | None, store: Path | None, as_json: bool
) -> None:
    """Find traces by the words of their request or answer. TEXT: words, "a phrase", prefix*."""
    reader = open_reader(store)
    filters = read_filters(query, since, until, text)
    view.listing(_take(reader, filters, limit), as_json=as_json)


@traces.command("export")
@click.option("--format", "form", type=click.Choice(FORMATS), default="jsonl")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: stdout.")
@filter_option
@since_option
@until_option
@store_option
def export_(
    form: str, output: Path | None, query: str, since: str | None, until: str | None, store: Path | None
) -> None:
    """Write the traces that match. `openai` is the form for fine-tuning."""
    from opentracy.traces import export

    reader = open_reader(store)
    filters = read_filters(query, since, until)
    if form == "parquet" and output is None:
        raise click.UsageError("Parquet cannot be written to stdout: name a file with --output")
    try:
        if output is not None:
            count = export.write(reader, filters, form, output)
            click.echo(f"{count} traces in {output}", err=True)
            return
        with view.counting("exported") as step:
            found = view.counted(export.records(reader, filters), step)
            for piece in export.lines_of(form, found):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except (TraceStoreError, OSError) as error:
        raise click.ClickException(str(error)) from error


@traces.command("import")
@click.argument("file", type=click.File("rb"))
@store_option
def import_(file: BinaryIO, store: Path | None) -> None:
    """Take in the JSON lines of `traces export` (FILE, or - for stdin). Known traces are left alone."""
    from opentracy.traces import Store
    from opentracy.traces.export import import_lines

    try:
        done = import_lines(Store.open(store), file)
    except TraceStoreError as error:
        raise click.ClickException(str(error)) from error
    for number, complaint in done.errors[:20]:
        click.echo(f"line {number}: {complaint}", err=True)
    click.echo(f"{done.added} taken in, {done.known} known already, {len(done.errors)} refused", err=True)
    if done.errors:
        raise SystemExit(1)


@traces.command("rm")
@click.argument("trace_ids", nargs=-1)
@filter_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
def rm(trace_ids: tuple[str, ...], query: str, yes: bool, store: Path | None) -> None:
    """Remove traces for good, by id or by --filter. Hourly sums stay."""
    import contextlib

    from opentracy.traces import export
    from opentracy.traces.ids import normalise_id
    from opentracy.traces.retention import remove

    reader = open_reader(store)
    try:
        ids = [normalise_id(one) for one in trace_ids]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if query:
        ids += [row.trace_id for row in export.rows(reader, read_filters(query))]
    if not ids:
        raise click.UsageError("Name trace ids, or what to remove with --filter")
    if not yes:
        click.confirm(f"Remove {len(ids)} traces for good?", abort=True, err=True)
    with contextlib.closing(reader.store.connect()) as connection:
        count = remove(reader, connection, ids)
    click.echo(f"{count} removed", err=True)
    if count < len(set(ids)):
        raise click.ClickException(f"{len(set(ids)) - count} of them did not exist")


@click.command("stats")
@click.option("--by", default="model", show_default=True, help="Groups, separated by commas.")
@click.option("--metrics", "-m", default="requests,error_rate,p50,p95,tokens_in,tokens_out,cost,unpriced")
@click.option("--bucket", default=None, help="A series by time: 15m, 1h, 1d.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--since", default="24h", show_default=True, help="A time, a span like 24h or 7d, or `all`.")
@until_option
@filter_option
@store_option
@json_option
def stats(
    by: str, metrics: str, bucket: str | None, limit: int, since: str, until: str | None, query: str,
    store: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Sums and percentiles by model, key, tag, hour, ..."""
    from opentracy.traces.compile import Query
    from opentracy.traces.filters import span_ms
    from opentracy.traces.stats import answer

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
    view.figures(answer(reader, asked), as_json=as_json)

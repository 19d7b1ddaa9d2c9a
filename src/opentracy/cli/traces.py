"""`opentracy traces`, `stats` and `feedback`: looking at what an engine recorded.

Belongs here: arguments, and handing rows to `traces_view`. The store is read where the engine left it (`--store`, or
OPENTRACY_DATA_HOME, or ~/.opentracy); no engine needs to run. With `--engine` or OPENTRACY_ENGINE_URL a running one is
asked, here or elsewhere.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from opentracy.cli import traces_view as view
from opentracy.cli.remote import Remote, engine_option, pairs, remote
from opentracy.traces.errors import TraceStoreError
from opentracy.traces.export import FORMATS

if TYPE_CHECKING:
    from opentracy.traces.export import Imported
    from opentracy.traces.filters import Filters
    from opentracy.traces.reader import Reader, TraceRow

store_option = click.option(
    "--store", type=click.Path(path_type=Path), default=None, help="Trace database (default: ~/.opentracy/traces.db)."
)
config_option = click.option("--config", envvar="OPENTRACY_CONFIG", default=None, help="The engine's configuration.")
json_option = click.option("--json", "--jsonl", "as_json", is_flag=True, help="One JSON object per line.")


def form_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--json` (or `--jsonl`) and `--csv` of commands that list."""
    command = click.option("--csv", "form", flag_value="csv", help="CSV with a header.")(command)
    return click.option("--json", "--jsonl", "form", flag_value="json", help="One JSON object per line.")(command)


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


@traces.command("export")
@click.option("--format", "form", type=click.Choice(FORMATS), default="jsonl")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: stdout.")
@filter_option
@since_option
@until_option
@store_option
@engine_option
def export_(
    form: str, output: Path | None, query: str, since: str | None, until: str | None, store: Path | None,
    engine_url: str | None,
) -> None:  # fmt: skip
    """Write the traces that match. `openai` is the form for fine-tuning. What was interrupted goes on where it was."""
    from opentracy.traces import export

    if form == "parquet" and output is None:
        raise click.UsageError("Parquet cannot be written to stdout: name a file with --output")
    engine = remote(store, engine_url)
    if engine is not None:
        view.download(engine.export(pairs(query, since, until, more=[("format", form)])), output)
        return
    reader = open_reader(store)
    filters = read_filters(query, since, until)
    try:
        if output is not None:
            asked = msgspec.json.encode([query, since, until]).decode()
            try:
                with view.counting("exported", _total(reader, filters)) as step:
                    count = export.write(reader, filters, form, output, asked=asked, progress=step)
            except KeyboardInterrupt:
                click.echo("interrupted: the same command goes on from here", err=True)
                sys.exit(130)
            click.echo(f"{count} traces in {output}", err=True)
            return
        with view.counting("exported") as step:
            found = view.counted(export.records(reader, filters), step)
            for piece in export.lines_of(form, found):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except (TraceStoreError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _total(reader: Reader, filters: Filters) -> int | None:
    """How many traces match; None where that would take a search."""
    from opentracy.traces.compile import Query
    from opentracy.traces.stats import answer

    if filters.text:
        return None
    return int(str(answer(reader, Query(("requests",), filters=filters))[0]["requests"]))


@traces.command("import")
@click.argument("file", type=click.File("rb"))
@store_option
@engine_option
@config_option
@json_option
def import_(file: BinaryIO, store: Path | None, engine_url: str | None, config: str | None, as_json: bool) -> None:
    """Take in traces (FILE, or - for stdin): JSON lines of `traces export`, or what OpenAI, LiteLLM, Langfuse and
    Helicone write, lines or one JSON list. Known traces are left alone.

    Texts are kept, masked or left out as `[traces] content` of the configuration says; with --engine, of the engine's.
    """
    lines = file.readlines()
    if lines and lines[0].lstrip().startswith(b"[") and not lines[0].rstrip().endswith(b"]"):
        # one JSON list over many lines
        lines = [b"".join(lines)]
    try:
        with view.counting("lines taken in", len(lines)) as step:
            if engine_url is not None:
                done = Remote(engine_url, os.environ.get("OPENTRACY_API_KEY")).take(lines, step)
            else:
                done = _into_store(store, config, lines, step)
    except (TraceStoreError, OSError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from error
    for number, complaint in done.errors[:20]:
        click.echo(f"line {number}: {complaint}", err=True)
    refused = len(done.errors)
    sentence = f"{done.added} taken in, {done.known} known already, {refused} refused"
    view.outcome(sentence, {"added": done.added, "known": done.known, "refused": refused}, as_json=as_json)
    if done.errors:
        raise SystemExit(1)


def _into_store(store: Path | None, config: str | None, lines: list[bytes], step: Callable[[int], object]) -> Imported:
    """Takes lines into the local store, masked like the engine's own traces."""
    from opentracy.engine.configfile import ConfigError, load
    from opentracy.traces import Store
    from opentracy.traces.export import import_lines
    from opentracy.traces.redact import Redactor

    try:
        content = load(config, dict(os.environ)).traces.content
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return import_lines(Store.open(store), lines, before_write=Redactor(content), progress=step)


@traces.command("rm")
@click.argument("trace_ids", nargs=-1)
@filter_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
@json_option
def rm(trace_ids: tuple[str, ...], query: str, yes: bool, store: Path | None, as_json: bool) -> None:
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
    view.outcome(f"{count} removed", {"removed": count}, as_json=as_json)
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

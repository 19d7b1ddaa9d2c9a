"""`opentracy traces export`, `import` and `rm`: taking out, taking in, removing.

Belongs here: arguments, and which of store and engine is meant. Not here: formats (`traces.export`), removing
(`traces.retention`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from opentracy.cli import traces_view as view
from opentracy.cli.local import (
    config_option,
    filter_option,
    json_option,
    open_reader,
    read_filters,
    since_option,
    store_option,
    until_option,
)  # fmt: skip
from opentracy.cli.remote import Remote, engine_option, pairs, remote
from opentracy.traces.errors import TraceStoreError
from opentracy.traces.export import FORMATS

if TYPE_CHECKING:
    from opentracy.traces.export import Imported
    from opentracy.traces.filters import Filters
    from opentracy.traces.reader import Reader, TraceRow


@click.command("export")
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


@click.command("import")
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


@click.command("rm")
@click.argument("trace_ids", nargs=-1)
@filter_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
@engine_option
@json_option
def rm(
    trace_ids: tuple[str, ...], query: str, yes: bool, store: Path | None, engine_url: str | None, as_json: bool
) -> None:
    """Remove traces for good, by id or by --filter. Hourly sums stay."""
    from opentracy.traces.ids import normalise_id

    matching, removed = _whose(store, engine_url)
    try:
        ids = [normalise_id(one) for one in trace_ids]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if query:
        ids += [row.trace_id for row in matching(query)]
    if not ids:
        raise click.UsageError("Name trace ids, or what to remove with --filter")
    wanted = list(dict.fromkeys(ids))
    if not yes:
        click.confirm(f"Remove {len(wanted)} traces for good?", abort=True, err=True)
    count = removed(wanted)
    view.outcome(f"{count} removed", {"removed": count}, as_json=as_json)
    if count < len(wanted):
        raise click.ClickException(f"{len(wanted) - count} of them did not exist")


def _whose(
    store: Path | None, engine_url: str | None
) -> tuple[Callable[[str], Iterable[TraceRow]], Callable[[list[str]], int]]:
    """Listing and removing, of an engine or of the local store."""
    from opentracy.traces import export

    engine = remote(store, engine_url)
    if engine is not None:
        return (lambda query: engine.every(pairs(query, None, None))), partial(_remove_there, engine)
    reader = open_reader(store)
    return (lambda query: export.rows(reader, read_filters(query))), partial(_remove_here, reader)


def _remove_here(reader: Reader, ids: list[str]) -> int:
    from opentracy.traces.retention import remove

    with contextlib.closing(reader.store.connect()) as connection:
        return remove(reader, connection, ids)


def _remove_there(engine: Remote, ids: list[str]) -> int:
    with view.counting("removed", len(ids)) as step:
        count = 0
        for trace_id in ids:
            count += engine.forget(trace_id)
            step(1)
    return count

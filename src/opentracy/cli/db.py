"""`opentracy db`: the trace database itself: its state, its size, its copies, and moving on to ClickHouse.

Belongs here: arguments and what is printed. Each command may be repeated and goes on where it was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opentracy.cli import traces_view as view
from opentracy.cli.local import json_option, open_reader, store_option
from opentracy.traces.errors import TraceStoreError

if TYPE_CHECKING:
    from opentracy.traces.sqlite import Store


@click.group()
def db() -> None:
    """Look after the trace database."""


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def facts(store: Store) -> dict[str, Any]:
    """Sizes, counts, lags and the oldest trace of a store."""
    from opentracy.traces import outbox, project, segments, words

    connection = store.reader()
    rows, oldest = connection.execute("SELECT ifnull(sum(rows), 0), min(ts_min) FROM blocks").fetchone()
    newest_block = connection.execute("SELECT ifnull(max(id), 0) FROM blocks").fetchone()[0]
    marks = connection.execute("SELECT name FROM state WHERE name LIKE 'outbox:%'").fetchall()
    return {
        "path": str(store.path),
        "schema": connection.execute("PRAGMA user_version").fetchone()[0],
        "traces": rows,
        "oldest": None if oldest is None else view.when(oldest),
        "database_bytes": _size(store.path),
        "log_bytes": _size(store.path.with_name(store.path.name + "-wal")),
        "free_bytes": connection.execute("PRAGMA freelist_count").fetchone()[0]
        * connection.execute("PRAGMA page_size").fetchone()[0],
        "segments": connection.execute("SELECT count(*) FROM segments WHERE rows > 0").fetchone()[0],
        "segment_bytes": sum(map(_size, segments.directory(store).glob("*.parquet"))),
        "spill_bytes": sum(map(_size, store.path.parent.glob(f"{store.path.name}.spill.*"))),
        "not_projected": project.lag(connection),
        "blocks_not_indexed": newest_block - words.indexed_upto(connection),
        "outbox": {name.removeprefix("outbox:"): outbox.backlog(connection, name)[1] for (name,) in marks},
        "damaged_files": [path.name for path in sorted(store.path.parent.glob(f"{store.path.name}.corrupt-*"))],
    }


@db.command("status")
@store_option
@json_option
def status(store: Path | None, as_json: bool) -> None:
    """Sizes, rows, lags, oldest trace. Exits with 1 when a damaged database was moved aside."""
    found = facts(open_reader(store).store)
    if as_json:
        click.echo(json.dumps(found))
    else:
        for name, value in found.items():
            text = f"{value / 1e6:.1f} MB" if name.endswith("_bytes") else value
            click.echo(f"{name.removesuffix('_bytes').replace('_', ' '):<20}{text if text not in ([], {}) else '-'}")
    if found["damaged_files"]:
        sys.exit(1)


@db.command("compact")
@store_option
@json_option
def compact(store: Path | None, as_json: bool) -> None:
    """Give the space of removed traces back to the disk."""
    from opentracy.traces import retention

    opened = open_reader(store).store
    before = _size(opened.path)
    with _errors(), contextlib.closing(opened.connect()) as connection:
        retention.compact(connection)
    after = _size(opened.path)
    sentence = f"{before / 1e6:.1f} MB -> {after / 1e6:.1f} MB"
    view.outcome(sentence, {"before_bytes": before, "after_bytes": after}, as_json=as_json)


@db.command("backup")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@store_option
@json_option
def backup(target: Path, store: Path | None, as_json: bool) -> None:
    """Copy the database to TARGET while the engine runs."""
    if target.exists():
        raise click.UsageError(f"{target} exists already")
    opened = open_reader(store).store
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    # prompts are private in the copy too
    os.close(os.open(part, os.O_CREAT | os.O_EXCL, 0o600))
    with _errors(), contextlib.closing(opened.connect()) as source, contextlib.closing(sqlite3.connect(part)) as copy:
        with view.counting("pages copied") as step:
            seen = 0

            def report(_: int, remaining: int, total: int) -> None:
                nonlocal seen
                step(total - remaining - seen)
                seen = total - remaining

            source.backup(copy, pages=2000, progress=report)
        # a single file without side files
        copy.execute("PRAGMA journal_mode = DELETE")
    part.replace(target)
    size = _size(target)
    view.outcome(f"{target}: {size / 1e6:.1f} MB", {"file": str(target), "bytes": size}, as_json=as_json)


@db.command("prune")
@click.option("--metrics-days", type=click.FloatRange(min=0), default=None, help="Remove rows older than this.")
@click.option("--bodies-days", type=click.FloatRange(min=0), default=None, help="Remove text older than this.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
@json_option
def prune(metrics_days: float | None, bodies_days: float | None, yes: bool, store: Path | None, as_json: bool) -> None:
    """Remove old rows or old text now. Hourly sums stay."""
    from opentracy.traces import retention

    if metrics_days is None and bodies_days is None:
        raise click.UsageError("Say what to remove: --bodies-days, --metrics-days")
    reader = open_reader(store)
    if not yes:
        click.confirm("Remove what is older for good?", abort=True, err=True)
    reader.current()
    lifetimes = retention.Retention(metrics_days, bodies_days)
    with _errors(), contextlib.closing(reader.store.connect()) as connection, view.counting("rows") as step:
        done = retention.prune(reader.store, connection, lifetimes, time.time_ns() // 1_000_000, progress=step)
    sentence = f"text of {done.bodies} traces and {done.rows} rows removed"
    view.outcome(sentence, {"texts": done.bodies, "rows": done.rows}, as_json=as_json)


@db.command("migrate")
@click.option(
    "--to", "target", required=True, help="clickhouse://user:password@host:8123/database, or chdb:///directory"
)
@click.option("--follow", is_flag=True, help="Go on as new traces arrive.")
@store_option
@json_option
def migrate(target: str, follow: bool, store: Path | None, as_json: bool) -> None:
    """Send every trace to ClickHouse, then compare counts and costs. Goes on where it stopped."""
    from opentracy.traces import outbox
    from opentracy.traces.clickhouse import ClickHouse

    if not target.startswith(("clickhouse://", "clickhouses://", "chdb://", "http://", "https://")):
        raise click.UsageError("--to takes clickhouse://user:password@host:8123/database")
    opened = open_reader(store).store
    name = outbox.destination(target)
    with _errors(), contextlib.closing(opened.connect()) as connection:
        try:
            server = ClickHouse(target)
        except TraceStoreError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(3)
        server.prepare()
        outbox.register(connection, name)
        while True:
            with view.counting("traces sent", outbox.backlog(connection, name)[1]) as step:
                outbox.deliver(connection, name, server, progress=step)
            if not follow:
                break
            time.sleep(1.0)
        verify(connection, outbox.delivered(connection, name), server.totals(), as_json=as_json)
        server.close()


def verify(connection: sqlite3.Connection, upto: int, there: tuple[int, int, int], *, as_json: bool = False) -> None:
    """Compares number and cost of the traces here, up to the last block sent, with those there.

    `there`: rows, different trace ids, cost. Exits with 1 when there are fewer, or some twice.
    """
    from opentracy.traces import project

    project.catch_up(connection)
    bound = (upto + 1) << project.SEQ_BITS
    sums = "SELECT count(*), ifnull(sum(cost_nano), 0) FROM traces WHERE seq < ?"
    here = connection.execute(sums, (bound,)).fetchone()
    rows, ids, cost = there
    click.echo(f"here:  {here[0]} traces, {view.money(here[1])}", err=True)
    click.echo(f"there: {rows} traces, {view.money(cost)}", err=True)
    if rows < here[0] or cost < here[1]:
        raise click.ClickException("The copy lacks traces: run the command again")
    if ids != rows:
        raise click.ClickException(f"{rows - ids} traces stand twice there")
    if as_json:
        found = {"here": here[0], "here_cost_nano": here[1], "there": rows, "there_cost_nano": cost}
        click.echo(json.dumps(found))
    same = (rows, cost) == tuple(here)
    click.echo("verified" if same else "verified (there is more there, as from other engines)", err=True)


@contextlib.contextmanager
def _errors() -> Any:
    """Errors of the store as one line and exit code 1."""
    try:
        yield
    except (TraceStoreError, sqlite3.Error, OSError) as error:
        raise click.ClickException(str(error)) from error

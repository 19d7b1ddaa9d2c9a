"""The options that many commands share, and the local store and filters that they mean.

Belongs here: what `--store`, `--filter`, `--since` and the like are. Not here: what a command does with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opentracy.traces.errors import TraceStoreError

if TYPE_CHECKING:
    from opentracy.traces.filters import Filters
    from opentracy.traces.reader import Reader

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

"""`opentracy datasets`: prompts with expected answers, made from traces or files, as the dashboard's Datasets has them.

Belongs here: arguments, and what is printed. Not here: what a dataset is (`engine.datasets`). With `--engine` or
OPENTRACY_ENGINE_URL a running engine's are meant, otherwise those beside the local trace store.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar
from urllib.parse import quote

import click
import msgspec

from opentracy.cli import traces_view as view
from opentracy.cli.local import json_option, open_reader, read_filters, since_option, store_option, until_option
from opentracy.cli.remote import Remote, engine_option, remote
from opentracy.traces.filters import moment

PATH: Final = "/v1/dashboard/datasets"
_LOOK_S: Final = 0.3
_SHOWN: Final = 200  # the most rows an engine shows at once
Row = dict[str, Any]
_T = TypeVar("_T")


class Place(Protocol):
    """Where datasets are. Whatever does not exist or makes no sense is a ClickException or UsageError."""

    def listing(self) -> list[Row]: ...
    def rows(self, name: str, version: int | None, limit: int) -> list[Row]: ...
    def create(self, name: str, q: str, since: str | None, until: str | None, limit: int) -> Row: ...
    def add(self, name: str, rows: list[Any]) -> Row: ...
    def export(self, name: str, version: int | None, form: str) -> Iterator[bytes]: ...


class There:
    """The datasets of a running engine."""

    def __init__(self, engine: Remote) -> None:
        self._engine = engine

    def listing(self) -> list[Row]:
        return list(self._engine.get(PATH, [])["datasets"])

    def rows(self, name: str, version: int | None, limit: int) -> list[Row]:
        asked = [("limit", str(min(limit, _SHOWN))), *_numbered(version)]
        return list(self._engine.get(f"{PATH}/{quote(name, safe='')}/rows", asked)["rows"])

    def create(self, name: str, q: str, since: str | None, until: str | None, limit: int) -> Row:
        times = {at: moment_of(text) for at, text in (("since", since), ("until", until)) if text}
        place = f"{PATH}/{quote(name, safe='')}"
        made = self._engine.send(place, {"q": q, "limit": limit, **times})
        making_id = made.get("id")  # a large one is made while we look on
        while making_id and made.get("state") == "running":
            time.sleep(_LOOK_S)
            made = self._engine.get(f"{place}/making/{making_id}", [])
        if made.get("state") == "failed":
            raise click.ClickException(str(made.get("problem")))
        return {name: made[name] for name in ("version", "rows", "skipped")}

    def add(self, name: str, rows: list[Any]) -> Row:
        return self._engine.send(f"{PATH}/{quote(name, safe='')}/rows", {"rows": rows})

    def export(self, name: str, version: int | None, form: str) -> Iterator[bytes]:
        return self._engine.pieces(f"{PATH}/{quote(name, safe='')}/export", [("format", form), *_numbered(version)])


class Here:
    """The datasets beside the local trace store."""

    def __init__(self, store: Path | None) -> None:
        from opentracy.engine.datasets import Datasets
        from opentracy.traces.sqlite import default_path

        self._store = store
        self.sets = Datasets((store or default_path()).parent)

    def listing(self) -> list[Row]:
        return [{"name": n, "versions": msgspec.to_builtins(self.sets.versions(n))} for n in self.sets.names()]

    def rows(self, name: str, version: int | None, limit: int) -> list[Row]:
        found = self.sets.rows(name, sane(lambda: self.sets.version(name, version)).version)
        return [{"answer": None, **msgspec.to_builtins(row)} for row in islice(found, limit)]

    def create(self, name: str, q: str, since: str | None, until: str | None, limit: int) -> Row:
        from opentracy.engine.datasets import selected

        filters = read_filters(q, since, until)
        rows, skipped = selected(open_reader(self._store), filters, limit)
        made = sane(lambda: self.sets.add(name, rows, q or "every trace"))
        return {"version": made.version, "rows": made.rows, "skipped": skipped}

    def add(self, name: str, rows: list[Any]) -> Row:
        from opentracy.engine.datasets import examples

        made = sane(lambda: self.sets.extend(name, examples(rows), "command line"))
        return {"version": made.version, "rows": made.rows}

    def export(self, name: str, version: int | None, form: str) -> Iterator[bytes]:
        number = sane(lambda: self.sets.version(name, version)).version
        return self.sets.lines(name, number, form)


def _numbered(version: int | None) -> list[tuple[str, str]]:
    return [] if version is None else [("version", str(version))]


def sane(work: Any) -> Any:
    """What does not exist ends with 1, what makes no sense with 2."""
    try:
        return work()
    except KeyError as error:
        raise click.ClickException(str(error.args[0])) from None
    except ValueError as error:
        raise click.UsageError(str(error.args[0])) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


def moment_of(text: str) -> int:
    """Milliseconds of a time or a span ago. Exits with 2 for what is neither."""
    from opentracy.traces.errors import TraceStoreError

    try:
        return moment(text, time.time_ns() // 1_000_000)
    except TraceStoreError as error:
        raise click.UsageError(str(error)) from error


def place(store: Path | None, engine_url: str | None) -> Place:
    """The datasets that are meant."""
    engine = remote(store, engine_url)
    return Here(store) if engine is None else There(engine)


def latest(found: list[Row], name: str) -> Row:
    """A dataset of a listing. Exits with 1 when there is none of this name."""
    for one in found:
        if one["name"] == name:
            return one
    raise click.ClickException(f"There is no dataset {name}")


version_option = click.option(
    "--version", "-V", type=click.IntRange(min=1), default=None, help="Default: the last one."
)


@click.group()
def datasets() -> None:
    """Prompts with expected answers: made from traces, for evaluations and fine-tuning."""


@datasets.command("ls")
@store_option
@engine_option
@json_option
def ls(store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """List the datasets."""
    found = place(store, engine_url).listing()
    if as_json:
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    lines = []
    for one in found:
        last = one["versions"][-1]
        lines.append((one["name"], str(last["version"]), str(last["rows"]), _day(last["created_ms"]), last["source"]))
    columns = ("name", "version", "rows", "made", "from")
    view.table(
        lines, columns, empty="No datasets yet: opentracy datasets create NAME [QUERY]", right=("version", "rows")
    )


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


@datasets.command("show")
@click.argument("name")
@version_option
@click.option("--limit", "-n", type=click.IntRange(1, _SHOWN), default=20, show_default=True, help="Rows.")
@store_option
@engine_option
@json_option
def show(name: str, version: int | None, limit: int, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """Show the versions of a dataset and its first rows (with --json the rows, one object per line)."""
    sets = place(store, engine_url)
    rows = sets.rows(name, version, limit)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    for one in latest(sets.listing(), name)["versions"]:
        shown = " <" if version in (None, one["version"]) else ""
        click.echo(f"version {one['version']}: {one['rows']} rows, {_day(one['created_ms'])}, {one['source']}{shown}")
    click.echo()
    lines = [(str(at), _short(_last_user(row)), _short(row["answer"] or "-")) for at, row in enumerate(rows)]
    view.table(lines, ("row", "prompt", "expected"), empty="No rows.", right=("row",))


def _last_user(row: Row) -> str:
    said = [message.get("content") for message in row["messages"] if message.get("role") == "user"]
    if not said:
        return "-"
    return said[-1] if isinstance(said[-1], str) else json.dumps(said[-1], ensure_ascii=False)


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width or not sys.stdout.isatty() else line[: width - 1] + "…"


@datasets.command("create")
@click.argument("name")
@click.argument("query", nargs=-1)
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Rows at most.")
@since_option
@until_option
@store_option
@engine_option
@json_option
def create(
    name: str, query: tuple[str, ...], limit: int, since: str | None, until: str | None, store: Path | None,
    engine_url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a version of NAME from the newest traces that match QUERY: cluster:17 status:ok tag:prod.

    Traces whose text was not kept, or that are no chats, are left out.
    """
    _made(name, place(store, engine_url).create(name, " ".join(query), since, until, limit), as_json)


@datasets.command("add")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@store_option
@engine_option
@json_option
def add(name: str, file: BinaryIO, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """Make a version of NAME with further rows: JSON lines of {"messages", "answer"} in FILE (- for stdin)."""
    rows = []
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise click.UsageError(f"line {number} is not JSON: {error}") from None
    _made(name, place(store, engine_url).add(name, rows), as_json)


def _made(name: str, made: Row, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"name": name, **made}))
        return
    left_out = f", {made['skipped']} traces without usable text left out" if made.get("skipped") else ""
    click.echo(f"{name} version {made['version']}: {made['rows']} rows{left_out}")


@datasets.command("export")
@click.argument("name")
@version_option
@click.option("--format", "form", type=click.Choice(["jsonl", "finetune"]), default="jsonl", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: stdout.")
@store_option
@engine_option
def export(
    name: str, version: int | None, form: str, output: Path | None, store: Path | None, engine_url: str | None
) -> None:
    """Write the rows as JSON lines; `finetune` is the form that OpenAI takes."""
    view.download(place(store, engine_url).export(name, version, form), output)

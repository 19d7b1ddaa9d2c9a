"""`opentracy evals`: models over the rows of a dataset, scored, with a bar that says how far it is.

Belongs here: arguments, waiting, and what is printed. Not here: the run (`engine.evaluations`). With `--engine` or
OPENTRACY_ENGINE_URL the engine runs it, as the dashboard lets it; otherwise this process does, calling the models
through the SDK, and the results stand beside the local trace store where the dashboard finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from opentracy.cli import traces_view as view
from opentracy.cli.datasets import PATH as DATASETS
from opentracy.cli.datasets import Here as LocalSets
from opentracy.cli.datasets import latest, sane, version_option
from opentracy.cli.local import json_option, store_option
from opentracy.cli.remote import Remote, engine_option, remote

_PATH: Final = "/v1/dashboard/evaluations"
_LOOK_S: Final = 0.3
Row = dict[str, Any]


class There:
    """The evaluations of a running engine."""

    def __init__(self, engine: Remote) -> None:
        self._engine = engine

    def all(self, dataset: str | None) -> list[Row]:
        return list(self._engine.get(_PATH, [("dataset", dataset)] if dataset else [])["evaluations"])

    def stop(self, run_id: str) -> None:
        self._engine.send(f"{_PATH}/{run_id}/stop", {})

    def labels(self, run_id: str) -> Iterator[bytes]:
        return self._engine.pieces(f"{_PATH}/{run_id}/labels", [])

    def run(self, asked: Row, step: Callable[[int, int], None]) -> Row:
        """Begins a run and waits for it; Ctrl-C stops it there too."""
        if asked["version"] is None:
            found = list(self._engine.get(DATASETS, [])["datasets"])
            asked["version"] = latest(found, asked["dataset"])["versions"][-1]["version"]
        run_id = self._engine.send(_PATH, asked)["id"]
        try:
            while True:
                # by name of the dataset: a list of all may have ended before this one
                run = next((one for one in self.all(asked["dataset"]) if one["id"] == run_id), None)
                if run is None:
                    raise click.ClickException(f"The engine no longer knows the evaluation {run_id}")
                step(run["done"], run["total"])
                if run["state"] != "running":
                    return run
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            self.stop(run_id)
            raise


class Here:
    """The evaluations beside the local trace store."""

    def __init__(self, store: Path | None) -> None:
        from opentracy.engine.evaluations import Runs
        from opentracy.traces.sqlite import default_path

        self._sets = LocalSets(store).sets
        self._runs = Runs((store or default_path()).parent)

    def all(self, dataset: str | None) -> list[Row]:
        return [msgspec.to_builtins(run) for run in self._runs.all(dataset)]

    def stop(self, run_id: str) -> None:
        self._runs.stop(run_id)

    def labels(self, run_id: str) -> Iterator[bytes]:
        from opentracy.engine.evaluations import label_lines

        return iter(list(label_lines(self._sets, self._runs, run_id)))

    def run(self, asked: Row, step: Callable[[int, int], None]) -> Row:
        """Runs it in this process."""
        from opentracy.engine.evaluations import planned
        from opentracy.traces.ids import new_trace_id

        version = self._sets.version(asked["dataset"], asked["version"]).version
        how = (asked["models"], asked["grader"], asked["limit"])
        run, rows = planned(self._sets, asked["dataset"], version, *how, new_trace_id())
        asyncio.run(_watched(run, rows, self._runs, step))
        done: Row = msgspec.to_builtins(run)
        return done


async def _watched(run: Any, rows: Any, runs: Any, step: Callable[[int, int], None]) -> None:
    from opentracy.engine.evaluations import evaluate

    task = asyncio.create_task(evaluate(run, rows, _ask, runs))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_S)
            step(run.done, run.total)
    except asyncio.CancelledError:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        raise
    await task


async def _ask(body: Row) -> tuple[int, Row]:
    """Status and answer of one call through the SDK, as an engine would give them."""
    import opentracy

    try:
        answer = await opentracy.acompletion(**body)
    except opentracy.APIError as error:
        return getattr(error, "status_code", None) or 502, {"error": {"message": str(error)}}
    except ValueError as error:
        return 400, {"error": {"message": str(error)}}
    return 200, dict(answer)


def _place(store: Path | None, engine_url: str | None) -> There | Here:
    engine = remote(store, engine_url)
    return Here(store) if engine is None else There(engine)


@click.group()
def evals() -> None:
    """Run models on a dataset and compare their answers with the expected ones."""


@evals.command("run")
@click.argument("dataset")
@click.option("--model", "-m", "models", multiple=True, required=True, help="provider/model, alias or auto; repeat it.")
@version_option
@click.option(
    "--grader",
    type=click.Choice(["overlap", "exact", "contains", "number"]),
    default="overlap",
    show_default=True,
    help="What is compared: words in common, the same words, whether it is contained, the last number.",
)
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Rows a model.")
@store_option
@engine_option
@json_option
def run(
    dataset: str, models: tuple[str, ...], version: int | None, grader: str, limit: int, store: Path | None,
    engine_url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask each model every row of DATASET; each row is a real call and costs what such calls cost. Ctrl-C stops it."""
    asked = {"dataset": dataset, "version": version, "models": list(models), "grader": grader, "limit": limit}
    where = _place(store, engine_url)
    with _progress() as step:
        done = sane(partial(where.run, asked, step))
    _shown(done, as_json, failures=0)
    if done["state"] != "done" or not any(result["scored"] for result in done["results"]):
        why = done.get("problem") or next((one["reason"] for one in done["failures"]), done["state"])
        raise click.ClickException(f"The evaluation {done['id']} gave no result: {why}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yields `step(done, total)`: a bar on a terminal, a line every five seconds elsewhere."""
    with contextlib.ExitStack() as stack:
        state: dict[str, Any] = {"done": 0, "advance": None}

        def step(done: int, total: int) -> None:
            if state["advance"] is None:
                state["advance"] = stack.enter_context(view.counting("answers", total))
            state["advance"](done - state["done"])
            state["done"] = done

        yield step


@evals.command("ls")
@click.option("--dataset", "-d", default=None, help="Only those on this dataset.")
@store_option
@engine_option
@json_option
def ls(dataset: str | None, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """List the evaluations, newest first."""
    found = _place(store, engine_url).all(dataset)
    if as_json:
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    lines = []
    for one in found:
        best = max(one["results"], key=lambda r: r["score"] or 0.0, default=None)
        winner = "-" if best is None or best["score"] is None else f"{best['model']} {best['score']:.3f}"
        where = f"{one['dataset']} v{one['version']}"
        lines.append(
            (one["id"], view.when(one["started_ms"]), where, one["state"], f"{one['done']}/{one['total']}", winner)
        )
    view.table(lines, ("id", "begun", "dataset", "state", "answers", "best"), empty="No evaluations yet.")


@evals.command("show")
@click.argument("run_id")
@click.option("--failures", "-f", type=click.IntRange(min=0), default=5, show_default=True, help="So many failures.")
@store_option
@engine_option
@json_option
def show(run_id: str, failures: int, store: Path | None, engine_url: str | None, as_json: bool) -> None:
    """Show the results of an evaluation. RUN_ID may be `last`."""
    _shown(_found(_place(store, engine_url), run_id), as_json, failures=failures)


def _found(where: There | Here, run_id: str) -> Row:
    found = where.all(None)
    for one in found:
        if run_id in ("last", one["id"]):
            return one
    raise click.ClickException("No evaluations yet" if run_id == "last" else f"There is no evaluation {run_id}")


@evals.command("labels")
@click.argument("run_id")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: stdout.")
@store_option
@engine_option
def labels(run_id: str, output: Path | None, store: Path | None, engine_url: str | None) -> None:
    """Write the scores as `opentracy routing train` and `add-model` read them. RUN_ID may be `last`."""
    where = _place(store, engine_url)
    view.download(sane(partial(where.labels, _found(where, run_id)["id"])), output)


@evals.command("stop")
@click.argument("run_id")
@store_option
@engine_option
def stop(run_id: str, store: Path | None, engine_url: str | None) -> None:
    """Stop a running evaluation. RUN_ID may be `last`."""
    where = _place(store, engine_url)
    sane(partial(where.stop, _found(where, run_id)["id"]))


def _shown(done: Row, as_json: bool, *, failures: int) -> None:
    """Models, best first; then what went wrong."""
    if as_json:
        click.echo(json.dumps(done, ensure_ascii=False))
        return
    where = f"{done['dataset']} version {done['version']}, scored by {done['grader']}"
    click.echo(f"{done['id']}  {where}: {done['state']}, {done['done']} of {done['total']} answers", err=True)
    lines = []
    for one in sorted(done["results"], key=lambda r: -(r["score"] or 0.0)):
        each = None if not one["scored"] else round(one["cost"] / one["scored"] * 1e9)
        unknown = "+?" if one["unpriced"] else ""
        score = "-" if one["score"] is None else f"{one['score']:.3f}"
        lines.append((
            one["model"], score, str(one["scored"]), str(one["errors"]),
            view.money(round(one["cost"] * 1e9)) + unknown, "-" if each is None else view.money(each) + unknown,
            view.duration(one["latency_ms"]),
        ))  # fmt: skip
    columns = ("model", "score", "answers", "errors", "cost", "each", "latency")
    view.table(lines, columns, empty="No answers.", right=columns[1:])
    for failure in done["failures"][:failures]:
        click.echo(f"row {failure['row']}, {failure['model']}: {failure['reason']}", err=True)

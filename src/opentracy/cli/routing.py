"""`opentracy routing` and `opentracy route`: train, use, compare and explain routers from the command line.

Belongs here: arguments, files, progress bars, exit codes. What is computed stands in opentracy.routing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from opentracy.cli.embedders import embedder_named, open_router

if TYPE_CHECKING:
    from opentracy.routing import Labels
    from opentracy.routing.policy import Candidate

F = TypeVar("F", bound=Callable[..., Any])


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"opentracy: {message}", err=True)
    raise SystemExit(code)


def _border(command: F) -> F:
    """ValueErrors are the user's to mend: one line and exit code 2, never a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ValueError as error:
            _fail(str(error), 2)
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)
        except Exception as error:
            from opentracy import APIError

            if isinstance(error, APIError):  # an embeddings endpoint said no
                _fail(str(error), 1)
            raise

    return run  # type: ignore[return-value]


class _Bars:
    """One progress bar per stage on stderr; silent when nobody watches."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._shown:
            return
        width = 24 * done // max(total, 1)
        if self._stage and stage != self._stage:
            click.echo("", err=True)
        self._stage = stage
        click.echo(f"\r{stage:<16} [{'#' * width:<24}] {done}/{total}", err=True, nl=done >= total)
        if done >= total:
            self._stage = ""


@click.group()
def routing() -> None:
    """Train routers and look into them."""


@click.group()
def route() -> None:
    """Ask a router about one prompt."""


FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)


EMBEDDER_HELP = "static, minilm, or an embedding model as provider/model, called through that provider."


@routing.command()
@click.argument("data", type=FILE)
@click.option("--out", required=True, type=DIRECTORY, help="Directory of the artifact; an old one there is replaced.")
@click.option("--embedder", default="static", show_default=True, help=EMBEDDER_HELP)
@click.option(
    "--split", default="train", show_default=True, help="Rows to train on, where the file has a split column."
)
@click.option(
    "--default", "default_model", default=None, help="Model to stay with unless another is established as better."
)
@click.option("--examples", default=0, show_default=True, help="Prompts to keep per cluster for display.")
@click.option("--seed", default=0, show_default=True)
@_border
def train(
    data: Path, out: Path, embedder: str, split: str, default_model: str | None, examples: int, seed: int
) -> None:
    """Learn from DATA (prompt, s:<model>, c:<model>) which model should answer what.

    Stopped with Ctrl-C, the same command goes on where it was.
    """
    from opentracy import __version__
    from opentracy.routing.artifact import ArtifactError, read, write
    from opentracy.routing.checkpoint import Checkpoint
    from opentracy.routing.tables import read_labels
    from opentracy.routing.train import Options, fit

    table = read_labels(data)
    labels = table.where(split) if table.split and split in table.split else table.labels
    try:
        old = read(out)
    except ArtifactError:
        old = None
    options = Options(default=default_model, seed=seed, examples=examples)
    model = embedder_named(embedder)
    before = "" if old is None else old.manifest.version
    key = "\n".join((__version__, labels.ordered().digest(), model.sha256, repr(options), before))
    kept = Checkpoint(out.with_name(f".{out.name}.training"), key)
    if kept.found:
        click.echo("going on with a training that was stopped", err=True)
    try:
        m = write(fit(labels, model, options, old=old, progress=_Bars(), keeper=kept), out).manifest
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on from here", 130)
    kept.done()
    click.echo(f"{out}: version {m.version}, {m.rows} prompts, {len(m.models)} models, default {m.default}")


@routing.command()
@click.argument("directory", metavar="DIR")
@click.argument("prompts", type=FILE)
@click.option("--out", required=True, type=FILE)
@click.option(
    "--abilities", type=FILE, default=None, help="JSON: {model: {ability, domains?, cost?}} for models without labels."
)
@_border
def predict(directory: str, prompts: Path, out: Path, abilities: Path | None) -> None:
    """Estimate every prompt of PROMPTS and write the decisions that would be taken."""
    from opentracy.routing.predict import predict_table
    from opentracy.routing.prior import Abilities
    from opentracy.routing.tables import read_prompts, write_table

    given = None if abilities is None else Abilities.parse_user(abilities.read_bytes(), str(abilities))
    router = open_router(directory)
    rows = read_prompts(prompts)
    write_table(out, predict_table(router, rows, given, progress=_Bars()))
    click.echo(f"{out}: {len(rows)} rows, router {router.version}")


@routing.command("add-model")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("labels", type=FILE)
@_border
def add_model(directory: Path, labels: Path) -> None:
    """Add the models of LABELS (prompt, s:<new>, c:<new>) to the artifact in DIR, in place."""
    from opentracy.routing import extend
    from opentracy.routing.artifact import read, write
    from opentracy.routing.promote import keep_version
    from opentracy.routing.tables import read_labels

    artifact = read(directory)
    table = read_labels(labels)
    done = extend.add_model(artifact, table.labels, embedder_named(artifact.manifest.embedder), _Bars())
    keep_version(directory)
    m = write(done, directory).manifest
    for model in table.labels.models:
        click.echo(f"{model}: {m.counts[model]} labels, version {m.version}")


@routing.command()
@click.argument("directory", metavar="DIR")
@click.argument("data", type=FILE)
@click.option("--split", default="dev", show_default=True, help="Rows to score, where the file has a split column.")
@click.option("--train-split", default="train", show_default=True, help="Rows the baselines learn from.")
@click.option("--draws", default=200, show_default=True, help="Bootstrap draws.")
@click.option("--plot", type=FILE, default=None, help="Save quality against cost as SVG.")
@click.option("--json", "as_json", is_flag=True)
@_border
def evaluate(
    directory: str, data: Path, split: str, train_split: str, draws: int, plot: Path | None, as_json: bool
) -> None:
    """Score the router in DIR on DATA beside its baselines, with paired bootstrap intervals."""
    import msgspec

    from opentracy.routing import plot as picture
    from opentracy.routing.evaluate import evaluate as compare
    from opentracy.routing.evaluate import text_table
    from opentracy.routing.tables import read_labels

    router, table = open_router(directory), read_labels(data)
    for name, option in ((split, "--split"), (train_split, "--train-split")):
        if table.split and name not in table.split:
            found = ", ".join(sorted(set(table.split)))
            raise ValueError(f"{data}: no row of the split {name!r} ({option}); found {found}")
    report = compare(
        router, table.where(split), table.where(train_split), router.embedder, draws=draws, progress=_Bars()
    )
    if plot is not None:
        plot.write_text(picture.svg(report), encoding="utf-8")
    click.echo(msgspec.json.encode(report).decode() if as_json else text_table(report))


@routing.command()
@click.argument("before", metavar="DIR_A")
@click.argument("after", metavar="DIR_B")
@click.argument("prompts", type=FILE, required=False)
@_border
def diff(before: str, after: str, prompts: Path | None) -> None:
    """What changed from one artifact to another; with PROMPTS also how many decisions did."""
    from opentracy.routing.compare import differences
    from opentracy.routing.tables import read_prompts

    rows = () if prompts is None else read_prompts(prompts)
    for line in differences(open_router(before), open_router(after), rows):
        click.echo(line)


def _judged(labels: Path | None, store: Path | None, metric: str, days: float, known: Sequence[str]) -> Labels:
    if labels is not None:
        if store is not None:
            raise ValueError("pass LABELS or --store, not both")
        from opentracy.routing.tables import read_labels

        return read_labels(labels).labels
    from opentracy.cli.judged import judged_labels
    from opentracy.cli.local import open_reader

    found = judged_labels(open_reader(store), metric, int((time.time() - days * 86400) * 1000), known)
    click.echo(f"{len(found)} judged prompts, models: {', '.join(found.models)}")
    strange = [m for m in found.models if m not in known]
    if strange:
        click.echo(f"not in the router, ignored: {', '.join(strange)}; add them with `opentracy routing add-model`")
    return found


@routing.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("labels", type=FILE, required=False)
@click.option("--store", type=FILE, default=None, help="Trace database to learn from, where no LABELS are given.")
@click.option("--metric", default="quality", show_default=True, help="Feedback that judges an answer: 0 to 1, or bool.")
@click.option("--days", default=90.0, show_default=True, help="Age of the oldest feedback that counts.")
@click.option("--dry-run", is_flag=True, help="Evaluate only; change nothing.")
@_border
def learn(directory: Path, labels: Path | None, store: Path | None, metric: str, days: float, dry_run: bool) -> None:
    """Retrain DIR with judged prompts and promote only what is no worse.

    They come from LABELS (prompt, s:<model>, empty = not judged) or, without it, from the feedback in the trace store.
    """
    from opentracy.routing import promote
    from opentracy.routing.artifact import read

    old = read(directory)
    judged = _judged(labels, store, metric, days, old.manifest.models)
    verdict = promote.learn(old, judged, embedder_named(old.manifest.embedder), _Bars())
    for name, (mean, low, high) in (("score", verdict.value), ("brier", verdict.brier)):
        click.echo(
            f"{name}, new - old: {mean:+.4f}  (95 % {low:+.4f} .. {high:+.4f}), {verdict.labels} held-out prompts"
        )
    if not verdict.promoted or dry_run:
        click.echo(f"kept version {old.manifest.version}: {'dry run' if verdict.promoted else verdict.why}")
        return
    done = promote.promote(directory, verdict.candidate)
    click.echo(f"promoted version {done.manifest.version}: {verdict.why}")


@routing.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@_border
def rollback(directory: Path) -> None:
    """Put the artifact before the one in use back."""
    from opentracy.routing import promote

    click.echo(f"in use: version {promote.rollback(directory).manifest.version}")


@routing.command()
@click.argument("directory", metavar="DIR", default="default")
@_border
def info(directory: str) -> None:
    """What an artifact holds."""

    m = open_router(directory).artifact.manifest
    click.echo(f"version {m.version}  embedder {m.embedder} ({m.dims} dims)  {m.rows} prompts  default {m.default}")
    for model in m.models:
        click.echo(f"  {model}  {m.counts.get(model, 0)} labels")
    for cluster in m.clusters:
        click.echo(f"  cluster {cluster.id:>3}  {cluster.size:>6} prompts  {cluster.label}")


def _callable(names: Iterable[str]) -> list[str]:
    """These models as `provider/model`, of providers with a key here; all of them when none has one."""
    from opentracy.providers import registry

    found: dict[str, bool] = {}
    for name in names:
        try:
            row, bare = registry.split(name)
        except ValueError:
            continue
        found[f"{row.name}/{bare}"] = row.needs_key and registry.has_credentials(row.name, os.environ)
    return sorted(name for name, ready in found.items() if ready) or sorted(found)


def _candidate(name: str) -> Candidate:
    """A model as the engine's `auto` knows it; a name without a known provider has no price."""
    from opentracy.engine.capabilities import candidate
    from opentracy.routing.policy import Candidate

    try:
        return candidate(name)
    except ValueError:
        return Candidate(name)


@route.command()
@click.argument("prompt")
@click.option("--router", "directory", default="default", show_default=True, metavar="DIR")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Candidate; repeat. Default: the artifact's models, else those with figures whose provider has a key.",
)
@click.option("--default", "default_model", default=None)
@click.option("--cost-weight", default=0.3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@_border
def explain(
    prompt: str, directory: str, models: tuple[str, ...], default_model: str | None, cost_weight: float, as_json: bool
) -> None:
    """Show which model would answer PROMPT and why the others would not."""
    import msgspec

    router = open_router(directory)
    names = list(models) or router.artifact.manifest.models or _callable(router.abilities)
    decision = router.decide(
        prompt, candidates=[_candidate(n) for n in names], default=default_model, cost_weight=cost_weight
    )
    if as_json:
        click.echo(msgspec.json.encode({"model": decision.model, **decision.routing()}).decode())
        return
    click.echo(f"{decision.model}  ({decision.strategy}, confidence {decision.confidence:.2f})")
    if decision.fallback_reason:
        click.echo(f"the default answers: {decision.fallback_reason}")
    for cluster_id, label, similarity in decision.clusters:
        click.echo(f"  cluster {cluster_id} {label!r} similarity {similarity:.2f}")
    for s in sorted(decision.scores, key=lambda s: (-(s.utility if s.utility is not None else -9.0), s.model)):
        quality = "unknown" if s.quality is None else f"{s.quality:.3f} +- {s.quality_error:.3f}"
        cost = "unknown" if s.cost is None else f"{s.cost:.6f}"
        utility = "" if s.utility is None else f"utility {s.utility:.3f}"
        click.echo(f"  {s.model:<40} quality {quality}  cost {cost}  {utility}  {s.excluded or ''}".rstrip())

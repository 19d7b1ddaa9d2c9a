"""Retraining from judged traces, and the versions of an artifact that a directory keeps.

Belongs here: the candidate router, the test it must pass, promotion and rollback. Not here: where traces come from
(cli/routing.py), running state between retrainings (learn.py).

No prompt of the old training set is needed: an artifact keeps the vectors and labels of its prototypes, so a retraining
joins them with the new rows. A fifth of the new rows is held out, and the candidate replaces the old router only if the
paired bootstrap interval says that it is no worse.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from opentracy.routing.artifact import ARRAYS, MANIFEST, Artifact, ArtifactError, decode, encode, read, write
from opentracy.routing.clusters import assign
from opentracy.routing.data import Floats, Labels, fold_of
from opentracy.routing.embed import Embedder, Matrix
from opentracy.routing.estimate import (
    Progress,
    Prototypes,
    Shape,
    fit_bag,
    fit_kernel,
    head_means,
    prototype_rows,
    silent,
    unit,
)
from opentracy.routing.extend import estimates
from opentracy.routing.style import calibrate, features_many
from opentracy.routing.text import core_text
from opentracy.routing.train import PROTOTYPE_LIMIT, embed_rows

VERSIONS, HISTORY = "versions", "history.json"
TOLERANCE = 0.01  # how much worse, in mean score, the lower end of the interval may be
_BRIER_TOLERANCE = 0.003
_LEAST = 30  # held-out labels below which nothing is promoted


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the candidate may replace the old router, and the figures behind it."""

    promoted: bool
    why: str
    labels: int  # held out
    value: tuple[float, float, float]  # mean score of the picks, new - old: estimate, low, high
    brier: tuple[float, float, float]  # new - old: estimate, low, high
    candidate: Artifact


class _Entry(msgspec.Struct, frozen=True):
    version: str
    action: str  # promoted | rolled back


def _aligned(labels: Labels, heads: Sequence[str]) -> Floats:
    """Scores in the order of an artifact's heads, NaN where the labels know nothing."""
    out = np.full((len(labels), len(heads)), np.nan)
    for i, model in enumerate(labels.models):
        if model in heads:
            out[:, heads.index(model)] = labels.scores[:, i]
    return out


def retrain(old: Artifact, labels: Labels, embedder: Embedder, progress: Progress = silent) -> Artifact:
    """The old artifact's prototypes and the new rows, fitted together on the old clusters' centres.

    Cluster ids do not change: the partitions stay, tables, kernel, prototypes and calibration are fitted again. Models
    that the artifact does not have are ignored; add them with extend.add_model.
    """
    m = old.manifest
    if embedder.sha256 != m.embedder_sha256:
        raise ValueError(
            f"the artifact was made with the embedder {m.embedder}; new rows must be embedded with the same one"
        )
    labels = labels.ordered()
    cores = [core_text(p) for p in labels.prompts]
    new = unit(unit(embed_rows(cores, embedder, progress)) - old.mean)
    x = np.concatenate([old.prototypes.vectors, new])
    y = np.concatenate([old.prototypes.scores, _aligned(labels, m.heads).astype(np.float32)])
    styles = np.concatenate([old.prototypes.styles, features_many(cores)])
    maps = [old.bag.centres[a:b] for a, b in zip(m.bounds, m.bounds[1:], strict=False)]
    shape = Shape()
    bag = fit_bag(x, y, maps, shape.shrink)
    kernel = fit_kernel(x, y, bag.centres, shape.alpha, m.kernel_width)
    rows, starts = prototype_rows(x, maps[0], PROTOTYPE_LIMIT, 0)
    stored = np.concatenate([old.out_of_fold, np.full((len(new), len(m.heads)), np.nan, np.float32)])
    sizes = np.bincount(assign(x, maps[0]), minlength=len(maps[0]))
    clusters = [msgspec.structs.replace(c, size=int(n)) for c, n in zip(m.clusters, sizes, strict=True)]
    means, models = head_means(y), m.models
    counts = {name: int((~np.isnan(y[:, i])).sum()) for i, name in enumerate(models)}
    manifest = msgspec.structs.replace(
        m,
        clusters=clusters,
        counts=counts,
        rows=len(x),
        parent=m.version or None,
        data_sha256=labels.digest(),
        default=m.default if m.default in models else (models[int(means[: len(models)].argmax())] if models else None),
    )
    prototypes = Prototypes(x[rows], y[rows], starts, styles[rows])
    return Artifact(
        manifest,
        old.mean,
        bag,
        prototypes,
        kernel,
        calibrate(x, styles, prototypes, maps[0]),
        old.cost_residual,
        stored[rows],
    )


def _held_out(labels: Labels) -> tuple[Labels, Labels]:
    held = [i for i, p in enumerate(labels.prompts) if fold_of("learn:" + p) == 0]
    rest = sorted(set(range(len(labels))) - set(held))
    return labels.take(rest), labels.take(held)


def _compare(
    old: Matrix, new: Matrix, y: Floats, draws: int = 400
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(value, brier) as (estimate, low, high) of new - old over held-out rows; a pick counts where its label is
    known.
    """
    known = ~np.isnan(y)
    rows = np.arange(len(y))
    judged = np.where(known, 0.0, -9.0)  # picks among the labelled models of a row, so that every row has a value
    a, b = (np.nan_to_num(y)[rows, (q + judged).argmax(1)] for q in (old, new))
    value = b - a
    error = np.where(known, (new - np.nan_to_num(y)) ** 2 - (old - np.nan_to_num(y)) ** 2, 0.0).sum(1)
    count = known.sum(1)
    rng = np.random.default_rng(0)
    draw = rng.integers(len(y), size=(draws, len(y)))
    values = value[draw].mean(1)
    errors = error[draw].sum(1) / np.maximum(count[draw].sum(1), 1)
    low, high = np.percentile(values, [2.5, 97.5])
    under, over = np.percentile(errors, [2.5, 97.5])
    return (
        (float(value.mean()), float(low), float(high)),
        (float(error.sum() / max(count.sum(), 1)), float(under), float(over)),
    )


def learn(old: Artifact, labels: Labels, embedder: Embedder, progress: Progress = silent) -> Verdict:
    """A candidate from the old artifact and judged rows, and whether it may replace the old one."""
    training, held = _held_out(labels)
    known = [m for m in labels.models if m in old.manifest.models]
    if not known:
        raise ValueError(
            f"no label is for a model of the router ({', '.join(old.manifest.models[:4]) or 'it has none'})"
        )
    judged = held.take([i for i in range(len(held)) if not np.isnan(held.select(known).scores[i]).all()])
    nothing = (0.0, 0.0, 0.0)
    if len(judged) < _LEAST:
        return Verdict(
            False,
            f"{len(judged)} held-out prompts are labelled, {_LEAST} are needed",
            len(judged),
            nothing,
            nothing,
            old,
        )
    candidate = retrain(old, training, embedder, progress)
    x = unit(unit(embedder.embed_many([core_text(p) for p in judged.prompts])) - old.mean)
    models = len(old.manifest.models)
    y = _aligned(judged, old.manifest.models)
    value, brier = _compare(estimates(old, x)[:, :models], estimates(candidate, x)[:, :models], y)
    good = value[1] >= -TOLERANCE and brier[1] <= 0.0 + _BRIER_TOLERANCE and brier[0] <= _BRIER_TOLERANCE
    why = "no worse on the held-out rows" if good else "the interval does not rule out that it is worse"
    return Verdict(good, why, len(judged), value, brier, candidate)


# ------------------------------------------------------------------ versions of a directory
def history(directory: Path) -> list[tuple[str, str]]:
    """(version, action), oldest first."""
    path = directory / HISTORY
    return (
        [(e.version, e.action) for e in msgspec.json.decode(path.read_bytes(), type=list[_Entry])]
        if path.exists()
        else []
    )


def _log(directory: Path, version: str, action: str) -> None:
    entries = [_Entry(v, a) for v, a in history(directory)] + [_Entry(version, action)]
    staged = directory / (HISTORY + ".partial")
    staged.write_bytes(msgspec.json.format(msgspec.json.encode(entries), indent=1))
    staged.replace(directory / HISTORY)


def keep_version(directory: Path) -> str:
    """Copy the artifact in use to versions/<version>; its version."""
    version = read(directory).manifest.version
    target = directory / VERSIONS / version
    if not target.exists():
        staged = directory / VERSIONS / f".{version}.partial"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name in (ARRAYS, MANIFEST):
            shutil.copy2(directory / name, staged / name)
        staged.replace(target)
    return version


def promote(directory: Path, candidate: Artifact) -> Artifact:
    """Put the candidate in use; the artifact before it stays in versions/."""
    keep_version(directory)
    _, manifest, arrays = encode(candidate)
    decode(manifest, arrays)  # what cannot be read back must not replace what works
    done = write(candidate, directory)
    _log(directory, done.manifest.version, "promoted")
    return done


def rollback(directory: Path) -> Artifact:
    """Put the artifact before the one in use back. Raises ArtifactError when there is none."""
    current = read(directory)
    parent = current.manifest.parent
    if parent is None or not (directory / VERSIONS / parent).is_dir():
        raise ArtifactError(f"{directory}: version {current.manifest.version} has no earlier version to go back to")
    keep_version(directory)
    earlier = read(directory / VERSIONS / parent)
    for name in (ARRAYS, MANIFEST):
        staged = directory / f".{name}.partial"
        shutil.copy2(directory / VERSIONS / parent / name, staged)
        staged.replace(directory / name)
    _log(directory, earlier.manifest.version, "rolled back")
    return earlier

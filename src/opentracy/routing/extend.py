"""One more model for an artifact, from as few as twenty labels.

Belongs here: the prior of a thin model and its residuals. Not here: training from scratch (train.py), models without
any label (prior.py).

The new model's score is first regressed on the estimates of the models that are known already, pulled towards "as their
mean, plus an offset" with the strength of some pseudo-labels: prompts that are hard for them are hard for it. What
remains is smoothed by cluster and by the kernel, both strongly, because few labels say little about a place. Every
estimator is linear in its heads, so the result is one more column everywhere and nothing in the request path is
special.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact, CostModel
from opentracy.routing.clusters import assign
from opentracy.routing.data import Floats, Labels
from opentracy.routing.embed import Embedder, Matrix, Vector
from opentracy.routing.estimate import (
    Bag,
    Kernel,
    Progress,
    Prototypes,
    bag_many,
    closeness,
    kernel_many,
    mix,
    neighbours_many,
    silent,
    smoothed_table,
    unit,
)
from opentracy.routing.text import core_text
from opentracy.routing.train import embed_rows, fit_costs, text_length

Lengths = npt.NDArray[np.int64]
_SLOPE_PULL = 1.5  # ridge penalty on the distance of the slopes from 1 / number of models
_OFFSET_PULL = 3.0  # labels' worth of belief that the model is as good as the mean of the others
_CLUSTER_PULL = 10.0
_KERNEL_PULL = 3.0
_SAME = 0.9999  # cosine above which a labelled prompt is one of the prototypes


@dataclass(frozen=True, slots=True)
class Prior:
    """score ~ offset + estimates of the known models @ slopes."""

    slopes: Vector
    offset: float

    def __call__(self, known: Matrix) -> Vector:
        """Prior score of every row of estimates."""
        return np.asarray(known @ self.slopes + self.offset, dtype=np.float32)


def fit_prior(known: Matrix, score: Vector) -> Prior:
    """known: (n, M) estimates of the other models at the labelled prompts, made without them; score: (n,)."""
    n, m = known.shape
    if m == 0:
        return Prior(np.zeros(0, np.float32), float((score.sum() + 0.5 * _OFFSET_PULL) / (n + _OFFSET_PULL)))
    middle = float(known.mean())
    level = (score.sum() + middle * _OFFSET_PULL) / (n + _OFFSET_PULL)
    # a model near 0 or 1 has less room to follow the others: the slope of one logistic curve against another
    room = min(1.0, level * (1 - level) / max(middle * (1 - middle), 1e-3))
    equal = np.full(m, room / m)
    centred = known.astype(np.float64) - known.mean(0)
    left = score - score.mean() - centred @ equal
    slopes = equal + np.linalg.solve(centred.T @ centred + _SLOPE_PULL * np.eye(m), centred.T @ left)
    start = middle - float(known.mean(0) @ slopes)  # the offset of "as good as the mean of the others"
    offset = float(((score - known @ slopes).sum() + start * _OFFSET_PULL) / (n + _OFFSET_PULL))
    return Prior(slopes.astype(np.float32), offset)


def estimates(artifact: Artifact, x: Matrix) -> Matrix:
    """(rows, H) estimates of unit, centred vectors, many at once."""
    p, bag = artifact.prototypes, artifact.bag
    clusters = bag_many(bag, x)
    weights = tuple(artifact.manifest.weights)
    near = (
        neighbours_many(p.vectors, p.scores, x, artifact.manifest.policy.neighbours, clusters)
        if weights[1]
        else clusters
    )
    return mix((clusters, near, kernel_many(artifact.kernel, x, bag.centres)), (weights[0], weights[1], weights[2]))


def add_model(artifact: Artifact, labels: Labels, embedder: Embedder, progress: Progress = silent) -> Artifact:
    """The artifact with the models of `labels` added, or replaced where it has them already.

    Raises ValueError when no row is labelled or the embedder is another one.
    """
    m = artifact.manifest
    if embedder.sha256 != m.embedder_sha256:
        raise ValueError(
            f"the artifact was made with the embedder {m.embedder}; labels must be embedded with the same one"
        )
    labels = labels.ordered()
    cores = [core_text(p) for p in labels.prompts]
    raw = embed_rows(cores, embedder, progress)
    x = unit(unit(raw) - artifact.mean)
    for i, model in enumerate(labels.models):
        rows = np.flatnonzero(~np.isnan(labels.scores[:, i]))
        if not len(rows):
            raise ValueError(f"{model}: no labelled row")
        costs = None if labels.costs is None else labels.costs[rows, i]
        lengths = np.array([text_length(cores[r]) for r in rows])
        artifact = _add_one(
            _without(artifact, model), model, x[rows], labels.scores[rows, i].astype(np.float32), costs, lengths
        )
    return artifact


def _without(artifact: Artifact, model: str) -> Artifact:
    """The artifact with one model's column taken out; itself when it has none."""
    m = artifact.manifest
    if model not in m.models:
        return artifact
    i = m.models.index(model)
    keep = [h for h in range(len(m.heads)) if h != i]
    models = [n for n in m.models if n != model]
    manifest = msgspec.structs.replace(
        m,
        models=models,
        heads=[m.heads[h] for h in keep],
        default=m.default if m.default != model else None,
        counts={n: c for n, c in m.counts.items() if n != model},
        costs={n: c for n, c in m.costs.items() if n != model},
    )
    a = artifact
    return Artifact(
        manifest,
        a.mean,
        Bag(a.bag.centres, a.bag.bounds, a.bag.tables[:, keep], a.bag.counts[:, keep]),
        Prototypes(a.prototypes.vectors, a.prototypes.scores[:, keep], a.prototypes.starts, a.prototypes.styles),
        Kernel(a.kernel.weights[:, keep], a.kernel.intercept[keep], a.kernel.width),
        a.novelty,
        np.delete(a.cost_residual, i, axis=1),
        a.out_of_fold[:, keep],
    )


def _known_at(artifact: Artifact, x: Matrix) -> Matrix:
    """Estimates of the known models at x, from fits that had not seen x where x is a training prompt."""
    count = len(artifact.manifest.models)
    known = estimates(artifact, x)[:, :count]
    similar = x @ artifact.prototypes.vectors.T
    nearest = similar.argmax(1)
    stored = artifact.out_of_fold[nearest][:, :count]
    same = (similar.max(1) > _SAME) & ~np.isnan(stored).any(1)
    known[same] = stored[same]
    return known


def _column(values: Matrix, at: int, column: Vector) -> Matrix:
    return np.ascontiguousarray(np.insert(values, at, column, axis=1).astype(np.float32))


def _add_one(a: Artifact, model: str, x: Matrix, score: Vector, costs: Floats | None, lengths: Lengths) -> Artifact:
    count, bag = len(a.manifest.models), a.bag
    prior = fit_prior(_known_at(a, x), score)
    residual = (score - prior(_known_at(a, x)))[:, None]
    tables, counts = [], []
    for low, high in zip(bag.bounds, bag.bounds[1:], strict=False):
        label = assign(x, bag.centres[low:high])
        table, n = smoothed_table(label, high - low, residual, _CLUSTER_PULL, np.zeros((1, 1), np.float32))
        tables.append(prior(bag.tables[low:high, :count]) + table[:, 0])
        counts.append(n[:, 0])
    near = closeness(x, bag.centres, a.kernel.width).astype(np.float64)
    smooth = closeness(unit(bag.centres), bag.centres, a.kernel.width).astype(np.float64) + 1e-4 * np.eye(len(near[0]))
    bent = np.linalg.solve(near.T @ near + _KERNEL_PULL * smooth, near.T @ residual)[:, 0]
    kernel = a.kernel.weights[:, :count] @ prior.slopes + bent
    intercept = float(prior(a.kernel.intercept[None, :count])[0])
    fitted = Artifact(
        a.manifest,
        a.mean,
        Bag(
            bag.centres,
            bag.bounds,
            _column(bag.tables, count, np.concatenate(tables)),
            _column(bag.counts, count, np.concatenate(counts)),
        ),
        a.prototypes,
        Kernel(
            _column(a.kernel.weights, count, kernel),
            np.insert(a.kernel.intercept, count, intercept).astype(np.float32),
            a.kernel.width,
        ),
        a.novelty,
        a.cost_residual,
        a.out_of_fold,
    )
    return _finish(fitted, model, x, score, prior, costs, lengths)


def _finish(
    a: Artifact, model: str, x: Matrix, score: Vector, prior: Prior, costs: Floats | None, lengths: Lengths
) -> Artifact:
    """Prototype column, costs and manifest of a model whose tables and kernel are in place."""
    m, count = a.manifest, len(a.manifest.models)
    p = a.prototypes
    guess = np.clip(
        prior(
            np.where(
                np.isnan(a.out_of_fold[:, :count]), bag_many(a.bag, p.vectors)[:, :count], a.out_of_fold[:, :count]
            )
        ),
        0,
        1,
    )
    column = guess.copy()
    similar = x @ p.vectors.T
    exact = similar.max(1) > _SAME
    column[similar.argmax(1)[exact]] = score[exact]
    residual, models = np.insert(a.cost_residual, count, 0.0, axis=1), dict(m.costs)
    if costs is not None and not np.isnan(costs).all():
        fitted: CostModel = fit_costs(lengths, costs[:, None])[0]
        models[model] = fitted
    spread = float(np.std(score - prior(_known_at_clipped(a, x, count))))
    manifest = msgspec.structs.replace(
        m,
        models=[*m.models, model],
        heads=[*m.models, model, *m.heads[count:]],
        costs=models,
        counts={**m.counts, model: len(score)},
        parent=m.version or None,
        extra_error={**m.extra_error, model: round(spread / float(np.sqrt(len(score))), 5)},
        default=m.default if m.default is not None or count else model,
    )
    return Artifact(
        manifest,
        a.mean,
        a.bag,
        Prototypes(p.vectors, _column(p.scores, count, column), p.starts, p.styles),
        a.kernel,
        a.novelty,
        residual.astype(np.float32),
        _column(a.out_of_fold, count, guess),
    )


def _known_at_clipped(a: Artifact, x: Matrix, count: int) -> Matrix:
    return np.clip(bag_many(a.bag, x)[:, :count], 0.0, 1.0)

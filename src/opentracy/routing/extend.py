"""One more model for an artifact, from as few as twenty labels.

Belongs here: what twenty labels say about a model, and its column. Not here: training from scratch (train.py), models
without any label (prior.py).

The new model is taken for another draw from the population that the known models come from: its expected score is their
mean, as a whole a little higher or lower in proportion, plus a mixture of their deviations from it, plus a level and a
smooth surface of its own. All of this is fitted at once, with a normal prior on every part, so that the labels decide
how much of each is believed; with few labels most of it stays at the mean of the others. A labelled prompt that the
known models found harder than expected tells less against the new one, which takes some noise out of the labels; which
of them found it so also says whom the new one takes after. Every estimator is linear in its heads, so the result is one
more column everywhere and nothing in the request path is special.
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
    unit,
)
from opentracy.routing.text import core_text
from opentracy.routing.train import embed_rows, fit_costs, text_length

Lengths = npt.NDArray[np.int64]
# Chosen with every model of both label sets left out in turn (20, 50 and 200 labels, many draws); flat around here.
_SCALE = 0.3  # standard deviation of the proportion in which a model is better or worse than the mean of the others
_MIXTURE = 2.0  # prior variance of the slopes on the deviations, for two known models; it falls as 1 / (models - 1)
_LEVEL, _LEVEL_ALONE = 0.04, 0.15  # standard deviation of the level that no proportion explains; beside one model only
_SURFACE = 0.25  # standard deviation of what is the model's own at one place
_NOISE = 0.15  # variance of a label at a prompt of middling difficulty
_MIDDLING = 0.21
_ALIKE = 0.1  # how much a known model's surprises say about its likeness, beside its estimates
_SHARED_ALONE = 0.5  # share of a surprise that models have in common, where it cannot be measured
_FIRST_PULL = 3.0  # labels' worth of belief that the level is that of the others, for a first guess of it
_SAME = 0.998  # cosine above which a labelled prompt is a prototype: stored in int8, it keeps .998 to .9999 of itself


@dataclass(frozen=True, slots=True)
class Column:
    """score ~ known models' estimates @ slopes + level + closeness to the centres @ surface."""

    slopes: Vector  # (M,)
    level: float
    surface: Vector  # (C,)

    def plain(self, known: Matrix) -> Vector:
        """(rows,) the part that the known models' estimates, (rows, M), explain."""
        return np.asarray(known @ self.slopes + self.level, dtype=np.float32)

    def __call__(self, known: Matrix, near: Matrix) -> Vector:
        """(rows,) expected scores. near: closeness to every centre, (rows, C)."""
        return np.asarray(self.plain(known) + near @ self.surface, dtype=np.float32)


def fit_column(
    known: Matrix, near: Matrix, smooth: Floats, score: Floats, surprise: Matrix | None = None, shared: float = 0.0
) -> Column:
    """known: (n, M) estimates of the other models at the labelled prompts, made without them; near: (n, C) closeness to
    the centres; smooth: (C, C) that of the centres to each other; score: (n,) labels; surprise: (n, M) how far the
    scores of the others lay above their estimates there, 0 = unknown; shared: share of the mean surprise that a model
    has in common with them.
    """
    (n, m), f = known.shape, known.astype(np.float64)
    beyond = np.zeros((n, m)) if surprise is None else surprise.astype(np.float64)
    middle, common = (f.mean(1), shared * beyond.mean(1)) if m else (np.full(n, 0.5), np.zeros(n))
    typical = middle.mean()
    guess = ((score - common).sum() + _FIRST_PULL * typical) / (n + _FIRST_PULL)
    # nearer to 0 or 1 there is less room to follow the others, in what surprised them as well
    room = min(1.0, guess * (1 - guess) / max(typical * (1 - typical), 1e-3))
    start, follow = _before(m, float(typical), room)
    trust = _MIDDLING / (_NOISE * _variance(guess + 0.8 * (middle - typical)))
    apart = f - middle[:, None] + _ALIKE * (beyond - beyond.mean(1, keepdims=True)) if m else f
    parts = np.concatenate([middle[:, None], apart, np.ones((n, 1)), near.astype(np.float64)], axis=1)
    pull = np.zeros((parts.shape[1], parts.shape[1]))
    own = [1 / _SCALE**2, *[max(m - 1, 1) / _MIXTURE] * m, 1 / (_LEVEL if m > 1 else _LEVEL_ALONE) ** 2]
    pull[range(m + 2), range(m + 2)] = own
    pull[m + 2 :, m + 2 :] = smooth / _SURFACE**2
    weighted = parts.T * trust
    found = np.linalg.solve(weighted @ parts + pull, weighted @ (score - room * common - start - follow * middle))
    scale, mixture, level, surface = follow + found[0], found[1 : m + 1], start + found[m + 1], found[m + 2 :]
    if not m:
        return Column(mixture.astype(np.float32), float(level + scale * typical), surface.astype(np.float32))
    slopes = scale / m + mixture - mixture.mean()
    return Column(slopes.astype(np.float32), float(level), surface.astype(np.float32))


def _before(m: int, typical: float, room: float) -> tuple[float, float]:
    """What a new model is expected to do before its first label, as start + follow * mean of the m others."""
    if not m:
        return 0.5, 0.0
    # beside one model only it is followed as one logistic curve follows another
    return ((1 - room) * typical, room) if m == 1 else (0.0, 1.0)


def _variance(chance: Floats) -> Floats:
    """Of a label whose mean is `chance`."""
    bounded = np.clip(chance, 0.1, 0.9)
    return np.asarray(bounded * (1 - bounded), dtype=np.float64)


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


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the artifact says about the labelled prompts."""

    known: Matrix  # (n, M) the known models' estimates, from fits that had not seen the prompt
    surprise: Matrix  # (n, M) how far the known models' scores lay above their estimates; 0 = not labelled
    row: npt.NDArray[np.intp]  # (n,) the prototype that is the prompt itself, -1 = none


def _seen(a: Artifact, x: Matrix) -> _Seen:
    count = len(a.manifest.models)
    known = estimates(a, x)[:, :count]
    similar = x @ a.prototypes.vectors.T
    nearest = similar.argmax(1)
    same = similar.max(1) > _SAME
    stored = a.out_of_fold[nearest][:, :count]
    held = same & ~np.isnan(stored).any(1)
    known[held] = stored[held]
    left = np.where(same[:, None], a.prototypes.scores[nearest][:, :count] - known, np.nan)
    surprise = np.where(np.isnan(left), 0.0, left).astype(np.float32)
    return _Seen(known, surprise, np.where(same, nearest, -1))


def _shared(a: Artifact) -> float:
    """Share of the other models' mean surprise on a prompt that a model has in common with them."""
    count = len(a.manifest.models)
    left = a.prototypes.scores[:, :count] - a.out_of_fold[:, :count]
    left = left[~np.isnan(left).any(1)].astype(np.float64)
    if count < 2 or len(left) < 20:
        return _SHARED_ALONE
    total, found = left.sum(1), []
    for own in left.T:
        others = (total - own) / (count - 1)
        found.append(float(others @ own) / max(float(others @ others), 1e-9))
    return float(np.clip(np.mean(found), 0.0, 1.0))


def _column(values: Matrix, at: int, column: Vector) -> Matrix:
    return np.ascontiguousarray(np.insert(values, at, column, axis=1).astype(np.float32))


def _add_one(a: Artifact, model: str, x: Matrix, score: Vector, costs: Floats | None, lengths: Lengths) -> Artifact:
    count, bag = len(a.manifest.models), a.bag
    seen, near = _seen(a, x), closeness(x, bag.centres, a.kernel.width)
    smooth = closeness(unit(bag.centres), bag.centres, a.kernel.width).astype(np.float64) + 1e-4 * np.eye(len(near[0]))
    column = fit_column(seen.known, near, smooth, score.astype(np.float64), seen.surprise, _shared(a))
    # the kernel model is a part of the mean of several: what it alone carries must be larger in it
    weights = a.manifest.weights
    share = weights[2] / sum(weights)
    surface = column.surface / np.float32(share) if share > 0 else np.zeros_like(column.surface)
    counts = [
        np.bincount(assign(x, bag.centres[low:high]), minlength=high - low)
        for low, high in zip(bag.bounds, bag.bounds[1:], strict=False)
    ]
    fitted = Artifact(
        a.manifest,
        a.mean,
        Bag(
            bag.centres,
            bag.bounds,
            _column(bag.tables, count, column.plain(bag.tables[:, :count])),
            _column(bag.counts, count, np.concatenate(counts).astype(np.float32)),
        ),
        a.prototypes,
        Kernel(
            _column(a.kernel.weights, count, a.kernel.weights[:, :count] @ column.slopes + surface),
            np.insert(a.kernel.intercept, count, column.plain(a.kernel.intercept[None, :count])[0]).astype(np.float32),
            a.kernel.width,
        ),
        a.novelty,
        a.cost_residual,
        a.out_of_fold,
    )
    spread = float(np.std(score - column(seen.known, near)))
    return _finish(fitted, model, (seen, score, column, spread), costs, lengths)


def _finish(
    a: Artifact,
    model: str,
    found: tuple[_Seen, Vector, Column, float],
    costs: Floats | None,
    lengths: Lengths,
) -> Artifact:
    """Prototype column, costs and manifest of a model whose tables and kernel are in place."""
    seen, score, fit, spread = found
    m, count, p = a.manifest, len(a.manifest.models), a.prototypes
    held = a.out_of_fold[:, :count]
    known = np.where(np.isnan(held), bag_many(a.bag, p.vectors)[:, :count], held)
    guess = np.clip(fit(known, closeness(p.vectors, a.bag.centres, a.kernel.width)), 0, 1)
    column = guess.copy()
    exact = seen.row >= 0
    column[seen.row[exact]] = score[exact]
    residual, models = np.insert(a.cost_residual, count, 0.0, axis=1), dict(m.costs)
    if costs is not None and not np.isnan(costs).all():
        fitted: CostModel = fit_costs(lengths, costs[:, None])[0]
        models[model] = fitted
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

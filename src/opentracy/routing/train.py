"""Labelled prompts -> artifact.

Belongs here: the pipeline, in memory. Not here: files and progress bars (cli/routing.py), choosing hyper-parameters
(tune.py), models added later (extend.py). Deterministic: the same labels, options and embedder give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import FORMAT, Artifact, Cluster, CostModel, Manifest, Policy
from opentracy.routing.checkpoint import Keeper
from opentracy.routing.clusters import Ints, assign, kmeans, match_ids, scatter
from opentracy.routing.data import Floats, Labels, fold_of
from opentracy.routing.embed import Embedder, Matrix, Vector
from opentracy.routing.estimate import (
    NOTHING,
    Bag,
    Progress,
    Prototypes,
    Shape,
    bag_many,
    fit_bag,
    fit_kernel,
    head_means,
    kernel_many,
    mix,
    neighbours_many,
    partitions,
    primary_k,
    prototype_rows,
    silent,
    unit,
)
from opentracy.routing.labels import cluster_terms
from opentracy.routing.language import foreign
from opentracy.routing.prior import logit
from opentracy.routing.style import calibrate, features_many
from opentracy.routing.text import core_text

PROTOTYPE_LIMIT = 10_000
_FOREIGN_SHARE = 0.03  # of the training prompts; with more, the router has learned about other languages
_WARM_ROUNDS = 4  # of k-means at most, from the centres of the artifact that is replaced
_WORTH_A_ROUND = 0.005  # share of the scatter around the centres that a round must have taken away
_FEW = 300  # labelled prompts below which only coarse clusters are fitted


@dataclass(frozen=True, slots=True)
class Options:
    """How to train."""

    shape: Shape | None = None  # None = by the number of rows
    policy: Policy = field(default_factory=Policy)
    default: str | None = None  # None = the best mean score
    seed: int = 0
    prototypes: int = PROTOTYPE_LIMIT
    examples: int = 0  # prompts kept per cluster; 0, because prompts are private unless asked for
    extra_heads: tuple[str, ...] = ()  # label columns that are heads of the day-one prior, not models


def shape_for(rows: int) -> Shape:
    """Default hyper-parameters. From 300 rows on the guard's errors are those of a hundred neighbours: with fewer it
    gives away most of what there is to gain, on prompts of seen and of unseen kinds alike.
    """
    near = max(5, min(100, rows // 3))
    return Shape(ks=(16, 32), neighbours=near) if rows < _FEW else Shape(neighbours=near)


def embed_rows(
    cores: Sequence[str], embedder: Embedder, progress: Progress = silent, keeper: Keeper = NOTHING, block: int = 256
) -> Matrix:
    """Raw vectors of stripped texts."""
    out = np.zeros((len(cores), embedder.dims), np.float32)
    for i in range(0, len(cores), block):
        texts = cores[i : i + block]
        out[i : i + block] = keeper.part(f"embed-{i}", (len(texts), embedder.dims), partial(embedder.embed_many, texts))
        progress("embed", min(i + block, len(cores)), len(cores))
    return out


def centre(raw: Matrix) -> tuple[Matrix, Vector]:
    """Unit vectors with the mean direction taken out, and that mean (of the unit raw vectors)."""
    x = unit(raw)
    mean = x.mean(0).astype(np.float32)
    return unit(x - mean), mean


def fit_costs(lengths: npt.NDArray[np.int64], costs: Floats) -> list[CostModel]:
    """Per model USD = base + per_char * characters, least squares, neither part negative."""
    out = []
    for column in costs.T:
        known = ~np.isnan(column)
        if not known.any():
            out.append(CostModel(0.0, 0.0, 0.0))
            continue
        x, y = lengths[known].astype(np.float64), column[known]
        spread = ((x - x.mean()) ** 2).sum()
        slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum() / spread)) if spread > 0 else 0.0
        base = float(y.mean() - slope * x.mean())
        if base < 0:
            base, slope = 0.0, float((x * y).sum() / max((x * x).sum(), 1e-12))
        out.append(CostModel(base, slope, float(y.mean())))
    return out


def text_length(core: str) -> int:
    """Characters of a stripped text that the cost model counts, runs of white space as one: layout decides nothing."""
    return len(" ".join(core.split()))


def _cost_parts(labels: Labels, primary: Ints, k: int, shrink: float) -> tuple[dict[str, CostModel], Matrix]:
    m = len(labels.models)
    if labels.costs is None:
        return {}, np.zeros((k, m), np.float32)
    lengths = np.array([text_length(core_text(p)) for p in labels.prompts])
    models = fit_costs(lengths, labels.costs)
    fitted = np.stack([c.base + c.per_char * lengths for c in models], 1)
    left = np.where(np.isnan(labels.costs), 0.0, labels.costs - fitted)
    known = (~np.isnan(labels.costs)).astype(np.float64)
    total, count = np.zeros((k, m)), np.zeros((k, m))
    np.add.at(total, primary, left)
    np.add.at(count, primary, known)
    residual = (total / (count + shrink)).astype(np.float32)
    known_models = {n: c for n, c, any_ in zip(labels.models, models, (known.max(0) > 0).tolist(), strict=True) if any_}
    return known_models, residual


def out_of_fold(
    x: Matrix,
    y: Matrix,
    prompts: Sequence[str],
    shape: Shape,
    seed: int,
    progress: Progress = silent,
    keeper: Keeper = NOTHING,
) -> Matrix:
    """Estimates of every row by a fit on the other folds."""
    fold = np.array([fold_of(p) for p in prompts])
    out = np.tile(head_means(y), (len(x), 1))
    for f in range(5):
        held, rest = fold == f, fold != f
        if held.any() and rest.sum() >= 20:
            make = partial(predict_many, x[rest], y[rest], x[held], shape, seed)
            out[held] = keeper.part(f"fold-{f}", (int(held.sum()), y.shape[1]), make)
        progress("cross-validate", f + 1, 5)
    return out.astype(np.float32)


def predict_many(x: Matrix, y: Matrix, z: Matrix, shape: Shape, seed: int) -> Matrix:
    """Fit on (x, y), estimate rows z: the batch twin of Router's one-row path, for tuning."""
    bag = fit_bag(x, y, partitions(x, shape, seed), shape.shrink)
    b = bag_many(bag, z)
    n = neighbours_many(x, y, z, shape.neighbours, b) if shape.weights[1] else b
    kernel = fit_kernel(x, y, bag.centres, shape.alpha, shape.width)
    return mix((b, n, kernel_many(kernel, z, bag.centres)), shape.weights)


def fit(
    labels: Labels,
    embedder: Embedder,
    options: Options | None = None,
    *,
    old: Artifact | None = None,
    raw: Matrix | None = None,
    progress: Progress = silent,
    keeper: Keeper = NOTHING,
) -> Artifact:
    """Fit an artifact.

    old: the artifact that this one replaces; its cluster ids, and labels edited by hand, are kept where clusters match.
    raw: vectors of the stripped `labels.ordered().prompts`, when they were made before. keeper: remembers finished
    parts, so that a training that was stopped goes on where it was. Raises ValueError for labels
    that cannot train.
    """
    options = options or Options()
    labels = labels.ordered()
    if len(labels) < 10:
        raise ValueError(
            f"{len(labels)} labelled prompts are too few to train on; 10 at least, some hundreds to be useful"
        )
    cores = [core_text(p) for p in labels.prompts]
    raw = embed_rows(cores, embedder, progress, keeper) if raw is None else raw
    x, mean = centre(raw)
    if old is not None and old.manifest.embedder_sha256 != embedder.sha256:
        old = None
    y = labels.scores.astype(np.float32)
    shape, policy = options.shape or shape_for(len(labels)), options.policy
    cv: dict[str, object] = {}
    heads = [m for m in labels.models if m not in options.extra_heads] + list(options.extra_heads)
    order = [labels.models.index(h) for h in heads]
    y = np.ascontiguousarray(y[:, order])
    oof = out_of_fold(x, y, labels.prompts, shape, options.seed, progress, keeper)
    return _assemble(labels.select(heads), embedder, options, shape, policy, x, y, mean, oof, cv, old, progress, keeper)


def _primary(x: Matrix, mean: Vector, shape: Shape, seed: int, old: Artifact | None, *, same_data: bool) -> Matrix:
    """Centres of the primary map, begun where the old artifact's were: warm starts keep most ids, and the same
    rows again keep all of them.
    """
    k = primary_k(x, shape)
    if old is None or old.manifest.dims != x.shape[1] or old.manifest.bounds[1] != k:
        return kmeans(x, k, seed)
    centres = old.bag.centres[:k] + (old.mean - mean)
    return centres if same_data else _moved(x, centres, seed)


def _moved(x: Matrix, centres: Matrix, seed: int) -> Matrix:
    """Centres moved to where their rows are now, one round and as many more as still bring the rows clearly nearer:
    every round costs ids, and among nearly the same rows the first one does nearly all there is to do.
    """
    before = scatter(x, centres)
    for _ in range(_WARM_ROUNDS):
        centres = kmeans(x, len(centres), seed, rounds=1, start=centres)
        now = scatter(x, centres)
        if now > (1 - _WORTH_A_ROUND) * before:
            break
        before = now
    return centres


def _assemble(
    labels: Labels,
    embedder: Embedder,
    options: Options,
    shape: Shape,
    policy: Policy,
    x: Matrix,
    y: Matrix,
    mean: Vector,
    oof: Matrix,
    cv: dict[str, object],
    old: Artifact | None,
    progress: Progress,
    keeper: Keeper,
) -> Artifact:
    same_data = old is not None and old.manifest.data_sha256 == labels.digest()
    count = primary_k(x, shape), x.shape[1]
    primary = keeper.part("primary", count, lambda: _primary(x, mean, shape, options.seed, old, same_data=same_data))
    bag = fit_bag(x, y, partitions(x, shape, options.seed, primary, progress, keeper), shape.shrink)
    kernel = fit_kernel(x, y, bag.centres, shape.alpha, shape.width)
    cores = [core_text(p) for p in labels.prompts]
    styles = features_many(cores)
    rows, starts = prototype_rows(x, primary, options.prototypes, options.seed)
    prototypes = Prototypes(x[rows], y[rows], starts, styles[rows])
    member = assign(x, primary)
    models = [h for h in labels.models if h not in options.extra_heads]
    ids, next_id, names = _cluster_ids(primary, mean, old)
    costs, residual = _cost_parts(labels.select(models), member, len(primary), shape.shrink)
    manifest = Manifest(
        format=FORMAT,
        version="",
        models=models,
        heads=list(labels.models),
        embedder=embedder.id,
        embedder_sha256=embedder.sha256,
        dims=x.shape[1],
        default=_default(models, y, options.default),
        clusters=_clusters(labels, cores, x, primary, member, ids, names, options.examples),
        next_cluster_id=next_id,
        bounds=list(bag.bounds),
        weights=list(shape.weights),
        kernel_width=shape.width,
        english=sum(foreign(c) for c in cores) < _FOREIGN_SHARE * len(cores),
        costs=costs,
        policy=Policy(policy.guard, policy.novelty, shape.neighbours),
        counts={m: int((~np.isnan(y[:, i])).sum()) for i, m in enumerate(models)},
        extra_error={},
        reference=reference_quantiles(oof, list(labels.models), len(models)),
        output_tokens={},
        data_sha256=labels.digest(),
        rows=len(labels),
        arrays_sha256="",
        cv=cv,
    )
    return Artifact(
        manifest, mean, bag, prototypes, kernel, calibrate(x, styles, prototypes, primary), residual, oof[rows]
    )


def reference_quantiles(oof: Matrix, heads: list[str], models: int) -> dict[str, list[float]]:
    """Difficulty -logit(mean estimate) of the training prompts, 41 quantiles: what an ability figure is solved
    against.
    """
    if models == 0:
        return {}
    d = -logit(oof[:, :models].mean(1).astype(np.float64))
    return {"all": [round(float(v), 4) for v in np.percentile(d, np.linspace(1, 99, 41))]}


def _default(models: list[str], y: Matrix, wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in models:
            raise ValueError(f"the default model {wanted!r} has no labels; labelled: {', '.join(models)}")
        return wanted
    if not models:
        return None
    return models[int(head_means(y[:, : len(models)]).argmax())]


def _cluster_ids(primary: Matrix, mean: Vector, old: Artifact | None) -> tuple[list[int], int, dict[int, str]]:
    if old is None or old.manifest.dims != primary.shape[1]:
        return list(range(len(primary))), len(primary), {}
    k = old.manifest.bounds[1]
    known = [c.id for c in old.manifest.clusters]
    ids, next_id = match_ids(primary + mean, old.bag.centres[:k] + old.mean, known, old.manifest.next_cluster_id)
    edited = {c.id: c.label for c in old.manifest.clusters if c.label != _joined(c.terms)}
    return ids, next_id, edited


def _joined(terms: list[str]) -> str:
    return ", ".join(terms) if terms else "(no words)"


def _clusters(
    labels: Labels,
    cores: list[str],
    x: Matrix,
    primary: Matrix,
    member: Ints,
    ids: list[int],
    names: dict[int, str],
    examples: int,
) -> list[Cluster]:
    terms = cluster_terms(cores, member, len(primary))
    out = []
    for i, (cluster_id, words) in enumerate(zip(ids, terms, strict=True)):
        rows = np.flatnonzero(member == i)
        nearest = rows[np.argsort(-(x[rows] @ primary[i]), kind="stable")[:examples]]
        out.append(
            Cluster(
                cluster_id,
                names.get(cluster_id, _joined(words)),
                words,
                len(rows),
                [labels.prompts[r][:300] for r in nearest],
            )
        )
    return out


def primary_of(bag: Bag) -> Matrix:
    """Centres of the primary map."""
    return bag.centres[: bag.bounds[1]]

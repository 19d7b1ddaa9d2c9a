"""Vector -> expected score per head: smoothed clusters, a kernel model and neighbours, averaged.

Belongs here: applying and fitting the three estimators. Not here: reading labels (train.py), choosing hyper-parameters
(tune.py), choosing a model (policy.py). A *head* is one column that is estimated: the score of a model, or one of the
columns of the day-one prior (prior.py). Labels may be missing (NaN) anywhere.

Why several: routing takes the largest of several noisy estimates, so variance hurts more than bias, and averaging
estimators with different errors is the cheapest way to less variance. The kernel model is ridge regression on how
close a text is to every centre of the partitions: the dot products are there already, and it bends where a linear
model cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from opentracy.routing.checkpoint import Forgetful, Keeper
from opentracy.routing.clusters import assign, kmeans
from opentracy.routing.embed import Matrix, Vector

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # stage, done, total
NOTHING = Forgetful()
PROBES = 6  # lists of prototypes looked at per prompt; 6 of 64 find > 95 % of the true 100 nearest


def silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Hyper-parameters of one fit."""

    ks: tuple[int, ...] = (32, 64, 128, 256)
    seeds: int = 1
    shrink: float = 8.0  # pseudo-labels per cluster, at the head's mean
    neighbours: int = 100
    alpha: float = 3.0  # ridge penalty
    width: float = 0.35  # the kernel is exp((cosine - 1) / width)
    weights: tuple[float, float, float] = (1.0, 0.0, 1.0)  # clusters, neighbours, kernel


@dataclass(frozen=True, slots=True)
class Bag:
    """Several partitions, stacked. Map i owns the centres bounds[i]:bounds[i+1]; map 0 is the primary one."""

    centres: Matrix  # (C, d)
    bounds: tuple[int, ...]
    tables: Matrix  # (C, H) smoothed mean per centre and head
    counts: Matrix  # (C, H) labels behind each entry


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Labelled training vectors, grouped by primary cluster: list i is rows starts[i]:starts[i+1]."""

    vectors: Matrix  # (P, d) unit rows
    scores: Matrix  # (P, H), NaN = not labelled
    starts: npt.NDArray[np.intp]  # (K + 1,)
    styles: Matrix  # (P, FEATURES) form of each prompt, style.py


@dataclass(frozen=True, slots=True)
class Kernel:
    """closeness(x, centres) @ weights + intercept, over the unit centres of the bag."""

    weights: Matrix  # (C, H)
    intercept: Vector  # (H,)
    width: float


def unit(x: Matrix) -> Matrix:
    """Rows scaled to length 1; zero rows stay zero."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), dtype=np.float32)


def head_means(y: Matrix) -> Vector:
    """Mean per head over what is labelled; .5 for a head without any label."""
    known = ~np.isnan(y)
    total = np.where(known, y, 0.0).sum(0)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), 0.5), dtype=np.float32)


def smoothed_table(
    label: npt.NDArray[np.intp], k: int, y: Matrix, shrink: float, prior: Matrix
) -> tuple[Matrix, Matrix]:
    """(table, counts) per cluster and head; `prior` is one row for all clusters or one row per cluster."""
    known = ~np.isnan(y)
    total = np.zeros((k, y.shape[1]))
    count = np.zeros((k, y.shape[1]))
    np.add.at(total, label, np.where(known, y, 0.0))
    np.add.at(count, label, known)
    table = (total + shrink * prior) / (count + shrink)
    return table.astype(np.float32), count.astype(np.float32)


def partitions(
    x: Matrix,
    shape: Shape,
    seed: int,
    primary: Matrix | None = None,
    progress: Progress = silent,
    keeper: Keeper = NOTHING,
) -> list[Matrix]:
    """Centres of every map; the primary one first (given, or the middle one of `ks` with the first seed)."""
    ks = [k for k in shape.ks if k * 4 <= len(x)] or [max(1, len(x) // 8)]
    chosen = primary_k(x, shape)
    maps = [kmeans(x, chosen, seed) if primary is None else primary]
    rest = [(k, draw) for draw in range(shape.seeds) for k in ks if draw or k != chosen]
    for done, (k, draw) in enumerate(rest, start=1):
        make = partial(kmeans, x, k, seed + 1000 * draw + k)
        maps.append(keeper.part(f"map-{draw}-{k}", (min(k, len(x)), x.shape[1]), make))
        progress("cluster", done, len(rest))
    return maps


def primary_k(x: Matrix, shape: Shape) -> int:
    """Clusters of the primary map: the middle size that the rows can fill."""
    ks = [k for k in shape.ks if k * 4 <= len(x)] or [max(1, len(x) // 8)]
    return ks[(len(ks) - 1) // 2]


def fit_bag(x: Matrix, y: Matrix, maps: list[Matrix], shrink: float) -> Bag:
    """Smoothed table of every map."""
    prior = head_means(y)[None]
    parts = [smoothed_table(assign(x, c), len(c), y, shrink, prior) for c in maps]
    bounds = tuple(int(b) for b in np.r_[0, np.cumsum([len(c) for c in maps])])
    return Bag(
        np.concatenate(maps).astype(np.float32),
        bounds,
        np.concatenate([t for t, _ in parts]),
        np.concatenate([c for _, c in parts]),
    )


def closeness(x: Matrix, centres: Matrix, width: float) -> Matrix:
    """exp((cosine - 1) / width) of every row with every centre: (rows, C), float32."""
    return np.asarray(np.exp((x @ unit(centres).T - np.float32(1.0)) / np.float32(width)), dtype=np.float32)


def fit_kernel(x: Matrix, y: Matrix, centres: Matrix, alpha: float, width: float) -> Kernel:
    """Regularised least squares in the span of the centres; heads with the same labelled rows are solved together."""
    known = ~np.isnan(y)
    near = closeness(x, centres, width).astype(np.float64)
    smooth = alpha * closeness(unit(centres), centres, width).astype(np.float64) + 1e-4 * np.eye(len(centres))
    intercept = head_means(y)
    weights = np.zeros((len(centres), y.shape[1]))
    patterns, owner = np.unique(known, axis=1, return_inverse=True)
    for i in range(patterns.shape[1]):
        rows, heads = patterns[:, i], np.flatnonzero(owner.reshape(-1) == i)
        if rows.sum() < 2:
            continue
        a, b = near[rows], y[rows][:, heads].astype(np.float64) - intercept[heads]
        weights[:, heads] = np.linalg.solve(a.T @ a + smooth, a.T @ b)
    return Kernel(weights.astype(np.float32), intercept, width)


def kernel_many(kernel: Kernel, x: Matrix, centres: Matrix) -> Matrix:
    """(rows, H): the kernel model's estimate."""
    return np.asarray(closeness(x, centres, kernel.width) @ kernel.weights + kernel.intercept, dtype=np.float32)


def prototype_rows(
    x: Matrix, primary: Matrix, limit: int, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(rows to keep, starts): training rows as neighbours, thinned to `limit` at random, grouped by primary cluster."""
    keep = np.arange(len(x))
    if len(x) > limit:
        keep = np.sort(np.random.default_rng(seed).permutation(len(x))[:limit])
    label = assign(x[keep], primary)
    starts = np.r_[0, np.cumsum(np.bincount(label, minlength=len(primary)))].astype(np.intp)
    return keep[np.argsort(label, kind="stable")].astype(np.intp), starts


def neighbour_means(scores: Matrix, fallback: Vector) -> Vector:
    """Mean label per head over some neighbours; heads with fewer than five labels lean on `fallback`."""
    known = ~np.isnan(scores)
    count = known.sum(0)
    total = np.where(known, scores, 0.0).sum(0)
    lean = np.maximum(5 - count, 0)
    return np.asarray((total + lean * fallback) / np.maximum(count + lean, 1), dtype=np.float32)


# ------------------------------------------------------------------ many rows at once (fitting and tuning only)
def bag_many(bag: Bag, x: Matrix) -> Matrix:
    """(rows, H): mean over the maps of the table entry of each row's centre."""
    out = np.zeros((len(x), bag.tables.shape[1]), np.float32)
    for low, high in zip(bag.bounds, bag.bounds[1:], strict=False):
        out += bag.tables[low:high][assign(x, bag.centres[low:high])]
    return np.asarray(out / (len(bag.bounds) - 1), dtype=np.float32)


def neighbours_many(x: Matrix, y: Matrix, z: Matrix, k: int, fallback: Matrix, block: int = 512) -> Matrix:
    """(rows of z, H): mean label of the k nearest rows of x, brute force."""
    out = np.zeros((len(z), y.shape[1]), np.float32)
    k = min(k, len(x))
    complete = not np.isnan(y).any()
    for i in range(0, len(z), block):
        near = np.argpartition(-(z[i : i + block] @ x.T), k - 1, axis=1)[:, :k]
        for j, rows in enumerate(near, start=i):
            out[j] = y[rows].mean(0) if complete else neighbour_means(y[rows], fallback[j])
    return out


def mix(parts: tuple[Matrix, Matrix, Matrix], weights: tuple[float, float, float]) -> Matrix:
    """Weighted mean of the three estimates, clipped to 0..1."""
    total = sum(weights)
    out = np.zeros_like(parts[0])
    for w, part in zip(weights, parts, strict=True):
        out += np.float32(w / total) * part
    return np.clip(out, 0.0, 1.0)

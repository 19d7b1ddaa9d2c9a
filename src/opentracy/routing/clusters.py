"""k-means, and cluster ids that survive retraining.

Belongs here: partitions of vectors. Not here: what is known per cluster (estimate.py) and what a cluster is called
(labels.py). Everything is deterministic: the only randomness is a generator seeded by the caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from opentracy.routing.embed import Matrix

Ints = npt.NDArray[np.intp]
_FIT_ROWS = 12_000  # more rows do not move 128 centroids, they only cost time


def assign(x: Matrix, centres: Matrix) -> Ints:
    """Index of the nearest centre per row (Euclidean)."""
    return np.asarray((x @ centres.T - 0.5 * (centres * centres).sum(1)).argmax(1), dtype=np.intp)


def scatter(x: Matrix, centres: Matrix) -> float:
    """Mean squared distance of the rows to their nearest centre."""
    nearest = (x @ centres.T - 0.5 * (centres * centres).sum(1)).max(1)
    return float(((x * x).sum(1) - 2 * nearest).mean())


def _seed_centres(x: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """k-means++: each next centre drawn in proportion to its squared distance from the ones before."""
    norms = (x * x).sum(1)
    chosen = [int(rng.integers(len(x)))]
    distance = np.maximum(norms + norms[chosen[0]] - 2 * (x @ x[chosen[0]]), 0.0).astype(np.float64)
    for _ in range(k - 1):
        total = distance.sum()
        draw = int(rng.choice(len(x), p=distance / total)) if total > 0 else int(rng.integers(len(x)))
        chosen.append(draw)
        distance = np.minimum(distance, np.maximum(norms + norms[draw] - 2 * (x @ x[draw]), 0.0))
    return x[chosen].copy()


def kmeans(x: Matrix, k: int, seed: int, rounds: int = 20, start: Matrix | None = None) -> Matrix:
    """Centres of k-means on the rows of `x`: shape (min(k, rows), dims), float32.

    start: centres to begin from (warm start); rows beyond `k` are ignored, missing ones are seeded.
    """
    rng = np.random.default_rng(seed)
    if len(x) > _FIT_ROWS:
        x = x[np.sort(rng.permutation(len(x))[:_FIT_ROWS])]
    k = min(k, len(x))
    if start is not None and start.shape[0] == k and start.shape[1] == x.shape[1]:
        centres = start.astype(np.float32).copy()
    else:
        centres = _seed_centres(x, k, rng)
    before: Ints | None = None
    for _ in range(rounds):
        label = assign(x, centres)
        if before is not None and np.array_equal(label, before):
            break
        before = label
        order = np.argsort(label, kind="stable")
        counts = np.bincount(label, minlength=k)
        full = np.flatnonzero(counts)
        starts = np.r_[0, np.cumsum(counts[full])[:-1]]
        centres[full] = np.add.reduceat(x[order], starts, axis=0) / counts[full, None]
    return centres


def match_ids(new: Matrix, old: Matrix, old_ids: list[int], next_id: int) -> tuple[list[int], int]:
    """Stable ids for `new` centres: the id of the old centre matched to it, else a fresh one.

    Greedy on cosine, best pairs first, each old centre used once; pairs below .5 are strangers.
    Returns (ids, next unused id).
    """
    a = new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), 1e-9)
    b = old / np.maximum(np.linalg.norm(old, axis=1, keepdims=True), 1e-9)
    similarity: npt.NDArray[Any] = a @ b.T
    ids: list[int | None] = [None] * len(new)
    free = set(range(len(old)))
    for flat in np.argsort(-similarity, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(old))
        if similarity[i, j] < 0.5 or not free:
            break
        if ids[i] is None and j in free:
            ids[i] = old_ids[j]
            free.discard(j)
    out: list[int] = []
    for value in ids:
        if value is None:
            value, next_id = next_id, next_id + 1
        out.append(value)
    return out, next_id

"""One text -> what an artifact says about it, before any candidate is looked at.

Belongs here: the request path from text to estimates, written for microseconds. Not here: the fits (estimate.py,
train.py) and what is done with the estimates (router.py).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact
from opentracy.routing.embed import Embedder, Vector
from opentracy.routing.estimate import PROBES, neighbour_means
from opentracy.routing.language import foreign
from opentracy.routing.style import BOUND, FEATURES, NEAREST, features
from opentracy.routing.text import TOO_LONG, core_text, folded, readable

_ENOUGH = 8  # times the number of neighbours: prototypes looked at before the next list is left out
_NONE, _ALL = np.float32(0.0), np.float32(1.0)
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the artifact says about one text."""

    blocked: str | None  # empty, unreadable, too_long, language: no estimate can be trusted
    quality: Vector  # (H,)
    cluster: int  # position in the primary map
    nearest: tuple[tuple[int, float], ...]  # (position, similarity) of the nearest clusters
    rows: Rows  # neighbours among the prototypes
    novelty: float  # 0..1: share of training prompts that were less unlike their neighbours
    length: int  # characters of the stripped text, white space folded


class Reader:
    """Reads texts with one artifact. Immutable; thread-safe."""

    def __init__(self, artifact: Artifact, embedder: Embedder) -> None:
        self.artifact, self.embedder = artifact, embedder
        m, centres = artifact.manifest, artifact.bag.centres
        self._half = 0.5 * (centres * centres).sum(1)
        width = np.float32(m.kernel_width)
        # exp((cosine - 1) / width) from the dot product that the clusters need anyway
        self._per_norm = (1.0 / (np.maximum(np.linalg.norm(centres, axis=1), 1e-9) * width)).astype(np.float32)
        self._shift, self._width = np.float32(1.0) / width, float(width)
        self._maps = list(pairwise(artifact.bag.bounds))
        self._grid = _grid(self._maps)
        self._firsts = np.arange(len(self._maps)) * self._grid.shape[1]
        w = [weight / sum(m.weights) for weight in m.weights]
        self._cluster_weight, self._near_weight = np.float32(w[0] / len(self._maps)), np.float32(w[1])
        self._kernel_weights = (w[2] * artifact.kernel.weights).astype(np.float32)
        self._constant = (w[2] * artifact.kernel.intercept).astype(np.float32)
        p = artifact.prototypes
        self._numbers = np.arange(len(p.vectors))
        # views, made once: slicing on every request would cost more than the products
        self._lists = [(p.vectors[a:b], self._numbers[a:b], int(b - a)) for a, b in pairwise(p.starts.tolist())]
        self.complete = not bool(np.isnan(artifact.prototypes.scores).any())
        n = artifact.novelty
        self._spread = (1.0 / (n.spread * math.sqrt(FEATURES))).astype(np.float32)
        self._high = np.float32(BOUND / math.sqrt(FEATURES))
        self._low = -self._high
        self._closeness, self._mismatch, self._combined = n.closeness.tolist(), n.mismatch.tolist(), n.combined.tolist()

    def read(self, text: str) -> Estimate:
        """Never raises for a text: what cannot be read is blocked with a reason."""
        core = core_text(text)
        raw = self.embedder.embed(core)
        norm = math.sqrt(float(raw @ raw))
        blocked = self._blocked(text, core, norm)
        x = raw * np.float32(1 / norm) - self.artifact.mean if norm >= 1e-9 else np.zeros_like(raw)
        x *= np.float32(1 / max(math.sqrt(float(x @ x)), 1e-9))
        length = len(text) if blocked == "too_long" else len(folded(core))
        return self._from_vector(x, features(core), length, blocked)

    def _blocked(self, text: str, core: str, norm: float) -> str | None:
        if not text or text.isspace():
            return "empty"
        if len(text) > TOO_LONG:
            return "too_long"
        if norm < 1e-9 or not readable(text):
            return "unreadable"
        return "language" if self.artifact.manifest.english and foreign(core) else None

    def _from_vector(self, x: Vector, style: Vector, length: int, blocked: str | None) -> Estimate:
        a = self.artifact
        dots = np.dot(a.bag.centres, x)
        affinity = dots - self._half
        entries = self._grid.take(affinity.take(self._grid).argmax(1) + self._firsts)
        dots *= self._per_norm
        quality = np.dot(np.exp(dots - self._shift), self._kernel_weights)
        quality += self._constant
        clusters = np.add.reduce(a.bag.tables.take(entries, axis=0))
        quality += clusters * self._cluster_weight
        order = affinity[: self._maps[0][1]].argsort()[: -PROBES - 1 : -1].tolist()
        rows, novelty = self._neighbours(x, style, order)
        if self._near_weight > 0:
            quality += self._near_weight * neighbour_means(a.prototypes.scores[rows], clusters / len(entries))
        np.minimum(np.maximum(quality, _NONE, out=quality), _ALL, out=quality)
        nearest = tuple([(i, float(dots[i]) * self._width) for i in order[:3]])
        return Estimate(blocked, quality, int(entries[0]), nearest, rows, novelty, length)

    def _neighbours(self, x: Vector, style: Vector, lists: list[int]) -> tuple[Rows, float]:
        """The k nearest prototypes among those of the nearest clusters, and how novel the text is beside them."""
        p, k = self.artifact.prototypes, self.artifact.manifest.policy.neighbours
        parts, numbers, found = [], [], 0
        for i in lists:
            vectors, own, size = self._lists[i]
            if size:
                parts.append(np.dot(vectors, x))
                numbers.append(own)
                found += size
                if found >= _ENOUGH * k:
                    break
        if found < k:  # thin lists: look everywhere
            parts, numbers, found = [np.dot(p.vectors, x)], [self._numbers], len(self._numbers)
        similar, rows = np.concatenate(parts), np.concatenate(numbers)
        if found > k:
            kept = similar.argpartition(found - k)[found - k :]
            similar, rows = similar.take(kept), rows.take(kept)
        count = min(NEAREST, len(rows))
        best = similar.argpartition(len(rows) - count)[-count:] if count else self._numbers[:0]
        cosine = float(np.add.reduce(similar.take(best))) / max(count, 1)
        around = np.add.reduce(p.styles.take(rows.take(best), axis=0)) / np.float32(max(count, 1))
        return rows, self._novelty(cosine, style, around)

    def _novelty(self, cosine: float, own: Vector, around: Vector) -> float:
        """Novelty.score without the conversions: the same ranks from lists."""
        unlike = np.minimum(np.maximum((own - around) * self._spread, self._low), self._high)
        rank = max(
            1.0 - bisect_left(self._closeness, cosine) / 101.0,
            bisect_left(self._mismatch, float(unlike @ unlike)) / 101.0,
        )
        return bisect_left(self._combined, rank - 1e-9) / 101.0

    def spreads(self, rows: Rows, home: int | None) -> tuple[Vector, Vector]:
        """(standard error of each head's mean score, of its gap to the head `home`) over the neighbours `rows`.

        The gap is paired: both models on the same prompts. Unknown, with fewer than two labels, is .5.
        """
        near = self.artifact.prototypes.scores.take(rows, axis=0)
        if self.complete and len(rows) > 1:
            return _errors(near, home)
        return _errors_of_known(near), _errors_of_known(near if home is None else near - near[:, home : home + 1])


def _grid(maps: list[tuple[int, int]]) -> Rows:
    """(maps, centres of the largest map): the numbers of each map's centres, the first one again where a map is
    smaller, so that one argmax finds the nearest centre of every map.
    """
    widest = max(high - low for low, high in maps)
    out = np.empty((len(maps), widest), np.intp)
    for row, (low, high) in zip(out, maps, strict=True):
        row[: high - low] = np.arange(low, high)
        row[high - low :] = low
    return out


def _errors(values: npt.NDArray[np.float32], home: int | None) -> tuple[Vector, Vector]:
    """Both errors from one table of products: the mean square of a difference is the sum of three of them."""
    n = np.float32(len(values))
    mean = np.add.reduce(values) / n
    products = np.dot(values.T, values) / n
    square = products.diagonal()
    alone = np.sqrt(np.maximum(square - mean * mean, _NONE) / n)
    if home is None:
        return alone, alone
    gap = mean - mean[home]
    apart = square - 2 * products[home] + square[home] - gap * gap
    return alone, np.sqrt(np.maximum(apart, _NONE) / n)


def _errors_of_known(values: npt.NDArray[np.float32]) -> Vector:
    known = ~np.isnan(values)
    n = np.maximum(known.sum(0), 1)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(0) / n
    variance = np.maximum((filled * filled).sum(0) / n - mean * mean, 0.0)
    return np.asarray(np.where(known.sum(0) > 1, np.sqrt(variance / n), 0.5), dtype=np.float32)

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
from opentracy.routing.text import TOO_LONG, core_text, readable

_ENOUGH = 8  # times the number of neighbours: prototypes looked at before the next list is left out
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
        w = [weight / sum(m.weights) for weight in m.weights]
        self._cluster_weight, self._near_weight = np.float32(w[0] / len(self._maps)), np.float32(w[1])
        self._kernel_weights = (w[2] * artifact.kernel.weights).astype(np.float32)
        self._constant = (w[2] * artifact.kernel.intercept).astype(np.float32)
        self._starts = artifact.prototypes.starts.tolist()
        self._numbers = np.arange(len(artifact.prototypes.vectors))
        self.complete = not bool(np.isnan(artifact.prototypes.scores).any())
        n = artifact.novelty
        self._spread = (1.0 / (n.spread * math.sqrt(FEATURES))).astype(np.float32)
        self._bound = BOUND / math.sqrt(FEATURES)
        self._closeness, self._mismatch, self._combined = n.closeness.tolist(), n.mismatch.tolist(), n.combined.tolist()

    def read(self, text: str) -> Estimate:
        """Never raises for a text: what cannot be read is blocked with a reason."""
        core = core_text(text)
        raw = self.embedder.embed(core)
        norm = math.sqrt(float(raw @ raw))
        blocked = self._blocked(text, core, norm)
        x = raw * np.float32(1 / norm) - self.artifact.mean if norm >= 1e-9 else np.zeros_like(raw)
        x *= np.float32(1 / max(math.sqrt(float(x @ x)), 1e-9))
        length = len(text) if blocked == "too_long" else len(" ".join(core.split()))
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
        dots = a.bag.centres @ x
        affinity = dots - self._half
        entries = [low + int(affinity[low:high].argmax()) for low, high in self._maps]
        similar = dots * self._per_norm
        quality = np.exp(similar - self._shift) @ self._kernel_weights
        quality += self._constant
        clusters = np.add.reduce(a.bag.tables[entries])
        quality += clusters * self._cluster_weight
        order = np.argsort(affinity[: self._maps[0][1]])[::-1][:PROBES].tolist()
        rows, novelty = self._neighbours(x, style, order)
        if self._near_weight > 0:
            quality += self._near_weight * neighbour_means(a.prototypes.scores[rows], clusters / len(entries))
        np.clip(quality, 0.0, 1.0, out=quality)
        nearest = tuple((i, float(similar[i]) * self._width) for i in order[:3])
        return Estimate(blocked, quality, entries[0], nearest, rows, novelty, length)

    def _neighbours(self, x: Vector, style: Vector, lists: list[int]) -> tuple[Rows, float]:
        """The k nearest prototypes among those of the nearest clusters, and how novel the text is beside them."""
        p, k = self.artifact.prototypes, self.artifact.manifest.policy.neighbours
        parts, numbers, found = [], [], 0
        for i in lists:
            low, high = self._starts[i], self._starts[i + 1]
            if high > low:
                parts.append(p.vectors[low:high] @ x)
                numbers.append(self._numbers[low:high])
                found += high - low
                if found >= _ENOUGH * k:
                    break
        if found < k:  # thin lists: look everywhere
            parts, numbers, found = [p.vectors @ x], [self._numbers], len(self._numbers)
        similar, rows = np.concatenate(parts), np.concatenate(numbers)
        if found > k:
            kept = similar.argpartition(found - k)[found - k :]
            similar, rows = similar[kept], rows[kept]
        count = min(NEAREST, len(rows))
        best = similar.argsort()[-count:]
        cosine = float(np.add.reduce(similar[best])) / count
        return rows, self._novelty(cosine, style, np.add.reduce(p.styles[rows[best]]) / np.float32(count))

    def _novelty(self, cosine: float, own: Vector, around: Vector) -> float:
        """Novelty.score without the conversions: the same ranks from lists."""
        unlike = np.clip((own - around) * self._spread, -self._bound, self._bound)
        rank = max(
            1.0 - bisect_left(self._closeness, cosine) / 101.0,
            bisect_left(self._mismatch, float(unlike @ unlike)) / 101.0,
        )
        return bisect_left(self._combined, rank - 1e-9) / 101.0

    def spreads(self, rows: Rows, home: int | None) -> tuple[Vector, Vector]:
        """(standard error of each head's mean score, of its gap to the head `home`) over the neighbours `rows`.

        The gap is paired: both models on the same prompts. Unknown, with fewer than two labels, is .5.
        """
        near = self.artifact.prototypes.scores[rows]
        gap = near if home is None else near - near[:, home : home + 1]
        if self.complete and len(rows) > 1:
            return _errors(near), _errors(gap)
        return _errors_of_known(near), _errors_of_known(gap)


def _errors(values: npt.NDArray[np.float32]) -> Vector:
    n = np.float32(len(values))
    mean = np.add.reduce(values) / n
    square = np.einsum("ij,ij->j", values, values) / n
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0.0) / n), dtype=np.float32)


def _errors_of_known(values: npt.NDArray[np.float32]) -> Vector:
    known = ~np.isnan(values)
    n = np.maximum(known.sum(0), 1)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(0) / n
    variance = np.maximum((filled * filled).sum(0) / n - mean * mean, 0.0)
    return np.asarray(np.where(known.sum(0) > 1, np.sqrt(variance / n), 0.5), dtype=np.float32)

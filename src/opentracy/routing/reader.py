"""One text -> what an artifact says about it, before any candidate is looked at.

Belongs here: the request path from text to estimates, written for microseconds: few calls into numpy, everything that
no text changes prepared in the constructor. Not here: the fits (estimate.py, train.py) and what is done with the
estimates (appraise.py, router.py).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from opentracy.routing.artifact import Artifact
from opentracy.routing.embed import Embedder, StaticEmbedder, Vector
from opentracy.routing.estimate import PROBES, neighbour_means
from opentracy.routing.language import foreign_words
from opentracy.routing.style import Around, features_of
from opentracy.routing.text import TOO_LONG, folded, readable, stripped

_ENOUGH = 8  # times the number of neighbours: prototypes looked at before the next list is left out
_SHOWN = 3  # nearest clusters that an explanation names
_NONE, _ALL = np.float32(0.0), np.float32(1.0)


class Estimate:
    """What the artifact says about one text. Treat as a value: it is shared by a cache."""

    __slots__ = ("_affinity", "_cosines", "blocked", "cluster", "length", "novelty", "quality")

    def __init__(
        self,
        blocked: str | None,
        quality: Vector,
        cluster: int,
        novelty: float,
        length: int,
        affinity: Vector | None = None,
        cosines: Vector | None = None,
    ) -> None:
        self.blocked = blocked  # empty, unreadable, too_long, language: no estimate can be trusted
        self.quality = quality  # (H,)
        self.cluster = cluster  # position in the primary map
        self.novelty = novelty  # 0..1: share of training prompts that were less unlike their neighbours
        self.length = length  # characters of the stripped text, white space folded
        self._affinity, self._cosines = affinity, cosines

    @property
    def nearest(self) -> tuple[tuple[int, float], ...]:
        """(position, cosine) of the nearest clusters of the primary map, the text's own first."""
        if self._affinity is None or self._cosines is None:
            return ((self.cluster, 1.0),)
        order = self._affinity.argsort()[: -_SHOWN - 1 : -1].tolist()
        return tuple([(i, float(self._cosines[i])) for i in order])


class Reader:
    """Reads texts with one artifact. Immutable; thread-safe."""

    def __init__(self, artifact: Artifact, embedder: Embedder) -> None:
        self.artifact, self.embedder = artifact, embedder
        self._static = embedder if isinstance(embedder, StaticEmbedder) else None
        m, centres = artifact.manifest, artifact.bag.centres
        self._half = 0.5 * (centres * centres).sum(1)
        width = np.float32(m.kernel_width)
        # exp((cosine - 1) / width) from the dot product that the clusters need anyway
        self._per_norm = (1.0 / (np.maximum(np.linalg.norm(centres, axis=1), 1e-9) * width)).astype(np.float32)
        self._shift, self._width = np.float32(1.0) / width, width
        self._maps = list(pairwise(artifact.bag.bounds))
        self._clusters = self._maps[0][1]
        w = [weight / sum(m.weights) for weight in m.weights]
        self._near_weight = np.float32(w[1])
        # the weights of the estimators are folded into the tables once, and so is what is the same for every text
        self._each = np.full(len(self._maps), w[0] / len(self._maps), np.float32)
        self._constant = (w[2] * artifact.kernel.intercept).astype(np.float32)
        self._kernel_weights = np.ascontiguousarray((w[2] * artifact.kernel.weights).T, dtype=np.float32)
        self._novelty = artifact.novelty.ranks()
        self.around = Around(artifact.prototypes, artifact.novelty.spread)

    def read(self, text: str) -> Estimate:
        """Never raises for a text: what cannot be read is blocked with a reason."""
        core, plain = stripped(text)
        if not plain:
            core = folded(core)
        low = core.lower()
        words = low.split(" ")
        if self._static is not None and plain:
            raw = self._static.embed_words(words)
        else:
            raw = self.embedder.embed(core)
        norm = math.sqrt(raw.dot(raw))
        blocked = self._blocked(text, low, words, norm, plain)
        if 1e-9 <= norm < math.inf:
            raw = raw - self.artifact.mean * np.float32(norm)  # its direction is that of (raw / norm - mean)
            raw *= np.float32(1 / max(math.sqrt(raw.dot(raw)), 1e-9))
        else:
            raw = np.zeros_like(raw)
        length = len(text) if blocked == "too_long" else len(core)
        return self._from_vector(raw, features_of(low, words), length, blocked)

    def _blocked(self, text: str, low: str, words: list[str], norm: float, plain: bool) -> str | None:
        if not text or text.isspace():
            return "empty"
        if len(text) > TOO_LONG:
            return "too_long"
        if not 1e-9 <= norm < math.inf:  # what a sick embedder says is no number
            return "unreadable"
        if not (plain and text.isascii()) and not readable(text):
            return "unreadable"
        return "language" if self.artifact.manifest.english and foreign_words(low, words) else None

    def _from_vector(self, x: Vector, form: tuple[float, ...], length: int, blocked: str | None) -> Estimate:
        dots = self.artifact.bag.centres.dot(x)
        affinity = dots - self._half
        entries = self._nearest(affinity)
        dots *= self._per_norm
        quality = self._kernel_weights.dot(np.exp(dots - self._shift))
        quality += self._constant
        clusters = self._each.dot(self.artifact.bag.tables.take(entries, axis=0))
        quality += clusters
        if self._near_weight > 0:
            quality += self._near_weight * self._neighbours(x, affinity, clusters)
        np.minimum(np.maximum(quality, _NONE, out=quality), _ALL, out=quality)
        near = affinity[: self._clusters]
        cosine, around = self.around.look(x, near)
        novelty = self._novelty.score(cosine, form, around)
        return Estimate(blocked, quality, entries[0], novelty, length, near, dots[: self._clusters] * self._width)

    def _nearest(self, affinity: Vector) -> list[int]:
        """The nearest centre of every map."""
        return [low + int(affinity[low:high].argmax()) for low, high in self._maps]

    def _neighbours(self, x: Vector, affinity: Vector, clusters: Vector) -> Vector:
        """Mean labels of the k nearest prototypes among those of the nearest clusters."""
        p, k = self.artifact.prototypes, self.artifact.manifest.policy.neighbours
        order = affinity[: self._clusters].argsort()[: -PROBES - 1 : -1].tolist()
        similar, rows = self.around.gather(x, order, _ENOUGH * k)
        if len(rows) > k:
            kept = similar.argpartition(len(rows) - k)[len(rows) - k :]
            rows = rows.take(kept)
        fallback = clusters / np.float32(self.artifact.manifest.weights[0] / sum(self.artifact.manifest.weights) or 1.0)
        return neighbour_means(p.scores[rows], fallback)

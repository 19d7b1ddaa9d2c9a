"""One text -> what an artifact says about it, before any candidate is looked at.

Belongs here: the request path from text to estimates, written for microseconds: few calls into numpy, everything that
no text changes prepared in the constructor. Not here: the fits (estimate.py, train.py) and what is done with the
estimates (appraise.py, router.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import add

import msgspec
import numpy as np

from opentracy.routing.artifact import Artifact
from opentracy.routing.embed import COMMON_MARK, OTHER_MARK, Embedder, StaticEmbedder, Vector
from opentracy.routing.estimate import PROBES, neighbour_means
from opentracy.routing.language import foreign_words
from opentracy.routing.style import Around, common_words, features_of
from opentracy.routing.text import TOO_LONG, folded, readable, stripped

_ENOUGH = 8  # times the number of neighbours: prototypes looked at before the next list is left out
_SHOWN = 3  # nearest clusters that an explanation names


class Estimate(msgspec.Struct):
    """What the artifact says about one text. Treat as a value: it is shared by a cache. Small, because a thousand are
    kept: what they hold is what the next text's estimate finds its memory cold by."""

    blocked: str | None  # empty, unreadable, too_long, language: no estimate can be trusted
    quality: list[float]  # per head
    nearest: tuple[tuple[int, float], ...]  # (position, cosine) of the nearest clusters of the primary map, own first
    novelty: float  # 0..1: share of training prompts that were less unlike their neighbours
    length: int  # characters of the stripped text, white space folded

    @property
    def cluster(self) -> int:
        """Position of the text's own cluster in the primary map."""
        return self.nearest[0][0]


class Reader:
    """Reads texts with one artifact. Immutable; thread-safe."""

    def __init__(self, artifact: Artifact, embedder: Embedder) -> None:
        self.artifact, self.embedder = artifact, embedder
        self._static = embedder if isinstance(embedder, StaticEmbedder) else None
        m, centres = artifact.manifest, artifact.bag.centres
        self._half = 0.5 * (centres * centres).sum(1)
        # exp((cosine - 1) / width) from the dot product that the clusters need anyway
        norms = np.maximum(np.linalg.norm(centres, axis=1), 1e-9)
        self._per_norm = (1.0 / (norms * m.kernel_width)).astype(np.float32)
        self._width = m.kernel_width
        maps = list(pairwise(artifact.bag.bounds))
        self._clusters, self._other_maps = maps[0][1], maps[1:]
        w = [weight / sum(m.weights) for weight in m.weights]
        self._near_weight = w[1]
        # The weights of the estimators are folded into the tables once, and so is what is the same for every text. Few
        # heads are quicker added up as plain numbers.
        tables = w[0] / len(maps) * artifact.bag.tables
        tables[: self._clusters] += w[2] * artifact.kernel.intercept
        self._tables: list[list[float]] = tables.tolist()
        kernel = math.exp(-1.0 / m.kernel_width) * w[2] * artifact.kernel.weights
        self._kernel_weights = np.ascontiguousarray(kernel.T, dtype=np.float32)
        self._novelty = artifact.novelty.ranks()
        self.around = Around(artifact.prototypes, artifact.novelty.spread)
        # three steps over the nearest are half of a sort of all, wherever three lists of prototypes are always enough
        self._few = not self._near_weight > 0 and self.around.enough(_SHOWN)

    def read(self, text: str) -> Estimate:
        """Never raises for a text: what cannot be read is blocked with a reason."""
        core, plain = stripped(text)
        if not plain:
            core = folded(core)
        low = core.lower()
        words = low.split(" ")
        if self._static is not None and plain:
            packed = self._static.pack_words(words)
            raw = self._static.embed_packed(packed)
            common, english = packed.count(COMMON_MARK), OTHER_MARK not in packed and low.isascii()
        else:
            raw = self.embedder.embed(core)
            common, english = common_words(words), False
        norm = math.sqrt(raw.dot(raw))
        blocked = self._blocked(text, norm, plain)
        if blocked is None and not english and self.artifact.manifest.english and foreign_words(low, words):
            blocked = "language"
        if 1e-9 <= norm < math.inf:
            raw = raw - self.artifact.mean * norm  # its direction is that of (raw / norm - mean)
            raw *= 1 / max(math.sqrt(raw.dot(raw)), 1e-9)
        else:
            raw = np.zeros_like(raw)
        length = len(text) if blocked == "too_long" else len(core)
        return self._from_vector(raw, features_of(low, len(words), common), length, blocked)

    def _blocked(self, text: str, norm: float, plain: bool) -> str | None:
        if not text or text.isspace():
            return "empty"
        if len(text) > TOO_LONG:
            return "too_long"
        if not 1e-9 <= norm < math.inf:  # what a sick embedder says is no number
            return "unreadable"
        if not (plain and text.isascii()) and not readable(text):
            return "unreadable"
        return None

    def _from_vector(self, x: Vector, form: tuple[float, ...], length: int, blocked: str | None) -> Estimate:
        dots = self.artifact.bag.centres.dot(x)
        affinity = dots - self._half
        order = self._order(affinity[: self._clusters])
        entries = [order[0], *[low + int(affinity[low:high].argmax()) for low, high in self._other_maps]]
        dots *= self._per_norm
        nearest = tuple([(i, dots.item(i) * self._width) for i in order[:_SHOWN]])
        np.exp(dots, dots)
        found = self._kernel_weights.dot(dots).tolist()
        for entry in entries:
            found = map(add, found, self._tables[entry])
        if self._near_weight > 0:
            found = map(add, found, self._neighbours(x, order, entries))
        quality = [0.0 if q < 0.0 else 1.0 if q > 1.0 else q for q in found]
        cosine, around = self.around.look(x, order)
        return Estimate(blocked, quality, nearest, self._novelty.score(cosine, form, around), length)

    def _order(self, affinity: Vector) -> list[int]:
        """Clusters, the nearest first; no more of them than are looked at. Writes into `affinity`."""
        if not self._few:
            found: list[int] = affinity.argsort()[::-1].tolist()
            return found
        order = []
        for _ in range(_SHOWN):
            nearest = int(affinity.argmax())
            affinity[nearest] = -math.inf
            order.append(nearest)
        return order

    def _neighbours(self, x: Vector, order: Sequence[int], entries: Sequence[int]) -> list[float]:
        """Share of the k nearest prototypes, among those of the nearest clusters, in each head."""
        p, k = self.artifact.prototypes, self.artifact.manifest.policy.neighbours
        similar, rows = self.around.gather(x, order[:PROBES], _ENOUGH * k)
        if len(rows) > k:
            kept = similar.argpartition(len(rows) - k)[len(rows) - k :]
            rows = rows.take(kept)
        fallback = self.artifact.bag.tables.take(entries, axis=0).mean(0)
        means: list[float] = (self._near_weight * neighbour_means(p.scores[rows], fallback)).tolist()
        return means

"""The form of a text, as opposed to its words: what tells an unseen kind of prompt from a seen one.

Belongs here: features that a bag of tokens cannot see, and novelty measured with them. Not here: the vectors
(embed.py).

Why: prompts of an unseen kind are made of the same words as seen ones, so the cosine to the nearest training prompts
hardly tells them apart (AUROC .67 when each task of llmrouter9 is left out in turn); comparing a prompt's form with
the form of its own nearest neighbours does (.83). All features ignore case, layout and the spelling of quotation marks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import dist, log, log1p
from operator import mul

import numpy as np
import numpy.typing as npt

from opentracy.routing.embed import Matrix, Vector
from opentracy.routing.estimate import Prototypes
from opentracy.routing.language import COMMON
from opentracy.routing.text import folded

NEAREST = 10
_FORMULA = b"\\$=^{}<>"


def _classes() -> bytes:
    """What a byte counts as: `0` a digit, `=` of a formula, `!` another symbol; full stop and comma stay."""
    kinds = bytearray(256)
    for c in range(33, 127):
        if not chr(c).isalpha():
            kinds[c] = ord("0") if chr(c).isdigit() else c if c in b".," else ord("=") if c in _FORMULA else ord("!")
    return bytes(kinds)


_CLASSES = _classes()
_UNCOUNTED = bytes(c for c in range(256) if not _CLASSES[c])
FEATURES = 10
BOUND = 4.0  # standard deviations one feature can count for: one odd feature alone must not decide
_BOUND = BOUND * BOUND
_LISTS, _ENOUGH = 2, 4 * NEAREST  # clusters whose prototypes are looked at, and prototypes with which they suffice
_SAME = 0.9999  # cosine of a prompt with its own copy, or with a duplicate
Form = tuple[float, ...]


def common_words(words: Sequence[str]) -> int:
    """How many of the words are common ones."""
    return sum(map(COMMON.__contains__, words))


def features_of(low: str, count: int, common: int) -> Form:
    """Ten numbers about the form of a stripped, folded, lower-cased text.

    count, common: of its words, which are what stands between its spaces (`common_words`).
    """
    raw = low.encode("utf-8", "replace")
    size, kinds = len(raw), raw.translate(_CLASSES, _UNCOUNTED).count
    formula, dots, commas = kinds(b"="), kinds(b"."), kinds(b",")
    return (
        log(size + 1),
        log1p(kinds(b"0")),
        log1p(kinds(b"!") + formula + dots + commas),
        min((size - count + 1) / count, 30.0),
        1.0 if low.endswith("?") else 0.0,
        log1p(formula),
        log1p(dots),
        log1p(commas),
        log1p(size - len(low)),
        4.0 * common / count,
    )


def features_many(texts: Sequence[str]) -> Matrix:
    """One row per stripped text."""
    out = np.zeros((len(texts), FEATURES), np.float32)
    for i, text in enumerate(texts):
        low = folded(text).lower()
        words = low.split(" ")
        out[i] = features_of(low, len(words), common_words(words))
    return out


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike its neighbours a training prompt usually is."""

    spread: Vector  # (FEATURES,) standard deviation of (a prompt's features - its neighbours' mean)
    closeness: Vector  # (101,) quantiles of the mean cosine to the nearest
    mismatch: Vector  # (101,) quantiles of the mean squared, scaled difference in form
    combined: Vector  # (101,) quantiles of the larger of the two ranks

    def ranks(self) -> Ranks:
        """The same, ready to score one text after the other."""
        return Ranks(self)


class Ranks:
    """Novelty of single texts, without numpy: ten numbers are faster compared in plain Python."""

    def __init__(self, n: Novelty) -> None:
        self._scales = (1.0 / n.spread).tolist()
        self._closeness, self._mismatch, self._combined = n.closeness.tolist(), n.mismatch.tolist(), n.combined.tolist()

    def score(self, cosine: float, own: Form, neighbours: Sequence[float]) -> float:
        """0..1: the share of training prompts that were less unlike their neighbours.

        own: features of the text. neighbours: mean features of its neighbours, in standard deviations.
        """
        scaled = tuple(map(mul, own, self._scales))
        unlike = dist(scaled, neighbours)
        total = unlike * unlike
        if total > _BOUND:  # only then may a single feature be beyond the bound
            squares = [(a - b) * (a - b) for a, b in zip(scaled, neighbours, strict=True)]
            total = sum([square if square < _BOUND else _BOUND for square in squares])
        far = 1.0 - bisect_left(self._closeness, cosine) / 101.0
        odd = bisect_left(self._mismatch, total / FEATURES) / 101.0
        return bisect_left(self._combined, (far if far > odd else odd) - 1e-6) / 101.0


class Around:
    """The prototypes near a text. Immutable; thread-safe."""

    def __init__(self, prototypes: Prototypes, spread: Vector | None = None) -> None:
        """spread: standard deviation of each feature, by which forms are divided; None = left as they are."""
        p = prototypes
        styles = p.styles if spread is None else p.styles / spread
        bounds = [(int(a), int(b)) for a, b in pairwise(p.starts)]
        # views, made once: slicing on every request would cost more than the products
        self._lists = [(p.vectors[a:b], styles[a:b], np.arange(a, b), b - a) for a, b in bounds]
        self._none = np.zeros(0, np.float32), np.zeros(0, np.intp)
        self._still = [0.0] * FEATURES
        self._shares = [np.full(n, 1.0 / max(n, 1), np.float32) for n in range(NEAREST + 1)]

    def enough(self, lists: int) -> bool:
        """Whether any so many lists are all that `look` will look at."""
        sizes = sorted(size for *_, size in self._lists)
        return lists >= _LISTS and len(sizes) >= lists and sizes[0] > 0 and sum(sizes[:lists]) >= _ENOUGH

    def look(self, x: Vector, order: Sequence[int], *, apart: bool = False) -> tuple[float, list[float]]:
        """(mean cosine to the nearest prototypes, their mean form). order: the primary clusters, the nearest first.

        Two clusters are looked at, more where they hold little. apart: leave out x itself, for calibration.
        """
        vectors, forms, found = [], [], 0
        for i in order:
            some, styles, _, size = self._lists[i]
            if size:
                vectors.append(some)
                forms.append(styles)
                found += size
                if found >= _ENOUGH and len(vectors) >= _LISTS:
                    break
        if not found:
            return 0.0, self._still
        similar = np.concatenate([one.dot(x) for one in vectors])
        if apart:
            similar[similar > _SAME] = -2.0
        count = NEAREST if found > NEAREST else found
        best = similar.argpartition(found - count)[found - count :]
        share = self._shares[count]  # a product with it is the mean, at half the price of a sum
        around = share.dot(np.concatenate(forms).take(best, axis=0)).tolist()
        return float(share.dot(similar.take(best))), around

    def gather(self, x: Vector, lists: Sequence[int], enough: int) -> tuple[Vector, npt.NDArray[np.intp]]:
        """(cosines, rows) of the prototypes in some clusters, until there are enough."""
        parts, numbers, found = [], [], 0
        for i in lists:
            vectors, _, own, size = self._lists[i]
            if size:
                parts.append(vectors.dot(x))
                numbers.append(own)
                found += size
                if found >= enough:
                    break
        return (np.concatenate(parts), np.concatenate(numbers)) if parts else self._none


def calibrate(x: Matrix, own: Matrix, prototypes: Prototypes, primary: Matrix, limit: int = 3000) -> Novelty:
    """Fit on training rows with the search that serves requests, each row's own copy left out."""
    rows = np.linspace(0, len(x) - 1, min(limit, len(x))).astype(int)
    around = Around(prototypes)
    half = 0.5 * (primary * primary).sum(1)
    cosine, forms = np.zeros(len(rows)), np.zeros((len(rows), FEATURES))
    for at, row in enumerate(rows):
        order = (primary.dot(x[row]) - half).argsort()[::-1].tolist()
        cosine[at], forms[at] = around.look(x[row], order, apart=True)
    gap = own[rows] - forms
    spread = np.maximum(gap.std(0), 0.05)
    mismatch = np.minimum((gap / spread) ** 2, BOUND * BOUND).mean(1)
    quantiles = np.arange(101)
    a, b = np.percentile(cosine, quantiles), np.percentile(mismatch, quantiles)
    ranks = np.maximum(1.0 - np.searchsorted(a, cosine) / 101.0, np.searchsorted(b, mismatch) / 101.0)
    parts = (spread, a, b, np.percentile(ranks, quantiles))
    return Novelty(*(np.asarray(p, dtype=np.float32) for p in parts))

"""The form of a text, as opposed to its words: what tells an unseen kind of prompt from a seen one.

Belongs here: features that a bag of tokens cannot see, and novelty measured with them. Not here: the vectors
(embed.py).

Why: prompts of an unseen kind are made of the same words as seen ones, so the cosine to the nearest training prompts
hardly tells them apart (AUROC .67 when each task of llmrouter9 is left out in turn); comparing a prompt's form with
the form of its own nearest neighbours does (.83). All features ignore case, layout and the spelling of quotation marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p

import numpy as np

from opentracy.routing.embed import Matrix, Vector
from opentracy.routing.text import folded

NEAREST = 10
_COMMON = frozenset(
    b"""the of and to a in is that it for was on are as with be at by this have from or an which you not what how if all
    were when there can would has each will do his her they their one but had about who where why does many""".split()
)
_DIGITS = b"0123456789"
_SYMBOLS = bytes(c for c in range(33, 127) if not chr(c).isalnum())
_FORMULA = b"\\$=^{}<>"
_LETTERS = bytes(c if 97 <= c <= 122 else 32 for c in range(256))  # anything but a-z becomes a space
FEATURES = 10
BOUND = 4.0  # standard deviations one feature can count for: one odd feature alone must not decide


def features(core: str) -> Vector:
    """Ten numbers about the form of a stripped text."""
    body = folded(core).lower()
    raw = body.encode("utf-8", "replace")
    size = len(raw)
    words = raw.translate(_LETTERS).split()
    count = max(body.count(" ") + 1, 1)
    plain = sum(map(_COMMON.__contains__, words))
    return np.array(
        (
            log(size + 1),
            log1p(size - len(raw.translate(None, _DIGITS))),
            log1p(size - len(raw.translate(None, _SYMBOLS))),
            min((size - count + 1) / count, 30.0),
            1.0 if body.endswith("?") else 0.0,
            log1p(size - len(raw.translate(None, _FORMULA))),
            log1p(raw.count(b".")),
            log1p(raw.count(b",")),
            log1p(size - len(body)),
            plain / max(len(words), 1) * 4,
        ),
        dtype=np.float32,
    )


def features_many(texts: Sequence[str]) -> Matrix:
    """One row per text."""
    out = np.zeros((len(texts), FEATURES), np.float32)
    for i, text in enumerate(texts):
        out[i] = features(text)
    return out


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike its neighbours a training prompt usually is."""

    spread: Vector  # (FEATURES,) standard deviation of (a prompt's features - its neighbours' mean)
    closeness: Vector  # (101,) quantiles of the mean cosine to the nearest
    mismatch: Vector  # (101,) quantiles of the mean squared, scaled difference in form
    combined: Vector  # (101,) quantiles of the larger of the two ranks

    def score(self, cosine: float, own: Vector, neighbours: Vector) -> float:
        """0..1: the share of training prompts that were less unlike their neighbours. own, neighbours: features."""
        unlike = np.clip((own - neighbours) / self.spread, -BOUND, BOUND)
        ranks = (
            1.0 - float(np.searchsorted(self.closeness, cosine)) / 101.0,
            float(np.searchsorted(self.mismatch, float(unlike @ unlike) / FEATURES)) / 101.0,
        )
        return float(np.searchsorted(self.combined, max(ranks))) / 101.0


def calibrate(x: Matrix, own: Matrix, prototypes: Matrix, styles: Matrix, limit: int = 3000) -> Novelty:
    """Fit on training rows against the prototypes, each row's own copy left out."""
    rows = np.linspace(0, len(x) - 1, min(limit, len(x))).astype(int)
    k = max(1, min(NEAREST, len(prototypes) - 1))
    cosine, around = np.zeros(len(rows)), np.zeros((len(rows), FEATURES))
    for i in range(0, len(rows), 256):
        part = rows[i : i + 256]
        similar = x[part] @ prototypes.T
        similar[similar > 0.9999] = -2.0  # its own copy, or a duplicate
        near = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        cosine[i : i + 256] = np.take_along_axis(similar, near, 1).mean(1)
        around[i : i + 256] = styles[near].mean(1)
    spread = np.maximum((own[rows] - around).std(0), 0.05)
    mismatch = (np.clip((own[rows] - around) / spread, -BOUND, BOUND) ** 2).mean(1)
    at = np.arange(101)
    a, b = np.percentile(cosine, at), np.percentile(mismatch, at)
    ranks = np.maximum(1.0 - np.searchsorted(a, cosine) / 101.0, np.searchsorted(b, mismatch) / 101.0)
    parts = (spread, a, b, np.percentile(ranks, at))
    return Novelty(*(np.asarray(p, dtype=np.float32) for p in parts))

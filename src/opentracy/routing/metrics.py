"""Figures of a router on labelled prompts: curves of quality against cost, and their summary.

Belongs here: arithmetic on estimates, scores and costs. Not here: fitting baselines or drawing (evaluate.py, plot.py).
Scales: quality figures are points of 100, costs USD. lambda trades quality for cost / (mean cost of the dearest model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
WEIGHTS: Floats = np.r_[0.0, np.geomspace(1e-4, 10**2.5, 120)]
_STEPS = 400  # points of the cost axis in the area


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known about the prompts that are scored, and what training knew about the models."""

    scores: Floats  # (n, M)
    costs: Floats  # (n, M)
    mean_costs: Floats  # (M,) over the training rows
    best: int  # best model of the training rows

    @property
    def priced(self) -> bool:
        """Whether costs differ at all."""
        return bool(np.ptp(self.mean_costs) > 1e-12 * self.mean_costs.max())


@dataclass(frozen=True, slots=True)
class Curve:
    """Realised score and cost per prompt and lambda."""

    quality: Floats  # (n, L)
    cost: Floats


def curve(truth: Truth, estimates: Floats) -> Curve:
    """Send every prompt to argmax(estimate - lambda * mean cost / dearest) for each lambda."""
    penalty = truth.mean_costs / truth.mean_costs.max() if truth.priced else np.zeros(len(truth.mean_costs))
    picks = np.stack([(estimates - w * penalty).argmax(1) for w in WEIGHTS], 1)
    rows = np.arange(len(estimates))[:, None]
    return Curve(truth.scores[rows, picks], truth.costs[rows, picks])


def _area(cost: Floats, quality: Floats, low: float, high: float) -> float:
    order = np.argsort(cost, kind="stable")
    return float(np.interp(np.linspace(low, high, _STEPS), cost[order], quality[order]).mean() * 100)


def summary(truth: Truth, points: Curve, weights: Floats | None = None) -> dict[str, float]:
    """auc, peak, lam0 (points) and qnc (percent of the best single model's cost; NaN = never reached).

    weights: per prompt, summing to 1, for the bootstrap.
    """
    w = np.full(len(truth.scores), 1 / len(truth.scores)) if weights is None else weights
    quality, cost = w @ points.quality, w @ points.cost
    single_quality, single_cost = w @ truth.scores, w @ truth.costs
    reached = quality >= single_quality[truth.best] - 1e-12
    least = float(cost[reached].min() / max(single_cost[truth.best], 1e-12) * 100) if reached.any() else float("nan")
    return {
        "auc": _area(cost, quality, single_cost.min(), single_cost.max()),
        "peak": float(quality.max() * 100),
        "lam0": float(quality[0] * 100),
        "qnc": least,
    }


def upper_hull(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Vertices of the non-decreasing concave envelope of some points, cheapest first."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(zip(cost.tolist(), quality.tolist(), strict=True), key=lambda point: (point[0], -point[1])):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) <= (y - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append((x, y))
    return np.array([p[0] for p in hull]), np.array([p[1] for p in hull])


def zero_router(truth: Truth, weights: Floats | None = None) -> dict[str, float]:
    """The best mixture of single models that never looks at the prompt."""
    w = np.full(len(truth.scores), 1 / len(truth.scores)) if weights is None else weights
    quality, cost = w @ truth.scores, w @ truth.costs
    x, y = upper_hull(cost, quality)
    best = float(quality[truth.best] * 100)
    return {"auc": _area(x, y, cost.min(), cost.max()), "peak": best, "lam0": best, "qnc": 100.0}


def gap_recovered(estimates: Floats, scores: Floats, weak: int, strong: int) -> dict[str, float]:
    """Two models: share of the quality gap recovered against the share of prompts sent to the strong one.

    apgr is its mean over all shares (0..1); cpt50 and cpt80 the share in percent at which half and 80 % are recovered.
    """
    order = np.argsort(estimates[:, weak] - estimates[:, strong], kind="stable")
    gain = (scores[:, strong] - scores[:, weak])[order]
    recovered = np.r_[0.0, np.cumsum(gain)] / gain.sum()
    share = np.linspace(0, 1, len(recovered))
    out = {"apgr": float(np.interp(np.linspace(0, 1, 1001), share, recovered).mean())}
    for level in (50, 80):
        hit = recovered >= level / 100
        out[f"cpt{level}"] = float(share[hit.argmax()] * 100) if hit.any() else float("nan")
    return out


def brier(estimates: Floats, scores: Floats) -> float:
    """Mean squared error over all labels."""
    return float(np.nanmean((np.clip(estimates, 0.001, 0.999) - scores) ** 2))


def calibration_error(estimates: Floats, scores: Floats, bins: int = 10) -> float:
    """Expected calibration error over all labels."""
    known = ~np.isnan(scores)
    p, s = estimates[known], scores[known]
    which = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs((p - s)[which == b].sum()) for b in range(bins)) / max(len(p), 1))


def bootstrap(
    count: int, draws: int, seed: int, figure: Callable[[Floats], dict[str, float]]
) -> dict[str, tuple[float, float]]:
    """95 % intervals of every figure under resampling of the prompts; the same draws for whatever `figure` compares."""
    rng = np.random.default_rng(seed)
    seen: dict[str, list[float]] = {}
    for _ in range(draws):
        w = np.bincount(rng.integers(count, size=count), minlength=count) / count
        for name, value in figure(w).items():
            seen.setdefault(name, []).append(value)
    return {
        name: (float(np.nanpercentile(v, 2.5)), float(np.nanpercentile(v, 97.5)))
        if np.isfinite(v).any()
        else (float("nan"), float("nan"))
        for name, v in seen.items()
    }

"""A router beside its baselines on labelled prompts: what `opentracy routing evaluate` prints.

Belongs here: the baselines and the comparison. Not here: the figures (metrics.py), the picture (plot.py).
Always beside a router: the best single model, the zero-router (a prompt-blind mixture), the oracle, and k-means with
100 clusters and no shrinkage, which is the algorithm that the public OpenTracy uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from opentracy.routing.clusters import assign, kmeans
from opentracy.routing.data import Labels
from opentracy.routing.embed import Embedder, Matrix
from opentracy.routing.estimate import Progress, head_means, silent, smoothed_table, unit
from opentracy.routing.metrics import (
    Curve,
    Floats,
    Truth,
    bootstrap,
    brier,
    calibration_error,
    curve,
    gap_recovered,
    summary,
    zero_router,
)
from opentracy.routing.predict import predict_table
from opentracy.routing.router import Router
from opentracy.routing.text import core_text

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Report:
    """Figures per method; intervals of ours and of ours minus each baseline."""

    rows: int
    models: tuple[str, ...]
    best_single: str
    figures: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]  # "router", "router - zero-router", "router - kmeans100"
    picks: dict[str, dict[str, float]]  # per cost weight: quality, percent of the best single model's cost
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)  # method -> (cost, quality)
    singles: dict[str, tuple[float, float]] = field(default_factory=dict)  # model -> (cost, quality)


def kmeans_baseline(x: Matrix, y: Floats, z: Matrix, k: int = 100, seed: int = 0) -> Floats:
    """Mean score per cluster, no shrinkage; an empty cluster has the overall mean."""
    centres = kmeans(x, k, seed, rounds=25)
    prior = head_means(y.astype(np.float32))[None]
    table, count = smoothed_table(assign(x, centres), len(centres), y.astype(np.float32), 1e-9, prior)
    return np.where(count > 0, table, prior)[assign(z, centres)].astype(np.float64)


def truth_of(test: Labels, train: Labels) -> Truth:
    """Scores and costs of the test rows; prices and the best single model come from the training rows."""
    if np.isnan(test.scores).any() or np.isnan(train.scores).all(0).any():
        raise ValueError("evaluation needs a score of every model for every prompt")
    costs = np.ones_like(test.scores) if test.costs is None else test.costs
    means = np.ones(len(test.models)) if train.costs is None else np.nanmean(train.costs, 0)
    return Truth(test.scores, costs, means, int(np.nanmean(train.scores, 0).argmax()))


def evaluate(
    router: Router,
    test: Labels,
    train: Labels,
    embedder: Embedder,
    *,
    draws: int = 200,
    seed: int = 0,
    progress: Progress = silent,
) -> Report:
    """Compare on `test`. train: the rows the router learned from, for the baselines.

    Raises ValueError when a model of the router is missing in the labels, or labels are missing in rows.
    """
    models = tuple(router.artifact.manifest.models)
    missing = [m for m in models if m not in test.models or m not in train.models]
    if missing or not models:
        raise ValueError(f"no labels for {', '.join(missing) or 'any model: the router has none'}")
    test, train = test.select(models), train.select(models)
    truth = truth_of(test, train)
    table = predict_table(router, test.prompts, progress=progress)
    ours = np.stack([np.asarray(table["q:" + m], dtype=np.float64) for m in models], 1)
    x, z = (unit(embedder.embed_many([core_text(t) for t in p])) for p in (train.prompts, test.prompts))
    noise = 1e-9 * np.random.default_rng(0).random(test.scores.shape)  # ties of the oracle must not favour a column
    estimates = {"router": ours, "kmeans100": kmeans_baseline(x, train.scores, z), "oracle": test.scores + noise}
    curves = {name: curve(truth, q) for name, q in estimates.items()}
    figures = {name: _figures(truth, q, curves[name]) for name, q in estimates.items()}
    figures["best single"] = {"lam0": float(test.scores[:, truth.best].mean() * 100)}
    figures["zero-router"] = zero_router(truth)
    return Report(
        len(test),
        models,
        models[truth.best],
        figures,
        _intervals(truth, curves, draws, seed),
        _picks(truth, models, table),
        {name: (c.cost.mean(0).tolist(), c.quality.mean(0).tolist()) for name, c in curves.items()},
        {m: (float(truth.costs[:, i].mean()), float(truth.scores[:, i].mean())) for i, m in enumerate(models)},
    )


def _figures(truth: Truth, q: Floats, points: Curve) -> dict[str, float]:
    out = summary(truth, points) | {
        "brier": brier(q, truth.scores),
        "ece": calibration_error(np.clip(q, 0, 1), truth.scores),
    }
    if q.shape[1] == 2:
        weak, strong = (int(i) for i in np.argsort(truth.mean_costs, kind="stable"))
        if truth.scores[:, strong].sum() != truth.scores[:, weak].sum():
            out |= gap_recovered(q, truth.scores, weak, strong)
    return out


def _intervals(truth: Truth, curves: dict[str, Curve], draws: int, seed: int) -> dict[str, dict[str, Interval]]:
    def figure(w: Floats) -> dict[str, float]:
        ours, zero = summary(truth, curves["router"], w), zero_router(truth, w)
        km = summary(truth, curves["kmeans100"], w)
        out: dict[str, float] = {}
        for key in ("auc", "peak", "lam0"):
            out |= {f"router|{key}": ours[key], f"router - zero-router|{key}": ours[key] - zero[key]}
            out[f"router - kmeans100|{key}"] = ours[key] - km[key]
        return out

    nested: dict[str, dict[str, Interval]] = {}
    for name, interval in bootstrap(len(truth.scores), draws, seed, figure).items():
        group, _, key = name.partition("|")
        nested.setdefault(group, {})[key] = interval
    return nested


def _picks(truth: Truth, models: tuple[str, ...], table: dict[str, list[object]]) -> dict[str, dict[str, float]]:
    index, rows = {m: i for i, m in enumerate(models)}, np.arange(len(truth.scores))
    out: dict[str, dict[str, float]] = {}
    for name in (c for c in table if c.startswith("pick@")):
        chosen = np.array([index[str(m)] for m in table[name]])
        share = truth.costs[rows, chosen].mean() / max(truth.costs[:, truth.best].mean(), 1e-12)
        out[name] = {"quality": float(truth.scores[rows, chosen].mean() * 100), "cost": float(share * 100)}
    return out


def text_table(report: Report) -> str:
    """The report for a terminal."""
    columns = [
        c
        for c in ("auc", "peak", "lam0", "qnc", "apgr", "cpt80", "brier", "ece")
        if any(c in f for f in report.figures.values())
    ]
    lines = [f"{report.rows} prompts, {len(report.models)} models, best single {report.best_single}"]
    lines.append(f"{'':<14}" + "".join(f"{c:>9}" for c in columns))
    for name in ("best single", "zero-router", "kmeans100", "router", "oracle"):
        row = report.figures[name]
        lines.append(f"{name:<14}" + "".join(f"{row[c]:>9.3f}" if c in row else f"{'':>9}" for c in columns))
    for name, figures in report.intervals.items():
        lines.append(
            f"{name}: " + ", ".join(f"{k} {low:.2f}..{high:.2f}" for k, (low, high) in figures.items()) + "  (95 %)"
        )
    for name, pick in report.picks.items():
        lines.append(f"{name:<17} quality {pick['quality']:.2f}  cost {pick['cost']:.1f} % of the best single model")
    return "\n".join(lines)

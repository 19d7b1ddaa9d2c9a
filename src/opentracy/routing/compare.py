"""Two artifacts side by side: what `opentracy routing diff` prints.

Belongs here: comparing. Not here: scoring against labels (evaluate.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentracy.routing.artifact import Manifest
from opentracy.routing.predict import COST_WEIGHTS, predict_table
from opentracy.routing.router import Router


def differences(before: Router, after: Router, prompts: Sequence[str] = ()) -> Iterator[str]:
    """Lines about versions, models, clusters and, with prompts, decisions."""
    a, b = before.artifact.manifest, after.artifact.manifest
    yield f"version {a.version} -> {b.version}"
    for what, x, y in (
        ("embedder", a.embedder, b.embedder),
        ("default", a.default, b.default),
        ("prompts", a.rows, b.rows),
    ):
        yield f"{what} {x}" if x == y else f"{what} {x} -> {y}"
    yield from _models(a, b)
    yield from _clusters(a, b)
    shared = [m for m in a.models if m in b.models]
    if prompts and shared:
        yield from _decisions(before, after, prompts, shared)


def _models(a: Manifest, b: Manifest) -> Iterator[str]:
    for model in sorted({*a.models, *b.models}):
        if model not in b.models:
            yield f"model {model}: removed"
        elif model not in a.models:
            yield f"model {model}: added, {b.counts.get(model, 0)} labels"
        elif a.counts.get(model) != b.counts.get(model):
            yield f"model {model}: {a.counts.get(model, 0)} -> {b.counts.get(model, 0)} labels"


def _clusters(a: Manifest, b: Manifest) -> Iterator[str]:
    old, new = {c.id: c for c in a.clusters}, {c.id: c for c in b.clusters}
    kept = sorted(set(old) & set(new))
    yield f"clusters: {len(kept)} kept, {len(old) - len(kept)} gone, {len(new) - len(kept)} new"
    for i in kept:
        if old[i].label != new[i].label:
            yield f"cluster {i}: {old[i].label!r} -> {new[i].label!r}"


def _decisions(before: Router, after: Router, prompts: Sequence[str], shared: Sequence[str]) -> Iterator[str]:
    x, y = predict_table(before, prompts), predict_table(after, prompts)
    for weight in COST_WEIGHTS:
        name = f"pick@lambda={weight}"
        same = sum(p == q for p, q in zip(x[name], y[name], strict=True))
        yield f"{name}: {100 * same / len(prompts):.1f} % of {len(prompts)} decisions the same"
    for model in shared:
        pairs = zip(x["q:" + model], y["q:" + model], strict=True)
        yield f"{model}: quality moved by {sum(abs(p - q) for p, q in pairs) / len(prompts):.4f} on average"

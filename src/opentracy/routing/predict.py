"""Many prompts -> a table of estimates and decisions, the columns that `opentracy routing predict` writes.

Every row is decided on its own, by the path that serves requests, so a row never depends on the others in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentracy.routing.estimate import Progress, silent
from opentracy.routing.policy import Candidate
from opentracy.routing.prior import Abilities
from opentracy.routing.router import Router

COST_WEIGHTS = ("0", "0.05", "0.1", "0.2", "0.4", "0.8")


def predict_table(
    router: Router, prompts: Sequence[str], given: Abilities | None = None, *, progress: Progress = silent
) -> dict[str, list[Any]]:
    """Columns row, q:<model>, cost:<model>, pick@lambda=<x>, cluster_id, novelty.

    given: figures of models without labels; then these models are the candidates. Raises ValueError when there are
    none.
    """
    if given is not None:
        router = Router(router.artifact, router.embedder, given)
    models = list(given) if given is not None else router.artifact.manifest.models
    if not models:
        raise ValueError("this router has no labelled models: name candidates with --abilities FILE.json")
    candidates = tuple(Candidate(m) for m in models)
    weights = [float(w) for w in COST_WEIGHTS]
    columns: dict[str, list[Any]] = {"row": list(range(len(prompts)))}
    columns |= {f"q:{m}": [] for m in models} | {f"cost:{m}": [] for m in models}
    columns |= {f"pick@lambda={w}": [] for w in COST_WEIGHTS} | {"cluster_id": [], "novelty": []}
    for i, prompt in enumerate(prompts):
        decisions = router.decide_weights(prompt, weights, candidates=candidates)
        for weight, decision in zip(COST_WEIGHTS, decisions, strict=True):
            columns[f"pick@lambda={weight}"].append(decision.model)
        for score in decision.scores:
            columns[f"q:{score.model}"].append(0.5 if score.quality is None else min(max(score.quality, 0.0), 1.0))
            columns[f"cost:{score.model}"].append(0.0 if score.cost is None else score.cost)
        columns["cluster_id"].append(decision.cluster_id)
        columns["novelty"].append(decision.novelty)
        if i % 64 == 63 or i + 1 == len(prompts):
            progress("predict", i + 1, len(prompts))
    return columns

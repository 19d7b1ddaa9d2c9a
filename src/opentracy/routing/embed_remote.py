"""Any OpenAI-compatible embeddings endpoint as an embedder.

Belongs here: the shape of the request and of the answer. Not here: HTTP. The caller gives a function that posts one
JSON body and returns the decoded answer, so that this package opens no socket and knows no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from opentracy.routing.embed import Matrix, Vector
from opentracy.routing.text import cut

Post = Callable[
    [Mapping[str, Any]], Mapping[str, Any]
]  # {"model", "input": [texts]} -> {"data": [{"index", "embedding"}]}


class RemoteEmbedder:
    """Vectors of `model`, `batch` texts per request. `dims` is what the endpoint must answer with."""

    def __init__(self, post: Post, model: str, dims: int, *, batch: int = 64) -> None:
        if dims < 1 or batch < 1:
            raise ValueError(f"dims ({dims}) and batch ({batch}) must be positive")
        self._post, self._model, self.dims, self._batch = post, model, dims, batch
        self.id = f"remote:{model}"

    @property
    def sha256(self) -> str:
        """Weights out of reach: the name and the length of the vectors stand for them."""
        return hashlib.sha256(f"{self.id}:{self.dims}".encode()).hexdigest()

    def embed(self, text: str) -> Vector:
        return np.asarray(self.embed_many([text])[0], dtype=np.float32)

    def embed_many(self, texts: Sequence[str]) -> Matrix:
        out = np.zeros((len(texts), self.dims), np.float32)
        asked = [(i, cut(t)) for i, t in enumerate(texts) if t.strip()]  # endpoints refuse empty input
        for start in range(0, len(asked), self._batch):
            part = asked[start : start + self._batch]
            answer = self._post({"model": self._model, "input": [t for _, t in part]})
            for (i, _), vector in zip(part, self._vectors(answer, len(part)), strict=True):
                out[i] = vector
        return out

    def _vectors(self, answer: Mapping[str, Any], count: int) -> list[Vector]:
        """The embeddings in input order. Raises ValueError when the answer is not what was asked for."""
        rows = answer.get("data")
        if not isinstance(rows, list) or len(rows) != count:
            found = len(rows) if isinstance(rows, list) else "none"
            raise ValueError(f"{self._model}: {count} embeddings asked for, {found} in the answer")
        ordered = sorted(enumerate(rows), key=lambda pair: pair[1].get("index", pair[0]))
        out = []
        for _, row in ordered:
            vector = np.asarray(row.get("embedding"), dtype=np.float32)
            if vector.shape != (self.dims,) or not np.isfinite(vector).all():
                raise ValueError(
                    f"{self._model}: an embedding of shape {vector.shape}, expected {self.dims} finite numbers"
                )
            out.append(vector)
        return out

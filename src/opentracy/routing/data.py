"""Labelled prompts in memory.

Belongs here: the values that training and evaluation pass around, and their order. Not here: files (cli/routing.py
reads parquet), fitting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Prompts with scores 0..1 (NaN = not judged) and, when known, USD per call, one column per model."""

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats  # (n, M)
    costs: Floats | None = None  # (n, M), NaN = not known

    def __post_init__(self) -> None:
        shape = (len(self.prompts), len(self.models))
        if self.scores.shape != shape:
            raise ValueError(f"scores have the shape {self.scores.shape}, expected {shape}")
        if self.costs is not None and self.costs.shape != shape:
            raise ValueError(f"costs have the shape {self.costs.shape}, expected {shape}")
        if len(set(self.models)) != len(self.models):
            raise ValueError("a model stands in two columns")
        known = self.scores[~np.isnan(self.scores)]
        if np.isinf(self.scores).any() or (known < 0).any() or (known > 1).any():
            raise ValueError("scores must lie between 0 and 1")
        if self.costs is not None and (np.isinf(self.costs).any() or (self.costs < 0).any()):
            raise ValueError("costs must be finite and not negative")

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Labels:
        """Some of the rows."""
        index = np.asarray(rows, dtype=np.intp)
        prompts = tuple(self.prompts[i] for i in index)
        return Labels(prompts, self.models, self.scores[index], None if self.costs is None else self.costs[index])

    def select(self, models: Sequence[str]) -> Labels:
        """Some of the models."""
        columns = [self.models.index(m) for m in models]
        costs = None if self.costs is None else self.costs[:, columns]
        return Labels(self.prompts, tuple(models), self.scores[:, columns], costs)

    def ordered(self) -> Labels:
        """Rows by the digest of their prompt, models by name: the order of a file must not change what is learned."""
        keys = [hashlib.sha256(p.encode("utf-8", "surrogatepass")).digest() for p in self.prompts]
        tie = [self.scores[i].tobytes() for i in range(len(self))]
        rows = sorted(range(len(self)), key=lambda i: (keys[i], tie[i]))
        return self.take(rows).select(sorted(self.models))

    def digest(self) -> str:
        """sha256 over everything that training looks at."""
        total = hashlib.sha256()
        for prompt in self.prompts:
            total.update(prompt.encode("utf-8", "surrogatepass") + b"\x00")
        total.update("\x00".join(self.models).encode())
        total.update(np.ascontiguousarray(self.scores).tobytes())
        if self.costs is not None:
            total.update(np.ascontiguousarray(self.costs).tobytes())
        return total.hexdigest()


def fold_of(prompt: str, folds: int = 5) -> int:
    """Cross-validation fold of a prompt: the same whatever else is in the file."""
    return int(hashlib.sha256(("otr1:" + prompt).encode("utf-8", "surrogatepass")).hexdigest()[8:16], 16) % folds

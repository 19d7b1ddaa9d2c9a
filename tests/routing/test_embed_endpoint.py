"""A router trained and used with an embeddings endpoint, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from routing_kit import labelled

from faultserver import Exchange, FaultServer, answer, error
from opentracy.cli import routing as cli
from opentracy.routing.tables import read_columns, write_table

MODEL = "openai/text-embedding-3-small"
DIMS = 256


def vector(text: str) -> list[float]:
    """The words of a text, each in a place of its own: what any embedding model does better."""
    out = np.zeros(DIMS)
    for word in text.lower().strip("?.").split():
        out[zlib.crc32(word.strip(",.?").encode()) % DIMS] += 1.0 if len(word) > 3 else 0.1
    return out.tolist()


def embeddings(x: Exchange) -> bool:
    texts = x.json["input"]
    rows = [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(texts)]
    body = {"object": "list", "model": "m", "data": rows, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    return bool(answer(body=body)(x))


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key-0123456789")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("OPENTRACY_ENGINE_URL", raising=False)
        yield server(embeddings)


def run(*args: object) -> str:
    done = CliRunner().invoke(cli.routing, [str(a) for a in args])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_router_learns_and_predicts_with_an_endpoint(upstream: FaultServer, tmp_path: Path) -> None:
    labels, _ = labelled(320, seed=17)
    columns: dict[str, list[object]] = {"prompt": list(labels.prompts)}
    for i, m in enumerate(labels.models):
        columns[f"s:{m}"] = labels.scores[:, i].tolist()
    write_table(tmp_path / "d.parquet", columns)
    run("train", tmp_path / "d.parquet", "--out", tmp_path / "r", "--embedder", MODEL)
    asked = len(upstream.seen)
    assert asked <= 1 + 320 // 64 + 2  # in batches, and once for the length of the vectors
    manifest = json.loads((tmp_path / "r" / "router.json").read_text())
    assert (manifest["embedder"], manifest["dims"]) == (f"remote:{MODEL}", DIMS)
    fresh, fresh_topics = labelled(60, seed=18)
    write_table(tmp_path / "p.parquet", {"prompt": list(fresh.prompts)})
    run("predict", tmp_path / "r", tmp_path / "p.parquet", "--out", tmp_path / "o.parquet")
    found = read_columns(tmp_path / "o.parquet")
    is_code = np.array([t == "code" for t in fresh_topics])
    coder = np.asarray(found["q:lab/coder"], dtype=float)
    assert coder[is_code].mean() > coder[~is_code].mean() + 0.2
    assert f"embedder remote:{MODEL} ({DIMS} dims)" in run("info", tmp_path / "r")


def test_an_endpoint_that_fails_is_named_in_one_line(upstream: FaultServer, tmp_path: Path) -> None:
    upstream(error(401, "no such key"))
    write_table(tmp_path / "d.parquet", {"prompt": ["a"] * 20, "s:m": [1.0] * 20})
    done = CliRunner().invoke(cli.routing, ["train", str(tmp_path / "d.parquet"), "--out", str(tmp_path / "r"),
                                            "--embedder", MODEL])  # fmt: skip
    assert done.exit_code == 1
    assert "no such key" in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "r").exists()

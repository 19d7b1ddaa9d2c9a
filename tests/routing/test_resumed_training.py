"""A training that was stopped goes on where it was, and comes to the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from routing_kit import labelled

from opentracy.cli import routing as cli
from opentracy.routing.artifact import encode
from opentracy.routing.checkpoint import Checkpoint
from opentracy.routing.embed import Matrix, StaticEmbedder, static_embedder
from opentracy.routing.tables import write_table
from opentracy.routing.train import fit


class Counting:
    """The static embedder, counting the texts that it embeds."""

    id, dims = StaticEmbedder.id, static_embedder().dims
    sha256 = static_embedder().sha256

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, text: str) -> Matrix:
        return static_embedder().embed(text)

    def embed_many(self, texts: Sequence[str]) -> Matrix:
        self.texts += len(texts)
        return static_embedder().embed_many(texts)


class Stop:
    """Progress that is interrupted at a step of a stage, as by Ctrl-C."""

    def __init__(self, stage: str, at: int) -> None:
        self.stage, self.at = stage, at

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == self.stage and done >= self.at:
            raise KeyboardInterrupt


LABELS = labelled(600, seed=12)[0]


@pytest.fixture(scope="module")
def whole() -> tuple[bytes, bytes]:
    return encode(fit(LABELS, static_embedder()))[1:]


@pytest.mark.parametrize(("stage", "at", "left"), [("embed", 512, 88), ("cross-validate", 3, 0), ("cluster", 1, 0)])
def test_it_goes_on_after_any_stage(
    stage: str, at: int, left: int, tmp_path: Path, whole: tuple[bytes, bytes]
) -> None:
    first, second = Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        fit(LABELS, first, progress=Stop(stage, at), keeper=Checkpoint(tmp_path / "t", "key"))
    kept = Checkpoint(tmp_path / "t", "key")
    assert kept.found
    seen: list[tuple[str, int]] = []
    done = fit(LABELS, second, progress=lambda s, d, t: seen.append((s, d)), keeper=kept)
    assert second.texts == left
    assert encode(done)[1:] == whole
    assert (stage, at) in seen  # the bars pass through what was done before, too


def test_parts_of_another_training_or_damaged_ones_are_not_used(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(LABELS, static_embedder(), progress=Stop("cross-validate", 2), keeper=Checkpoint(tmp_path / "t", "a"))
    assert not Checkpoint(tmp_path / "t", "b").found
    with pytest.raises(KeyboardInterrupt):
        fit(LABELS, static_embedder(), progress=Stop("cross-validate", 2), keeper=Checkpoint(tmp_path / "t", "a"))
    (tmp_path / "t" / "embed-0.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "t" / "embed-256.npy", np.zeros((3, 3), np.float32))
    np.save(tmp_path / "t" / "fold-0.npy", np.full((600, 4), np.nan, np.float32))
    np.save(tmp_path / "t" / "fold-1.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert encode(fit(LABELS, static_embedder(), keeper=Checkpoint(tmp_path / "t", "a")))[1:] == whole


def test_the_command_goes_on_and_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[bytes, bytes]
) -> None:
    columns = {"prompt": list(LABELS.prompts)}
    assert LABELS.costs is not None
    for i, m in enumerate(LABELS.models):
        columns |= {f"s:{m}": LABELS.scores[:, i].tolist(), f"c:{m}": LABELS.costs[:, i].tolist()}
    write_table(tmp_path / "d.parquet", columns)
    command = ["train", str(tmp_path / "d.parquet"), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patched:
        patched.setattr(cli, "_Bars", lambda: Stop("cross-validate", 3))
        stopped = CliRunner().invoke(cli.routing, command)
    assert stopped.exit_code == 130, stopped.output
    assert "the same command goes on" in stopped.output
    assert not (tmp_path / "out").exists()
    again = CliRunner().invoke(cli.routing, command)
    assert again.exit_code == 0, again.output
    assert "going on" in again.output
    assert ((tmp_path / "out" / "router.json").read_bytes(), (tmp_path / "out" / "router.npz").read_bytes()) == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.parquet", "out"]

"""Artifacts: the same bytes again, and a clear refusal of everything damaged, foreign or malicious."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from opentracy.routing import artifact as af
from opentracy.routing.artifact import ARRAYS, MANIFEST, Artifact, ArtifactError
from opentracy.routing.embed import static_embedder
from opentracy.routing.router import Router, load


def arrays_of(raw: bytes) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def refused(artifact: Artifact, change: dict[str, object] | None = None, **arrays: np.ndarray) -> str:  # type: ignore[type-arg]
    """The message with which an artifact with some parts replaced (and its digest made to fit) is refused."""
    _, manifest, raw = af.encode(artifact)
    body = af.pack({**arrays_of(raw), **arrays})
    document = json.loads(manifest) | {"arrays_sha256": hashlib.sha256(body).hexdigest()} | (change or {})
    with pytest.raises(ArtifactError) as caught:
        af.decode(json.dumps(document).encode(), body)
    return str(caught.value)


def test_a_round_trip_gives_the_same_bytes(artifact: Artifact) -> None:
    _, manifest, arrays = af.encode(artifact)
    again = af.encode(af.decode(manifest, arrays))
    assert (manifest, arrays) == again[1:]


def test_no_pickle_and_no_prompt_is_written(artifact: Artifact) -> None:
    _, manifest, arrays = af.encode(artifact)
    for name in zipfile.ZipFile(io.BytesIO(arrays)).namelist():
        assert name.endswith(".npy")
    assert b"Explain why a" not in manifest + arrays


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated_arrays(artifact: Artifact, keep: int) -> None:
    _, manifest, arrays = af.encode(artifact)
    with pytest.raises(ArtifactError, match="sha256"):
        af.decode(manifest, arrays[:keep])


def test_damaged_bytes_behind_a_fitting_digest(artifact: Artifact) -> None:
    _, manifest, arrays = af.encode(artifact)
    bad = bytearray(arrays)
    bad[len(bad) // 2] ^= 0xFF
    document = json.loads(manifest) | {"arrays_sha256": hashlib.sha256(bytes(bad)).hexdigest()}
    with pytest.raises(ArtifactError):
        af.decode(json.dumps(document).encode(), bytes(bad))


@pytest.mark.parametrize("name", ["mean", "centres", "tables", "kernel", "calibration", "spread", "prototype_scales"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_numbers_that_are_not_finite(artifact: Artifact, name: str, poison: float) -> None:
    values = arrays_of(af.encode(artifact)[2])[name].copy()
    values.flat[0] = poison
    assert name in refused(artifact, **{name: values})


def test_infinite_scores_are_refused_but_missing_ones_are_not(artifact: Artifact) -> None:
    scores = arrays_of(af.encode(artifact)[2])["scores"].copy()
    scores[0, 0] = np.inf
    assert "scores" in refused(artifact, scores=scores)
    scores[0, 0] = 2.0
    assert "0..1" in refused(artifact, scores=scores)


@pytest.mark.parametrize("name", ["mean", "tables", "prototypes", "scores", "starts", "cost_residual", "out_of_fold"])
def test_wrong_shapes(artifact: Artifact, name: str) -> None:
    values = arrays_of(af.encode(artifact)[2])[name]
    assert name in refused(artifact, **{name: values[:-1]})


def test_wrong_types_and_pickles(artifact: Artifact) -> None:
    assert "float64" in refused(artifact, mean=np.zeros(artifact.manifest.dims))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    _, manifest, arrays = af.encode(artifact)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(arrays)) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.namelist():
            new.writestr(member, buffer.getvalue() if member == "mean.npy" else old.read(member))
    document = json.loads(manifest) | {"arrays_sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    with pytest.raises(ArtifactError, match="mean"):
        af.decode(json.dumps(document).encode(), packed.getvalue())


def test_a_zip_bomb_is_refused_before_it_is_unpacked(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    _, manifest, arrays = af.encode(artifact)
    monkeypatch.setattr(af, "_MAX_BYTES", 10_000)
    with pytest.raises(ArtifactError, match="unpack to more than"):
        af.decode(manifest, arrays)


def test_an_array_that_claims_more_than_its_entry(artifact: Artifact) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    _, manifest, arrays = af.encode(artifact)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(arrays)) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.namelist():
            new.writestr(member, head.getvalue() if member == "mean.npy" else old.read(member))
    document = json.loads(manifest) | {"arrays_sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    with pytest.raises(ArtifactError, match="mean"):
        af.decode(json.dumps(document).encode(), packed.getvalue())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format": 99}, "format 99"),
        ({"default": "nobody"}, "nobody"),
        ({"weights": [0, 0, 0]}, "weights"),
        ({"weights": [1, 1]}, "weights"),
        ({"heads": ["x"]}, "heads"),
        ({"clusters": []}, "cluster"),
        ({"bounds": [0, 5]}, ""),
        ({"kernel_width": 0}, "kernel_width"),
        ({"dims": "many"}, "dims"),
    ],
)
def test_manifests_that_do_not_hold_together(artifact: Artifact, change: dict[str, object], word: str) -> None:
    assert word in refused(artifact, change)


def test_another_embedder_is_refused(artifact: Artifact) -> None:
    other = msgspec.structs.replace(artifact.manifest, embedder_sha256="0" * 64)
    changed = Artifact(other, *(getattr(artifact, f) for f in Artifact.__slots__[1:]))
    with pytest.raises(ArtifactError, match="train again or pass the same embedder"):
        Router(changed, static_embedder())


def test_a_missing_directory_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="opentracy routing train"):
        load(tmp_path / "nothing")


def test_a_failed_write_leaves_the_old_one(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = af.write(artifact, tmp_path)

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(af.os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        af.write(artifact, tmp_path)
    assert af.read(tmp_path).manifest.version == before.manifest.version
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([ARRAYS, MANIFEST])

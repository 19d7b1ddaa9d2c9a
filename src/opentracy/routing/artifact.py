"""What training leaves behind and a router is made from: arrays in an npz, everything else in a json beside it.

Belongs here: the format, writing it atomically, and refusing what is damaged, foreign or malicious. Not here: how the
arrays are fitted (train.py) or used (router.py). No pickle anywhere; array sizes are checked against the file before
a byte is unpacked, so a small file cannot claim a large memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from opentracy.routing.embed import Matrix, Vector
from opentracy.routing.estimate import Bag, Kernel, Prototypes
from opentracy.routing.style import FEATURES, Novelty

FORMAT = 1
ARRAYS, MANIFEST = "router.npz", "router.json"
_MAX_BYTES = 400_000_000  # unpacked; a router of 10,000 prototypes x 1,536 dims x 50 models stays below 100 MB
_MAX_MANIFEST = 20_000_000


class ArtifactError(ValueError):
    """The directory does not hold an artifact that can be trusted; the message says what is wrong."""


class Cluster(msgspec.Struct, frozen=True):
    """One cluster of the primary map. `id` survives retraining, its position does not."""

    id: int
    label: str
    terms: list[str]
    size: int
    examples: list[str] = []


class Policy(msgspec.Struct, frozen=True):
    """Thresholds of the decision, chosen in training."""

    guard: float = 0.75  # z: standard errors a gain must exceed to leave the default
    novelty: float = 0.9  # novelty (0..1) above which the default answers
    neighbours: int = 100


class CostModel(msgspec.Struct, frozen=True):
    """USD of one call from the text's length: base + per_char * characters, before the cluster's correction."""

    base: float
    per_char: float
    mean: float


class Manifest(msgspec.Struct, frozen=True):
    """router.json"""

    format: int
    version: str  # short digest of the contents: what `router_version` shows
    models: list[str]  # heads that are models, in column order
    heads: list[str]  # all heads: the models, then those of the day-one prior
    embedder: str
    embedder_sha256: str
    dims: int
    default: str | None
    clusters: list[Cluster]
    next_cluster_id: int
    bounds: list[int]
    weights: list[float]  # clusters, neighbours, kernel
    kernel_width: float
    english: bool  # trained on English alone: other languages are left to the default
    policy: Policy
    costs: dict[str, CostModel]
    counts: dict[str, int]  # labels per model
    extra_error: dict[str, float]  # standard error added for models with few labels
    reference: dict[str, list[float]]  # difficulty quantiles of the training prompts, overall and per domain
    output_tokens: dict[str, float]  # expected answer length per domain, or under "all"
    data_sha256: str
    rows: int
    arrays_sha256: str
    trained: str = ""  # free text given by the trainer; never a path or a time of its own
    cv: dict[str, Any] = {}
    parent: str | None = None  # version this one was made from (add-model, learn)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Manifest and arrays, checked against each other."""

    manifest: Manifest
    mean: Vector  # (d,) subtracted before normalising
    bag: Bag
    prototypes: Prototypes
    kernel: Kernel
    novelty: Novelty
    cost_residual: Matrix  # (K, M) USD to add per primary cluster
    out_of_fold: Matrix  # (P, H) estimates of the prototypes by fits that had not seen them; NaN = not made


def _arrays(a: Artifact) -> dict[str, npt.NDArray[Any]]:
    scale = np.maximum(np.abs(a.prototypes.vectors).max(1), 1e-9) / 127
    return {
        "mean": a.mean,
        "centres": a.bag.centres,
        "tables": a.bag.tables,
        "table_counts": a.bag.counts,
        "prototypes": np.round(a.prototypes.vectors / scale[:, None]).astype(np.int8),
        "prototype_scales": scale.astype(np.float32),
        "scores": a.prototypes.scores.astype(np.float16),
        "starts": a.prototypes.starts.astype(np.int64),
        "kernel": a.kernel.weights,
        "intercept": a.kernel.intercept,
        "styles": a.prototypes.styles.astype(np.float16),
        "spread": a.novelty.spread,
        "calibration": np.stack([a.novelty.closeness, a.novelty.mismatch, a.novelty.combined]),
        "cost_residual": a.cost_residual.astype(np.float32),
        "out_of_fold": a.out_of_fold.astype(np.float16),
    }


_DTYPES = {
    "mean": "f4",
    "centres": "f4",
    "tables": "f4",
    "table_counts": "f4",
    "prototypes": "i1",
    "prototype_scales": "f4",
    "scores": "f2",
    "starts": "i8",
    "kernel": "f4",
    "intercept": "f4",
    "calibration": "f4",
    "styles": "f2",
    "spread": "f4",
    "cost_residual": "f4",
    "out_of_fold": "f2",
}
_MAY_BE_NAN = {"scores", "out_of_fold"}


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz whose bytes depend on the arrays alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(arrays):
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name + ".npy"), part.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(raw: bytes, expected: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays named in `expected` (name -> dtype), sizes checked before unpacking."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile:
        raise ArtifactError(f"{ARRAYS} is truncated or not an npz file") from None
    with archive:
        members = archive.infolist()
        if sorted(m.filename for m in members) != sorted(name + ".npy" for name in expected):
            raise ArtifactError(
                f"{ARRAYS} holds {sorted(m.filename for m in members)[:4]}..., not the arrays of a router"
            )
        if sum(m.file_size for m in members) > _MAX_BYTES:
            raise ArtifactError(f"{ARRAYS} would unpack to more than {_MAX_BYTES // 1_000_000} MB")
        return {m.filename[:-4]: _member(archive, m, expected[m.filename[:-4]]) for m in members}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: str) -> npt.NDArray[Any]:
    name = member.filename[:-4]
    try:
        with archive.open(member) as stream:
            body = stream.read(member.file_size + 1)
        if len(body) != member.file_size:
            raise ArtifactError(f"{ARRAYS}: {name} is longer than its entry says")
        found = np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except ArtifactError:
        raise
    except Exception as error:
        # zipfile and numpy raise a dozen types for damaged bytes; all of them mean the same here
        raise ArtifactError(f"{ARRAYS}: {name} cannot be read ({type(error).__name__}: {error})") from None
    if found.dtype != np.dtype("<" + dtype):
        raise ArtifactError(f"{ARRAYS}: {name} is {found.dtype}, expected {dtype}")
    if dtype[0] == "f" and not (np.isfinite(found) | (np.isnan(found) & (name in _MAY_BE_NAN))).all():
        raise ArtifactError(f"{ARRAYS}: {name} holds values that are not finite")
    return found


def _check_values(a: Mapping[str, npt.NDArray[Any]]) -> None:
    if (np.diff(a["calibration"], axis=1) < 0).any() or (a["spread"] <= 0).any():
        raise ArtifactError(f"{ARRAYS}: the calibration is not in ascending order")
    scores = a["scores"]
    if ((scores < 0) | (scores > 1)).any():
        raise ArtifactError(f"{ARRAYS}: scores lie outside 0..1")


def _check_shapes(m: Manifest, a: Mapping[str, npt.NDArray[Any]]) -> None:
    d, h, k = m.dims, len(m.heads), len(m.clusters)
    centres, prototypes = m.bounds[-1] if m.bounds else 0, len(a["prototype_scales"])
    expected = {
        "mean": (d,),
        "centres": (centres, d),
        "tables": (centres, h),
        "table_counts": (centres, h),
        "prototypes": (prototypes, d),
        "prototype_scales": (prototypes,),
        "scores": (prototypes, h),
        "starts": (k + 1,),
        "kernel": (centres, h),
        "intercept": (h,),
        "calibration": (3, 101),
        "styles": (prototypes, FEATURES),
        "spread": (FEATURES,),
        "cost_residual": (k, len(m.models)),
        "out_of_fold": (prototypes, h),
    }
    for name, shape in expected.items():
        if a[name].shape != shape:
            raise ArtifactError(f"{ARRAYS}: {name} has the shape {a[name].shape}, expected {shape}")
    starts = a["starts"]
    if starts[0] != 0 or starts[-1] != prototypes or (np.diff(starts) < 0).any():
        raise ArtifactError(f"{ARRAYS}: starts does not partition the {prototypes} prototypes")
    if m.bounds[0] != 0 or m.bounds[1] != k or any(b <= a_ for a_, b in zip(m.bounds, m.bounds[1:], strict=False)):
        raise ArtifactError(f"{MANIFEST}: bounds {m.bounds[:4]}... do not start with the {k} clusters")


def _check_manifest(m: Manifest) -> None:
    if m.format != FORMAT:
        raise ArtifactError(f"{MANIFEST}: format {m.format}, this version reads {FORMAT}; train again")
    if m.heads[: len(m.models)] != m.models or len(set(m.heads)) != len(m.heads):
        raise ArtifactError(f"{MANIFEST}: heads must start with the models and not repeat")
    if len({c.id for c in m.clusters}) != len(m.clusters) or not m.clusters:
        raise ArtifactError(f"{MANIFEST}: cluster ids must be unique and at least one")
    if len(m.weights) != 3 or not all(0 <= w < 1e6 for w in m.weights) or sum(m.weights) <= 0:
        raise ArtifactError(f"{MANIFEST}: weights must be three numbers >= 0 with a positive sum")
    if not 1e-3 < m.kernel_width < 1e3:
        raise ArtifactError(f"{MANIFEST}: kernel_width is {m.kernel_width}, expected a positive number")
    if m.default is not None and m.default not in m.models:
        raise ArtifactError(f"{MANIFEST}: the default {m.default!r} is not one of the models")
    if len(m.bounds) < 2 or m.dims < 1:
        raise ArtifactError(f"{MANIFEST}: bounds or dims are missing")


def encode(artifact: Artifact) -> tuple[Artifact, bytes, bytes]:
    """(the artifact with its digests filled in, manifest bytes, array bytes)."""
    arrays = pack(_arrays(artifact))
    m = msgspec.structs.replace(artifact.manifest, arrays_sha256=hashlib.sha256(arrays).hexdigest(), version="")
    version = hashlib.sha256(msgspec.json.encode(m)).hexdigest()[:12]
    m = msgspec.structs.replace(m, version=version)
    _check_manifest(m)
    done = Artifact(m, *(getattr(artifact, f) for f in Artifact.__slots__[1:]))
    return done, msgspec.json.format(msgspec.json.encode(m), indent=1), arrays


def decode(manifest: bytes, arrays: bytes) -> Artifact:
    """An artifact from its two files. Raises ArtifactError for anything that is not whole and consistent."""
    if len(manifest) > _MAX_MANIFEST:
        raise ArtifactError(f"{MANIFEST} is larger than {_MAX_MANIFEST // 1_000_000} MB")
    try:
        m = msgspec.json.decode(manifest, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{MANIFEST}: {error}") from None
    _check_manifest(m)
    if hashlib.sha256(arrays).hexdigest() != m.arrays_sha256:
        raise ArtifactError(
            f"{ARRAYS} does not have the sha256 that {MANIFEST} names: truncated, edited or from another training"
        )
    a = unpack(arrays, _DTYPES)
    _check_shapes(m, a)
    _check_values(a)
    vectors = a["prototypes"].astype(np.float32) * a["prototype_scales"][:, None]
    return Artifact(
        m,
        a["mean"],
        Bag(a["centres"], tuple(m.bounds), a["tables"], a["table_counts"]),
        Prototypes(
            vectors, a["scores"].astype(np.float32), a["starts"].astype(np.intp), a["styles"].astype(np.float32)
        ),
        Kernel(a["kernel"], a["intercept"], m.kernel_width),
        Novelty(a["spread"], *a["calibration"]),
        a["cost_residual"],
        a["out_of_fold"].astype(np.float32),
    )


def read(directory: Path) -> Artifact:
    """The artifact in `directory`. Raises ArtifactError."""
    try:
        arrays = directory / ARRAYS
        if arrays.stat().st_size > _MAX_BYTES:
            raise ArtifactError(f"{ARRAYS} is larger than {_MAX_BYTES // 1_000_000} MB")
        return decode((directory / MANIFEST).read_bytes(), arrays.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"no router in {directory} ({error.strerror or error}); "
            f"make one with: opentracy routing train DATA --out {directory}"
        ) from None


def write(artifact: Artifact, directory: Path) -> Artifact:
    """Write both files beside their names, then rename; the old artifact stays readable until the last moment.

    The arrays go first: a reader between the two renames sees a digest mismatch and keeps what it has.
    """
    done, manifest, arrays = encode(artifact)
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".router-", dir=directory))
    try:
        for name, body in ((ARRAYS, arrays), (MANIFEST, manifest)):
            with (staging / name).open("wb") as stream:
                stream.write(body)
                stream.flush()
                os.fsync(stream.fileno())
        (staging / ARRAYS).replace(directory / ARRAYS)
        (staging / MANIFEST).replace(directory / MANIFEST)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return done

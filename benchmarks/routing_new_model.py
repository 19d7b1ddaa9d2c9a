"""A model that joins with few labels: how good is its column?

    OPENBLAS_NUM_THREADS=1 python benchmarks/routing_new_model.py --data DIR [--draws 10]

DIR holds llmrouter9.parquet and routellm2.parquet. Every model of both sets is left out in turn: the router is trained
on the train rows of the others, the model is added with 20, 50 and 200 labels of train rows drawn anew `--draws` times,
and its estimates of the dev rows are scored: Brier over that of its own true mean there (1 = no better than knowing the
mean).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from opentracy.routing import Labels, fit
from opentracy.routing.artifact import decode, encode
from opentracy.routing.embed import static_embedder
from opentracy.routing.estimate import unit
from opentracy.routing.extend import add_model, estimates
from opentracy.routing.text import core_text
from opentracy.routing.train import embed_rows

SETS = ("llmrouter9", "routellm2")
COUNTS = (20, 50, 200)


def read(path: Path) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """(all visible rows, which of them are dev)."""
    table = pq.read_table(path).to_pydict()
    models = tuple(name[2:] for name in table if name.startswith("s:"))
    scores, costs = (
        np.stack([np.asarray(table[kind + m], dtype=np.float64) for m in models], 1) for kind in ("s:", "c:")
    )
    return Labels(tuple(table["prompt"]), models, scores, costs), np.array([s == "dev" for s in table["split"]])


def ratios(rows: Labels, dev: npt.NDArray[np.bool_], draws: int) -> Iterator[tuple[str, list[float]]]:
    """(model, mean ratio for every number of labels)."""
    embedder = static_embedder()
    train, test = rows.take(np.flatnonzero(~dev)), rows.take(np.flatnonzero(dev))
    raw = embed_rows([core_text(p) for p in test.prompts], embedder)
    for at, model in enumerate(rows.models):
        others = train.select([m for m in rows.models if m != model])
        artifact = decode(*encode(fit(others, embedder))[1:])
        truth, x = test.scores[:, at], unit(unit(raw) - artifact.mean)
        found = []
        for n in COUNTS:
            errors = []
            for draw in range(draws):
                some = np.random.default_rng([n, draw]).choice(len(train), n, replace=False)
                added = add_model(artifact, train.take(some).select([model]), embedder)
                q = estimates(added, x)[:, added.manifest.models.index(model)]
                errors.append(float(((np.clip(q, 0.001, 0.999) - truth) ** 2).mean() / truth.var()))
            found.append(float(np.mean(errors)))
        yield model, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    print("labels".ljust(36), *(f"{n:6d}" for n in COUNTS))
    for name in SETS:
        found = []
        for model, row in ratios(*read(args.data / f"{name}.parquet"), args.draws):
            print(model.ljust(36), *(f"{r:6.3f}" for r in row), flush=True)
            found.append(row)
        print(name.ljust(36), *(f"{r:6.3f}" for r in np.mean(found, 0)), flush=True)


if __name__ == "__main__":
    main()

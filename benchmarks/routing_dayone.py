"""Day one, simulated: how well are prompts routed among models without a single label, from a few public figures each?

    OPENBLAS_NUM_THREADS=1 python benchmarks/routing_dayone.py --data DIR [--seen | --apart domain|task] [--draws 12]

DIR holds llmrouter9.parquet and routellm2.parquet. Each set is routed in turn by an artifact that is trained like the
bundled one, on the other set alone (with --seen: on the train rows of both; with --apart: on the train rows of both
that are not of the prompt's domain, or task, so that no prompt is of a kind that was seen), among its models made
anonymous. A model's "published" figures are its means over the visible rows, overall and per domain, with normal errors
of .02 and .04 drawn anew `--draws` times. Prints APGR (two models), and the area under the quality-cost curve beside
that of the overall figures alone (every prompt alike), mean and standard deviation over the draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from build_default_router import built, domain_of, labels

from opentracy.routing import Candidate
from opentracy.routing.artifact import Artifact, decode, encode
from opentracy.routing.embed import static_embedder
from opentracy.routing.metrics import Truth, brier, curve, gap_recovered, summary
from opentracy.routing.prior import DOMAINS, Abilities
from opentracy.routing.router import Router

Floats = npt.NDArray[np.float64]
SETS = ("llmrouter9", "routellm2")
OVERALL_ERROR, DOMAIN_ERROR = 0.02, 0.04


class Target:
    """The scored rows of one set, and the true figures of its models over all visible rows."""

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path).to_pydict()
        self.names = [k[2:] for k in table if k.startswith("s:")]
        scores = np.stack([np.asarray(table["s:" + m], dtype=np.float64) for m in self.names], 1)
        costs = np.stack([np.asarray(table["c:" + m], dtype=np.float64) for m in self.names], 1)
        dev = np.array([s == "dev" for s in table["split"]])
        domains = np.array([domain_of(t) for t in table["task"]])
        mean_costs = costs[~dev].mean(0)
        self.truth = Truth(scores[dev], costs[dev], mean_costs, int(scores[~dev].mean(0).argmax()))
        self.prompts = [p for p, d in zip(table["prompt"], dev, strict=True) if d]
        self.tasks = [t for t, d in zip(table["task"], dev, strict=True) if d]
        self.overall = scores.mean(0)
        self.domains = {d: scores[domains == d].mean(0) for d in DOMAINS if (domains == d).sum() >= 20}

    def figures(self, rng: np.random.Generator) -> Abilities:
        """One draw of what might have been published, in the format of `predict --abilities`."""
        import msgspec

        rows = {}
        for i in range(len(self.names)):
            near = {d: float(np.clip(v[i] + rng.normal(0, DOMAIN_ERROR), 0, 1)) for d, v in self.domains.items()}
            overall = float(np.clip(self.overall[i] + rng.normal(0, OVERALL_ERROR), 0, 1))
            rows[f"model-{i}"] = {"ability": overall, "domains": near, "cost": float(self.truth.mean_costs[i])}
        return Abilities.parse_user(msgspec.json.encode(rows))


def trained(folder: Path, target: str, *, seen: bool, without: Collection[str] = ()) -> Artifact:
    """Like the bundled artifact, without the rows under test, and without some tasks."""
    names = SETS if seen else tuple(s for s in SETS if s != target)
    return decode(*encode(built(labels(folder, names, "train" if seen else None, without)))[1:])


def kind_of(task: str, apart: str) -> str:
    """The group that a task is left out with. The questions of MMLU are one task in one set, and 57 in the other."""
    return domain_of(task) if apart == "domain" else task.split("_")[0] if task.startswith("mmlu") else task


def readers(
    folder: Path, target: Target, name: str, *, seen: bool, apart: str | None
) -> list[tuple[Artifact, list[int]]]:
    """(artifact, prompts that it judges): one for all, or one for every kind of prompt, which has not seen it."""
    if apart is None:
        return [(trained(folder, name, seen=seen), list(range(len(target.prompts))))]
    tasks = {t for s in SETS for t in pq.read_table(folder / f"{s}.parquet", columns=["task"])["task"].to_pylist()}
    kinds = [kind_of(t, apart) for t in target.tasks]
    return [
        (
            trained(folder, name, seen=True, without={t for t in tasks if kind_of(t, apart) == kind}),
            [i for i, k in enumerate(kinds) if k == kind],
        )
        for kind in sorted(set(kinds))
    ]


def estimates(router: Router, prompts: list[str], count: int) -> Floats:
    """(rows, models) quality of the anonymous models."""
    candidates = tuple(Candidate(f"model-{i}") for i in range(count))
    found = [router.decide_weights(p, [0.0], candidates=candidates)[0] for p in prompts]
    return np.array([[s.quality for s in d.scores] for d in found], dtype=np.float64)


def figures(target: Target, q: Floats) -> dict[str, float]:
    """The figures that are reported for one draw."""
    out = {"brier": brier(q, target.truth.scores)}
    if q.shape[1] == 2:
        weak, strong = np.argsort(target.truth.mean_costs).tolist()
        return out | gap_recovered(q, target.truth.scores, weak, strong)
    return out | {k: v for k, v in summary(target.truth, curve(target.truth, q)).items() if k in ("auc", "peak")}


def simulate(target: Target, judges: list[tuple[Artifact, list[int]]], draws: int) -> dict[str, list[float]]:
    """Every figure over the draws; `gain` = area over that of the overall figures alone."""
    out: dict[str, list[float]] = {}
    for draw in range(draws):
        abilities = target.figures(np.random.default_rng(draw))
        q = np.zeros(target.truth.scores.shape)
        for artifact, rows in judges:
            router = Router(artifact, static_embedder(), abilities)
            q[rows] = estimates(router, [target.prompts[i] for i in rows], len(target.names))
        found = figures(target, q)
        if "auc" in found:
            overall = [a.overall.value for name in abilities if (a := abilities.find(name))]
            found["gain"] = found["auc"] - figures(target, np.tile(overall, (len(q), 1)))["auc"]
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seen", action="store_true", help="train on the train rows of both sets, as the bundled one")
    parser.add_argument(
        "--apart", choices=("domain", "task"), help="train on both, without the prompt's domain or task"
    )
    parser.add_argument("--draws", type=int, default=12)
    args = parser.parse_args()
    for name in SETS:
        target = Target(args.data / f"{name}.parquet")
        judges = readers(args.data, target, name, seen=args.seen, apart=args.apart)
        found = simulate(target, judges, args.draws)
        print(name, "  ".join(f"{k} {np.mean(v):.3f} +- {np.std(v):.3f}" for k, v in found.items()))


if __name__ == "__main__":
    main()

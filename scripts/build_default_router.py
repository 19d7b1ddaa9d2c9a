"""Build the router that the package ships: difficulty and domains of a prompt, learned from two openly licensed label
sets.

    python scripts/build_default_router.py --data DIR [--out src/opentracy/routing/data/default]

DIR holds llmrouter9.parquet (MIT) and routellm2.parquet (Apache-2.0). Only weights derived from labels are written: no
prompt, and no column for any of the labelled models, because the models a user has today are others. What is learned:

- `prior:difficulty`: chance that a middling model answers the prompt right, from a one-parameter item response fit.
The two
  sets share no model; they are linked by MMLU questions, which both contain, being equally hard on average in both.
- `prior:weak`, `prior:strong`: chance that a weak and that a strong model answers it right. How far they lie apart says
  how much a better model is worth for this prompt. The models that stand for them are about equally good in both sets.
- `prior:<domain>`: one of five domains, by the task a prompt belongs to, and by some hundred prompts written by hand
(domain_examples.txt). The label sets hold few kinds of prompts of every domain, and what is learned from them alone
takes a question about everyday life for one of knowledge, because it is short, and a puzzle for mathematics, because it
has numbers. The examples are few, so they are given half of the say: a domain is the mean of what all prompts and what
the examples alone teach.
- `example:<domain>`: the same by what the examples alone teach. It is worse among prompts of the labelled kinds, and
better for any other: domains of prompts far from the training prompts are read from it (appraise.py).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opentracy.routing import Labels, Options, fit
from opentracy.routing.appraise import DIFFICULTY, STRONG, WEAK
from opentracy.routing.artifact import Artifact, Policy, write
from opentracy.routing.embed import Matrix, static_embedder
from opentracy.routing.estimate import Bag, Kernel
from opentracy.routing.prior import DOMAINS, logit

Floats = npt.NDArray[np.float64]
SETS = ("llmrouter9", "routellm2")
EXAMPLES = Path(__file__).with_name("domain_examples.txt")
SPREAD = 1.6  # standard deviation of difficulty in logits; the fit is not sensitive between 1.2 and 2.2
SOURCES = (
    "llmrouter9 (github ulab-uiuc/LLMRouter @ 4e7a796, MIT), routellm2 (github lm-sys/RouteLLM @ 0b64fda, Apache-2.0)"
)
# Everyday prompts are unlike benchmark questions, and published figures hold for them as well: only what is far out of
# the ordinary (another language, binary) is left to the default model.
NOVELTY = 0.99
PER_SET = 8000  # rows of one set at most, so that the larger does not speak for all prompts
OUTPUT_TOKENS = {
    "math": 900.0,
    "code": 900.0,
    "knowledge": 400.0,
    "commonsense": 300.0,
    "reasoning": 1000.0,
    "all": 700.0,
}

# Right on the MMLU questions that both sets have: .71 and .68, .85 and .81.
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "llmrouter9": (
        ("llama-3.1-8b-instruct",),
        ("llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1"),
    ),
    "routellm2": (("mixtral-8x7b-instruct",), ("gpt-4-1106-preview",)),
}

MATH = {
    "gsm8k",
    "math",
    "mmlu_abstract_algebra",
    "mmlu_college_mathematics",
    "mmlu_elementary_mathematics",
    "mmlu_high_school_mathematics",
    "mmlu_high_school_statistics",
    "mmlu_econometrics",
}
CODE = {
    "mbpp",
    "human_eval",
    "mmlu_college_computer_science",
    "mmlu_high_school_computer_science",
    "mmlu_machine_learning",
}
COMMONSENSE = {
    "commonsense_qa",
    "openbook_qa",
    "mmlu_moral_scenarios",
    "mmlu_moral_disputes",
    "mmlu_miscellaneous",
    "mmlu_human_sexuality",
    "mmlu_sociology",
}
REASONING = {
    "agentverse-logicgrid",
    "mmlu_formal_logic",
    "mmlu_logical_fallacies",
    "mmlu_college_physics",
    "mmlu_high_school_physics",
    "mmlu_conceptual_physics",
    "mmlu_professional_law",
}


def domain_of(task: str) -> str:
    """Which of the five domains a task belongs to."""
    for name, tasks in (("math", MATH), ("code", CODE), ("commonsense", COMMONSENSE), ("reasoning", REASONING)):
        if task in tasks:
            return name
    return "knowledge"


def item_response(scores: Floats, rounds: int = 60) -> Floats:
    """Posterior mean difficulty (logits, mean 0 by construction) of every row, abilities fitted by marginal
    likelihood.
    """
    grid = np.linspace(-5, 5, 81)
    prior = np.exp(-0.5 * (grid / SPREAD) ** 2)
    ability = logit(scores.mean(0))
    posterior = np.tile(prior / prior.sum(), (len(scores), 1))
    for _ in range(rounds):
        p = np.clip(1 / (1 + np.exp(-(ability[:, None] - grid))), 1e-6, 1 - 1e-6)  # (M, G)
        logs = scores @ np.log(p) + (1 - scores) @ np.log(1 - p)
        posterior = np.exp(logs - logs.max(1, keepdims=True)) * prior
        posterior /= posterior.sum(1, keepdims=True)
        gap = scores.mean(0) - (posterior.mean(0) * p).sum(1)
        ability = ability + gap / np.maximum((posterior.mean(0) * p * (1 - p)).sum(1), 0.02)
    return posterior @ grid


def rows_of(path: Path, split: str | None = None) -> tuple[list[str], list[str], Floats]:
    """(prompts, tasks, columns difficulty, weak and strong). Difficulty is linked: MMLU questions have mean 0.

    split: only these rows; None = all.
    """
    read = pq.read_table(path)
    table = (read if split is None else read.filter(pc.equal(read["split"], split))).to_pydict()
    scores = np.stack([np.asarray(v, dtype=np.float64) for k, v in table.items() if k.startswith("s:")], 1)
    difficulty = item_response(scores)
    mmlu = np.array([t.startswith("mmlu") for t in table["task"]])
    levels = [
        np.mean([np.asarray(table["s:" + m], dtype=np.float64) for m in models], axis=0) for models in LEVELS[path.stem]
    ]
    return table["prompt"], table["task"], np.stack([difficulty - difficulty[mmlu].mean(), *levels], 1)


def examples(path: Path = EXAMPLES) -> list[tuple[str, str]]:
    """(prompt, domain) of every prompt written by hand."""
    found, domain = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line[1:-1] in DOMAINS:
            domain = line[1:-1]
        elif line and not line.startswith("# "):
            found.append((line.replace("\\n", "\n"), domain))
    return found


def labels(
    folder: Path, names: Sequence[str] = SETS, split: str | None = None, without: Collection[str] = ()
) -> Labels:
    """Heads as labels. Examples have no difficulty; the heads `example:<domain>` are taught by them alone.

    without: tasks that are left out.
    """
    prompts: list[str] = []
    tasks: list[str] = []
    columns: list[Floats] = []
    for name in names:
        p, t, found = rows_of(folder / f"{name}.parquet", split)
        some = [i for i in range(len(p)) if t[i] not in without]
        keep = sorted(some, key=lambda i: hashlib.sha256(p[i].encode()).digest())[:PER_SET]
        prompts += [p[i] for i in keep]
        tasks += [t[i] for i in keep]
        columns.append(found[keep])
    levels = np.concatenate(columns)
    levels[:, 0] = 1 / (1 + np.exp(levels[:, 0] - 0.5))  # as a score: easy prompts near 1
    taught = examples()
    shares = shares_of([domain_of(t) for t in tasks])
    own = shares_of([domain for _, domain in taught])
    heads = (DIFFICULTY, WEAK, STRONG, *(f"prior:{d}" for d in DOMAINS), *(f"example:{d}" for d in DOMAINS))
    scores = np.concatenate(
        [
            np.concatenate([levels, shares, np.full_like(shares, np.nan)], 1),
            np.concatenate([np.full((len(own), levels.shape[1]), np.nan), own, own], 1),
        ]
    )
    return Labels((*prompts, *(prompt for prompt, _ in taught)), heads, scores)


def shares_of(domains: Sequence[str]) -> Floats:
    """(rows, domains) one-hot."""
    return np.array([[float(d == name) for name in DOMAINS] for d in domains])


def options_for(rows: Labels) -> Options:
    """How the bundled router is trained."""
    return Options(extra_heads=rows.models, prototypes=6000, policy=Policy(guard=0.75, novelty=NOVELTY))


def reference_of(difficulty: Floats, gain: Floats, groups: int = 41) -> tuple[list[float], list[float]]:
    """(difficulties, gaps between strong and weak) of groups of prompts of like difficulty, easiest first."""
    parts = np.array_split(np.argsort(difficulty, kind="stable"), min(groups, len(difficulty)))
    return (
        [round(float(difficulty[p].mean()), 4) for p in parts],
        [round(float(gain[p].mean()), 4) for p in parts],
    )


def joined(artifact: Artifact) -> Artifact:
    """Every domain's own head moved to the mean of its two: the estimators are linear in their heads."""
    m = artifact.manifest
    pairs = [(m.heads.index("prior:" + d), m.heads.index("example:" + d)) for d in DOMAINS]
    first, second = [i for i, _ in pairs], [i for _, i in pairs]

    def mean(values: Matrix) -> Matrix:
        out = values.copy()
        out[..., first] = (values[..., first] + values[..., second]) / 2
        return out

    bag, kernel = artifact.bag, artifact.kernel
    return Artifact(
        m,
        artifact.mean,
        Bag(bag.centres, bag.bounds, mean(bag.tables), bag.counts),
        artifact.prototypes,
        Kernel(mean(kernel.weights), mean(kernel.intercept), kernel.width),
        artifact.novelty,
        artifact.cost_residual,
        mean(artifact.out_of_fold),
    )


def with_reference(artifact: Artifact) -> Artifact:
    """What published figures are solved against: difficulty and gain from the out-of-fold estimates, overall and per
    domain (by the domain's label).
    """
    heads = artifact.manifest.heads
    graded = ~np.isnan(artifact.prototypes.scores[:, heads.index(DIFFICULTY)])
    oof, scores = artifact.out_of_fold[graded].astype(np.float64), artifact.prototypes.scores[graded]
    d = -logit(oof[:, heads.index(DIFFICULTY)])
    gain = logit(oof[:, heads.index(STRONG)]) - logit(oof[:, heads.index(WEAK)])
    reference: dict[str, list[float]] = {}
    reference["all"], reference["all:gain"] = reference_of(d, gain)
    for domain in DOMAINS:
        mine = scores[:, heads.index("prior:" + domain)] > 0.5
        if mine.any():
            reference[domain], reference[domain + ":gain"] = reference_of(d[mine], gain[mine])
    manifest = msgspec.structs.replace(
        artifact.manifest,
        reference=reference,
        output_tokens=OUTPUT_TOKENS,
        trained=SOURCES,
    )
    return Artifact(manifest, *(getattr(artifact, name) for name in Artifact.__slots__[1:]))


def built(rows: Labels) -> Artifact:
    """The artifact of these labels."""
    return with_reference(joined(fit(rows, static_embedder(), options_for(rows))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/opentracy/routing/data/default"))
    args = parser.parse_args()
    done = write(built(labels(args.data)), args.out)
    print(done.manifest.version, {p.name: p.stat().st_size for p in args.out.iterdir()})


if __name__ == "__main__":
    main()

"""Build the router that the package ships: difficulty and domains of a prompt, learned from two openly licensed label
sets.

    python scripts/build_default_router.py --data DIR [--out src/opentracy/routing/data/default]

DIR holds llmrouter9.parquet (MIT) and routellm2.parquet (Apache-2.0). Only weights derived from labels are written: no
prompt, and no column for any of the labelled models, because the models a user has today are others. What is learned:

- `prior:difficulty`: chance that a middling model answers the prompt right, from a one-parameter item response fit.
The two
  sets share no model; they are linked by MMLU questions, which both contain, being equally hard on average in both.
- `prior:<domain>`: one of five domains, by the task a prompt belongs to.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opentracy.routing import Labels, Options, fit
from opentracy.routing.appraise import DIFFICULTY
from opentracy.routing.artifact import Artifact, Policy, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.prior import DOMAINS, logit

Floats = npt.NDArray[np.float64]
SETS = ("llmrouter9", "routellm2")
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
    """(prompts, tasks, difficulty linked so that MMLU questions have mean 0). split: only these rows; None = all."""
    read = pq.read_table(path)
    table = (read if split is None else read.filter(pc.equal(read["split"], split))).to_pydict()
    scores = np.stack([np.asarray(v, dtype=np.float64) for k, v in table.items() if k.startswith("s:")], 1)
    difficulty = item_response(scores)
    mmlu = np.array([t.startswith("mmlu") for t in table["task"]])
    return table["prompt"], table["task"], difficulty - difficulty[mmlu].mean()


def labels(folder: Path, names: Sequence[str] = SETS, split: str | None = None) -> tuple[Labels, list[str]]:
    """(heads as labels, domain per row)."""
    prompts: list[str] = []
    tasks: list[str] = []
    difficulty: list[float] = []
    for name in names:
        p, t, d = rows_of(folder / f"{name}.parquet", split)
        keep = sorted(range(len(p)), key=lambda i: hashlib.sha256(p[i].encode()).digest())[:PER_SET]
        prompts += [p[i] for i in keep]
        tasks += [t[i] for i in keep]
        difficulty += [float(d[i]) for i in keep]
    easy = 1 / (1 + np.exp(np.asarray(difficulty) - 0.5))
    domains = [domain_of(t) for t in tasks]
    shares = np.array([[float(d == name) for name in DOMAINS] for d in domains])
    heads = (DIFFICULTY, *(f"prior:{d}" for d in DOMAINS))
    return Labels(tuple(prompts), heads, np.concatenate([easy[:, None], shares], 1)), domains


def options_for(rows: Labels) -> Options:
    """How the bundled router is trained."""
    return Options(extra_heads=rows.models, prototypes=6000, policy=Policy(guard=0.75, novelty=NOVELTY))


def with_reference(artifact: Artifact) -> Artifact:
    """Difficulty quantiles per domain from the out-of-fold estimates, weighted by the domain's label."""
    heads = artifact.manifest.heads
    oof, scores = artifact.out_of_fold, artifact.prototypes.scores
    d = -logit(oof[:, heads.index(DIFFICULTY)].astype(np.float64))
    at = np.linspace(1, 99, 41)
    reference = {"all": [round(float(v), 4) for v in np.percentile(d, at)]}
    for domain in DOMAINS:
        mine = scores[:, heads.index("prior:" + domain)] > 0.5
        reference[domain] = [round(float(v), 4) for v in np.percentile(d[mine], at)]
    manifest = msgspec.structs.replace(
        artifact.manifest,
        reference=reference,
        output_tokens=OUTPUT_TOKENS,
        trained=SOURCES,
    )
    return Artifact(manifest, *(getattr(artifact, name) for name in Artifact.__slots__[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/opentracy/routing/data/default"))
    args = parser.parse_args()
    rows, _ = labels(args.data)
    done = write(with_reference(fit(rows, static_embedder(), options_for(rows))), args.out)
    print(done.manifest.version, {p.name: p.stat().st_size for p in args.out.iterdir()})


if __name__ == "__main__":
    main()

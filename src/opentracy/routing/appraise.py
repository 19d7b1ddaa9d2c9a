"""One candidate for one text: expected quality with its error, and expected cost.

Belongs here: where a candidate's figures come from: labels when the artifact has them, a published ability bent by the
text's difficulty otherwise, nothing at all when neither is known. Not here: reading the text (reader.py), choosing
(policy.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact, CostModel
from opentracy.routing.policy import Candidate, Requirements
from opentracy.routing.prior import (
    DOMAINS,
    Abilities,
    Ability,
    bare_name,
    difficulty_of,
    shrunk_domains,
    solve_ability,
)
from opentracy.routing.reader import Estimate, Reader

DIFFICULTY = "prior:difficulty"
_OUTPUT_TOKENS = 400.0  # expected answer length where nothing was learned about it
_PROMPT_TOKENS = 300.0  # of an ordinary request, for the scale of the cost weight
_PRIOR_MODEL_ERROR = 0.06  # how far one-parameter item response is from the truth, beside the figure's own error
# Chosen by benchmarks/routing_dayone.py: difficulty is estimated too near the middle, and most prompts have one domain.
_STRETCH = 1.5
_SHARPNESS = 2
_EVEN = np.full(len(DOMAINS), 1 / len(DOMAINS))
_VERBOSITY_OF = 1000.0  # output_tokens of abilities.json are per this many tokens of an ordinary model


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change from prompt to prompt for one set of candidates and one default. Lists are per candidate."""

    candidates: tuple[Candidate, ...]
    home: str  # answers unless another is established as better
    home_column: int | None
    columns: list[int | None]  # of candidates that have labels
    labelled: bool  # any has
    extra: list[float]  # standard error beside the neighbours'
    solved: npt.NDArray[np.float64]  # (unlabelled with figures, domains) abilities in logits
    unlabelled: list[int]  # the candidates that these rows belong to
    figure_errors: list[float | None]  # None = no figures
    verbosity: list[float]  # answer length beside an ordinary model's
    stated: list[float | None]  # USD per call where nothing better is known
    fitted: list[CostModel | None]
    dearest: float  # USD of an ordinary request on the dearest candidate: the scale of the cost weight


class Figures(NamedTuple):
    """Candidates' figures for one text, in their order."""

    quality: list[float | None]
    error: list[float | None]
    gap_error: list[float]  # of (candidate - home), paired where labels allow
    cost: list[float | None]  # USD


class Appraiser:
    """Figures of candidates. Immutable; thread-safe."""

    def __init__(self, artifact: Artifact, reader: Reader, abilities: Abilities) -> None:
        m = artifact.manifest
        self._artifact, self._reader, self.abilities = artifact, reader, abilities
        self._column = {name: i for i, name in enumerate(m.models)}
        self._bare = {bare_name(name): i for i, name in reversed(list(enumerate(m.models)))}
        self._extra = [m.extra_error.get(name, 0.0) for name in m.models]
        self._domain_heads = [m.heads.index("prior:" + d) for d in DOMAINS] if DIFFICULTY in m.heads else []
        self._difficulty_head = m.heads.index(DIFFICULTY) if self._domain_heads else -1
        self._stretch = _STRETCH if self._domain_heads else 1.0
        self._usual = m.output_tokens.get("all", _OUTPUT_TOKENS)
        self._lengths = [m.output_tokens.get(d, self._usual) for d in DOMAINS]

    def column(self, model: str) -> int | None:
        """Column of a labelled model, by full name or by the part after the last slash."""
        found = self._column.get(model)
        return found if found is not None else self._bare.get(bare_name(model))

    # -------------------------------------------------------------- once per set of candidates
    def plan(self, candidates: tuple[Candidate, ...], default: str | None) -> Plan:
        """Everything about these candidates that no prompt changes."""
        columns = [self.column(c.model) for c in candidates]
        home, home_column = self._home(candidates, columns, default)
        known = [self.abilities.find(c.model) for c in candidates]
        able = "all" in self._artifact.manifest.reference
        unlabelled = [
            i for i, (a, column) in enumerate(zip(known, columns, strict=True)) if column is None and a and able
        ]
        solved = [self._solve(a) for i in unlabelled if (a := known[i])]
        errors = [math.hypot(a.overall.se, _PRIOR_MODEL_ERROR) if a else None for a in known]
        verbosity = [a.output_tokens / _VERBOSITY_OF if a and a.output_tokens else 1.0 for a in known]
        stated = [a.cost if a and column is None else None for a, column in zip(known, columns, strict=True)]
        costs, names = self._artifact.manifest.costs, self._artifact.manifest.models
        fitted = [None if column is None else costs.get(names[column]) for column in columns]
        typical = [self._usual_cost(*parts) for parts in zip(candidates, verbosity, fitted, stated, strict=True)]
        return Plan(
            candidates=candidates,
            home=home,
            home_column=home_column,
            columns=columns,
            labelled=any(column is not None for column in columns),
            extra=[0.0 if column is None else self._extra[column] for column in columns],
            solved=np.array(solved).reshape(-1, len(DOMAINS)),
            unlabelled=unlabelled,
            figure_errors=errors,
            verbosity=verbosity,
            stated=stated,
            fitted=fitted,
            dearest=max((cost or 0.0 for cost in typical), default=0.0),
        )

    def _usual_cost(
        self, c: Candidate, verbosity: float, fitted: CostModel | None, stated: float | None
    ) -> float | None:
        if c.input_price is not None and c.output_price is not None:
            return c.input_price * _PROMPT_TOKENS + c.output_price * self._usual * verbosity
        return stated if fitted is None else fitted.mean

    def _home(
        self, candidates: Sequence[Candidate], columns: Sequence[int | None], default: str | None
    ) -> tuple[str, int | None]:
        if default is not None:
            return default, self.column(default)
        wanted = self._artifact.manifest.default
        for c, column in zip(candidates, columns, strict=True):
            if c.model == wanted or (column is not None and self._artifact.manifest.models[column] == wanted):
                return c.model, column
        ranked = sorted((-self._typical(c.model), c.model, i) for i, c in enumerate(candidates))
        i = ranked[0][2]
        return candidates[i].model, columns[i]

    def _typical(self, model: str) -> float:
        column = self.column(model)
        if column is not None:
            return float(self._artifact.kernel.intercept[column])
        ability = self.abilities.find(model)
        return -1.0 if ability is None else ability.overall.value

    def _solve(self, ability: Ability) -> list[float]:
        reference, domains = self._artifact.manifest.reference, shrunk_domains(ability)
        against = [[self._stretch * v for v in reference.get(d) or reference["all"]] for d in DOMAINS]
        return [solve_ability(domains[d], difficulties) for d, difficulties in zip(DOMAINS, against, strict=True)]

    # -------------------------------------------------------------- once per text
    def figures(self, plan: Plan, e: Estimate, tokens: int, needs: Requirements) -> Figures:
        """Quality with its errors, and cost, of every candidate. tokens: of the prompt."""
        count = len(plan.candidates)
        quality: list[float | None] = [None] * count
        error: list[float | None] = [None] * count
        gap = [0.0] * count
        if plan.labelled:
            self._measured(plan, e, quality, error, gap)
        difficulty, shares = self._difficulty(e) if plan.unlabelled or self._domain_heads else (0.0, None)
        if plan.unlabelled and shares is not None:
            values = np.dot(1.0 / (1.0 + np.exp(difficulty - plan.solved)), shares).tolist()
            for i, value in zip(plan.unlabelled, values, strict=True):
                quality[i], error[i] = value, plan.figure_errors[i]
        self._unpaired(plan, error, gap)
        length = self._usual if shares is None or not self._domain_heads else float(np.dot(self._lengths, shares))
        return Figures(quality, error, gap, self._costs(plan, e, tokens, needs, length))

    def _measured(
        self, plan: Plan, e: Estimate, quality: list[float | None], error: list[float | None], gap: list[float]
    ) -> None:
        """Fill in the candidates that have labels."""
        estimates, home = e.quality.tolist(), plan.home_column
        if len(e.rows):
            alone, apart = (part.tolist() for part in self._reader.spreads(e.rows, home))
        else:
            alone = apart = [0.5] * len(estimates)
        beside = 0.0 if home is None or not len(e.rows) else self._extra[home]
        for i, (column, extra) in enumerate(zip(plan.columns, plan.extra, strict=True)):
            if column is not None:
                quality[i] = estimates[column]
                error[i] = math.hypot(alone[column], extra) if extra else alone[column]
                gap[i] = math.hypot(apart[column], extra, beside) if extra or beside else apart[column]

    def _unpaired(self, plan: Plan, error: list[float | None], gap: list[float]) -> None:
        """Gap errors where one side has no labels; none against itself."""
        names = [c.model for c in plan.candidates]
        base = next((error[i] or 0.0 for i, name in enumerate(names) if name == plan.home), 0.0)
        for i, name in enumerate(names):
            own = error[i]
            if name == plan.home:
                gap[i] = 0.0
            elif own is not None and (plan.columns[i] is None or plan.home_column is None):
                gap[i] = math.hypot(own, base)

    def _difficulty(self, e: Estimate) -> tuple[float, npt.NDArray[np.float64]]:
        """(difficulty in logits, share of each domain) of one text."""
        if not self._domain_heads:
            return difficulty_of(float(e.quality.mean())), _EVEN
        shares = np.maximum(e.quality.take(self._domain_heads).astype(np.float64), 1e-3)
        shares **= _SHARPNESS
        difficulty = self._stretch * difficulty_of(float(e.quality[self._difficulty_head]))
        return difficulty, shares / np.add.reduce(shares)

    def _costs(self, plan: Plan, e: Estimate, tokens: int, needs: Requirements, length: float) -> list[float | None]:
        """Expected USD of this request: from the caller's prices, else from the labels' own costs, else as stated."""
        out: list[float | None] = []
        for i, c in enumerate(plan.candidates):
            if c.input_price is not None and c.output_price is not None:
                answer = length * plan.verbosity[i]
                if needs.output_tokens is not None:
                    answer = min(answer, needs.output_tokens)
                out.append(c.input_price * tokens + c.output_price * answer)
                continue
            fitted, column = plan.fitted[i], plan.columns[i]
            if fitted is None or column is None:
                out.append(plan.stated[i])
                continue
            residual = float(self._artifact.cost_residual[e.cluster, column])
            out.append(max(fitted.base + fitted.per_char * e.length + residual, 0.1 * fitted.mean))
        return out

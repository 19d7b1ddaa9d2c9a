"""One candidate for one text: expected quality with its error, and expected cost.

Belongs here: where a candidate's figures come from: labels when the artifact has them, a published ability bent by the
text's difficulty otherwise, nothing at all when neither is known. Not here: reading the text (reader.py), choosing
(policy.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact
from opentracy.routing.policy import Candidate, Requirements
from opentracy.routing.prior import (
    DOMAINS,
    Abilities,
    Ability,
    bare_name,
    logit,
    shrunk_domains,
    solve_ability,
)
from opentracy.routing.reader import Estimate, Reader

DIFFICULTY = "prior:difficulty"
_OUTPUT_TOKENS = 400.0  # expected answer length where nothing was learned about it
_PROMPT_TOKENS = 300.0  # of an ordinary request, for the scale of the cost weight
_PRIOR_MODEL_ERROR = 0.06  # how far one-parameter item response is from the truth, beside the figure's own error
_VERBOSITY_OF = 1000.0  # output_tokens of abilities.json are per this many tokens of an ordinary model


@dataclass(frozen=True, slots=True)
class Quality:
    """Expected score of one candidate; `column` when it has labels of its own."""

    value: float | None
    error: float | None
    column: int | None
    gap_error: float = 0.0  # of (this candidate - the default)


class Appraiser:
    """Figures of candidates. Immutable apart from a cache of solved abilities; thread-safe."""

    def __init__(self, artifact: Artifact, reader: Reader, abilities: Abilities) -> None:
        m = artifact.manifest
        self._artifact, self._reader, self.abilities = artifact, reader, abilities
        self._column = {name: i for i, name in enumerate(m.models)}
        self._bare = {bare_name(name): i for i, name in reversed(list(enumerate(m.models)))}
        self._extra = [m.extra_error.get(name, 0.0) for name in m.models]
        self._domain_heads = [m.heads.index("prior:" + d) for d in DOMAINS] if DIFFICULTY in m.heads else []
        self._difficulty_head = m.heads.index(DIFFICULTY) if self._domain_heads else -1
        self._solved: dict[str, npt.NDArray[np.float64]] = {}

    def column(self, model: str) -> int | None:
        """Column of a labelled model, by full name or by the part after the last slash."""
        found = self._column.get(model)
        return found if found is not None else self._bare.get(bare_name(model))

    # -------------------------------------------------------------- quality
    def qualities(self, candidates: Sequence[Candidate], default: str | None, e: Estimate) -> tuple[list[Quality], str]:
        """(a Quality per candidate, name of the model that answers unless another is established as better)."""
        columns = [self.column(c.model) for c in candidates]
        home, home_column = self._home(candidates, columns, default)
        labelled = any(c is not None for c in columns) and len(e.rows) > 0
        spread, gap = self._reader.spreads(e.rows, home_column) if labelled else (None, None)
        shares = None if all(c is not None for c in columns) else self._difficulty(e)
        found = []
        for c, column in zip(candidates, columns, strict=True):
            if column is None:
                found.append(self._prior(c.model, shares))
            elif spread is None or gap is None:
                found.append(Quality(float(e.quality[column]), 0.5, column, 0.5))
            else:
                extra = self._extra[column]
                both = math.hypot(float(gap[column]), extra, 0.0 if home_column is None else self._extra[home_column])
                found.append(Quality(float(e.quality[column]), math.hypot(float(spread[column]), extra), column, both))
        return self._with_gaps(candidates, found, home, home_column), home

    def _with_gaps(
        self, candidates: Sequence[Candidate], found: list[Quality], home: str, home_column: int | None
    ) -> list[Quality]:
        """Unpaired errors where one side has no labels; no error against itself."""
        base = next((q.error or 0.0 for c, q in zip(candidates, found, strict=True) if c.model == home), 0.0)
        out = []
        for c, q in zip(candidates, found, strict=True):
            if c.model == home:
                out.append(Quality(q.value, q.error, q.column, 0.0))
            elif q.error is not None and (q.column is None or home_column is None):
                out.append(Quality(q.value, q.error, q.column, math.hypot(q.error, base)))
            else:
                out.append(q)
        return out

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

    def _prior(self, model: str, shares: tuple[float, npt.NDArray[np.float64]] | None) -> Quality:
        ability = self.abilities.find(model)
        if ability is None or shares is None or "all" not in self._artifact.manifest.reference:
            return Quality(None, None, None)
        solved = self._solved.get(model)
        if solved is None:
            solved = self._solved[model] = self._solve(ability)
        difficulty, weights = shares
        value = float(weights @ (1.0 / (1.0 + np.exp(difficulty - solved))))
        return Quality(value, math.hypot(ability.overall.se, _PRIOR_MODEL_ERROR), None)

    def _solve(self, ability: Ability) -> npt.NDArray[np.float64]:
        reference, domains = self._artifact.manifest.reference, shrunk_domains(ability)
        return np.array([solve_ability(domains[d], reference.get(d) or reference["all"]) for d in DOMAINS])

    def _difficulty(self, e: Estimate) -> tuple[float, npt.NDArray[np.float64]]:
        """(difficulty in logits, share of each domain) of one text."""
        if not self._domain_heads:
            return float(-logit(float(e.quality.mean()))), np.full(len(DOMAINS), 1 / len(DOMAINS))
        shares = np.maximum(e.quality[self._domain_heads].astype(np.float64), 1e-3)
        return float(-logit(float(e.quality[self._difficulty_head]))), shares / shares.sum()

    # -------------------------------------------------------------- cost
    def cost(self, c: Candidate, e: Estimate, tokens: int, needs: Requirements) -> float | None:
        """Expected USD of this request: from the caller's prices, else from the labels' own costs."""
        if c.input_price is not None and c.output_price is not None:
            out = self._output_tokens(c.model, e)
            if needs.output_tokens is not None:
                out = min(out, needs.output_tokens)
            return c.input_price * tokens + c.output_price * out
        column = self.column(c.model)
        if column is None:
            ability = self.abilities.find(c.model)
            return None if ability is None else ability.cost
        fitted = self._artifact.manifest.costs.get(self._artifact.manifest.models[column])
        if fitted is None:
            return None
        residual = float(self._artifact.cost_residual[e.cluster, column])
        return max(fitted.base + fitted.per_char * e.length + residual, 0.1 * fitted.mean)

    def typical_cost(self, c: Candidate) -> float | None:
        """USD of an ordinary request: the scale of the cost weight must not move with the prompt."""
        if c.input_price is not None and c.output_price is not None:
            return c.input_price * _PROMPT_TOKENS + c.output_price * self._output_tokens(c.model, None)
        column = self.column(c.model)
        if column is not None:
            fitted = self._artifact.manifest.costs.get(self._artifact.manifest.models[column])
            return None if fitted is None else fitted.mean
        ability = self.abilities.find(c.model)
        return None if ability is None else ability.cost

    def _output_tokens(self, model: str, e: Estimate | None) -> float:
        expected = self._artifact.manifest.output_tokens
        base = expected.get("all", _OUTPUT_TOKENS)
        if e is not None and self._domain_heads:
            _, shares = self._difficulty(e)
            base = sum(float(s) * expected.get(d, base) for s, d in zip(shares, DOMAINS, strict=True))
        ability = self.abilities.find(model)
        return base if ability is None or not ability.output_tokens else base * ability.output_tokens / _VERBOSITY_OF

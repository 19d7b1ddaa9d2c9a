"""One candidate for one text: expected quality with its error, and expected cost.

Belongs here: where a candidate's figures come from: labels when the artifact has them, a published ability bent by the
text's difficulty otherwise, nothing at all when neither is known. Not here: reading the text (reader.py), choosing
(policy.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from operator import itemgetter, mul
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact, CostModel
from opentracy.routing.embed import Matrix, Vector
from opentracy.routing.policy import Candidate, Requirements, name_order
from opentracy.routing.prior import (
    DOMAINS,
    Abilities,
    Ability,
    Bend,
    bare_name,
    bent_gain,
    bent_reference,
    difficulty_of,
    domain_figures,
    solve_abilities,
)
from opentracy.routing.reader import Estimate

DIFFICULTY, WEAK, STRONG = "prior:difficulty", "prior:weak", "prior:strong"
_OUTPUT_TOKENS = 400.0  # expected answer length where nothing was learned about it
_PROMPT_TOKENS = 300.0  # of an ordinary request, for the scale of the cost weight
_PRIOR_MODEL_ERROR = 0.06  # how far one-parameter item response is from the truth, beside the figure's own error
# Chosen by benchmarks/routing_dayone.py. Near the training prompts difficulty is estimated too near the middle. Far
# from them it says nothing: among prompts of a kind that was left out it does not go with the models' scores at all.
# There figures count alone, those of the domains that the examples name.
_NEAR = Bend(stretch=1.2, gain=0.7)
_PLAIN = Bend(stretch=1.0, gain=0.0)  # where no gain was learned
_NEAR_UNTIL, _FAR_FROM = 0.85, 0.98  # novelty
_SPREAD_PULL = 10.0  # prompts' worth of the overall variance in a cluster's
_LEAST = 1e-3  # share of a domain
_BEYOND = 1e4  # logits
_EVEN = [1 / len(DOMAINS)] * len(DOMAINS)
Floats = npt.NDArray[np.float64]
_VERBOSITY_OF = 1000.0  # output_tokens of abilities.json are per this many tokens of an ordinary model


class Solved(NamedTuple):
    """Models placed on the scale of difficulty by their published figures."""

    bend: Bend
    pivot: float  # ability, in logits, around which gain spreads
    # (models * (domains + 1), 2): half an ability in logits and -1/2, for a product with a text's gain and difficulty;
    # the last row of a model is beyond any difficulty
    steps: Floats


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change from prompt to prompt for one set of candidates and one default. Lists are per candidate."""

    candidates: tuple[Candidate, ...]
    names: list[str]
    order: list[int]  # policy.name_order
    home: str  # answers unless another is established as better
    home_at: int | None  # its place among the candidates
    columns: list[int | None]  # of candidates that have labels
    labelled: list[tuple[int, int]]  # (place, column) of these
    errors: list[list[float | None]]  # per cluster of the primary map: standard error of each candidate's quality
    shown_errors: list[list[float | None]]  # `errors`, rounded as an explanation shows them
    gap_errors: list[list[float]]  # the same of (its quality - the default's), paired where labels allow
    near: Solved  # of the unlabelled with figures, for texts near the training prompts
    far: Floats  # (models, domains) their figures, for texts far from them
    unlabelled: list[int]  # the candidates that the rows of both belong to
    prices: list[tuple[float, float] | None]  # USD per token in, and per token of an ordinary model's answer out
    priced: list[tuple[float, float]] | None  # the same where no price is missing
    output_prices: list[float]  # USD per token out, for answers cut short by the caller
    stated: list[float | None]  # USD per call where nothing better is known
    fitted: list[CostModel | None]
    residuals: list[list[float]] | None  # per cluster: USD to add to what was fitted; None = no fitted costs in use
    dearest: float  # USD of an ordinary request on the dearest candidate: the scale of the cost weight
    needs_length: bool  # any candidate is priced by the length of its answer
    healthy: bool  # all are
    shortest: int | None  # smallest context of all, in tokens


def rounded(values: Sequence[float | None], scale: float) -> list[float | None]:
    """To so many parts; `round` takes four times as long, and a decision shows dozens of figures."""
    return [None if value is None else floor(value * scale + 0.5) / scale for value in values]


def far_share(novelty: float) -> float:
    """How far a text is from the training prompts: 0 = among them, 1 = of another kind."""
    far = (novelty - _NEAR_UNTIL) / (_FAR_FROM - _NEAR_UNTIL)
    return 0.0 if far < 0.0 else 1.0 if far > 1.0 else far


class Figures(msgspec.Struct, frozen=True):
    """Candidates' figures for one text, in their order. A Struct, because one is made on every request."""

    quality: list[float | None]
    error: list[float | None]
    gap_error: list[float]  # of (candidate - home), paired where labels allow
    cost: list[float | None]  # USD


class Appraiser:
    """Figures of candidates. Immutable; thread-safe."""

    def __init__(self, artifact: Artifact, abilities: Abilities) -> None:
        m = artifact.manifest
        self._artifact, self.abilities = artifact, abilities
        self._column = {name: i for i, name in enumerate(m.models)}
        self._bare = {bare_name(name): i for i, name in reversed(list(enumerate(m.models)))}
        self._extra = [m.extra_error.get(name, 0.0) for name in m.models]
        self._domain_heads = [m.heads.index("prior:" + d) for d in DOMAINS] if DIFFICULTY in m.heads else []
        taught = [m.heads.index(h) for d in DOMAINS if (h := "example:" + d) in m.heads]
        self._domains_of = itemgetter(*self._domain_heads) if self._domain_heads else None
        self._far_domains_of = itemgetter(*taught) if len(taught) == len(DOMAINS) else self._domains_of
        self._difficulty_head = m.heads.index(DIFFICULTY) if self._domain_heads else -1
        self._gain_heads = [m.heads.index(h) for h in (WEAK, STRONG)] if STRONG in m.heads else []
        gains = m.reference.get("all:gain") if self._domain_heads and self._gain_heads else None
        self._mean_gain = float(np.mean(gains)) if gains else 1.0
        self._near = _NEAR if gains else _PLAIN
        self._usual = m.output_tokens.get("all", _OUTPUT_TOKENS)
        self._lengths = [m.output_tokens.get(d, self._usual) for d in DOMAINS]
        self._spread = Spread(artifact)

    def column(self, model: str) -> int | None:
        """Column of a labelled model, by full name or by the part after the last slash."""
        found = self._column.get(model)
        return found if found is not None else self._bare.get(bare_name(model))

    # -------------------------------------------------------------- once per set of candidates
    def plan(self, candidates: tuple[Candidate, ...], default: str | None) -> Plan:
        """Everything about these candidates that no prompt changes."""
        columns = [self.column(c.model) for c in candidates]
        home, home_column = self._home(candidates, columns, default)
        names = [c.model for c in candidates]
        known = [self.abilities.find(name) for name in names]
        able = "all" in self._artifact.manifest.reference
        unlabelled = [
            i for i, (a, column) in enumerate(zip(known, columns, strict=True)) if column is None and a and able
        ]
        figured = [a for i in unlabelled if (a := known[i])]
        figure_errors = [math.hypot(a.overall.se, _PRIOR_MODEL_ERROR) if a else None for a in known]
        verbosity = [a.output_tokens / _VERBOSITY_OF if a and a.output_tokens else 1.0 for a in known]
        stated = [a.cost if a and column is None else None for a, column in zip(known, columns, strict=True)]
        costs, models = self._artifact.manifest.costs, self._artifact.manifest.models
        fitted = [None if column is None else costs.get(models[column]) for column in columns]
        typical = [self._usual_cost(*parts) for parts in zip(candidates, verbosity, fitted, stated, strict=True)]
        prices = [
            (c.input_price, c.output_price * v) if c.input_price is not None and c.output_price is not None else None
            for c, v in zip(candidates, verbosity, strict=True)
        ]
        by_length = [f is not None and not price for f, price in zip(fitted, prices, strict=True)]
        errors, gaps = self._spreads(names, home, home_column, columns, figure_errors)
        contexts = [c.context for c in candidates if c.context is not None]
        domains = domain_figures(figured)
        return Plan(
            candidates=candidates,
            names=names,
            order=name_order(names),
            home=home,
            home_at=names.index(home) if home in names else None,
            columns=columns,
            labelled=[(i, column) for i, column in enumerate(columns) if column is not None],
            errors=errors,
            shown_errors=[rounded(row, 1e4) for row in errors],
            gap_errors=gaps,
            near=self._solve(figured, domains, self._near),
            far=domains,
            unlabelled=unlabelled,
            prices=prices,
            priced=[price for price in prices if price] if all(prices) else None,
            output_prices=[c.output_price or 0.0 for c in candidates],
            stated=stated,
            fitted=fitted,
            residuals=self._residuals(columns) if any(by_length) else None,
            dearest=max((cost or 0.0 for cost in typical), default=0.0),
            needs_length=any(prices),
            healthy=all(c.healthy for c in candidates),
            shortest=min(contexts) if contexts else None,
        )

    def _residuals(self, columns: Sequence[int | None]) -> list[list[float]]:
        table = self._artifact.cost_residual
        empty = np.zeros(len(table), np.float32)
        rows = np.stack([empty if column is None else table[:, column] for column in columns], 1).tolist()
        return list(rows)

    def _spreads(
        self,
        names: Sequence[str],
        home: str,
        home_column: int | None,
        columns: Sequence[int | None],
        figure_errors: Sequence[float | None],
    ) -> tuple[list[list[float | None]], list[list[float]]]:
        """(standard errors, gap errors) per cluster and candidate. None = nothing is known about the candidate."""
        own, gap = self._spread.of(home_column)
        beside = 0.0 if home_column is None else self._extra[home_column]
        errors: list[list[float | None]] = []
        gaps: list[list[float]] = []
        for alone, apart in zip(own.tolist(), gap.tolist(), strict=True):
            row: list[float | None] = [
                figure if c is None else math.hypot(alone[c], self._extra[c])
                for c, figure in zip(columns, figure_errors, strict=True)
            ]
            at_home = next((row[i] or 0.0 for i, name in enumerate(names) if name == home), 0.0)
            errors.append(row)
            beside_home = [0.0] * len(names)
            for i, (name, c, error) in enumerate(zip(names, columns, row, strict=True)):
                if name != home and error is not None:
                    paired = c is not None and home_column is not None
                    parts = (apart[c], self._extra[c], beside) if c is not None and paired else (error, at_home)
                    beside_home[i] = math.hypot(*parts)
            gaps.append(beside_home)
        return errors, gaps

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

    def _solve(self, abilities: Sequence[Ability], domains: Floats, bend: Bend) -> Solved:
        """Positions at which the mean over the reference prompts equals the published figures."""
        if not abilities:
            return Solved(bend, 0.0, np.zeros((0, 2)))
        reference = self._artifact.manifest.reference
        # Gain spreads these models around what they are on average. Around the middle of the scale it would spread
        # nothing where all of them are strong, or weak, and move all of them instead.
        level = sum(a.overall.value for a in abilities) / len(abilities)
        plain = [bend.stretch * d for d in reference["all"]]
        pivot = float(solve_abilities([level], plain)[0]) if bend.gain else 0.0
        columns = [
            solve_abilities(domains[:, i].tolist(), *bent_reference(reference, d, bend, pivot))
            for i, d in enumerate(DOMAINS)
        ]
        columns.append(np.full(len(abilities), _BEYOND))
        halves = 0.5 * np.stack(columns, 1).ravel()
        return Solved(bend, pivot, np.stack([halves, np.full(len(halves), -0.5)], 1))

    # -------------------------------------------------------------- once per text
    def figures(self, plan: Plan, e: Estimate, tokens: int, needs: Requirements) -> Figures:
        """Quality with its errors, and cost, of every candidate. tokens: of the prompt."""
        heads = e.quality
        length, shares, far = self._usual, _EVEN, far_share(e.novelty)
        if self._domain_heads and (plan.unlabelled or plan.needs_length):
            shares = self._shares(heads, far)
            length = sum(map(mul, self._lengths, shares))
        if plan.unlabelled:
            found = self._from_abilities(plan, far, heads, shares)
            quality: list[float | None] = [*found]
            if len(found) != len(plan.names):
                known = dict(zip(plan.unlabelled, found, strict=True))
                quality = [known.get(i) for i in range(len(plan.names))]
        else:
            quality = [None] * len(plan.names)
        for i, column in plan.labelled:
            quality[i] = heads[column]
        cost = self._costs(plan, e, tokens, needs, length)
        return Figures(quality, plan.errors[e.cluster], plan.gap_errors[e.cluster], cost)

    def _from_abilities(self, plan: Plan, far: float, heads: Sequence[float], shares: Sequence[float]) -> list[float]:
        """Quality of the unlabelled candidates from their figures and the text's difficulty, gain and domains.

        far: 0..1. heads: the text's estimates. shares: of each domain in it.
        """
        if far >= 1.0:
            found: list[float] = plan.far.dot(shares).tolist()
            return found
        weights = [0.5 * share for share in shares]
        weights.append(0.5)
        curve = _curve(plan.near.steps, self._bent(plan.near, *self._place(heads)), weights)
        if far <= 0.0:
            return curve
        return [far * a + (1.0 - far) * b for a, b in zip(plan.far.dot(shares).tolist(), curve, strict=True)]

    def _place(self, heads: Sequence[float]) -> tuple[float, float]:
        """(difficulty, what a strong model gains over a weak one) of one text, in logits."""
        if not self._domain_heads:
            return difficulty_of(sum(heads) / len(heads)), self._mean_gain
        difficulty = difficulty_of(heads[self._difficulty_head])
        if not self._gain_heads:  # then no bend asks for it
            return difficulty, self._mean_gain
        weak, strong = self._gain_heads
        return difficulty, difficulty_of(heads[weak]) - difficulty_of(heads[strong])

    def _bent(self, solved: Solved, difficulty: float, gap: float) -> list[float]:
        """[gain per step of ability, 1 on average; difficulty] for these models."""
        bend = solved.bend
        gain = bent_gain(gap, self._mean_gain, bend.gain) if bend.gain else 1.0
        return [gain, bend.stretch * difficulty + solved.pivot * (gain - 1.0)]

    def _shares(self, heads: Sequence[float], far: float) -> list[float]:
        """Share of each domain in one text. Estimates that were averaged say too little: their squares have the least
        log loss, out of fold and on the kinds of prompts of another set.
        """
        if self._domains_of is None or self._far_domains_of is None:
            return _EVEN
        values: Sequence[float] = self._domains_of(heads) if far < 1.0 else self._far_domains_of(heads)
        if 0.0 < far < 1.0:
            values = [a + far * (b - a) for a, b in zip(values, self._far_domains_of(heads), strict=True)]
        shares = [value * value if value > _LEAST else _LEAST * _LEAST for value in values]
        total = sum(shares)
        return [share / total for share in shares]

    def _costs(self, plan: Plan, e: Estimate, tokens: int, needs: Requirements, length: float) -> list[float | None]:
        """Expected USD of this request: from the caller's prices, else from the labels' own costs, else as stated."""
        cap = needs.output_tokens
        if plan.priced is not None and cap is None:
            return [a * tokens + b * length for a, b in plan.priced]
        out: list[float | None] = []
        for i, price in enumerate(plan.prices):
            if price is not None:
                answer = price[1] * length
                if cap is not None:
                    answer = min(answer, plan.output_prices[i] * cap)
                out.append(price[0] * tokens + answer)
                continue
            fitted = plan.fitted[i]
            if fitted is None or plan.residuals is None:
                out.append(plan.stated[i])
                continue
            residual = plan.residuals[e.cluster][i]
            out.append(max(fitted.base + fitted.per_char * e.length + residual, 0.1 * fitted.mean))
        return out


def _curve(steps: Floats, place: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Mean over the domains of sigmoid(gain * ability - difficulty), per model. With sigmoid(z) = (1 + tanh(z / 2))
    / 2, and since the shares add up to one, few steps over the table are all it takes: the last row's tanh is 1, and
    the weights are half the shares and a half for it.
    """
    half = steps.dot(place)
    np.tanh(half, half)
    found: list[float] = half.reshape(-1, len(weights)).dot(weights).tolist()
    return found


class Spread:
    """How uncertain a cluster's mean scores are: standard errors from the labels of its prototypes.

    The variance of a score, or of the difference of two models' scores on the same prompts, is taken per cluster,
    pulled to the overall one by some pseudo-prompts, and divided by the number of neighbours that an estimate rests on.
    """

    def __init__(self, artifact: Artifact) -> None:
        p = artifact.prototypes
        self._scores = p.scores
        self._member = np.repeat(np.arange(len(p.starts) - 1), np.diff(p.starts))
        self._clusters = len(p.starts) - 1
        self._base = max(1, min(artifact.manifest.policy.neighbours, len(p.scores)))
        self._own = self._errors(p.scores)

    def of(self, home: int | None) -> tuple[Vector, Vector]:
        """((clusters, heads) errors of the scores, of their gap to the head `home`); without a home both the same."""
        if home is None:
            return self._own, self._own
        return self._own, self._errors(self._scores - self._scores[:, home : home + 1])

    def _errors(self, values: Matrix) -> Matrix:
        """Unknown, with fewer than two labels overall, is .5."""
        known = ~np.isnan(values)
        filled = np.where(known, values, 0.0).astype(np.float64)
        shape = (self._clusters, values.shape[1])
        n, total, square = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        np.add.at(n, self._member, known)
        np.add.at(total, self._member, filled)
        np.add.at(square, self._member, filled * filled)
        all_n = n.sum(0)
        mean, power = total.sum(0) / np.maximum(all_n, 1), square.sum(0) / np.maximum(all_n, 1)
        weight = n + _SPREAD_PULL
        variance = (square + _SPREAD_PULL * power) / weight - ((total + _SPREAD_PULL * mean) / weight) ** 2
        # where only some prompts are labelled, an estimate rests on fewer of them
        rests_on = np.maximum(self._base * all_n / max(len(values), 1), 1.0)
        error = np.sqrt(np.maximum(variance, 0.0) / rests_on)
        return np.asarray(np.where(all_n > 1, error, 0.5), dtype=np.float32)

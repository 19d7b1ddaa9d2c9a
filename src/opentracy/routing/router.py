"""The router: an artifact, an embedder and figures of unlabelled models, ready to decide.

Belongs here: from a request to a decision, the caches, and loading. Not here: reading texts (reader.py), figures of
candidates (appraise.py), the rule (policy.py), HTTP. A Router is immutable and may be shared by threads; what was
learned since comes in as a new Router (`learned`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache
from itertools import count
from math import floor
from pathlib import Path

from opentracy.routing.appraise import Appraiser, Figures, Plan, rounded
from opentracy.routing.artifact import Artifact, ArtifactError, read
from opentracy.routing.embed import DATA, Embedder, embedder_by_id
from opentracy.routing.learn import Live
from opentracy.routing.policy import Candidate, Field, Requirements, Score, exclusion, pick, why_not
from opentracy.routing.prior import Abilities, Ability, published
from opentracy.routing.reader import Estimate, Reader

_CHARS_PER_TOKEN = 4.0
_TYPICAL_LENGTH = 600  # characters of an ordinary prompt
#: decisions, and estimates, remembered: a decision among twenty models holds some ten kilobytes
CACHE = 1024
_PLANS = 64  # sets of candidates remembered
_NO_NEEDS = Requirements()


class _Numbered:
    """A plan that hashes by its number: the caches must not hash every candidate on every request."""

    __slots__ = ("number", "plan")

    def __init__(self, number: int, plan: Plan) -> None:
        self.number, self.plan = number, plan

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


def _tokens(e: Estimate, extra: int, needs: Requirements) -> int:
    """Tokens of the prompt: counted by the caller, else estimated from its length."""
    return needs.tokens if needs.tokens is not None else math.ceil((e.length + extra) / _CHARS_PER_TOKEN)


def _shown(value: float) -> float:
    """To four places."""
    return floor(value * 1e4 + 0.5) / 1e4


class Decision:
    """Which model answers, and everything that explains it; what only explains is put together when it is asked for."""

    __slots__ = (
        "_choice", "_clusters", "_estimate", "_figures", "_guard", "_plan", "_ranked", "_scores", "memo",
        "router_version",
    )  # fmt: skip

    def __init__(
        self,
        e: Estimate,
        plan: Plan,
        figures: Figures,
        field: Field,
        ranked: Sequence[int],
        choice: tuple[int, str | None, float],
        of: Artifact,
    ) -> None:
        self._estimate, self._plan, self._figures, self._choice = e, plan, (figures, field), choice
        self._ranked = ranked
        self._clusters, self._guard = of.manifest.clusters, of.manifest.policy.guard
        self.router_version = of.manifest.version
        self._scores: tuple[Score, ...] | None = None
        self.memo: object = None  # what a caller made of it; decisions are remembered, and so is this

    @property
    def model(self) -> str:
        """The model to call."""
        return self._plan.names[self._choice[0]]

    @property
    def fallback_reason(self) -> str | None:
        """Why the default answers although it is not the best estimate; None when it is, or another answers."""
        return self._choice[1]

    @property
    def confidence(self) -> float:
        """Probability that the choice is at least as good as its strongest rival."""
        return self._choice[2]

    @property
    def cluster_id(self) -> int:
        """The nearest cluster."""
        return self._clusters[self._estimate.cluster].id

    @property
    def cluster_label(self) -> str:
        """What it is called."""
        return self._clusters[self._estimate.cluster].label

    @property
    def similarity(self) -> float:
        """Cosine to its centre."""
        return self._estimate.nearest[0][1]

    @property
    def clusters(self) -> tuple[tuple[int, str, float], ...]:
        """Nearest clusters: id, label, cosine."""
        known = self._clusters
        return tuple([(known[i].id, known[i].label, s) for i, s in self._estimate.nearest])

    @property
    def novelty(self) -> float:
        """0..1: share of training prompts that were less unlike their neighbours."""
        return self._estimate.novelty

    @property
    def strategy(self) -> str:
        """learned | prior | default: what the figures of the choice rest on."""
        at = self._choice[0]
        if self._plan.columns[at] is not None:
            return "learned"
        return "default" if self._figures[0].quality[at] is None else "prior"

    @property
    def scores(self) -> tuple[Score, ...]:
        """Every candidate's figures, in the order of the candidates."""
        if self._scores is None:
            figures, field = self._figures
            excluded = field.excluded or [None] * len(field.names)
            own = figures.quality, figures.error, figures.cost
            rows = zip(field.names, *own, field.utility, excluded, figures.gap_error, strict=True)
            self._scores = tuple([Score(*row) for row in rows])
        return self._scores

    @property
    def always_best(self) -> tuple[str | None, float | None]:
        """(the model with the highest expected quality, its expected USD here)."""
        figures, field = self._figures
        able = field.able()
        known = [q for i in able if (q := figures.quality[i]) is not None]
        if not known:
            return None, None
        top = max(known)
        if known.count(top) == 1 and len(known) == len(field.names):
            best = known.index(top)  # the ordinary case: everybody is able and known, and one is best
        else:
            best = min((i for i in able if figures.quality[i] == top), key=field.order.__getitem__)
        return field.names[best], figures.cost[best]

    def routing(self) -> dict[str, object]:
        """The part of `_routing` that `auto` fills."""
        figures, field = self._figures
        plan, at = self._plan, self._estimate.cluster
        errors = figures.error
        shown = (
            rounded(figures.quality, 1e4),
            plan.shown_errors[at] if errors is plan.errors[at] else rounded(errors, 1e4),
            rounded(figures.cost, 1e8),
            rounded(field.utility, 1e4),
        )
        rows: dict[str, dict[str, object]] = {
            name: {"quality": q, "quality_error": e, "cost": c, "utility": u}
            for name, q, e, c, u in zip(field.names, *shown, strict=True)
        }
        if field.excluded:
            for name, why in zip(field.names, field.excluded, strict=True):
                if why is not None:
                    rows[name]["excluded"] = why
        best, best_cost = self.always_best
        nearest = self.clusters
        return {
            "cluster_id": nearest[0][0],
            "cluster_label": nearest[0][1],
            "similarity": _shown(nearest[0][2]),
            "scores": rows,
            "confidence": self._choice[2],
            "fallback_reason": self._choice[1],
            "router_version": self.router_version,
            "strategy": self.strategy,
            "novelty": _shown(self._estimate.novelty),
            "nearest_clusters": [
                {"cluster_id": i, "cluster_label": label, "similarity": _shown(s)} for i, label, s in nearest
            ],
            "always_best": {"model": best, "cost": best_cost},
        }

    def explained(self) -> dict[str, object]:
        """`routing` and, per candidate, a sentence on why it was not chosen."""
        out = self.routing()
        chosen = self.scores[self._choice[0]]
        reasons = {
            s.model: why_not(s, chosen, self._plan.home, self._guard, self.fallback_reason) for s in self.scores
        }
        out["default"] = self._plan.home
        rows = out["scores"]
        assert isinstance(rows, dict)
        out["scores"] = {
            model: {**row, "quality_gap_error": round(s.gap_error, 4), "why": reasons[model]}
            for (model, row), s in zip(rows.items(), self.scores, strict=True)
        }
        return out

    def ranked(self, limit: int | None = None) -> list[str]:
        """Models that could have answered, best utility first: the order in which to fall back. limit: no more."""
        field, at = self._figures[1], self._choice[0]
        places = [at, *[i for i in self._ranked[:limit] if i != at]]
        if None in field.utility and (limit is None or len(places) < limit):
            rest = [i for i in field.able() if field.utility[i] is None and i != at]
            places += sorted(rest, key=field.order.__getitem__)
        return [field.names[i] for i in places[:limit]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return self.model == other.model and self.routing() == other.routing() and self.scores == other.scores

    def __hash__(self) -> int:
        return hash((self.model, self.router_version, self.cluster_id))

    def __repr__(self) -> str:
        reason = "" if self.fallback_reason is None else f", fallback_reason={self.fallback_reason!r}"
        return f"Decision(model={self.model!r}, cluster={self.cluster_label!r}{reason})"


class Router:
    """Decides which model answers a prompt. Immutable; thread-safe; no I/O after construction."""

    def __init__(
        self,
        artifact: Artifact,
        embedder: Embedder,
        abilities: Abilities | None = None,
        *,
        cache: int = CACHE,
        live: Live | None = None,
    ) -> None:
        m = artifact.manifest
        if embedder.id != m.embedder or embedder.sha256 != m.embedder_sha256:
            raise ArtifactError(
                f"the router was trained with the embedder {m.embedder} ({m.embedder_sha256[:12]}), "
                f"this one is {embedder.id} ({embedder.sha256[:12]}); train again or pass the same embedder"
            )
        self.artifact, self.embedder = artifact, embedder
        self.abilities = published() if abilities is None else abilities
        self._reader = Reader(artifact, embedder)
        self._appraiser = Appraiser(artifact, self.abilities)
        self._cache = cache
        self.estimate = lru_cache(maxsize=cache)(self._reader.read)
        self._plans = lru_cache(maxsize=_PLANS)(self._numbered)
        self._numbers = count()
        self._last: tuple[tuple[Candidate, ...], str | None, _Numbered] | None = None
        self._learn_from(live)

    def _learn_from(self, live: Live | None) -> None:
        """What was learned since, by cluster; decisions remembered without it are forgotten."""
        self._shifts: dict[int, dict[str, tuple[float, float]]] = {} if live is None else live.snapshot()
        self._decide = lru_cache(maxsize=self._cache)(self._decide_uncached)

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self.artifact.manifest.version

    def learned(self, live: Live) -> Router:
        """This router with what `live` has learned so far; the state may go on changing. Estimates are shared."""
        other = copy(self)
        other._learn_from(live)
        return other

    def decide(
        self,
        prompt: str,
        *,
        system: str | None = None,
        candidates: Sequence[Candidate],
        default: str | None = None,
        cost_weight: float = 0.3,
        requirements: Requirements | None = None,
    ) -> Decision:
        """Choose among `candidates`.

        prompt: the last user turn. system: the system text; it only counts as tokens, because who answers best
        depends on what is asked. default: the model that answers when nothing better is established (None: the
        artifact's own, or the candidate with the best known quality). cost_weight: 0 = best quality, 1 = cheapest
        acceptable. Raises ValueError when no candidate can serve the request or cost_weight is not a number >= 0.
        """
        if not (cost_weight >= 0 and math.isfinite(cost_weight)):
            raise ValueError(
                f"cost_weight is {cost_weight!r}, expected a number from 0 (best quality) to 1 (cheapest acceptable)"
            )
        if not candidates:
            raise ValueError("no candidates: pass at least one model that can be called")
        extra = len(system) if system else 0
        plan = self._plan(tuple(candidates), default)
        return self._decide(prompt, extra, plan, float(cost_weight), requirements or _NO_NEEDS)

    def _plan(self, candidates: tuple[Candidate, ...], default: str | None) -> _Numbered:
        """The plan of these candidates; the last one without hashing them, since they seldom change."""
        last = self._last
        if last is not None and last[0] == candidates and last[1] == default:
            return last[2]
        found = self._plans(candidates, default)
        self._last = (candidates, default, found)  # one assignment: threads see an old or a new whole
        return found

    def _numbered(self, candidates: tuple[Candidate, ...], default: str | None) -> _Numbered:
        return _Numbered(next(self._numbers), self._appraiser.plan(candidates, default))

    def decide_weights(
        self, prompt: str, weights: Sequence[float], *, candidates: Sequence[Candidate], default: str | None = None
    ) -> list[Decision]:
        """One decision per cost weight, each as `decide` would make it; the prompt is appraised once."""
        plan = self._plan(tuple(candidates), default).plan
        e = self.estimate(prompt)
        tokens = _tokens(e, 0, _NO_NEEDS)
        figures = self._appraiser.figures(plan, e, tokens, _NO_NEEDS)
        return [self._from_figures(e, plan, figures, tokens, float(w), _NO_NEEDS) for w in weights]

    def decide_many(
        self,
        prompts: Sequence[str],
        *,
        candidates: Sequence[Candidate],
        default: str | None = None,
        cost_weight: float = 0.3,
    ) -> list[Decision]:
        """One decision per prompt, each as `decide` alone would make it."""
        return [self.decide(p, candidates=candidates, default=default, cost_weight=cost_weight) for p in prompts]

    def decide_cluster(
        self, position: int, *, candidates: Sequence[Candidate], default: str | None = None, cost_weight: float = 0.3
    ) -> Decision:
        """What an ordinary prompt of a cluster would get, from the cluster's own table alone.

        position: index into the manifest's clusters.
        """
        e = Estimate(None, self.artifact.bag.tables[position].tolist(), ((position, 1.0),), 0.0, _TYPICAL_LENGTH)
        return self._decide_for(e, 0, self._plan(tuple(candidates), default).plan, cost_weight, _NO_NEEDS)

    def _decide_uncached(
        self, prompt: str, extra: int, numbered: _Numbered, cost_weight: float, needs: Requirements
    ) -> Decision:
        return self._decide_for(self.estimate(prompt), extra, numbered.plan, cost_weight, needs)

    def _decide_for(self, e: Estimate, extra: int, plan: Plan, cost_weight: float, needs: Requirements) -> Decision:
        tokens = _tokens(e, extra, needs)
        return self._from_figures(e, plan, self._appraiser.figures(plan, e, tokens, needs), tokens, cost_weight, needs)

    def _from_figures(
        self, e: Estimate, plan: Plan, figures: Figures, tokens: int, cost_weight: float, needs: Requirements
    ) -> Decision:
        if self._shifts:
            found = self._shifts.get(self.artifact.manifest.clusters[e.cluster].id)
            if found:
                figures = _shifted(figures, plan, found)
        scale = cost_weight / plan.dearest if plan.dearest > 0 else 0.0
        # an unknown cost counts as the dearest
        utility = [
            None if q is None else q - scale * (plan.dearest if c is None else c)
            for q, c in zip(figures.quality, figures.cost, strict=True)
        ]
        excluded = None if _all_serve(plan, needs, tokens) else [
            exclusion(c, needs, cost, tokens) for c, cost in zip(plan.candidates, figures.cost, strict=True)
        ]  # fmt: skip
        field = Field(plan.names, plan.order, plan.home_at, utility, figures.cost, figures.gap_error, excluded)
        policy = self.artifact.manifest.policy
        ranked = field.ranked()
        choice = pick(field, ranked, z=policy.guard, novel=e.novelty > policy.novelty, blocked=e.blocked)
        return Decision(e, plan, figures, field, ranked, choice, self.artifact)

    def is_novel(self, e: Estimate) -> bool:
        """Whether the text is less like its nearest training prompts than nearly all of them are like theirs."""
        return e.novelty > self.artifact.manifest.policy.novelty


def _all_serve(plan: Plan, needs: Requirements, tokens: int) -> bool:
    """Whether it is plain that no hard filter applies."""
    if not plan.healthy or needs.tools or needs.images or needs.json_schema or needs.budget is not None:
        return False
    return plan.shortest is None or tokens + (needs.output_tokens or 0) <= plan.shortest


def _shifted(figures: Figures, plan: Plan, found: Mapping[str, tuple[float, float]]) -> Figures:
    """Figures moved by what was judged in this cluster. found: model -> (shift, share of its error that is left)."""
    quality, error, gap = list(figures.quality), list(figures.error), list(figures.gap_error)
    home_left = found.get(plan.home, (0.0, 1.0))[1]
    for i, name in enumerate(plan.names):
        shift, left = found.get(name, (0.0, 1.0))
        value, own = quality[i], error[i]
        if value is not None:
            quality[i] = min(max(value + shift, 0.0), 1.0)
        if own is not None:
            error[i] = own * left
        gap[i] *= math.sqrt((left * left + home_left * home_left) / 2)
    return Figures(quality, error, gap, figures.cost)


def load(
    source: str | Path = "default",
    *,
    embedder: Embedder | None = None,
    abilities: Mapping[str, Ability] | None = None,
    cache: int = CACHE,
) -> Router:
    """The router in a directory, or the bundled one for "default".

    embedder: needed for artifacts made with an embeddings endpoint. abilities: figures that replace or extend the
    published ones. Raises ArtifactError when the directory holds no whole artifact or the embedder is another one.
    """
    artifact = read(DATA / "default" if source == "default" else Path(source))
    known = published() if abilities is None else published().overridden(abilities)
    return Router(artifact, embedder or embedder_by_id(artifact.manifest.embedder), known, cache=cache)

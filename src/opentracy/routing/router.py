"""The router: an artifact, an embedder and figures of unlabelled models, ready to decide.

Belongs here: from a request to a decision, the caches, and loading. Not here: reading texts (reader.py), figures of
candidates (appraise.py), the rule (policy.py), HTTP. A Router is immutable and may be shared by threads; what was
learned since comes in as a new Router (`learned`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np

from opentracy.routing.appraise import Appraiser, Figures, Plan
from opentracy.routing.artifact import Artifact, ArtifactError, read
from opentracy.routing.embed import DATA, Embedder, embedder_by_id
from opentracy.routing.learn import Live
from opentracy.routing.policy import Candidate, Choice, Requirements, Score, as_dict, choose, exclusion
from opentracy.routing.prior import Abilities, Ability, published
from opentracy.routing.reader import Estimate, Reader

_CHARS_PER_TOKEN = 4.0
_TYPICAL_LENGTH = 600  # characters of an ordinary prompt
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


@dataclass(frozen=True, slots=True)
class Decision:
    """Which model answers, and everything that explains it."""

    model: str
    cluster_id: int
    cluster_label: str
    similarity: float
    clusters: tuple[tuple[int, str, float], ...]  # nearest clusters: id, label, cosine
    scores: tuple[Score, ...]  # in the order of the candidates
    confidence: float
    fallback_reason: str | None
    router_version: str
    novelty: float  # 0..1: share of training prompts that were less unlike their neighbours
    strategy: str  # learned | prior | default
    best_quality: str | None  # what "always the best" would have called
    best_cost: float | None  # and its expected USD

    def routing(self) -> dict[str, object]:
        """The part of `_routing` that `auto` fills."""
        return {
            "cluster_id": self.cluster_id,
            "cluster_label": self.cluster_label,
            "similarity": round(self.similarity, 4),
            "scores": as_dict(self.scores),
            "confidence": self.confidence,
            "fallback_reason": self.fallback_reason,
            "router_version": self.router_version,
            "strategy": self.strategy,
            "novelty": round(self.novelty, 4),
            "nearest_clusters": [
                {"cluster_id": i, "cluster_label": label, "similarity": round(s, 4)} for i, label, s in self.clusters
            ],
            "always_best": {"model": self.best_quality, "cost": self.best_cost},
        }

    def ranked(self) -> list[str]:
        """Models that could have answered, best utility first: the order in which to fall back."""
        able = [s for s in self.scores if s.excluded is None and s.model != self.model]
        known = sorted(
            (s for s in able if s.utility is not None), key=lambda s: (-(s.utility or 0.0), s.cost or 0.0, s.model)
        )
        return [self.model, *(s.model for s in known), *sorted(s.model for s in able if s.utility is None)]


class Router:
    """Decides which model answers a prompt. Immutable; thread-safe; no I/O after construction."""

    def __init__(
        self,
        artifact: Artifact,
        embedder: Embedder,
        abilities: Abilities | None = None,
        *,
        cache: int = 4096,
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
        self._appraiser = Appraiser(artifact, self._reader, self.abilities)
        self._cache = cache
        self._shifts = {} if live is None else live.snapshot()
        self.estimate = lru_cache(maxsize=cache)(self._reader.read)
        self._decide = lru_cache(maxsize=cache)(self._decide_uncached)
        self._plans = lru_cache(maxsize=_PLANS)(self._numbered)
        self._numbers = count()
        self._last: tuple[tuple[Candidate, ...], str | None, _Numbered] | None = None

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self.artifact.manifest.version

    def learned(self, live: Live) -> Router:
        """This router with what `live` has learned so far; the state may go on changing."""
        return Router(self.artifact, self.embedder, self.abilities, cache=self._cache, live=live)

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
        low, high = (int(i) for i in self.artifact.prototypes.starts[position : position + 2])
        quality, rows = self.artifact.bag.tables[position], np.arange(low, high)
        e = Estimate(None, quality, position, ((position, 1.0),), rows, 0.0, _TYPICAL_LENGTH)
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
        cluster_id = self.artifact.manifest.clusters[e.cluster].id if self._shifts else 0
        scale = cost_weight / plan.dearest if plan.dearest > 0 else 0.0
        scores = []
        for c, value, error, gap, cost in zip(plan.candidates, *figures, strict=True):
            if value is not None and self._shifts:
                value = min(max(value + self._shifts.get((cluster_id, c.model), 0.0), 0.0), 1.0)
            # an unknown cost counts as the dearest
            utility = None if value is None else value - scale * (plan.dearest if cost is None else cost)
            scores.append(Score(c.model, value, error, cost, utility, exclusion(c, needs, cost, tokens), gap))
        z = self.artifact.manifest.policy.guard
        choice = choose(scores, plan.home, z=z, novel=self.is_novel(e), blocked=e.blocked)
        return self._explained(e, plan, scores, choice)

    def _explained(self, e: Estimate, plan: Plan, scores: list[Score], choice: Choice) -> Decision:
        clusters = self.artifact.manifest.clusters
        able = [s for s in scores if s.quality is not None and s.excluded is None]
        best = min(able, key=lambda s: (-(s.quality or 0.0), s.model)) if able else None
        at = next(i for i, s in enumerate(scores) if s.model == choice.model)
        labelled = plan.columns[at] is not None
        strategy = "learned" if labelled else "prior" if scores[at].quality is not None else "default"
        return Decision(
            model=choice.model,
            cluster_id=clusters[e.cluster].id,
            cluster_label=clusters[e.cluster].label,
            similarity=e.nearest[0][1],
            clusters=tuple([(clusters[i].id, clusters[i].label, s) for i, s in e.nearest]),
            scores=tuple(scores),
            confidence=choice.confidence,
            fallback_reason=choice.reason,
            router_version=self.version,
            novelty=e.novelty,
            strategy=strategy,
            best_quality=best.model if best else None,
            best_cost=best.cost if best else None,
        )

    def is_novel(self, e: Estimate) -> bool:
        """Whether the text is less like its nearest training prompts than nearly all of them are like theirs."""
        return e.novelty > self.artifact.manifest.policy.novelty


def load(
    source: str | Path = "default",
    *,
    embedder: Embedder | None = None,
    abilities: Mapping[str, Ability] | None = None,
    cache: int = 4096,
) -> Router:
    """The router in a directory, or the bundled one for "default".

    embedder: needed for artifacts made with an embeddings endpoint. abilities: figures that replace or extend the
    published ones. Raises ArtifactError when the directory holds no whole artifact or the embedder is another one.
    """
    artifact = read(DATA / "default" if source == "default" else Path(source))
    known = published() if abilities is None else published().overridden(abilities)
    return Router(artifact, embedder or embedder_by_id(artifact.manifest.embedder), known, cache=cache)

"""The router: an artifact, an embedder and figures of unlabelled models, ready to decide.

Belongs here: the path of one prompt from text to decision, its caches, and loading. Not here: the decision rule
(policy.py), the fits (train.py), HTTP. A Router is immutable and may be shared by threads; replacing a router means
loading another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from opentracy.routing.artifact import Artifact, ArtifactError, read
from opentracy.routing.embed import DATA, Embedder, Vector, embedder_by_id
from opentracy.routing.estimate import PROBES, neighbour_means
from opentracy.routing.policy import Candidate, Choice, Requirements, Score, as_dict, choose, exclusion
from opentracy.routing.prior import DOMAINS, Abilities, Ability, bare_name, logit, published, shrunk_domains, sigmoid, solve_ability
from opentracy.routing.text import TOO_LONG
from opentracy.routing.train import text_length

_CHARS_PER_TOKEN = 4.0
_OUTPUT_TOKENS = 400.0  # expected answer length where nothing was learned about it
_PRIOR_MODEL_ERROR = 0.06  # how far one-parameter item response is from the truth, beside the figure's own error
DIFFICULTY = "prior:difficulty"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the artifact says about one text, before any candidate is looked at."""

    blocked: str | None  # empty, unreadable, too_long: no estimate can be trusted
    quality: Vector  # (H,)
    cluster: int  # position in the primary map
    nearest: tuple[tuple[int, float], ...]  # (position, similarity) of the nearest clusters
    rows: npt.NDArray[np.intp]  # neighbours among the prototypes
    closeness: float  # mean cosine to the 10 nearest prototypes
    length: int  # characters, white space folded


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
    novelty: float  # 1 - mean cosine to the 10 nearest training prompts
    strategy: str  # learned | prior | default
    best_quality: str | None  # what "always the best" would have called
    best_cost: float | None  # and its expected USD

    def routing(self) -> dict[str, object]:
        """The part of `_routing` that `auto` fills."""
        return {
            "cluster_id": self.cluster_id, "cluster_label": self.cluster_label, "similarity": round(self.similarity, 4),
            "scores": as_dict(self.scores), "confidence": self.confidence, "fallback_reason": self.fallback_reason,
            "router_version": self.router_version, "strategy": self.strategy, "novelty": round(self.novelty, 4),
            "nearest_clusters": [
                {"cluster_id": i, "cluster_label": label, "similarity": round(s, 4)} for i, label, s in self.clusters
            ],
            "always_best": {"model": self.best_quality, "cost": self.best_cost},
        }  # fmt: skip

    def ranked(self) -> list[str]:
        """Models that could have answered, best utility first: the order in which to fall back."""
        able = [s for s in self.scores if s.excluded is None and s.model != self.model]
        known = sorted(
            (s for s in able if s.utility is not None), key=lambda s: (-(s.utility or 0.0), s.cost or 0.0, s.model)
        )
        return [self.model, *(s.model for s in known), *sorted(s.model for s in able if s.utility is None)]


class Router:
    """Decides which model answers a prompt. Immutable; thread-safe; no I/O after construction."""

    def __init__(self, artifact: Artifact, embedder: Embedder, abilities: Abilities | None = None, *, cache: int = 4096) -> None:
        m = artifact.manifest
        if embedder.id != m.embedder or embedder.sha256 != m.embedder_sha256:
            raise ArtifactError(
                f"the router was trained with the embedder {m.embedder} ({m.embedder_sha256[:12]}), "
                f"this one is {embedder.id} ({embedder.sha256[:12]}); train again or pass the same embedder"
            )
        self.artifact, self.embedder = artifact, embedder
        self.abilities = published() if abilities is None else abilities
        self._column = {name: i for i, name in enumerate(m.models)}
        self._bare = {bare_name(name): i for i, name in reversed(list(enumerate(m.models)))}
        centres, linear = artifact.bag.centres, artifact.linear.weights
        self._stack = np.ascontiguousarray(np.concatenate([centres, linear.T]))
        self._half = 0.5 * (centres * centres).sum(1)
        self._centre_norms = np.maximum(np.linalg.norm(centres[: len(m.clusters)], axis=1), 1e-9)
        self._weights = tuple(w / sum(m.weights) for w in m.weights)
        self._novel_below = float(artifact.calibration[round(m.policy.novelty * 100)])
        self._complete = not bool(np.isnan(artifact.prototypes.scores).any())
        self._solved: dict[str, tuple[float, ...]] = {}
        self.estimate = lru_cache(maxsize=cache)(self._estimate)
        self._decide = lru_cache(maxsize=cache)(self._decide_uncached)

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self.artifact.manifest.version

    # -------------------------------------------------------------- estimates
    def _estimate(self, text: str) -> Estimate:
        length = text_length(text) if len(text) <= TOO_LONG else len(text)
        blocked = "too_long" if len(text) > TOO_LONG else None
        raw = self.embedder.embed(text)
        norm = math.sqrt(float(raw @ raw))
        if not text.strip():
            blocked = "empty"
        elif norm < 1e-9:
            blocked = blocked or "unreadable"
        x = raw / norm - self.artifact.mean if norm >= 1e-9 else np.zeros_like(raw)
        x /= max(math.sqrt(float(x @ x)), 1e-9)
        return self._from_vector(x, length, blocked)

    def _from_vector(self, x: Vector, length: int, blocked: str | None) -> Estimate:
        a, bounds = self.artifact, self.artifact.bag.bounds
        dots = self._stack @ x
        cut = bounds[-1]
        affinity = dots[:cut] - self._half
        entries = [low + int(affinity[low:high].argmax()) for low, high in zip(bounds, bounds[1:], strict=False)]
        clusters = a.bag.tables[entries].mean(0)
        linear = dots[cut:] + a.linear.intercept
        primary = affinity[: bounds[1]]
        order = np.argsort(-primary, kind="stable")[: max(PROBES, 3)]
        rows, closeness = self._neighbours(x, order)
        near = a.prototypes.scores[rows]
        neighbours = near.mean(0) if self._complete else neighbour_means(near, clusters)
        w = self._weights
        quality = np.clip(w[0] * clusters + w[1] * neighbours + w[2] * linear, 0.0, 1.0)
        nearest = tuple((int(i), float(dots[i] / self._centre_norms[i])) for i in order[:3])
        return Estimate(blocked, quality, int(order[0]), nearest, rows, closeness, length)

    def _neighbours(self, x: Vector, lists: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], float]:
        """The k nearest prototypes among those of the nearest clusters, and the mean cosine of the 10 nearest."""
        p, k = self.artifact.prototypes, self.artifact.manifest.policy.neighbours
        parts, found = [], 0
        for i in lists:
            low, high = int(p.starts[i]), int(p.starts[i + 1])
            if high > low:
                parts.append((low, p.vectors[low:high] @ x))
                found += high - low
            if found >= 12 * k:
                break
        if found < k:  # thin lists: look everywhere
            parts, found = [(0, p.vectors @ x)], len(p.vectors)
        similar = np.concatenate([s for _, s in parts])
        rows = np.concatenate([np.arange(low, low + len(s)) for low, s in parts])
        k = min(k, found)
        near = np.argpartition(-similar, k - 1)[:k] if k < found else np.arange(found)
        best = np.sort(similar[near])[::-1][:10]
        return rows[near], float(best.mean()) if len(best) else 0.0

    # -------------------------------------------------------------- decisions
    def decide(self, prompt: str, *, system: str | None = None, candidates: Sequence[Candidate], default: str | None = None,
               cost_weight: float = 0.3, requirements: Requirements | None = None) -> Decision:  # fmt: skip
        """Choose among `candidates`.

        prompt: the last user turn. system: the system text; it only counts as tokens, because who answers best depends on
        what is asked. default: the model that answers when nothing better is established (None: the artifact's own, or
        the candidate with the best known quality). cost_weight: 0 = best quality, 1 = cheapest acceptable.
        Raises ValueError when no candidate can serve the request or cost_weight is not a finite number >= 0.
        """
        if not (cost_weight >= 0 and math.isfinite(cost_weight)):
            raise ValueError(f"cost_weight is {cost_weight!r}, expected a number from 0 (best quality) to 1 (cheapest acceptable)")
        if not candidates:
            raise ValueError("no candidates: pass at least one model that can be called")
        extra = len(system) if system else 0
        return self._decide(prompt, extra, tuple(candidates), default, float(cost_weight), requirements or Requirements())

    def _decide_uncached(self, prompt: str, extra: int, candidates: tuple[Candidate, ...], default: str | None,
                         cost_weight: float, needs: Requirements) -> Decision:  # fmt: skip
        e = self.estimate(prompt)
        tokens = needs.tokens if needs.tokens is not None else math.ceil((e.length + extra) / _CHARS_PER_TOKEN)
        quality = [self._quality(c.model, e) for c in candidates]
        home = self._home(candidates, quality, default)
        costs = [self._cost(c, e, tokens, needs) for c in candidates]
        dearest = max((self._typical_cost(c) or 0.0 for c in candidates), default=0.0)
        scores = []
        for c, (q, error, column), cost in zip(candidates, quality, costs, strict=True):
            share = 0.0 if dearest <= 0 else (1.0 if cost is None else cost / dearest)
            utility = None if q is None else q - cost_weight * share
            scores.append(
                Score(c.model, q, error, cost, utility, exclusion(c, needs, cost, tokens), self._gap_error(column, error, home, e))
            )
        choice = choose(scores, home[0], z=self.artifact.manifest.policy.guard, novel=self.is_novel(e), blocked=e.blocked)
        return self._explained(e, scores, choice, quality, candidates)

    def _explained(self, e: Estimate, scores: list[Score], choice: Choice,
                   quality: list[tuple[float | None, float | None, int | None]], candidates: tuple[Candidate, ...]) -> Decision:  # fmt: skip
        clusters = self.artifact.manifest.clusters
        known = [s for s in scores if s.quality is not None and s.excluded is None]
        best = min(known, key=lambda s: (-(s.quality or 0.0), s.model)) if known else None
        column = next(q[2] for q, c in zip(quality, candidates, strict=True) if c.model == choice.model)
        picked = next(s for s in scores if s.model == choice.model)
        strategy = "learned" if column is not None else "prior" if picked.quality is not None else "default"
        return Decision(
            choice.model, clusters[e.cluster].id, clusters[e.cluster].label, e.nearest[0][1],
            tuple((clusters[i].id, clusters[i].label, s) for i, s in e.nearest), tuple(scores), choice.confidence,
            choice.reason, self.version, 1.0 - e.closeness, strategy, best.model if best else None, best.cost if best else None,
        )  # fmt: skip

    def is_novel(self, e: Estimate) -> bool:
        """Whether the text resembles the training prompts less than nearly all of them resemble each other."""
        return e.closeness < self._novel_below

    def _home(self, candidates: tuple[Candidate, ...], quality: list[tuple[float | None, float | None, int | None]],
              default: str | None) -> tuple[str, float | None, int | None]:  # fmt: skip
        """(name, quality error, column) of the model that answers when nothing better is established."""
        wanted = default if default is not None else self.artifact.manifest.default
        for c, (_, error, column) in zip(candidates, quality, strict=True):
            if c.model == wanted or (default is None and column is not None and wanted == self.artifact.manifest.models[column]):
                return c.model, error, column
        if default is not None:
            return default, None, None
        ranked = sorted((-(self._typical_quality(c.model) or -1.0), c.model, i) for i, c in enumerate(candidates))
        i = ranked[0][2]
        return candidates[i].model, quality[i][1], quality[i][2]

    def column(self, model: str) -> int | None:
        """Column of a labelled model, by full name or by the part after the last slash."""
        found = self._column.get(model)
        return found if found is not None else self._bare.get(bare_name(model))

    def _quality(self, model: str, e: Estimate) -> tuple[float | None, float | None, int | None]:
        """(expected score, its standard error, column of the labels or None)."""
        column = self.column(model)
        if column is not None:
            near = self.artifact.prototypes.scores[e.rows, column]
            near = near[~np.isnan(near)]
            spread = float(near.std()) / math.sqrt(len(near)) if len(near) > 1 else 0.5
            extra = self.artifact.manifest.extra_error.get(self.artifact.manifest.models[column], 0.0)
            return float(e.quality[column]), math.hypot(spread, extra), column
        ability = self.abilities.find(model)
        if ability is None or "all" not in self.artifact.manifest.reference:
            return None, None, None
        return self._prior_quality(model, ability, e), math.hypot(ability.overall.se, _PRIOR_MODEL_ERROR), None

    def _prior_quality(self, model: str, ability: Ability, e: Estimate) -> float:
        key = model.lower()
        solved = self._solved.get(key)
        if solved is None:
            solved = self._solved[key] = self._solve(ability)
        d, shares = self._difficulty(e)
        return float(shares @ sigmoid(np.asarray(solved) - d))

    def _solve(self, ability: Ability) -> tuple[float, ...]:
        reference = self.artifact.manifest.reference
        domains = shrunk_domains(ability)
        return tuple(solve_ability(domains[d], reference.get(d) or reference["all"]) for d in DOMAINS)

    def _difficulty(self, e: Estimate) -> tuple[float, npt.NDArray[np.float64]]:
        """(difficulty in logits, share of each domain) of one prompt."""
        heads, m = self.artifact.manifest.heads, len(self.artifact.manifest.models)
        if len(heads) == m:
            return float(-logit(float(e.quality.mean()))), np.full(len(DOMAINS), 1 / len(DOMAINS))
        easy = float(e.quality[heads.index(DIFFICULTY)])
        shares = np.maximum([e.quality[heads.index("prior:" + d)] for d in DOMAINS], 1e-3)
        return float(-logit(easy)), shares / shares.sum()

    def _gap_error(self, column: int | None, error: float | None, home: tuple[str, float | None, int | None], e: Estimate) -> float:
        """Standard error of (this model - the default): paired over the neighbours when both are labelled."""
        if error is None or (column is not None and column == home[2]):
            return 0.0
        if column is None or home[2] is None:
            return math.hypot(error, home[1] or 0.0)
        near = self.artifact.prototypes.scores[e.rows]
        gap = near[:, column] - near[:, home[2]]
        gap = gap[~np.isnan(gap)]
        paired = float(gap.std()) / math.sqrt(len(gap)) if len(gap) > 1 else 0.5
        names, extra = self.artifact.manifest.models, self.artifact.manifest.extra_error
        return math.hypot(paired, math.hypot(extra.get(names[column], 0.0), extra.get(names[home[2]], 0.0)))

    # -------------------------------------------------------------- costs
    def _output_tokens(self, model: str, e: Estimate | None) -> float:
        expected = self.artifact.manifest.output_tokens
        base = expected.get("all", _OUTPUT_TOKENS)
        ability = self.abilities.find(model)
        factor = (ability.output_tokens or 0.0) / 1000.0 if ability is not None and ability.output_tokens else 1.0
        if e is not None and len(self.artifact.manifest.heads) > len(self.artifact.manifest.models):
            _, shares = self._difficulty(e)
            base = float(sum(s * expected.get(d, base) for s, d in zip(shares, DOMAINS, strict=True)))
        return base * factor

    def _cost(self, c: Candidate, e: Estimate, tokens: int, needs: Requirements) -> float | None:
        """Expected USD of this request: from the caller's prices, else from the labels' own costs."""
        if c.input_price is not None and c.output_price is not None:
            out = self._output_tokens(c.model, e)
            if needs.output_tokens is not None:
                out = min(out, needs.output_tokens)
            return c.input_price * tokens + c.output_price * out
        return self.learned_cost(c.model, e)

    def learned_cost(self, model: str, e: Estimate) -> float | None:
        """Expected USD of this text on a labelled model, or the figure that the user's abilities file states."""
        column = self.column(model)
        if column is not None:
            name = self.artifact.manifest.models[column]
            fitted = self.artifact.manifest.costs.get(name)
            if fitted is None:
                return None
            value = fitted.base + fitted.per_char * e.length + float(self.artifact.cost_residual[e.cluster, column])
            return max(value, 0.1 * fitted.mean)
        ability = self.abilities.find(model)
        return None if ability is None else ability.cost

    def _typical_cost(self, c: Candidate) -> float | None:
        """USD of an ordinary request: the scale of the cost weight must not move with the prompt."""
        if c.input_price is not None and c.output_price is not None:
            return c.input_price * 300 + c.output_price * self._output_tokens(c.model, None)
        column = self.column(c.model)
        if column is not None:
            fitted = self.artifact.manifest.costs.get(self.artifact.manifest.models[column])
            return None if fitted is None else fitted.mean
        ability = self.abilities.find(c.model)
        return None if ability is None else ability.cost

    def _typical_quality(self, model: str) -> float | None:
        column = self.column(model)
        if column is not None:
            return float(self.artifact.linear.intercept[column])
        ability = self.abilities.find(model)
        return None if ability is None else ability.overall.value


def load(source: str | Path = "default", *, embedder: Embedder | None = None, abilities: Mapping[str, Ability] | None = None,
         cache: int = 4096) -> Router:  # fmt: skip
    """The router in a directory, or the bundled one for "default".

    embedder: needed for artifacts made with an embeddings endpoint. abilities: figures that replace or extend the
    published ones. Raises ArtifactError when the directory holds no whole artifact or the embedder is another one.
    """
    artifact = read(DATA / "default" if source == "default" else Path(source))
    known = published() if abilities is None else published().overridden(abilities)
    return Router(artifact, embedder or embedder_by_id(artifact.manifest.embedder), known, cache=cache)

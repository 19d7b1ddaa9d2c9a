"""What the routing screen shows: the clusters with what every model is expected to do there, what `auto` saved, and
what another cost weight would have done in the last week.

Belongs here: putting decisions of the past and estimates of the router together. Not here: how either is made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces import Filters, QueryError, Reader
from opentracy.traces.compile import Query
from opentracy.traces.filters import Condition
from opentracy.traces.model import TraceRecord
from opentracy.traces.project import SEQ_BITS
from opentracy.traces.stats import answer

from .errors import Refused
from .routes import json_response
from .traces import filters_of, reader_of, together

if TYPE_CHECKING:
    from opentracy.routing import Candidate, Router

    from .app import Engine

WEIGHTS = tuple(round(step * 0.05, 2) for step in range(21))
WEEK_MS = 7 * 86_400_000
MAX_BUCKETS = 10_000  # of a series: a pixel each is what anybody sees
MAX_BLOCKS = 100  # that are unpacked for it: a millisecond each
SAMPLE = 3000  # decisions looked at one by one; more do not change the curve
_STAY = frozenset({"novel", "empty", "too_long", "unreadable"})  # reasons for which the weight makes no difference
_AUTO = Condition("requested", "=", ("auto",))


# ---------------------------------------------------------------- clusters
async def clusters(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/routing/clusters`: every cluster with its traffic and what each model is expected to do."""
    state = engine.state
    weight = _weight(request, state.config.auto.cost_weight)
    filters = filters_of(request, frozenset({"weight"}))
    found: dict[str, Any] = {
        "version": state.router.version if state.router is not None else None,
        "problem": state.router_problem,
        "cost_weight": weight,
        "default": state.auto_default,
        "models": list(state.auto_models),
        "clusters": [],
    }
    if state.router is None:
        found["problem"] = found["problem"] or "No router is loaded"
        return json_response(found)
    router, candidates, default = state.router, state.candidates(), state.auto_default
    reader = engine.traces.reader
    await engine.traces.current()

    def work() -> list[dict[str, Any]]:
        traffic = _traffic(reader, filters) if reader is not None else {}
        shares = _shares(reader, filters) if reader is not None else {}
        total = sum(row["requests"] for row in traffic.values())
        rows = []
        for row in profile(router, candidates, default, weight):
            own = traffic.get(row["id"], _NOTHING)
            share = own["requests"] / total if total else None
            # a cluster of which nothing was seen before had no share, unless nothing at all was seen
            rows.append({**row, **own, "share": share, "share_before": shares.get(row["id"], 0.0) if shares else None})
        return sorted(rows, key=lambda row: (-row["requests"], -row["size"], row["id"]))

    found["clusters"] = await together(engine, request, work)
    return json_response(found)


# a mean, not a median: sums per cluster are kept by the hour, histograms are not
_NOTHING: dict[str, Any] = {"requests": 0, "cost_nano": 0, "errors": 0, "latency_avg": None}


def _traffic(reader: Reader, filters: Filters) -> dict[int, dict[str, Any]]:
    rows = answer(reader, Query(tuple(_NOTHING), ("cluster",), filters=filters))
    return {int(str(r["cluster"])): {k: r[k] for k in _NOTHING} for r in rows if r["cluster"] is not None}


def _shares(reader: Reader, filters: Filters) -> dict[int, float]:
    """Share of the traffic per cluster in the period before, of the same length; empty where nothing was routed."""
    if filters.since is None or filters.until is None:
        return {}
    before = dataclasses.replace(filters, since=2 * filters.since - filters.until, until=filters.since)
    rows = answer(reader, Query(("requests",), ("cluster",), filters=before))
    counts = {int(str(r["cluster"])): int(str(r["requests"])) for r in rows if r["cluster"] is not None}
    total = sum(counts.values())
    return {cluster: count / total for cluster, count in counts.items()} if total else {}


def profile(
    router: Router, candidates: Sequence[Candidate], default: str | None, weight: float
) -> list[dict[str, Any]]:
    """Per cluster: who would answer an ordinary prompt of it, and quality, cost, utility of each candidate there."""
    places = _map(router)
    rows = []
    for position, cluster in enumerate(router.artifact.manifest.clusters):
        models: dict[str, dict[str, float | None]] = {}
        winner = None
        if candidates:
            decision = router.decide_cluster(position, candidates=candidates, default=default, cost_weight=weight)
            winner = decision.model
            models = {
                s.model: {"quality": s.quality, "quality_error": s.quality_error, "cost": s.cost, "utility": s.utility}
                for s in decision.scores
            }
        x, y = places[position]
        rows.append(
            {"id": cluster.id, "label": cluster.label, "terms": cluster.terms, "size": cluster.size,
             "examples": cluster.examples, "x": x, "y": y, "winner": winner, "models": models}
        )  # fmt: skip
    return rows


@lru_cache(maxsize=2)
def _map(router: Router) -> list[tuple[float, float]]:
    """A place in the plane per cluster, alike ones near each other: the two main axes of the centres, in -1..1.

    Ranks are blended in, since a few far clusters would otherwise press all others into one spot. Made once a router.
    """
    import numpy as np

    bag = router.artifact.bag
    centres = bag.centres[: bag.bounds[1]]
    if len(centres) < 3:
        return [(0.0, 0.0)] * len(centres)
    left = centres - centres.mean(0)
    # few centres of many dimensions: the small matrix between the centres has the same axes at a hundredth of the work
    strengths, axes = np.linalg.eigh(left @ left.T)
    flat = axes[:, :-3:-1] * np.sqrt(np.maximum(strengths[:-3:-1], 0.0))
    scaled = flat / np.maximum(np.abs(flat).max(0), 1e-9)
    ranks = flat.argsort(0).argsort(0) / (len(flat) - 1) * 2 - 1
    places = 0.45 * scaled + 0.55 * ranks
    return [(round(float(x), 4), round(float(y), 4)) for x, y in places]


# ---------------------------------------------------------------- decisions of the past
def decisions(
    reader: Reader, filters: Filters, sample: int = SAMPLE, *, bodies: bool = False
) -> tuple[list[TraceRecord], int]:
    """About `sample` routed requests of a filter, spread evenly over it, and how many there were."""
    narrowed = dataclasses.replace(filters, conditions=(*filters.conditions, _AUTO), text="")
    from opentracy.traces.filters import where

    condition, params = where(narrowed)
    connection = reader.current()
    routed = f"FROM traces WHERE {condition} AND cluster_id IS NOT NULL"
    # counted block by block: a million numbers are not fetched to take three thousand of them
    by_block = f"SELECT seq >> {SEQ_BITS}, count(*) {routed} GROUP BY 1 ORDER BY min(ts_ms)"
    blocks = connection.execute(by_block, params).fetchall()
    total = sum(count for _, count in blocks)
    # whole blocks, since a block is unpacked however many records are taken from it; where routed requests are few
    # among others, so many of them would be that the number of blocks is what counts
    step = max(1, math.ceil(total / sample), math.ceil(len(blocks) / MAX_BLOCKS))
    seqs: list[int] = []
    for block, _ in blocks[::step]:
        bounds = block << SEQ_BITS, (block + 1 << SEQ_BITS) - 1
        found = connection.execute(f"SELECT seq {routed} AND seq BETWEEN ? AND ? ORDER BY ts_ms", (*params, *bounds))
        seqs += [seq for (seq,) in found]
    records = reader.load(seqs, bodies=bodies)
    return [r for r in records if r is not None and r.route_candidates], total


def able(record: TraceRecord) -> dict[str, tuple[float, float]]:
    """Model -> (expected quality, expected USD) of the candidates that could have answered."""
    out: dict[str, tuple[float, float]] = {}
    for name, score in (record.route_candidates or {}).items():
        if not isinstance(score, dict) or score.get("excluded"):
            continue
        quality, cost = _figure(score.get("quality")), _figure(score.get("cost"))
        if quality is not None and cost is not None:
            out[name] = (quality, cost)
    return out


def _figure(value: Any) -> float | None:
    """A number that can be counted with; traces made elsewhere may hold anything."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


async def projection(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/routing/projection`: cost and quality of the last week's routed requests at every weight."""
    reader = reader_of(engine)
    weight = engine.state.config.auto.cost_weight
    filters = filters_of(request)
    await engine.traces.current()

    def work() -> dict[str, Any]:
        newest = reader.current().execute("SELECT max(ts_ms) FROM traces").fetchone()[0]
        week = filters if newest is None or filters.since else filters.between(newest - WEEK_MS, None)
        records, total = decisions(reader, week)
        return {"traces": total, "used": len(records), "current_weight": weight, **project(records, total)}

    return json_response(await together(engine, request, work))


def project(records: Iterable[TraceRecord], total: int) -> dict[str, Any]:
    """What the recorded decisions would cost and be worth at each weight; costs are scaled up to `total` requests.

    The rule is the router's own (quality - weight * cost / dearest), with the dearest candidate's mean cost as
    the scale and without its guard, whose errors a trace does not hold. Prompts that no weight would have moved stay
    where they were.
    """
    rows = [(r, found) for r in records if (found := able(r))]
    if not rows:
        nothing = {"cost": 0.0, "quality": 0.0}
        return {"points": [], "best": nothing, "cheapest": nothing, "actual": None}
    dearest = sum(max(c for _, c in found.values()) for _, found in rows) / len(rows) or 1.0
    scale = total / len(rows)

    def summed(picks: Sequence[tuple[str, float, float]]) -> dict[str, float]:
        return {"cost": scale * sum(c for _, _, c in picks), "quality": sum(q for _, q, _ in picks) / len(picks)}

    curve = Curve(rows, dearest)
    points = []
    for weight in WEIGHTS:
        cost, quality, shares = curve.at(weight)
        points.append({"weight": weight, "cost": scale * cost, "quality": quality, "shares": shares})
    best = [max(((n, q, c) for n, (q, c) in found.items()), key=lambda p: (p[1], -p[2])) for _, found in rows]
    cheapest = [min(((n, q, c) for n, (q, c) in found.items()), key=lambda p: (p[2], -p[1])) for _, found in rows]
    chosen = [(own, *found[own]) for r, found in rows if (own := _chosen(r, found)) is not None]
    actual = summed(chosen) if chosen else None
    if actual is not None:  # by the estimates, as the points are; an answer from elsewhere counts as the mean one
        actual["cost"] *= len(rows) / len(chosen)
    return {"points": points, "best": summed(best), "cheapest": summed(cheapest), "actual": actual}


class Curve:
    """Who would have answered each of some decisions at a cost weight: the one of the highest utility, of equals the
    cheaper one, then the last by name.

    Arrays, since three thousand decisions at twenty weights are half a second of Python.
    """

    def __init__(self, rows: Sequence[tuple[TraceRecord, dict[str, tuple[float, float]]]], dearest: float) -> None:
        import numpy as np

        self._dearest = dearest
        self._names = sorted({name for _, found in rows for name in found})
        places = {name: at for at, name in enumerate(self._names)}
        width = max(len(found) for _, found in rows)
        self._quality = np.full((len(rows), width), -np.inf)
        self._cost = np.zeros((len(rows), width))
        self._model = np.zeros((len(rows), width), np.intp)
        for at, (record, found) in enumerate(rows):
            kept = _chosen(record, found) if record.fallback_reason in _STAY else None
            # the first of the highest wins: cheap ones stand before dear ones
            order = [kept] if kept is not None else sorted(sorted(found, reverse=True), key=lambda n: found[n][1])
            for place, name in enumerate(order):
                self._quality[at, place], self._cost[at, place] = found[name]
                self._model[at, place] = places[name]

    def at(self, weight: float) -> tuple[float, float, dict[str, float]]:
        """Cost of all in USD, mean quality, and each model's share of the answers."""
        import numpy as np

        best = (self._quality - weight / self._dearest * self._cost).argmax(1)[:, None]
        many = len(best)
        counts = np.bincount(np.take_along_axis(self._model, best, 1)[:, 0], minlength=len(self._names)).tolist()
        cost = float(np.take_along_axis(self._cost, best, 1).sum())
        quality = float(np.take_along_axis(self._quality, best, 1).mean())
        return cost, quality, {name: n / many for name, n in zip(self._names, counts, strict=True) if n}


def _chosen(record: TraceRecord, found: dict[str, tuple[float, float]]) -> str | None:
    """The candidate that answered: traces name the model without its provider, candidates with it."""
    for name in (record.model, f"{record.provider}/{record.model}"):
        if name in found:
            return name
    return None


async def savings(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/routing/savings`: USD per bucket: spent, had the best always answered, had the cheapest."""
    reader = reader_of(engine)
    bucket = request.query_params.get("bucket", "3600000")
    if not bucket.isdigit() or not 1000 <= int(bucket) < 10**15:
        raise Refused(400, "bucket must be a number of milliseconds, 1000 or more", param="bucket")
    filters = filters_of(request, frozenset({"bucket"}))
    await engine.traces.current()
    return json_response(await together(engine, request, lambda: saved(reader, filters, int(bucket))))


def saved(reader: Reader, filters: Filters, bucket: int) -> dict[str, Any]:
    """Series of `savings`. What the best would have cost stands in each trace; the cheapest is taken from a sample.

    Only traces that know both figures are compared, so that a missing one is not taken for a saving.
    """
    auto = dataclasses.replace(filters, conditions=(*filters.conditions, _AUTO), text="")
    query = Query(("requests", "cost_nano", "counterfactual_nano"), (), bucket, auto)
    rows = {int(str(r["bucket"])): r for r in answer(reader, query)}
    times: list[int] = []
    if rows:
        first = min(rows) if filters.since is None else filters.since // bucket * bucket
        last = max(rows) if filters.until is None else filters.until - 1
        if (last - first) // bucket >= MAX_BUCKETS:
            text = f"The series would have more than {MAX_BUCKETS:,} buckets: ask for longer ones or less time"
            raise QueryError(text)
        times = list(range(first, last + 1, bucket))
    records, total = decisions(reader, filters)
    ratio = _cheapest_share(records)
    actual = [_usd(rows.get(t), "cost_nano") for t in times]
    return {
        "bucket_ms": bucket,
        "times": times,
        "actual": actual,
        "best": [_usd(rows.get(t), "counterfactual_nano") for t in times],
        "cheapest": [value * ratio for value in actual],
        "traces": total,
        "sampled": len(records) < total,
    }


def _usd(row: dict[str, object] | None, name: str) -> float:
    return 0.0 if row is None else int(str(row[name])) / 1e9


def _cheapest_share(records: Iterable[TraceRecord]) -> float:
    """Expected cost of always asking the cheapest, as a share of the expected cost of what was chosen."""
    chosen = cheapest = 0.0
    for record in records:
        found = able(record)
        name = _chosen(record, found)
        if name is not None:
            chosen += found[name][1]
            cheapest += min(cost for _, cost in found.values())
    return cheapest / chosen if chosen else 1.0


def _weight(request: Request, default: float) -> float:
    text = request.query_params.get("weight")
    if text is None:
        return default
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise Refused(400, "weight must be a number from 0 to 1", param="weight")
    return weight

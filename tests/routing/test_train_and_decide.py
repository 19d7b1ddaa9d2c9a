"""Training and deciding on synthetic prompts: right, repeatable, stable."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from routing_kit import COST, MODELS, SKILL, TOPICS, labelled, prompt

from opentracy.routing import Candidate, Labels, Requirements
from opentracy.routing.artifact import Artifact, decode, encode
from opentracy.routing.clusters import assign, kmeans, scatter
from opentracy.routing.embed import static_embedder
from opentracy.routing.predict import predict_table
from opentracy.routing.prior import Abilities
from opentracy.routing.router import Router
from opentracy.routing.train import Options, _moved, fit

CANDIDATES = tuple(Candidate(m) for m in MODELS)
TEST, TOPIC = labelled(300, seed=9)


def chances(picks: list[str]) -> float:
    """Mean true chance of the picked models."""
    return float(np.mean([SKILL[m][list(TOPICS).index(t)] for m, t in zip(picks, TOPIC, strict=True)]))


def test_picks_are_better_than_the_best_single_model(router: Router) -> None:
    picks = [d.model for d in router.decide_many(TEST.prompts, candidates=CANDIDATES, cost_weight=0.0)]
    best_single = max(chances([m] * len(TOPIC)) for m in MODELS)
    assert chances(picks) > best_single + 0.06


def test_a_cost_weight_saves_money(router: Router) -> None:
    def spent(weight: float) -> float:
        return sum(COST[d.model] for d in router.decide_many(TEST.prompts, candidates=CANDIDATES, cost_weight=weight))

    assert spent(0.4) < 0.7 * spent(0.0)
    assert spent(0.8) <= spent(0.4)


def test_estimates_are_calibrated(router: Router) -> None:
    table = predict_table(router, TEST.prompts)
    for model in MODELS:
        truth = [SKILL[model][list(TOPICS).index(t)] for t in TOPIC]
        assert np.abs(np.array(table["q:" + model]) - truth).mean() < 0.13


def test_training_twice_gives_the_same_bytes_whatever_the_order() -> None:
    labels, _ = labelled(200, seed=4)
    shuffled = labels.take(random.Random(1).sample(range(200), 200)).select(tuple(reversed(MODELS)))
    assert encode(fit(labels, static_embedder()))[1:] == encode(fit(shuffled, static_embedder()))[1:]


def test_a_row_does_not_depend_on_the_others(router: Router) -> None:
    whole = predict_table(router, TEST.prompts[:40])
    alone = [predict_table(Router(router.artifact, router.embedder, Abilities({})), (p,)) for p in TEST.prompts[:40]]
    for name, values in whole.items():
        if name != "row":
            assert values == [a[name][0] for a in alone]


def test_layout_case_and_courtesies_change_no_decision(router: Router) -> None:
    edits = (str.upper, str.lower, lambda p: p.replace(" ", "  "), lambda p: p.replace(" ", "\n", 3),
             lambda p: "Please answer the following. " + p, lambda p: "Hi there! " + p + " Thanks",
             lambda p: "You are a careful expert. " + p)  # fmt: skip
    for weight in (0.0, 0.1, 0.4):
        base = router.decide_many(TEST.prompts[:60], candidates=CANDIDATES, cost_weight=weight)
        for edit in edits:
            changed = router.decide_many(
                [edit(p) for p in TEST.prompts[:60]], candidates=CANDIDATES, cost_weight=weight
            )
            assert [(d.model, d.cluster_id) for d in changed] == [(d.model, d.cluster_id) for d in base]


def test_cluster_ids_survive_retraining(artifact: Artifact) -> None:
    labels, _ = labelled(600)
    again = fit(labels.take(range(570)), static_embedder(), old=artifact)
    a, b = (Router(x, static_embedder(), Abilities({})) for x in (artifact, decode(*encode(again)[1:])))
    same = [
        a.decide(p, candidates=CANDIDATES).cluster_id == b.decide(p, candidates=CANDIDATES).cluster_id
        for p in TEST.prompts
    ]
    assert np.mean(same) >= 0.9


def test_centres_stay_among_nearly_the_same_rows_and_follow_rows_that_changed() -> None:
    draw = np.random.default_rng(0)
    middles = draw.normal(size=(12, 16))
    rows = (middles[draw.integers(12, size=1200)] + draw.normal(scale=1.5, size=(1200, 16))).astype(np.float32)
    centres = kmeans(rows, 12, 0)
    some = rows[draw.random(1200) < 0.95]
    near, settled = _moved(some, centres, 0), kmeans(some, 12, 0, start=centres)
    same = [float((assign(rows, c) == assign(rows, centres)).mean()) for c in (near, settled)]
    assert same[0] > 0.95
    assert same[0] > same[1]
    assert scatter(some, near) < scatter(some, centres)
    others = (-rows).astype(np.float32)
    followed, stayed, once = _moved(others, centres, 0), centres, kmeans(others, 12, 0, rounds=1, start=centres)
    assert scatter(others, followed) < scatter(others, once) < scatter(others, stayed)


def test_training_again_in_place_changes_nothing(artifact: Artifact) -> None:
    again = fit(labelled(600)[0], static_embedder(), old=artifact)
    assert encode(again)[1:] == encode(fit(labelled(600)[0], static_embedder()))[1:]


def test_cluster_labels_name_their_topic(artifact: Artifact) -> None:
    words = {w for text in TOPICS.values() for w in text.split()}
    named = [bool(set(c.terms) & words) for c in artifact.manifest.clusters if c.size >= 10]
    assert np.mean(named) > 0.9


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty"), (" \n\t ", "empty"), ("x" * 1_000_000, "too_long"), ("🎉" * 400_000, "too_long"), ("🎉" * 50, "unreadable"),
     ("\x00\x01\x02\x03\x04ab" * 40, "unreadable"), ("今天天气怎么样？我想去北京。", "language"),
     ("Pourquoi la lune est-elle si brillante dans le ciel ?", "language")],
)  # fmt: skip
def test_texts_without_meaning_go_to_the_default(router: Router, text: str, why: str) -> None:
    decision = router.decide(text, candidates=CANDIDATES, default="lab/cheap", cost_weight=0.0)
    assert decision.model == "lab/cheap"
    assert decision.fallback_reason == why


def test_another_kind_of_prompt_is_novel(router: Router) -> None:
    odd = (
        'ERROR 0x80070057 at line 1,204: {"retry": null, "id": [7, 7, 7]} <<<>>> $$$ \\frac{1}{2} = {x_1, x_2, x_3}; '
        * 4
    )
    assert router.decide(odd, candidates=CANDIDATES).novelty > 0.9
    assert np.mean([router.decide(p, candidates=CANDIDATES).novelty > 0.9 for p in TEST.prompts]) < 0.3


def test_only_who_can_serve_is_chosen(router: Router) -> None:
    text = prompt("code", random.Random(3))
    limited = [Candidate("lab/coder", tools=False), Candidate("lab/allround"), Candidate("lab/cheap")]
    decision = router.decide(text, candidates=limited, cost_weight=0.0, requirements=Requirements(tools=True))
    assert decision.model != "lab/coder"
    scores = {s.model: s.excluded for s in decision.scores}
    assert scores["lab/coder"] == "tools: not supported"


def test_names_match_behind_another_provider(router: Router) -> None:
    decision = router.decide(TEST.prompts[0], candidates=[Candidate("elsewhere/coder"), Candidate("elsewhere/unknown")])
    known = {s.model: s.quality for s in decision.scores}
    assert known["elsewhere/coder"] is not None
    assert known["elsewhere/unknown"] is None


def test_the_decision_explains_itself(router: Router) -> None:
    told = router.decide(TEST.prompts[0], candidates=CANDIDATES).routing()
    assert {"cluster_id", "cluster_label", "scores", "confidence", "fallback_reason", "router_version"} <= set(told)
    assert set(told["scores"]) == set(MODELS)  # type: ignore[call-overload]
    for row in told["scores"].values():  # type: ignore[attr-defined]
        assert {"quality", "quality_error", "cost", "utility"} <= set(row)


def test_prices_of_the_caller_count(router: Router) -> None:
    priced = [Candidate("lab/allround", 1e-6, 2e-6), Candidate("lab/coder", 1e-9, 2e-9)]
    costs = {s.model: s.cost for s in router.decide(TEST.prompts[0], candidates=priced).scores}
    assert costs["lab/allround"] == pytest.approx(1000 * (costs["lab/coder"] or 0))


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_cost_weight_must_be_a_number(router: Router, weight: float) -> None:
    with pytest.raises(ValueError, match="cost_weight"):
        router.decide("x", candidates=CANDIDATES, cost_weight=weight)


def test_labels_are_checked() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Labels(("a",), ("m",), np.array([[1.5]]))
    with pytest.raises(ValueError, match="shape"):
        Labels(("a", "b"), ("m",), np.array([[1.0]]))
    with pytest.raises(ValueError, match="too few"):
        fit(labelled(5)[0], static_embedder())
    with pytest.raises(ValueError, match="has no labels"):
        fit(labelled(50)[0], static_embedder(), Options(default="nobody"))


def test_missing_labels_are_not_zeros() -> None:
    labels, _ = labelled(300, seed=2)
    scores = labels.scores.copy()
    scores[np.random.default_rng(0).random(scores.shape) < 0.5] = np.nan
    holes = Router(
        decode(*encode(fit(Labels(labels.prompts, MODELS, scores, labels.costs), static_embedder()))[1:]),
        static_embedder(),
        Abilities({}),
    )
    table = predict_table(holes, TEST.prompts[:100])
    for i, model in enumerate(MODELS):
        assert np.mean(table["q:" + model]) == pytest.approx(np.nanmean(scores[:, i]), abs=0.1)


def test_examples_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    labels, _ = labelled(120, seed=5)
    assert not any(c.examples for c in fit(labels, static_embedder()).manifest.clusters)
    assert any(c.examples for c in fit(labels, static_embedder(), Options(examples=2)).manifest.clusters)

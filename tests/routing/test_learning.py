"""Learning while serving: simulation, change points, exploration, drift, retraining, shadow evaluation."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_kit import MODELS, SKILL, TOPICS, labelled

from opentracy.routing import Candidate, promote, shadow
from opentracy.routing.artifact import Artifact, ArtifactError, decode, encode, read, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.learn import EXPLORE_AT_MOST, Live, Outcome, drift, explore
from opentracy.routing.policy import Score
from opentracy.routing.prior import Abilities
from opentracy.routing.router import Router
from opentracy.routing.train import fit

CANDIDATES = tuple(Candidate(m) for m in MODELS)
EMBEDDER = static_embedder()


@pytest.fixture(scope="module")
def thin() -> Artifact:
    """A router from 120 prompts: much is left to learn."""
    return decode(*encode(fit(labelled(120, seed=11)[0], EMBEDDER))[1:])


def serve(
    artifact: Artifact, requests: int, *, feedback: float, halved: str | None = None
) -> tuple[list[float], Counter[str]]:
    """(true chance of every pick, picks): greedy choice on live estimates, judged for a share of the requests."""
    traffic, topics = labelled(requests, seed=21)
    rng, live = np.random.default_rng(5), Live()
    router = Router(artifact, EMBEDDER, Abilities({}))
    ids = [c.id for c in artifact.manifest.clusters]
    chances, picks = [], Counter[str]()
    for i, (text, topic) in enumerate(zip(traffic.prompts, topics, strict=True)):
        e = router.estimate(text)
        cluster = ids[e.cluster]
        base = {m: float(e.quality[artifact.manifest.models.index(m)]) for m in MODELS}
        pick = max(sorted(MODELS), key=lambda m: base[m] + live.shift(cluster, m))
        skill = SKILL[pick][list(TOPICS).index(topic)]
        if pick == halved and i >= requests // 2:
            skill /= 2
        chances.append(skill)
        picks[pick] += 1
        if rng.random() < feedback:
            live.add(Outcome(cluster, pick, float(rng.random() < skill), base[pick]))
    return chances, picks


def test_quality_improves_over_four_thousand_requests_with_a_fifth_judged(thin: Artifact) -> None:
    learned, picks = serve(thin, 4000, feedback=0.2)
    static, _ = serve(thin, 4000, feedback=0.0)
    assert np.mean(learned[-1000:]) > np.mean(static[-1000:]) + 0.005
    assert np.mean(learned[-1000:]) > np.mean(learned[:500])
    assert max(picks.values()) < 3400  # no collapse onto one model
    assert picks["lab/star"] > 500


def test_it_recovers_after_the_best_model_is_halved(thin: Artifact) -> None:
    learned, picks = serve(thin, 4000, feedback=0.2, halved="lab/allround")
    static, _ = serve(thin, 4000, feedback=0.0, halved="lab/allround")
    assert np.mean(learned[-1000:]) > np.mean(static[-1000:]) + 0.02
    assert np.mean(learned[-500:]) > np.mean(learned[2000:2500])
    assert max(picks.values()) < 3400


def test_a_learned_router_uses_the_shifts(router: Router) -> None:
    live, text = Live(), labelled(1, seed=4)[0].prompts[0]
    before = router.decide(text, candidates=CANDIDATES)
    for _ in range(60):
        live.add(Outcome(before.cluster_id, "lab/allround", 0.0, 0.6))
    after = router.learned(live).decide(text, candidates=CANDIDATES)
    quality = [{s.model: s.quality or 0.0 for s in d.scores} for d in (before, after)]
    assert quality[1]["lab/allround"] < quality[0]["lab/allround"] - 0.05
    assert quality[1]["lab/coder"] == quality[0]["lab/coder"]
    assert router.decide(text, candidates=CANDIDATES) == before


def test_state_survives_a_restart_and_damage_is_refused() -> None:
    live = Live()
    for value in (1.0, 0.0, 1.0):
        live.add(Outcome(3, "m", value, 0.5, propensity=0.5))
    again = Live.decode(live.encode())
    assert again.snapshot() == live.snapshot()
    for bad in (b"", b"{}", live.encode()[:-3], live.encode().replace(b'"3"', b'"x"')):
        with pytest.raises(ValueError, match="not a learning state"):
            Live.decode(bad)


@pytest.mark.parametrize(
    "outcome", [Outcome(1, "m", 1.5, 0.5), Outcome(1, "m", 0.5, -1), Outcome(1, "m", 0.5, 0.5, 0.0)]
)
def test_outcomes_are_checked(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match="must lie"):
        Live().add(outcome)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1)), max_size=60))
def test_a_shift_never_leaves_the_scale(rows: list[tuple[float, float, float]]) -> None:
    live = Live()
    for value, expected, propensity in rows:
        live.add(Outcome(0, "m", value, expected, propensity))
    assert -1 <= live.shift(0, "m") <= 1
    assert 0 <= live.error(0, "m", 0.1) <= 0.1


def test_a_jump_sets_off_an_alarm_and_noise_does_not() -> None:
    rng, calm, broken = np.random.default_rng(2), Live(), Live()
    for i in range(400):
        calm.add(Outcome(1, "m", float(rng.random() < 0.7), 0.7))
        broken.add(Outcome(1, "m", float(rng.random() < (0.7 if i < 200 else 0.2)), 0.7))
    assert not calm.alarms
    assert (1, "m", -1.0) in broken.alarms


def test_after_a_jump_the_estimate_is_what_was_seen_since_and_never_goes_back() -> None:
    live = Live()
    for _ in range(60):
        live.add(Outcome(1, "m", 1.0, 0.7))
    rising = live.shift(1, "m")
    shifts = []
    for _ in range(80):
        live.add(Outcome(1, "m", 0.0, 0.7))
        shifts.append(live.shift(1, "m"))
    assert rising > 0.15
    assert live.alarms
    assert shifts[-1] < -0.45  # the truth is -0.7, a twelfth part of it is held back
    assert all(b <= a + 0.02 for a, b in pairwise(shifts))


def scored(model: str, utility: float, error: float) -> Score:
    return Score(model, utility, error, 0.01, utility, None, error)


def test_exploration_is_rare_and_only_where_intervals_overlap() -> None:
    close = [scored("a", 0.7, 0.1), scored("b", 0.65, 0.1)]
    far = [scored("a", 0.9, 0.02), scored("b", 0.2, 0.02)]
    draws = (np.arange(10_000) + 0.5) / 10_000
    taken = [explore(close, "a", float(d), share=0.5) for d in draws]
    assert sum(m == "b" for m, _ in taken) / 10_000 == pytest.approx(EXPLORE_AT_MOST, abs=1e-3)
    assert {p for m, p in taken if m == "b"} == {EXPLORE_AT_MOST}
    assert {m for m, _ in (explore(far, "a", float(d)) for d in draws)} == {"a"}


def test_drift_names_the_cluster() -> None:
    sizes = {1: 500, 2: 500}
    rng = np.random.default_rng(0)
    usual = {1: rng.random(300).tolist(), 2: rng.random(300).tolist()}
    assert drift(sizes, usual) == []
    strange = {1: (0.5 + rng.random(300) / 2).tolist(), 2: rng.random(300).tolist()}
    assert [(a.cluster_id, a.kind) for a in drift(sizes, strange)] == [(1, "novelty")]
    crowded = {1: rng.random(550).tolist(), 2: rng.random(50).tolist()}
    assert {a.kind for a in drift(sizes, crowded)} == {"share"}


# ------------------------------------------------------------------ retraining
def test_more_judged_rows_are_promoted_and_can_be_rolled_back(thin: Artifact, tmp_path: Path) -> None:
    first = write(thin, tmp_path).manifest.version
    verdict = promote.learn(read(tmp_path), labelled(1500, seed=31)[0], EMBEDDER)
    assert verdict.promoted, verdict
    second = promote.promote(tmp_path, verdict.candidate).manifest.version
    assert second != first
    assert read(tmp_path).manifest.parent == first
    assert promote.rollback(tmp_path).manifest.version == first
    assert read(tmp_path).manifest.version == first
    assert promote.history(tmp_path) == [(second, "promoted"), (first, "rolled back")]
    with pytest.raises(ArtifactError, match="no earlier version"):
        promote.rollback(tmp_path)


def test_labels_that_make_it_worse_are_not_promoted(artifact: Artifact) -> None:
    """The training part is upside down, the held-out part is true: what a broken judge would do."""
    labels, _ = labelled(900, seed=41)
    held = np.array([promote.fold_of("learn:" + p) == 0 for p in labels.prompts])
    scores = np.where(held[:, None], labels.scores, 1 - labels.scores)
    verdict = promote.learn(artifact, type(labels)(labels.prompts, labels.models, scores), EMBEDDER)
    assert not verdict.promoted
    assert verdict.brier[0] > 0


def test_a_few_labels_promote_nothing(artifact: Artifact) -> None:
    verdict = promote.learn(artifact, labelled(40, seed=2)[0], EMBEDDER)
    assert not verdict.promoted
    assert "needed" in verdict.why


def test_retraining_keeps_the_cluster_ids(artifact: Artifact) -> None:
    candidate = promote.retrain(artifact, labelled(200, seed=8)[0], EMBEDDER)
    assert [c.id for c in candidate.manifest.clusters] == [c.id for c in artifact.manifest.clusters]
    assert candidate.manifest.rows > artifact.manifest.rows


# ------------------------------------------------------------------ shadow evaluation
TRACES = [
    shadow.Candidate(
        f"t{i}", f"prompt {i}", "a", (scored("a", 0.7, 0.05), scored("b", 0.68, 0.1), scored("c", 0.1, 0.01))
    )
    for i in range(2000)
]


def test_a_plan_keeps_to_share_and_budget_and_asks_where_it_is_close() -> None:
    found = shadow.plan(TRACES, share=0.05, budget=0.3)
    assert 0 < sum(r.cost for r in found) <= 0.3
    assert {r.model for r in found} == {"b"}
    everything = shadow.plan(TRACES, share=0.05, budget=1e9)
    assert 60 <= len(everything) <= 140
    assert shadow.plan(TRACES, share=0.05, budget=0.0) == []
    assert shadow.plan(list(reversed(TRACES)), share=0.05, budget=0.3) == found


def test_a_run_stops_when_the_money_is_spent() -> None:
    calls: list[str] = []

    def call(model: str, text: str) -> tuple[str, float]:
        calls.append(model)
        return ("It must say so.\nSCORE: 7" if model == "judge" else "an answer", 0.02)

    labels = shadow.run(shadow.plan(TRACES, share=0.05, budget=1.0), call, "judge", budget=0.1)
    assert [x.value for x in labels] == [0.7] * len(labels)
    assert 1 <= len(labels) <= 3
    assert sum(x.cost for x in labels) <= 0.14
    assert labels[0].judge_version == shadow.JUDGE_VERSION


@pytest.mark.parametrize(
    ("text", "value"),
    [("fine\nSCORE: 10", 1.0), ("SCORE: 3/10", 0.3), ("score: **4**", 0.4), ("SCORE: 9\nno, really:\nSCORE: 2", 0.2),
     ("SCORE: 11", None), ("no score", None), ("", None)],
)  # fmt: skip
def test_verdicts(text: str, value: float | None) -> None:
    assert shadow.verdict(text) == value


def test_the_judge_sees_a_bounded_amount_of_both() -> None:
    prompt = shadow.judge_prompt("q" * 10**6, "a" * 10**6)
    assert len(prompt) < 30_000


@pytest.mark.parametrize(("share", "budget"), [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0)])
def test_a_plan_checks_its_limits(share: float, budget: float) -> None:
    with pytest.raises(ValueError, match="share"):
        shadow.plan([], share=share, budget=budget)

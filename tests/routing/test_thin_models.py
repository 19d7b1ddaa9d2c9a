"""Models with few labels and models with none."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from routing_kit import MODELS, labelled

from opentracy.routing import Candidate, Requirements, load
from opentracy.routing.appraise import _FAR_FROM, _NEAR_UNTIL, Appraiser, far_share
from opentracy.routing.artifact import Artifact, decode, encode
from opentracy.routing.embed import static_embedder
from opentracy.routing.estimate import unit
from opentracy.routing.extend import _seen, _shared, add_model, fit_column
from opentracy.routing.predict import predict_table
from opentracy.routing.prior import (
    DOMAINS,
    Abilities,
    Ability,
    Bend,
    Figure,
    bent_gain,
    bent_reference,
    domain_figures,
    logit,
    plain_name,
    published,
    shrunk_domains,
    sigmoid,
    solve_abilities,
)
from opentracy.routing.reader import Estimate
from opentracy.routing.router import Router
from opentracy.routing.text import core_text
from opentracy.routing.train import fit

EMBEDDER = static_embedder()


@pytest.fixture(scope="module")
def without_star() -> Artifact:
    labels, _ = labelled(500, seed=1)
    rest = tuple(m for m in MODELS if m != "lab/star")
    return decode(*encode(fit(labels.select(rest), EMBEDDER))[1:])


def error_of(artifact: Artifact, model: str) -> float:
    """Brier of the model's estimates over that of its true mean."""
    test, _ = labelled(400, seed=77)
    truth = test.select((model,)).scores[:, 0]
    q = np.array(predict_table(Router(artifact, EMBEDDER, Abilities({})), test.prompts)["q:" + model])
    return float(((q - truth) ** 2).mean() / ((truth - truth.mean()) ** 2).mean())


def test_more_labels_make_a_better_column(without_star: Artifact) -> None:
    new, _ = labelled(400, seed=3)
    errors = {}
    for n in (20, 100, 400):
        added = add_model(without_star, new.take(range(n)).select(("lab/star",)), EMBEDDER)
        errors[n] = error_of(decode(*encode(added)[1:]), "lab/star")
    assert errors[20] < 1.15
    assert errors[400] < errors[100] < errors[20]
    assert errors[400] < 0.97


def test_adding_keeps_the_other_models_and_counts_labels(without_star: Artifact) -> None:
    new, _ = labelled(60, seed=3)
    added = add_model(without_star, new.select(("lab/star",)), EMBEDDER)
    test, _ = labelled(30, seed=5)
    before, after = (predict_table(Router(a, EMBEDDER, Abilities({})), test.prompts) for a in (without_star, added))
    for model in without_star.manifest.models:
        assert before["q:" + model] == pytest.approx(after["q:" + model], abs=1e-5)
    assert added.manifest.counts["lab/star"] == 60
    assert added.manifest.extra_error["lab/star"] > 0
    assert added.manifest.costs["lab/star"].mean > 0


def test_adding_a_model_again_replaces_it(without_star: Artifact) -> None:
    new, _ = labelled(60, seed=3)
    once = add_model(without_star, new.select(("lab/star",)), EMBEDDER)
    twice = add_model(once, new.take(range(40)).select(("lab/star",)), EMBEDDER)
    assert twice.manifest.models.count("lab/star") == 1
    assert twice.manifest.counts["lab/star"] == 40


def test_adding_needs_a_label(without_star: Artifact) -> None:
    new, _ = labelled(5, seed=3)
    empty = type(new)(new.prompts, ("x",), np.full((5, 1), np.nan))
    with pytest.raises(ValueError, match="x: no labelled row"):
        add_model(without_star, empty, EMBEDDER)


def test_a_new_model_that_answers_like_a_known_one_is_estimated_like_it() -> None:
    draw = np.random.default_rng(4)
    known = np.where(draw.random((400, 3)) < 0.5, 0.2, 0.8).astype(
        np.float32
    )  # three models, good at different prompts
    score = (draw.random(400) < known[:, 1]).astype(float)
    far, smooth = np.zeros((400, 1), np.float32), np.eye(1)
    few = fit_column(known[:20], far[:20], smooth, score[:20])
    many = fit_column(known, far, smooth, score)
    assert many.slopes[1] > 0.8
    assert few.slopes[1] > 0.5 > max(few.slopes[0], few.slopes[2])
    assert abs(many.slopes[0]) < 0.15
    assert few.slopes.sum() == pytest.approx(1, abs=0.5)


def test_who_is_surprised_by_the_same_prompts_is_taken_after() -> None:
    """Estimates alone cannot tell the two known models apart; whose luck the new one shares can."""
    draw = np.random.default_rng(7)
    known = np.stack([np.full(60, 0.5), draw.choice([0.3, 0.7], 60)], 1).astype(np.float32)
    luck = (draw.random((60, 2)) < known).astype(np.float32)
    far, smooth = np.zeros((60, 1), np.float32), np.eye(1)
    copied = fit_column(known, far, smooth, luck[:, 1].astype(float), luck - known, 0.0)
    blind = fit_column(known, far, smooth, luck[:, 1].astype(float))
    assert copied.slopes[1] - copied.slopes[0] > blind.slopes[1] - blind.slopes[0] + 0.1


def test_a_weak_model_is_weak_in_proportion() -> None:
    draw = np.random.default_rng(8)
    known = np.repeat(draw.choice([0.3, 0.9], 200)[:, None], 3, axis=1).astype(np.float32)
    weak = fit_column(known, np.zeros((200, 1), np.float32), np.eye(1), (draw.random(200) < 0.25 * known[:, 0]) * 1.0)
    assert weak.slopes.sum() == pytest.approx(0.25, abs=0.15)
    assert weak.level == pytest.approx(0, abs=0.08)


def test_what_went_badly_for_all_says_less_where_a_model_is_nearly_always_wrong() -> None:
    """It was wrong already: it is not credited with as much as a middling one."""
    known, far, bad = (
        np.full((200, 3), 0.5, np.float32),
        np.zeros((200, 1), np.float32),
        np.full((200, 3), -0.1, np.float32),
    )

    def credit(share: float) -> float:
        score = (np.arange(200) < 200 * share) * 1.0
        told, plain = fit_column(known, far, np.eye(1), score, bad, 1.0), fit_column(known, far, np.eye(1), score)
        return float((told(known, far) - plain(known, far)).mean())

    assert credit(0.45) == pytest.approx(0.1, abs=0.02)
    assert 0.04 < credit(0.1) < 0.8 * credit(0.45)


@pytest.mark.parametrize("company", [0, 1, 2, 7])
def test_a_column_is_found_among_any_number_of_models(company: int) -> None:
    draw = np.random.default_rng(company)
    known = draw.uniform(0.2, 0.8, (20, company)).astype(np.float32)
    found = fit_column(known, np.zeros((20, 2), np.float32), np.eye(2), np.ones(20), known * 0, 0.5)
    assert found.slopes.shape == (company,)
    assert float(found(known, np.zeros((20, 2), np.float32)).mean()) > 0.6


def test_a_model_without_company_is_fitted_to_its_level() -> None:
    score = np.array([1.0] * 45 + [0.0] * 5)
    nobody, far = np.zeros((50, 0), np.float32), np.zeros((50, 1), np.float32)
    assert fit_column(nobody, far, np.eye(1), score).level == pytest.approx(0.9, abs=0.05)


def test_prompts_that_went_worse_than_expected_for_all_do_not_count_against_the_new_model(
    without_star: Artifact,
) -> None:
    """Item difficulty is seen in the known models' own scores; two thirds of it say nothing about the newcomer."""
    assert _shared(without_star) < 0.3  # here the models' luck is each one's own
    a, count = without_star, len(without_star.manifest.models)
    alike = np.repeat(a.prototypes.scores[:, :1], a.prototypes.scores.shape[1], axis=1)
    a = dataclasses.replace(a, prototypes=dataclasses.replace(a.prototypes, scores=alike))
    assert _shared(a) > 0.7  # and here all of it is shared
    order = np.argsort((a.prototypes.scores - a.out_of_fold)[:, :count].mean(1))
    hard, easy = (_seen(a, unit(a.prototypes.vectors[rows])) for rows in (order[:20], order[-20:]))
    assert (hard.row == order[:20]).all()
    assert hard.surprise.max() < -0.2 < 0.2 < easy.surprise.min()
    unseen = _seen(a, -unit(a.prototypes.vectors[order[:20]]))
    assert (unseen.row == -1).all()
    assert (unseen.surprise == 0).all()


def test_a_labelled_prompt_is_found_among_the_prototypes_though_they_are_rounded(without_star: Artifact) -> None:
    """Prototypes are stored in int8; missing them would take estimates that have seen the prompt for ones that have not."""
    labels, _ = labelled(500, seed=1)
    vectors = unit(EMBEDDER.embed_many([core_text(p) for p in labels.prompts[:200]]))
    seen = _seen(without_star, unit(vectors - without_star.mean))
    assert (seen.row >= 0).mean() > 0.97
    # the same prompt: its labels are those of the row
    known = labels.select(without_star.manifest.models).scores[:200]
    count = known.shape[1]
    assert (without_star.prototypes.scores[seen.row][:, :count] == known).all(1).mean() > 0.9


# ------------------------------------------------------------------ no labels at all
def test_an_ability_is_met_on_the_reference_prompts() -> None:
    difficulties = np.random.default_rng(0).normal(0, 1, 200).tolist()
    for target, a in zip((0.73, 0.2), solve_abilities([0.73, 0.2], difficulties), strict=True):
        assert np.mean(1 / (1 + np.exp(np.array(difficulties) - a))) == pytest.approx(target, abs=1e-6)


def test_uncertain_domain_figures_are_pulled_to_the_overall_figure() -> None:
    sure = Ability(Figure(0.7), {"math": Figure(0.9, se=0.001)})
    vague = Ability(Figure(0.7), {"math": Figure(0.9, se=0.2)})
    assert shrunk_domains(sure)["math"] == pytest.approx(0.9, abs=0.01)
    assert shrunk_domains(vague)["math"] < 0.75
    assert "code" not in shrunk_domains(vague)


def test_a_missing_domain_figure_moves_with_those_of_the_other_candidates() -> None:
    """Where everybody does badly, who has no figure is not the best for it."""
    hard = [
        Ability(Figure(0.7), {"math": Figure(0.4, se=0.001)}),
        Ability(Figure(0.6), {"math": Figure(0.3, se=0.001)}),
    ]
    (alone,) = domain_figures([Ability(Figure(0.65))])
    first, second, third = domain_figures([*hard, Ability(Figure(0.65))])
    assert alone == pytest.approx([0.65] * len(DOMAINS))
    at = DOMAINS.index("math")
    assert (first[at], second[at]) == pytest.approx((0.4, 0.3), abs=0.01)
    assert third[at] == pytest.approx(0.65 - 2 / 3 * 0.3, abs=0.01)
    others = [i for i in range(len(DOMAINS)) if i != at]
    assert third[others] == pytest.approx([0.65] * len(others))
    assert domain_figures([Ability(Figure(0.1)), Ability(Figure(0.9), {"math": Figure(0.05, se=0.001)})]).min() >= 0


def test_the_bundled_router_orders_known_models_and_leaves_unknown_ones_alone() -> None:
    router = load("default")
    names = ["openai/gpt-5", "openai/gpt-4o-mini", "nobody/has-measured-this"]
    cheap_unknown = [Candidate(names[0], 1e-6, 1e-5), Candidate(names[1], 1e-7, 4e-7), Candidate(names[2], 0.0, 0.0)]
    for weight in (0.0, 0.3, 1.0):
        decision = router.decide(
            "What is the capital of Peru?", candidates=cheap_unknown, default=names[1], cost_weight=weight
        )
        assert decision.model != names[2]
        quality = {s.model: s.quality for s in decision.scores}
        assert (quality[names[0]] or 0) > (quality[names[1]] or 0)
        assert quality[names[2]] is None


def test_price_is_never_ability() -> None:
    router = load("default")
    dear, cheap = ([Candidate("openai/gpt-5", p, p), Candidate("openai/gpt-4o-mini", 1e-7, 1e-7)] for p in (1e-3, 1e-9))
    a, b = (router.decide("Why is the sky blue?", candidates=c, default="openai/gpt-4o-mini") for c in (dear, cheap))
    assert [s.quality for s in a.scores] == [s.quality for s in b.scores]


def test_harder_prompts_are_expected_to_go_worse() -> None:
    router = load("default")
    candidates = [Candidate("openai/gpt-4o-mini", 1e-7, 4e-7)]

    def quality(text: str) -> float:
        return router.decide(text, candidates=candidates).scores[0].quality or 0.0

    hard = "Let $f$ be a polynomial with integer roots such that $f(x)^2 + 3f(x) = \\prod_{k=1}^{7}(x-k)$. Find the sum of all residues modulo $p$."
    assert quality("Where would a fox most likely sleep, a den or an office?") > quality(hard)


def test_every_published_figure_has_a_source() -> None:
    raw = msgspec.json.decode((EMBEDDER._paths[0].parent / "abilities.json").read_bytes())
    for row in raw["rows"]:
        for figure in (row["overall"], *row.get("domains", {}).values()):
            assert 0 < figure["value"] < 1
            assert 0 < figure["se"] < 0.2
            assert figure["source"]
            assert len(figure["date"]) >= 7
            # what was not compared with its source yet must not weigh as much as what was
            assert figure["checked"] or figure["se"] >= 0.04
    assert sum(row["overall"]["checked"] is not None for row in raw["rows"]) >= 30
    assert sum(len(row["domains"]) > 1 for row in raw["rows"]) >= 20


def test_the_shipped_figures_are_what_the_script_makes_of_its_rows(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "compile_abilities.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path / "made.json")], check=True, capture_output=True)
    shipped = EMBEDDER._paths[0].parent / "abilities.json"
    assert msgspec.json.decode((tmp_path / "made.json").read_bytes()) == msgspec.json.decode(shipped.read_bytes())


def test_models_of_every_maker_have_figures() -> None:
    for model in (
        "openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "groq/llama-3.3-70b-versatile",
        "mistral/mistral-small-2506", "deepseek/deepseek-chat", "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct", "cerebras/gpt-oss-120b",
        "sambanova/Meta-Llama-3.3-70B-Instruct", "perplexity/sonar", "cohere/command-a-03-2025",
        "bedrock/amazon.nova-pro-v1:0", "xai/grok-4", "moonshot/kimi-k2-0905-preview",
    ):  # fmt: skip
        assert published().find(model) is not None, model
    assert published().find("openai/a-model-nobody-measured") is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("vertex/claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("bedrock/global.zai.glm-5.3", "glm-5-3"),
        ("bedrock/openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
        ("bedrock/anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("openai/gpt-5.4-2026-03-05", "gpt-5-4"),
        ("cohere/command-r-plus-04-2024", "command-r-plus"),
        ("openrouter/deepseek/deepseek-r1-0528:free", "deepseek-r1-0528"),
        ("deepseek/DeepSeek-V3", "deepseek-v3"),
        ("fireworks/accounts/fireworks/models/glm-4p6", "glm-4-6"),
        ("cerebras/llama3.1-8b", "llama3-1-8b"),
        ("mistral/mistral-small-2506", "mistral-small-2506"),
    ],
)  # fmt: skip
def test_where_a_model_is_served_and_when_it_came_out_is_not_its_name(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_models_figures_are_found_by_what_it_is_called() -> None:
    known = Abilities(
        {"anthropic.claude-x-1-20260101-v1:0": Ability(Figure(0.7)), "claude-x-1-turbo": Ability(Figure(0.9))}
    )
    for name in ("claude-x-1", "bedrock/eu.anthropic.claude-x-1-v1:0", "openrouter/anthropic/claude-x-1:free"):
        found = known.find(name)
        assert found is not None, name
        assert found.overall.value == 0.7
    assert known.find("claude-x") is None
    assert known.find("claude-x-2") is None


def _read(heads: dict[str, float], novelty: float) -> Estimate:
    """An estimate of the bundled router with these heads, all others at .2."""
    names = load("default").artifact.manifest.heads
    return Estimate(None, [heads.get(name, 0.2) for name in names], ((0, 1.0),), novelty, 10)


def test_a_text_far_from_the_training_prompts_is_judged_by_the_figures_of_its_domains_alone() -> None:
    """How hard it is, is estimated near them only; in between the two are mixed."""
    figures = {"a": Ability(Figure(0.6), {"code": Figure(0.9, se=0.001)}), "b": Ability(Figure(0.7))}
    appraiser = load("default", abilities=figures)._appraiser
    plan = appraiser.plan((Candidate("a"), Candidate("b")), None)
    code = {"prior:code": 0.9, "example:code": 0.9}

    def quality(novelty: float, difficulty: float) -> list[float]:
        e = _read({**code, "prior:difficulty": difficulty}, novelty)
        return [q for q in appraiser.figures(plan, e, 10, Requirements()).quality if q is not None]

    for novelty in (_FAR_FROM, 1.0):
        assert quality(novelty, 0.3) == pytest.approx(quality(novelty, 0.8))
    assert quality(1.0, 0.3)[0] > quality(1.0, 0.3)[1] > 0.7
    near, middle, far = (quality(n, 0.3) for n in (0.0, (_NEAR_UNTIL + _FAR_FROM) / 2, 1.0))
    assert near == quality(_NEAR_UNTIL, 0.3)
    assert quality(0.0, 0.8)[0] > near[0] + 0.1
    assert middle == pytest.approx([(a + b) / 2 for a, b in zip(near, far, strict=True)])


def test_the_domains_of_a_text_far_from_the_training_prompts_are_what_the_examples_say() -> None:
    appraiser = load("default")._appraiser
    e = _read({"prior:math": 0.8, "example:reasoning": 0.8}, 0.0)
    shares = [dict(zip(DOMAINS, appraiser._shares(e.quality, far), strict=True)) for far in (0.0, 0.5, 1.0)]
    assert all(sum(s.values()) == pytest.approx(1) for s in shares)
    assert max(shares[0], key=shares[0].__getitem__) == "math"
    assert shares[1]["math"] == pytest.approx(shares[1]["reasoning"])
    assert max(shares[2], key=shares[2].__getitem__) == "reasoning"


def test_an_artifact_without_heads_of_the_examples_reads_domains_from_its_own() -> None:
    whole = load("default").artifact
    renamed = [h.replace("example:", "other:") for h in whole.manifest.heads]
    older = Artifact(
        msgspec.structs.replace(whole.manifest, heads=renamed), *(getattr(whole, n) for n in Artifact.__slots__[1:])
    )
    appraiser = Appraiser(older, published())
    e = _read({"prior:math": 0.8}, 1.0)
    assert appraiser._shares(e.quality, 1.0) == appraiser._shares(e.quality, 0.0)


@pytest.mark.parametrize("novelty", [0.0, (2 * _NEAR_UNTIL + _FAR_FROM) / 3, (_NEAR_UNTIL + 2 * _FAR_FROM) / 3, 1.0])
def test_the_curves_are_what_item_response_says_model_by_model(novelty: float) -> None:
    router = load("default")
    appraiser, heads = router._appraiser, router.artifact.manifest.heads
    reference = router.artifact.manifest.reference
    names = ("gpt-5", "groq/llama-3.1-8b-instant", "nobody/knows-it", "claude-sonnet-4")
    plan = appraiser.plan(tuple(map(Candidate, names)), None)
    known = [a for name in names if (a := router.abilities.find(name))]
    assert len(known) == 3
    read = router.estimate("Prove that the sum of two even numbers is even, then write it in Python.")
    own = dict(zip(heads, read.quality, strict=True))
    far = far_share(novelty)
    shares = appraiser._shares(read.quality, far)
    figures = domain_figures(known)
    gap = logit(own["prior:strong"]) - logit(own["prior:weak"])

    def curve(bend: Bend) -> list[float]:
        level = sum(a.overall.value for a in known) / len(known)
        pivot = float(solve_abilities([level], [bend.stretch * d for d in reference["all"]])[0])
        gain = bent_gain(float(gap), appraiser._mean_gain, bend.gain)
        difficulty = -bend.stretch * float(logit(own["prior:difficulty"])) + pivot * (gain - 1)
        total = np.zeros(len(known))
        for domain, share, levels in zip(DOMAINS, shares, figures.T.tolist(), strict=True):
            total += share * sigmoid(
                gain * solve_abilities(levels, *bent_reference(reference, domain, bend, pivot)) - difficulty
            )
        return list(total)

    both = zip(curve(appraiser._near), figures @ shares, strict=True)
    wanted = [(1 - far) * a + far * b for a, b in both]
    found = appraiser.figures(plan, Estimate(None, read.quality, read.nearest, novelty, 10), 10, Requirements()).quality
    assert found[2] is None
    assert [q for q in found if q is not None] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("level", [0.35, 0.85])
def test_gain_spreads_models_around_what_they_are_together(level: float) -> None:
    """Where strong models gain much over weak ones, two models part; their mean stays, however good they are both."""
    figures = {f"m{sign}": Ability(Figure(level + sign * 0.08)) for sign in (-1, 1)}
    router = load("default", abilities=figures)
    appraiser = router._appraiser
    heads = list(router.artifact.manifest.heads)
    plan = appraiser.plan((Candidate("m-1"), Candidate("m1")), None)

    def quality(weak: float, strong: float) -> tuple[float, float]:
        found = np.full(len(heads), 0.2, np.float32)
        found[heads.index("prior:difficulty")] = 0.45  # about the middle of the reference prompts
        found[heads.index("prior:weak")], found[heads.index("prior:strong")] = weak, strong
        low, high = appraiser.figures(plan, Estimate(None, found, ((0, 1.0),), 0.0, 10), 10, Requirements()).quality
        assert low is not None
        assert high is not None
        return low, high

    (low, high), (lower, higher) = quality(0.6, 0.62), quality(0.4, 0.8)
    assert higher - lower > 1.3 * (high - low)
    assert lower < low
    assert higher > high


def test_the_figures_are_met_on_average_with_a_gain_per_prompt() -> None:
    reference = {"all": [-1.0, 0.0, 1.0, 2.0], "all:gain": [0.5, 1.0, 1.5, 1.0]}
    bend = Bend(stretch=1.2, gain=0.7)
    for pivot in (0.0, 0.8):
        d, gains = bent_reference(reference, "code", bend, pivot)
        assert gains is not None
        a = float(solve_abilities([0.7], d, gains)[0])
        met = np.mean([1 / (1 + np.exp(x - g * a)) for x, g in zip(d, gains, strict=True)])
        assert met == pytest.approx(0.7, abs=1e-6)
    assert min(bent_gain(gap, 1.0, 1.0) for gap in (-3.0, 0.0, 2.0)) > 0


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b'{"m": {"ability": 1.4}}', "m: ability is 1.4"),
        (b'{"m": {"ability": 0.4, "domains": {"cooking": 0.2}}}', "cooking"),
        (b'{"m": {"abillity": 0.4}}', "abillity"),
        (b"[1]", "expected"),
    ],
)
def test_a_users_abilities_file_is_checked(raw: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Abilities.parse_user(raw, "mine.json")


@pytest.mark.parametrize(
    ("domain", "prompt"),
    [
        ("code", "Write a Java method that counts how often each character appears in a string."),
        ("code", "My loop never ends and the page freezes, can you find the bug in this JavaScript?"),
        ("math", "A baker makes 36 rolls and sells two thirds of them for $3 each. How much money does he take in?"),
        ("math", "Find the integral of cos(2x) from 0 to pi."),
        ("knowledge", "who invented the steam engine and in what year"),
        ("knowledge", "In which city were the 1936 Olympic games held?"),
        ("commonsense", "Where would you look for a spare blanket in a house?"),
        ("commonsense", "What would somebody do who hears a knock at the door?"),
    ],
)
def test_the_bundled_router_knows_what_a_text_is_about(domain: str, prompt: str) -> None:
    router = load("default")
    heads, found = router.artifact.manifest.heads, router.estimate(prompt).quality
    shares = {d: float(found[heads.index("prior:" + d)]) for d in DOMAINS}
    assert max(shares, key=shares.__getitem__) == domain
    sharpened = dict(zip(DOMAINS, router._appraiser._shares(found, 0.0), strict=True))
    assert sum(sharpened.values()) == pytest.approx(1)
    assert sharpened[domain] > shares[domain] / sum(shares.values())


def test_day_one_predictions_follow_the_users_figures() -> None:
    given = Abilities.parse_user(
        b'{"a": {"ability": 0.8, "cost": 0.01}, "b": {"ability": 0.5, "cost": 0.001, "domains": {"code": 0.95, "math": 0.3}}}'
    )
    prompts = ("Write a python function to sort a list of strings.", "What is the sum of the roots of x^2 - 5x + 6?")
    table = predict_table(load("default"), prompts, given)
    assert table["q:b"][0] > table["q:b"][1]
    assert table["cost:a"] == [0.01, 0.01]
    assert table["pick@lambda=0"][1] == "a"
    assert table["pick@lambda=0.8"][1] == "b"

"""The shortcuts of the request path change no decision."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_kit import MODELS, labelled

from opentracy.routing import Candidate, load
from opentracy.routing import text as text_module
from opentracy.routing.appraise import Spread
from opentracy.routing.embed import DATA, TOKEN_LIMIT, static_embedder
from opentracy.routing.estimate import bag_many, kernel_many, mix, unit
from opentracy.routing.language import COMMON, OTHER_ONLY
from opentracy.routing.prior import Abilities
from opentracy.routing.router import Router
from opentracy.routing.style import BOUND, FEATURES, NEAREST, Around, common_words, features_of
from opentracy.routing.text import core_text, folded, printable
from opentracy.routing.train import fit
from opentracy.routing.wordpiece import MARKS, SHIFT, WordPiece, split_words

CANDIDATES = tuple(Candidate(m, 1e-6 * (i + 1), 4e-6) for i, m in enumerate(MODELS))
WORDS = WordPiece.load(DATA / "vocab.txt")


@pytest.fixture(scope="module")
def router() -> Router:
    return Router(fit(labelled(300, seed=2)[0], static_embedder()), static_embedder(), Abilities({}))


def test_many_weights_give_what_each_gives_alone(router: Router) -> None:
    for prompt in labelled(40, seed=8)[0].prompts:
        together = router.decide_weights(prompt, [0.0, 0.2, 0.8], candidates=CANDIDATES)
        assert together == [router.decide(prompt, candidates=CANDIDATES, cost_weight=w) for w in (0.0, 0.2, 0.8)]


def test_a_changed_candidate_is_never_decided_with_the_old_plan(router: Router) -> None:
    prompt = labelled(1, seed=4)[0].prompts[0]
    first = router.decide(prompt, candidates=CANDIDATES, default=MODELS[0], cost_weight=0.0)
    ill = [replace(c, healthy=c.model != first.model) for c in CANDIDATES]
    second = router.decide(prompt, candidates=ill, default=MODELS[0], cost_weight=0.0)
    assert second.model != first.model
    assert router.decide(prompt, candidates=CANDIDATES, default=MODELS[0], cost_weight=0.0) == first
    other = router.decide(prompt, candidates=CANDIDATES, default=MODELS[1], cost_weight=0.0)
    assert next(s for s in other.scores if s.model == MODELS[1]).gap_error == 0.0
    assert next(s for s in first.scores if s.model == MODELS[1]).gap_error > 0.0


def test_the_first_few_are_the_first_of_all(router: Router) -> None:
    unknown = Candidate("nobody/knows-it")
    for prompt in labelled(30, seed=9)[0].prompts:
        for weight in (0.0, 0.8):
            decision = router.decide(prompt, candidates=(unknown, *CANDIDATES), cost_weight=weight)
            everybody = decision.ranked()
            assert sorted(everybody) == sorted([unknown.model, *MODELS])
            assert everybody[0] == decision.model
            assert everybody[-1] == unknown.model
            for limit in range(1, len(everybody) + 2):
                assert decision.ranked(limit) == everybody[:limit]


def test_always_the_best_is_the_first_by_name_among_equals(router: Router) -> None:
    decision = router.decide("Why is the sky blue?", candidates=CANDIDATES)
    best = max(s.quality or 0.0 for s in decision.scores)
    expected = min(s.model for s in decision.scores if s.quality == best)
    assert decision.always_best[0] == expected
    twins = (replace(CANDIDATES[0], model="b/" + expected), replace(CANDIDATES[0], model="a/" + expected))
    assert router.decide("Why is the sky blue?", candidates=twins).always_best[0] == "a/" + expected


def _vector(router: Router, prompt: str) -> np.ndarray:
    """A text's vector as the method describes it: tokens one by one, each by the root of how often it occurs."""
    e = static_embedder()
    ids = [i for w in split_words(core_text(prompt)) for i in WORDS._match(w)][:TOKEN_LIMIT]
    raw = np.zeros(e.dims)
    for i in set(ids) - {WORDS.unknown}:
        raw += np.sqrt(ids.count(i)) * float(e._scales[i]) * e._rows[i].astype(float)
    return unit(unit(raw) - router.artifact.mean)


def test_reading_gives_what_the_method_says_step_by_step(router: Router) -> None:
    a = router.artifact
    weights = a.manifest.weights
    assert not weights[1]
    for prompt in [*labelled(60, seed=5)[0].prompts, "Why, why, why (3.5 = x)?", "Plan: 1, 2, 3.", "unheard zqzqx zqzqx"]:
        x = _vector(router, prompt)
        found = router.estimate(prompt)
        bag, kernel = bag_many(a.bag, x[None]), kernel_many(a.kernel, x[None], a.bag.centres)
        assert found.quality == pytest.approx(mix((bag, bag, kernel), weights)[0], abs=2e-5)
        primary = a.bag.centres[: a.bag.bounds[1]]
        affinity = primary @ x - 0.5 * (primary**2).sum(1)
        assert found.cluster == int(affinity.argmax())
        # novelty: the nearest of the prototypes of two clusters, or of as many as hold forty
        rows: list[int] = []
        for count, c in enumerate(np.argsort(-affinity, kind="stable").tolist()):
            if count >= 2 and len(rows) >= 4 * NEAREST:
                break
            rows += range(a.prototypes.starts[c], a.prototypes.starts[c + 1])
        similar = a.prototypes.vectors[rows] @ x
        best = np.argsort(-similar, kind="stable")[:NEAREST]
        low = core_text(prompt).lower()
        words = low.split(" ")
        gap = (features_of(low, len(words), common_words(words)) - a.prototypes.styles[rows][best].mean(0)) / a.novelty.spread
        mismatch = np.minimum(gap**2, BOUND**2).sum() / FEATURES
        n = a.novelty
        rank = max(
            1 - np.searchsorted(n.closeness, similar[best].mean()) / 101, np.searchsorted(n.mismatch, mismatch) / 101
        )
        assert found.novelty == pytest.approx(np.searchsorted(n.combined, rank - 1e-6) / 101, abs=0.011)


def test_errors_are_those_of_the_paired_differences(router: Router) -> None:
    p, m = router.artifact.prototypes, router.artifact.manifest
    spread = Spread(router.artifact)
    own, gap = spread.of(1)
    apart = p.scores - p.scores[:, 1:2]
    pull, k = 10.0, min(m.policy.neighbours, len(p.scores))
    for cluster, (low, high) in enumerate(pairwise(p.starts.tolist())):
        for values, found in ((p.scores, own), (apart, gap)):
            inside, n = values[low:high].astype(float), high - low
            mean = (inside.sum(0) + pull * values.mean(0)) / (n + pull)
            square = ((inside**2).sum(0) + pull * (values.astype(float) ** 2).mean(0)) / (n + pull)
            assert found[cluster] == pytest.approx(np.sqrt((square - mean**2) / k), abs=1e-6)
    assert spread.of(None)[1] is spread.of(None)[0]


def test_errors_grow_where_few_are_labelled(router: Router) -> None:
    a = router.artifact
    few = a.prototypes.scores.copy()
    few[::2, 0] = np.nan
    few[:, 3] = np.nan
    thinner = Spread(replace(a, prototypes=replace(a.prototypes, scores=few)))
    assert (thinner.of(1)[1][:, 0] > Spread(a).of(1)[1][:, 0] * 1.1).all()
    assert (thinner.of(1)[1][:, 3] == 0.5).all()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_chunks_between_spaces_give_the_ids_of_the_words(text: str) -> None:
    assert WORDS.encode(text) == [i for word in split_words(text) for i in WORDS._match(word)]
    assert WORDS.encode(text) == WORDS.encode(text)  # from the cache


_SAID = st.sampled_from([*sorted(COMMON)[:9], *sorted(OTHER_ONLY)[:9], "the,", "rain", "\u4e00", "\u00f0\u00f0", "x1"])


@given(st.lists(_SAID | st.text(alphabet=st.characters(exclude_categories=["Z", "C"]), max_size=6), max_size=30))
def test_marks_count_the_words(words: list[str]) -> None:
    words = [word.lower() for word in words]
    marked = WordPiece.load(DATA / "vocab.txt", (COMMON, OTHER_ONLY)) if len(words) > 28 else static_embedder()._tokens
    packed = marked.pack_words(words)
    assert packed.count(MARKS[0]) == common_words(words)
    known = {word for word in OTHER_ONLY if WORDS.encode(word)}
    assert packed.count(MARKS[1]) == sum(word in known for word in words)
    assert [i >> SHIFT for i in memoryview(packed).cast("Q")] == [i for word in words for i in WORDS.encode(word)]


def test_the_nearest_alone_give_what_all_in_order_give() -> None:
    everything = load("default")._reader
    one_by_one = load("default")._reader
    assert one_by_one._few
    everything._few = False
    for prompt in [*labelled(60, seed=6)[0].prompts, "", "zqzqx", "Write a function that sorts a list of numbers."]:
        a, b = one_by_one.read(prompt), everything.read(prompt)
        assert a == b


def test_short_lists_need_all_clusters_in_order(router: Router) -> None:
    p = router.artifact.prototypes
    sizes = sorted(np.diff(p.starts).tolist())
    for lists in range(1, len(sizes) + 1):
        wanted = lists >= 2 and sizes[0] > 0 and sum(sizes[:lists]) >= 4 * NEAREST
        assert Around(p).enough(lists) == wanted
    assert not Around(p).enough(len(sizes) + 1)


@given(st.text(alphabet=" a\u00e9\t\n\u3000\u00a0b", max_size=20))
def test_folding_is_split_and_join(text: str) -> None:
    assert folded(text) == " ".join(text.split())


@given(st.text(max_size=40))
def test_printable_is_what_python_says(text: str) -> None:
    assert printable(text) == text.isprintable()


_PARTS = """hello please answer thanks thank you explain what is 2+2 4 rain. rain? Answer: question: D. all of them , ! \n
    assistant: system: You are an expert. As a tutor, **Question** ### ok Hi there: the follow x1 ty, could you (sure)
    thankful Thanks much very answer How a in find \u0130stanbul caf\u00e9 1990""".split()


@given(st.lists(st.sampled_from(_PARTS), max_size=14), st.sampled_from([" ", "  ", "\n"]))
def test_shortcuts_strip_what_the_whole_search_strips(parts: list[str], between: str) -> None:
    text = between.join(parts)
    found = core_text(text)
    every = text_module._STRIPPABLE | {""}
    with pytest.MonkeyPatch.context() as patch:
        for glance in ("_begins_with_substance", "_ends_with_substance"):
            patch.setattr(text_module, glance, lambda text: False)
        patch.setattr(text_module, "_substance", lambda text: text_module._LONGEST_BOILERPLATE)
        for words in ("_PERSONA_WORDS", "_ROLE_WORDS", "_COURTESY_WORDS"):
            patch.setattr(text_module, words, every)
        assert core_text(text) == found


def test_a_glance_settles_only_what_the_whole_search_leaves_alone() -> None:
    """Texts nearly all of words that may be taken off, of every length around that of a glance."""
    rng, t = random.Random(3), text_module
    begins, ends = t._begins_with_substance, t._ends_with_substance
    words = sorted(t._STRIPPABLE | t._TAIL_WORDS | t._THANKS)
    other = ["whale", "x2", "1990", "caf\u00e9", "thankful", "don't", "x\u00b2", "\u0130s", "a_b", "c++", "##", "expert"]
    marks = ["", "", "", "", ",", ".", "?", ":", "\n", ")", "*"]
    settled = [0, 0]
    with pytest.MonkeyPatch.context() as patch:
        for glance in ("_begins_with_substance", "_ends_with_substance"):
            patch.setattr(t, glance, lambda text: False)
        for _ in range(8000):
            said = [rng.choice(other if rng.random() < 0.15 else words) for _ in range(rng.randint(1, 12))]
            text = " ".join([word + (rng.choice(marks) if rng.random() < 0.25 else "") for word in said])
            for i, (glance, whole) in enumerate(((begins, t._strip_head), (ends, t._strip_tail))):
                if glance(text):
                    settled[i] += 1
                    assert whole(text) == text
    assert min(settled) > 800

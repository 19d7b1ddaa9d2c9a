"""The decision rule: guard, gate, filters, ties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from opentracy.routing.policy import Candidate, Field, Requirements, Score, choose, exclusion, name_order


def score(
    model: str, utility: float | None, error: float = 0.05, excluded: str | None = None, cost: float = 1.0
) -> Score:
    return Score(model, utility, None if utility is None else error, cost, utility, excluded, error)


HOME = score("home", 0.6)


def test_the_default_is_left_only_beyond_the_guard() -> None:
    assert choose([HOME, score("b", 0.64)], "home", z=1.0, novel=False).reason == "margin"
    assert choose([HOME, score("b", 0.64)], "home", z=1.0, novel=False).model == "home"
    assert choose([HOME, score("b", 0.66)], "home", z=1.0, novel=False).model == "b"


def test_a_second_rival_passes_where_the_best_is_too_uncertain() -> None:
    rivals = [score("wild", 0.70, error=0.3), score("sure", 0.66, error=0.01)]
    assert choose([HOME, *rivals], "home", z=1.0, novel=False).model == "sure"


def test_a_novel_prompt_stays_at_home() -> None:
    choice = choose([HOME, score("b", 0.9)], "home", z=1.0, novel=True)
    assert (choice.model, choice.reason) == ("home", "novel")


def test_no_reason_when_the_default_is_simply_best() -> None:
    assert choose([HOME, score("b", 0.5)], "home", z=1.0, novel=True).reason is None


@pytest.mark.parametrize("why", ["empty", "too_long", "unreadable", "language"])
def test_a_blocked_text_stays_at_home(why: str) -> None:
    assert choose([HOME, score("b", 0.99)], "home", z=0.0, novel=False, blocked=why).reason == why


def test_an_unknown_model_is_never_chosen_by_score() -> None:
    assert choose([HOME, score("new", None)], "home", z=0.0, novel=False).model == "home"
    assert choose([score("home", None), score("b", 0.9)], "home", z=0.0, novel=False).reason == "thin"


def test_an_excluded_default_hands_over_to_the_best() -> None:
    choice = choose([replace(HOME, excluded="unhealthy"), score("b", 0.5), score("c", 0.7)], "home", z=9.0, novel=True)
    assert (choice.model, choice.reason) == ("c", "default_unavailable")


def test_nobody_left_says_why_each_is_out() -> None:
    with pytest.raises(ValueError, match="home: unhealthy"):
        choose([replace(HOME, excluded="unhealthy")], "home", z=1.0, novel=False)


def test_ties_go_to_the_cheaper_then_to_the_name() -> None:
    tied = [score("b", 0.9, cost=2.0), score("z", 0.9, cost=1.0), score("c", 0.9, cost=2.0)]
    assert choose([HOME, *tied], "home", z=1.0, novel=False).model == "z"
    assert choose([HOME, tied[2], tied[0]], "home", z=1.0, novel=False).model == "b"


figures = st.one_of(st.none(), st.floats(0, 1))


@given(st.lists(st.tuples(figures, st.floats(0, 0.3)), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(rows: list[tuple[float | None, float]], random) -> None:  # type: ignore[no-untyped-def]
    scores = [score(f"m{i}", u, e) for i, (u, e) in enumerate(rows)]
    shuffled = scores[:]
    random.shuffle(shuffled)
    assert choose(scores, "m0", z=1.0, novel=False) == choose(shuffled, "m0", z=1.0, novel=False)


@given(st.floats(0, 3), st.floats(0, 3), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_stricter_guard_never_leaves_home_more_often(a: float, b: float, utilities: list[float]) -> None:
    scores = [HOME, *(score(f"m{i}", u) for i, u in enumerate(utilities))]
    loose, strict = (choose(scores, "home", z=z, novel=False).model for z in sorted((a, b)))
    assert loose != "home" or strict == "home"


@pytest.mark.parametrize(
    ("candidate", "needs", "why"),
    [
        (Candidate("a", healthy=False), Requirements(), "unhealthy"),
        (Candidate("a", context=100), Requirements(output_tokens=60), "context"),
        (Candidate("a", tools=False), Requirements(tools=True), "tools"),
        (Candidate("a", vision=False), Requirements(images=True), "images"),
        (Candidate("a", json_schema=False), Requirements(json_schema=True), "json_schema"),
        (Candidate("a"), Requirements(budget=0.001), "budget"),
    ],
)
def test_hard_filters_name_what_is_missing(candidate: Candidate, needs: Requirements, why: str) -> None:
    reason = exclusion(candidate, needs, cost=0.01, tokens=50)
    assert reason is not None
    assert reason.startswith(why)


def test_what_is_not_needed_does_not_exclude() -> None:
    assert exclusion(Candidate("a", context=100, tools=False, vision=False), Requirements(), None, 100) is None


_ROWS = st.tuples(st.none() | st.sampled_from([0.1, 0.2, 0.3]), st.none() | st.sampled_from([1.0, 2.0]), st.booleans())


@given(st.lists(_ROWS, min_size=1, max_size=8))
def test_the_order_is_by_utility_then_cost_then_name_among_those_that_can_serve(
    rows: list[tuple[float | None, float | None, bool]],
) -> None:
    names = [f"m{7 * i % 11}" for i in range(len(rows))]
    excluded = [None if able else "unhealthy" for _, _, able in rows]
    for without in (excluded, None):
        field = Field(names, name_order(names), 0, [r[0] for r in rows], [r[1] for r in rows], [0.0] * len(rows), without)
        ranked = [
            (-u, c or 0.0, names[i], i) for i, (u, c, able) in enumerate(rows) if u is not None and (able or not without)
        ]
        assert field.ranked() == [i for *_, i in sorted(ranked)]
        assert field.able() == [i for i, row in enumerate(rows) if row[2] or not without]

"""Usage: cleaning, building, the forms providers send, and sums."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opentracy.core import usage as u

COUNTS = st.integers(0, 10**7)
JUNK = [math.nan, math.inf, -math.inf, -1, -0.5, 3.5, True, False, "x", "", "-1", "1.5", "١٢", "9" * 17, 2**53 + 1, [], {}]


class TestCleanInt:
    @pytest.mark.parametrize(("value", "read"), [(0, 0), (12, 12), ("12", 12), (3.0, 3), (2**53, 2**53)])
    def test_counts_are_read(self, value: object, read: int) -> None:
        assert u.clean_int(value) == read
        assert type(u.clean_int(value)) is int

    @pytest.mark.parametrize("value", [None, *JUNK], ids=repr)
    def test_everything_else_is_none(self, value: object) -> None:
        assert u.clean_int(value) is None

    @given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none()))
    def test_never_raises_and_never_leaves_the_range(self, value: object) -> None:
        read = u.clean_int(value)
        assert read is None or (type(read) is int and 0 <= read <= u.MAX_TOKENS)


class TestSumInts:
    def test_absent_counts_are_no_counts(self) -> None:
        assert u.sum_ints(3, None, "4") == 7
        assert u.sum_ints(None, None) is None

    def test_one_unclean_count_makes_the_sum_unknown(self) -> None:
        assert u.sum_ints(3, math.nan) is None


class TestPromptIncludingCache:
    def test_bug_row_1_cache_writes_join_the_prompt_once(self) -> None:
        assert u.prompt_including_cache(input=3, cache_write=12304, cached=0, output=550) == 12307

    def test_bug_row_4_the_total_says_that_the_input_already_holds_the_cached_tokens(self) -> None:
        got = u.prompt_including_cache(input=100, output=50, total=150, cached=80, cache_write=20)
        assert got == 100
        built = u.build(prompt=got, completion=50, total=150, cached=80, cache_write=20)
        assert built["prompt_tokens_details"]["cached_tokens"] == 80
        assert built["prompt_tokens"] + built["completion_tokens"] == built["total_tokens"]

    def test_bug_row_4_the_total_says_that_cached_tokens_are_counted_apart(self) -> None:
        assert u.prompt_including_cache(input=100, output=50, total=250, cached=80, cache_write=20) == 200

    def test_without_a_total_cached_tokens_are_counted_apart(self) -> None:
        assert u.prompt_including_cache(input=100, output=50, cached=80, cache_write=20) == 200

    def test_more_cached_tokens_than_input_cannot_be_part_of_it(self) -> None:
        assert u.prompt_including_cache(input=2, output=5, total=7, cached=1322) == 1324

    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    def test_an_unclean_part_makes_the_prompt_unknown(self, junk: object) -> None:
        assert u.prompt_including_cache(input=junk, cached=1) is None
        assert u.prompt_including_cache(input=1, cached=junk) is None
        assert u.prompt_including_cache(input=1, cache_write=junk) is None

    @given(COUNTS, COUNTS, COUNTS, COUNTS)
    def test_true_totals_of_either_accounting_give_a_prompt_that_fits(self, i: int, o: int, r: int, w: int) -> None:
        apart = u.prompt_including_cache(input=i, output=o, cached=r, cache_write=w, total=i + o + r + w)
        assert apart == i + r + w
        inside = u.prompt_including_cache(input=i + r + w, output=o, cached=r, cache_write=w, total=i + o + r + w)
        assert inside == i + r + w


class TestBuild:
    def test_absent_details_are_left_out_and_the_total_is_the_sum(self) -> None:
        assert u.build(prompt=3, completion=4) == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

    def test_details_stand_where_openai_has_them(self) -> None:
        built = u.build(prompt=9, completion=5, cached=2, cache_write=3, cache_write_1h=1, reasoning=4, audio=1)
        assert built["prompt_tokens_details"] == {
            "cached_tokens": 2,
            "cache_creation_tokens": 3,
            "cache_creation_1h_tokens": 1,
            "audio_tokens": 1,
        }
        assert built["completion_tokens_details"] == {"reasoning_tokens": 4}

    def test_unclean_is_none_and_not_absent(self) -> None:
        built = u.build(prompt=9, completion=5, cached=math.nan, total=math.inf)
        assert built["prompt_tokens_details"] == {"cached_tokens": None}
        assert built["total_tokens"] is None

    def test_nothing_known_gives_three_unknowns(self) -> None:
        assert u.build() == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}


CLEAN: list[dict[str, Any]] = [
    {"prompt_tokens": 18, "completion_tokens": 15, "total_tokens": 33},
    {"prompt_tokens": 41, "completion_tokens": 8, "total_tokens": 49, "prompt_tokens_details": None},
    {
        "prompt_tokens": 40,
        "completion_tokens": 10,
        "total_tokens": 50,
        "queue_time": 0.25,
        "service_tier": "standard",
        "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
]


class TestNormaliseOpenai:
    @pytest.mark.parametrize("usage", CLEAN)
    def test_a_clean_usage_is_not_rebuilt(self, usage: dict[str, Any]) -> None:
        assert u.normalise_openai(usage) is usage

    @pytest.mark.parametrize("usage", CLEAN)
    def test_the_long_way_gives_what_the_short_way_gives(self, usage: dict[str, Any]) -> None:
        long = u._rebuild(usage, True)
        details = long.get("prompt_tokens_details")
        if details:
            details.pop("cache_creation_tokens", None)
        assert long == usage

    @pytest.mark.parametrize("usage", [None, {}, [], "x", 3, True])
    def test_fault_row_42_no_usage_is_none(self, usage: object) -> None:
        assert u.normalise_openai(usage) is None

    @pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    def test_fault_row_41_an_unclean_field_is_none_and_the_others_stay(self, name: str, junk: object) -> None:
        good = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
        assert u.normalise_openai({**good, name: junk}) == {**good, name: None}

    def test_fault_row_41_an_integer_in_a_string_is_read(self) -> None:
        got = u.normalise_openai({"prompt_tokens": "5", "completion_tokens": 6, "total_tokens": 11})
        assert got is not None
        assert got["prompt_tokens"] == 5

    def test_unclean_numbers_in_unknown_fields_cannot_reach_json(self) -> None:
        usage = {**CLEAN[0], "cost": {"total": math.nan, "parts": [math.inf, 1.5]}, "acceptance_rate": math.inf}
        got = u.normalise_openai(usage)
        assert got == {**CLEAN[0], "cost": {"total": None, "parts": [None, 1.5]}, "acceptance_rate": None}
        json.dumps(got, allow_nan=False)

    def test_unknown_fields_are_kept(self) -> None:
        usage = {**CLEAN[0], "num_sources_used": 2, "cost_details": {"upstream": 0.1}, "is_byok": False}
        assert u.normalise_openai(usage) == usage

    @pytest.mark.parametrize("alias", ["prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"])
    def test_cached_tokens_under_other_names(self, alias: str) -> None:
        got = u.normalise_openai({**CLEAN[0], alias: 7})
        assert got is not None
        assert got["prompt_tokens_details"]["cached_tokens"] == 7
        assert got[alias] == 7

    def test_the_detail_goes_before_its_alias(self) -> None:
        usage = {**CLEAN[0], "prompt_tokens_details": {"cached_tokens": 3}, "cached_tokens": 7}
        got = u.normalise_openai(usage)
        assert got is not None
        assert got["prompt_tokens_details"] == {"cached_tokens": 3}

    def test_an_unclean_alias_is_unknown_not_absent(self) -> None:
        got = u.normalise_openai({**CLEAN[0], "cached_tokens": -4})
        assert got is not None
        assert got["prompt_tokens_details"] == {"cached_tokens": None}

    def test_a_null_detail_is_absent(self) -> None:
        got = u.normalise_openai({**CLEAN[0], "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": 0}})
        assert got is not None
        assert got["prompt_tokens_details"] == {"audio_tokens": 0}

    def test_written_tokens_get_our_name(self) -> None:
        got = u.normalise_openai({**CLEAN[0], "prompt_tokens_details": {"cache_write_tokens": 12}})
        assert got is not None
        assert got["prompt_tokens_details"] == {"cache_write_tokens": 12, "cache_creation_tokens": 12}

    def test_reasoning_outside_the_completion_is_added_to_it(self) -> None:
        wire = {
            "prompt_tokens": 307,
            "completion_tokens": 26,
            "total_tokens": 588,
            "completion_tokens_details": {"reasoning_tokens": 255},
        }
        got = u.normalise_openai(wire)
        assert got is not None
        assert (got["prompt_tokens"], got["completion_tokens"], got["total_tokens"]) == (307, 281, 588)
        assert wire["completion_tokens"] == 26, "the caller's dict is not touched"
        as_sent = u.normalise_openai(wire, fold_reasoning=False)
        assert as_sent == wire

    def test_a_total_that_nothing_explains_is_left_as_it_is(self) -> None:
        wire = {"prompt_tokens": 9, "completion_tokens": 201, "total_tokens": 585}
        assert u.normalise_openai(wire) == wire

    def test_absent_fields_follow_from_the_others(self) -> None:
        embedding = u.normalise_openai({"prompt_tokens": 8, "total_tokens": 8})
        assert embedding == {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}
        responses = u.normalise_openai({"input_tokens": 3, "output_tokens": 4})
        assert responses is not None
        assert (responses["prompt_tokens"], responses["completion_tokens"], responses["total_tokens"]) == (3, 4, 7)

    def test_nothing_is_invented(self) -> None:
        got = u.normalise_openai({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None})
        assert got == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}

    @given(
        st.dictionaries(
            st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "queue_time", "x"]),
            st.one_of(st.integers(), st.floats(), st.text(max_size=4), st.none(), st.booleans()),
        ),
        st.one_of(
            st.none(),
            st.dictionaries(
                st.sampled_from(["cached_tokens", "audio_tokens", "cache_write_tokens", "note"]),
                st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=3)),
            ),
        ),
    )
    @example({"prompt_tokens": 1, "completion_tokens": 2**53}, None)  # no sum that JSON readers keep
    def test_the_result_is_clean_and_stable_whatever_comes(self, usage: dict[str, Any], details: Any) -> None:
        raw = {**usage, "prompt_tokens_details": details} if details is not None else usage
        got = u.normalise_openai(raw)
        if not raw:
            assert got is None
            return
        assert got is not None
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert got[name] is None or (type(got[name]) is int and got[name] >= 0)
        json.dumps(got, allow_nan=False)
        # None in what was read means "not usable", on the wire it means "not told": then the total is worked out
        if all(v is not None for v in (got["total_tokens"], *(got.get("prompt_tokens_details") or {}).values())):
            assert u.normalise_openai(got) == got


class TestAdd:
    def test_no_usage_adds_nothing(self) -> None:
        assert u.add(None, None) is None
        assert u.add(CLEAN[0], None) == u.add(None, CLEAN[0]) == CLEAN[0]

    def test_counts_are_summed_and_other_fields_dropped(self) -> None:
        assert u.add(CLEAN[0], CLEAN[2]) == {
            "prompt_tokens": 58,
            "completion_tokens": 25,
            "total_tokens": 83,
            "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 4},
        }

    def test_unknown_stays_unknown(self) -> None:
        bad = u.build(prompt=math.nan, completion=1, cached=-1)
        got = u.add(bad, u.build(prompt=4, completion=1, cached=2))
        assert got is not None
        assert got["prompt_tokens"] is None
        assert got["completion_tokens"] == 2
        assert got["prompt_tokens_details"] == {"cached_tokens": None}

    @given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
    def test_order_does_not_matter(self, a: int, b: int, c: int, d: int, e: int, f: int) -> None:
        x, y = u.build(prompt=a, completion=b, cached=c), u.build(prompt=d, completion=e, reasoning=f)
        assert u.add(x, y) == u.add(y, x)

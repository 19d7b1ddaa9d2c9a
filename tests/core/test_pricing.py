"""Prices: the table's look-up rules, and costs to the last digit."""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core import cost as cost_module
from opentracy.core import pricing, usage
from opentracy.core.price_table import Price, PriceTable, Rates, builtin
from opentracy.core.pricing import Cost, cost_of, cost_with, price_from_usd, price_of

PLAIN = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
COUNTS = st.integers(0, 5_000_000)
AMOUNTS = st.decimals(0, 500, places=6)


def cost(price: Price, raw: dict[str, Any], at: float | None = None) -> Cost:
    got = cost_with(price, raw, at)
    assert got is not None
    return got


class TestReported:
    """A provider's own account of what a call cost, where the table has no price."""

    def test_it_stands_in_where_the_price_is_unknown(self) -> None:
        for told in (0.00125, "breakdown"):
            raw = {**PLAIN, "cost": {"request_cost": 0.0, "total_cost": 0.00125} if told == "breakdown" else told}
            got = cost_of("openrouter", "nobody/knows-this", raw)
            assert got == Cost(0, 0, 0, 0, 1_250_000, 1_250_000)
            assert cost_of("openai", "gpt-4o-mini", raw) == cost_of("openai", "gpt-4o-mini", PLAIN), "the table goes first"
        assert cost_of("openrouter", "nobody/knows-this", {**PLAIN, "cost": 0}) == Cost(0, 0, 0, 0, 0, 0)

    @pytest.mark.parametrize("told", [None, "0.1", -1, math.nan, math.inf, True, 10**9, {}, {"total_cost": "x"}, [1]])
    def test_what_is_no_amount_is_unknown(self, told: Any) -> None:
        assert cost_of("openrouter", "nobody/knows-this", {**PLAIN, "cost": told}) is None

    def test_a_customers_own_key_is_billed_elsewhere(self) -> None:
        assert cost_of("openrouter", "nobody/knows-this", {**PLAIN, "cost": 0, "is_byok": True}) is None


@pytest.mark.parametrize(
    ("provider", "spelling", "canonical"),
    [
        ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("vertex", "gemini-2.5-flash@001", "gemini-2.5-flash"),
        ("vertex", "gemini-2.5-flash@default", "gemini-2.5-flash"),
        ("vertex", "publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("vertex", "projects/p/locations/l/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "GPT-5-mini-2025-08-07", "gpt-5-mini"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::abc", "ft:gpt-4o-mini"),
        ("azure", "gpt-35-turbo", "gpt-3.5-turbo"),
        ("azure", "gpt-5", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "gpt-oss-120b"),
        ("fireworks", "gpt-oss-120b", "gpt-oss-120b"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "regional.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("bedrock", "eu.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("openrouter", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("moonshot", "kimi-k2-0905-preview", "kimi-k2-0905-preview"),
    ],
)
def test_spellings_of_a_model_find_its_price(provider: str, spelling: str, canonical: str) -> None:
    found = price_of(provider, spelling)
    assert found is not None
    assert found.model == canonical


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini-foo"), ("openai", "gpt-4o-audio-preview"), ("gemini", "gemini-2.5-flash-image"),
        ("gemini", "gemini-2.5-flash@001"), ("azure", "my-deployment"), ("openrouter", "openai/gpt-4o:online"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo-X"), ("fireworks", "accounts/me/models/gpt-oss-120b-mine"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"), ("vertex", "gemini-2.5-flash-image@001"),
    ],
)  # fmt: skip
def test_a_name_that_only_looks_like_another_has_no_price(provider: str, model: str) -> None:
    assert price_of(provider, model) is None


class TestKnownBugs:
    """Rows 1 to 4 of the project's list of bugs that peers had."""

    def test_row_1_cache_writes_are_billed_once(self) -> None:
        prompt = usage.prompt_including_cache(input=3, cached=0, cache_write=12304, output=550)
        built = usage.build(prompt=prompt, completion=550, cached=0, cache_write=12304)
        assert built["prompt_tokens"] == 12307
        price = price_from_usd("m", input=3, output=15, cache_write="3.75", cached_read="0.30")
        assert cost(price, built) == Cost(9_000, 0, 46_140_000, 8_250_000, 0, 54_399_000)
        assert cost(price, built).usd == 0.054399

    def test_row_1_with_the_table(self) -> None:
        built = usage.build(prompt=12307, completion=550, cached=0, cache_write=12304)
        got = cost_of("anthropic", "claude-3-7-sonnet-20250219", built)
        assert got is not None
        assert got.usd == 0.054399

    def test_row_2_cached_reads_are_taken_off_the_prompt(self) -> None:
        built = usage.build(prompt=262_960, completion=1_744, cached=257_955)
        price = price_from_usd("m", input=1.25, cached_read=0.625, output=10)
        exact = Decimal(262960 - 257955) * Decimal("1.25") + 257955 * Decimal("0.625") + 1744 * 10
        assert cost(price, built).total == exact * 1000 == 184_918_125
        assert cost(price, built).usd == 0.184918125

    def test_row_2_above_the_tier_the_whole_request_has_the_tiers_four_rates(self) -> None:
        above = {"input": 2.5, "cached_read": 1.25, "cache_write": 3, "output": 15}
        price = price_from_usd("m", input=1.25, cached_read=0.625, cache_write=2, output=10, tiers={200_000: above})
        built = usage.build(prompt=262_960, completion=1_744, cached=257_955, cache_write=5)
        got = cost(price, built)
        assert got == Cost(12_500_000, 322_443_750, 15_000, 26_160_000, 0, 361_118_750)
        assert cost(price, usage.build(prompt=200_000, completion=0)).total == 250_000_000
        assert cost(price, usage.build(prompt=200_001, completion=0)).total == 500_002_500

    def test_row_3_cached_tokens_are_not_billed_at_both_rates(self) -> None:
        raw = {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
        }
        got = cost_of("openai", "gpt-4o-2024-08-06", raw)
        assert got == Cost(86 * 2500, 1920 * 1250, 0, 300 * 10000, 0, 5_615_000)
        raw["prompt_tokens_details"] = {"cached_tokens": 1920, "text_tokens": 2006}
        assert cost_of("openai", "gpt-4o-2024-08-06", raw) == got

    def test_row_4_cached_tokens_survive_and_the_total_decides(self) -> None:
        price = price_from_usd("m", input=3, output=15, cached_read=0.3, cache_write=3.75)
        parts: dict[str, Any] = {"cached": 80, "cache_write": 20}
        inside = usage.prompt_including_cache(input=100, output=50, total=150, **parts)
        apart = usage.prompt_including_cache(input=100, output=50, total=250, **parts)
        assert (inside, apart) == (100, 200)
        got = cost(price, usage.build(prompt=inside, completion=50, total=150, **parts))
        assert got == Cost(0, 24_000, 75_000, 750_000, 0, 849_000)
        got = cost(price, usage.build(prompt=apart, completion=50, total=250, **parts))
        assert got == Cost(300_000, 24_000, 75_000, 750_000, 0, 1_149_000)


class TestUnknownIsNeverZero:
    PRICE = price_from_usd("m", input=1, output=2)

    @pytest.mark.parametrize("raw", [None, {}])
    def test_fault_row_42_no_usage(self, raw: Any) -> None:
        assert cost_of("openai", "gpt-4o", raw) is None

    @pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
    @pytest.mark.parametrize("junk", [None, math.nan, math.inf, -1, 3.5, True, "x", 2**60], ids=repr)
    def test_fault_row_41_an_unclean_count(self, name: str, junk: object) -> None:
        raw = usage.normalise_openai({**PLAIN, name: junk})
        if name == "total_tokens" and junk is None:
            assert cost_of("openai", "gpt-4o", raw) is not None, "a missing total is the sum, nothing is unknown"
        else:
            assert cost_of("openai", "gpt-4o", raw) is None
        assert cost_with(self.PRICE, {**PLAIN, name: junk}) is None, "not normalised, and still no wrong figure"

    @pytest.mark.parametrize("junk", [math.nan, -1, 3.5, True, "x"], ids=repr)
    @pytest.mark.parametrize("name", ["cached_tokens", "cache_creation_tokens", "audio_tokens"])
    def test_an_unclean_detail(self, name: str, junk: object) -> None:
        raw = {**PLAIN, "prompt_tokens_details": {name: junk}}
        assert cost_with(self.PRICE, raw) is None
        assert cost_of("openai", "gpt-4o", usage.normalise_openai(raw)) is None

    @pytest.mark.parametrize("name", ["reasoning_tokens", "audio_tokens"])
    def test_an_unclean_completion_detail(self, name: str) -> None:
        assert cost_with(self.PRICE, {**PLAIN, "completion_tokens_details": {name: -3}}) is None

    def test_more_cached_than_prompt_tokens(self) -> None:
        assert cost_with(self.PRICE, {**PLAIN, "prompt_tokens_details": {"cached_tokens": 1001}}) is None

    def test_an_unknown_output_rate(self) -> None:
        price = Price("m", Rates(input=10**6))
        assert cost_with(price, PLAIN) is None
        assert cost(price, {**PLAIN, "completion_tokens": 0, "total_tokens": 1000}).total == 10**6

    def test_long_cache_writes_without_their_rate(self) -> None:
        price = price_from_usd("m", input=3, output=15, cache_write=3.75)
        details = {"cache_creation_tokens": 10, "cache_creation_1h_tokens": 4}
        assert cost_with(price, {**PLAIN, "prompt_tokens_details": details}) is None

    def test_fault_row_110_a_row_with_a_bad_figure_is_no_price(self) -> None:
        good: dict[str, Any] = {"id": "good", "match": ["=good"], "rates": {"input": 1, "output": 1}}
        bad = [
            {**good, "id": name, "match": [f"={name}"], "rates": rates}
            for name, rates in {
                "negative": {"input": -1, "output": 1},
                "nan": {"input": 1, "output": math.nan},
                "text": {"input": "1", "output": 1},
                "bool": {"input": True, "output": 1},
                "unknown-rate": {"input": 1, "per_smile": 1},
                "missing": {},
            }.items()
        ]
        document = {"date": "d", "source": "s", "licence": "l", "providers": {"p": {"models": [good, *bad]}}}
        table = PriceTable(document)
        assert table.find("p", "good") is not None
        for row in bad:
            assert table.find("p", row["id"]) is None, row["id"]

    @pytest.mark.parametrize("junk", [-1, math.nan, math.inf, "dear", True, []], ids=repr)
    def test_fault_row_110_a_bad_amount_is_refused_by_name(self, junk: Any) -> None:
        with pytest.raises(ValueError, match="output must be a finite amount"):
            price_from_usd("m", input=1, output=junk)

    def test_an_unknown_model_or_provider(self) -> None:
        assert cost_of("openai", "gpt-99", PLAIN) is None
        assert cost_of("nowhere", "gpt-4o", PLAIN) is None
        assert pricing.expected_cost("openai", "gpt-99", 1, 1) is None
        assert pricing.context_window("openai", "gpt-99") is None
        assert price_of("openai", "") is None


class TestParts:
    def test_short_and_long_cache_writes_have_their_own_rates(self) -> None:
        price = price_from_usd("m", input=3, output=15, cache_write=3.75, cache_write_1h=6)
        raw = usage.build(prompt=100, completion=0, cache_write=30, cache_write_1h=10)
        assert cost(price, raw).cache_write == 20 * 3750 + 10 * 6000

    def test_without_a_rate_of_its_own_a_cached_token_costs_an_input_token(self) -> None:
        price = price_from_usd("m", input=3, output=15)
        raw = usage.build(prompt=100, completion=0, cached=40, cache_write=60)
        assert cost(price, raw) == Cost(0, 120_000, 180_000, 0, 0, 300_000)

    def test_written_tokens_are_billed_under_either_name(self) -> None:
        price = price_from_usd("m", input=1, output=1, cache_write=2)
        raw = {**PLAIN, "prompt_tokens_details": {"cache_write_tokens": 600}}
        assert cost(price, raw) == cost(price, usage.normalise_openai(raw) or {})
        assert cost(price, raw).cache_write == 1_200_000

    def test_reasoning_is_inside_the_output_unless_it_has_a_rate(self) -> None:
        raw = usage.build(prompt=1, completion=100, reasoning=60)
        assert cost(price_from_usd("m", input=1, output=2), raw).output == 200_000
        assert cost(price_from_usd("m", input=1, output=2, reasoning=3), raw).output == 40 * 2000 + 60 * 3000

    def test_an_answer_to_a_prompt_that_was_not_counted_has_no_known_cost(self) -> None:
        price = price_from_usd("m", input=1, output=2)
        assert cost_with(price, usage.build(prompt=0, completion=100)) is None
        assert cost_with(price, usage.build(prompt=0, completion=100, reasoning=60)) is None
        assert cost(price, usage.build(prompt=0, completion=0)).total == 0
        assert cost(price, usage.build(prompt=10, completion=0)).total == 10_000

    def test_reasoning_outside_the_completion_is_billed_in_either_form(self) -> None:
        wire = {
            "prompt_tokens": 307,
            "completion_tokens": 26,
            "total_tokens": 588,
            "completion_tokens_details": {"reasoning_tokens": 255},
        }
        price = price_from_usd("m", input=1, output=2)
        assert cost(price, wire) == cost(price, usage.normalise_openai(wire) or {})
        assert cost(price, wire).output == 281 * 2000

    def test_audio_has_its_own_rate(self) -> None:
        price = price_from_usd("m", input=1, output=2, input_audio=10, output_audio=20)
        raw = usage.build(prompt=100, completion=50, audio=40, audio_output=30)
        assert cost(price, raw) == Cost(60_000 + 400_000, 0, 0, 40_000 + 600_000, 0, 1_100_000)

    def test_audio_that_the_prompt_does_not_hold_is_not_billed_as_text(self) -> None:
        price = price_from_usd("m", input=1, output=2)
        assert cost_with(price, usage.build(prompt=9, completion=201, total=585, audio=375)) is None

    def test_a_reported_fee_goes_before_the_tables(self) -> None:
        price = price_from_usd("m", input=1, output=1, request="0.012")
        raw = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
        assert cost(price, raw).usd == 0.012021
        assert cost(price, {**raw, "cost": {"request_cost": 0.005}}) == Cost(9000, 0, 0, 12000, 5_000_000, 5_021_000)
        assert cost_with(price, {**raw, "cost": {"request_cost": math.nan}}) is None

    def test_prices_by_the_hour_of_the_day(self) -> None:
        dear, cheap = Rates(input=2_000_000, output=0), Rates(input=1_000_000, output=0)
        price = Price("m", cheap, windows=((3600, 7200, dear), (82800, 1800, dear)))
        hours = {None: 1, 0: 2, 1799: 2, 1800: 1, 3600: 2, 7199.9: 2, 7200: 1, 82799: 1, 82800: 2, 86400 * 20000 + 3600: 2}
        for at, rate in hours.items():
            assert cost(price, PLAIN, at).input == 1000 * 1000 * rate, at

    def test_one_rounding_half_even(self) -> None:
        price = price_from_usd("m", input="0.0005", output="0.0005", cached_read="0.0005")
        assert cost(price, usage.build(prompt=1, completion=0)).total == 0
        assert cost(price, usage.build(prompt=3, completion=0)).total == 2
        got = cost(price, usage.build(prompt=2, completion=1, cached=1))
        assert (got.total, got.input + got.cached_read + got.output) == (2, 2)


@st.composite
def priced(draw: st.DrawFn) -> tuple[Price, dict[str, Any]]:
    names = ("input", "output", "cached_read", "cache_write", "cache_write_1h")
    price = price_from_usd("m", **{name: draw(AMOUNTS) for name in names})
    read, write, fresh = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    long = draw(st.integers(0, write))
    raw = usage.build(
        prompt=read + write + fresh, completion=draw(COUNTS), cached=read, cache_write=write, cache_write_1h=long
    )
    return price, raw


class TestProperties:
    @given(priced())
    def test_parts_add_up_and_the_total_is_the_exact_one_rounded_once(self, case: tuple[Price, dict[str, Any]]) -> None:
        price, raw = case
        got = cost(price, raw)
        parts = (got.input, got.cached_read, got.cache_write, got.output, got.fees)
        assert sum(parts) == got.total
        assert all(part >= 0 for part in parts)
        details, usd = raw["prompt_tokens_details"], price.usd_per_million()
        rate = {name: Decimal(str(value)) for name, value in usd.items()}
        read, write, long = (
            details[k] for k in ("cached_tokens", "cache_creation_tokens", "cache_creation_1h_tokens")
        )
        exact = (
            (raw["prompt_tokens"] - read - write) * rate["input"]
            + read * rate["cached_read"]
            + (write - long) * rate["cache_write"]
            + long * rate["cache_write_1h"]
            + raw["completion_tokens"] * rate["output"]
        )
        assert got.total == (exact * 1000).to_integral_value()

    @given(priced(), st.sampled_from(["prompt_tokens", "completion_tokens"]), COUNTS)
    def test_more_tokens_never_cost_less(self, case: tuple[Price, dict[str, Any]], name: str, more: int) -> None:
        price, raw = case
        dearer = {**raw, name: raw[name] + more, "total_tokens": raw["total_tokens"] + more}
        assert cost(price, dearer).total >= cost(price, raw).total

    @given(priced())
    def test_what_a_stream_reports_costs_what_the_plain_answer_costs(self, case: tuple[Price, dict[str, Any]]) -> None:
        price, raw = case
        extra = {**raw, "queue_time": 0.1, "num_cached_tokens": raw["prompt_tokens_details"]["cached_tokens"]}
        assert cost(price, usage.normalise_openai(extra) or {}) == cost(price, usage.normalise_openai(raw) or {})


class TestLookup:
    @pytest.mark.parametrize(
        ("provider", "model", "row"),
        [
            ("openai", "gpt-4o-mini", "gpt-4o-mini"),
            ("openai", "GPT-4o-Mini", "gpt-4o-mini"),
            ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("openai", "gpt-4o-20240513", "gpt-4o-2024-05-13"),
            ("openai", "gpt-4o-2031-01-31", "gpt-4o"),
            ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "ft:gpt-4o-mini"),
            ("OpenAI", "gpt-4.1", "gpt-4.1"),
            ("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku-latest"),
            ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
            ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
            ("gemini", "gemini-2.0-flash-001", "gemini-2.0-flash"),
            ("gemini", "gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
            ("vertex", "publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
            ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "regional.anthropic.claude-3-haiku-20240307-v1:0"),
            ("bedrock", "us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
            ("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
            ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "gpt-oss-120b"),
            ("fireworks", "gpt-oss-120b", "gpt-oss-120b"),
            ("azure", "gpt-4o", "gpt-4o"),
            ("azure", "gpt-35-turbo", "gpt-3.5-turbo"),
            ("groq", "openai/gpt-oss-20b", "openai/gpt-oss-20b"),
            ("sambanova", "Meta-Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ],
    )
    def test_names_find_their_row(self, provider: str, model: str, row: str) -> None:
        found = price_of(provider, model)
        assert found is not None
        assert found.model == row

    @pytest.mark.parametrize(
        ("provider", "model"),
        [
            ("openai", "gpt-4o-mini-turbo"),
            ("openai", "gpt-5.2-proo"),
            ("openai", "mygpt-4o"),
            ("anthropic", "claude-sonnet-4-6-fast"),
            ("anthropic", "claude-sonet-4-5"),
            ("gemini", "gemini-1.5-flash-8b-turbo"),
            ("gemini", "gemini-3.6-flash-lite"),
            ("mistral", "mistral-large-2699"),
            ("azure", "my-deployment"),
            ("groq", "gpt-4o"),
            ("bedrock", "application-inference-profile/x1y2z3"),
            ("openai", "gpt-4o-audio-preview"),
            ("ollama", "llama3.1"),
        ],
    )
    def test_a_name_that_is_not_surely_known_has_no_price(self, provider: str, model: str) -> None:
        assert price_of(provider, model) is None

    def test_figures_tiers_windows_and_context_come_through(self) -> None:
        price = price_of("gemini", "gemini-2.5-pro")
        assert price is not None
        assert price.usd_per_million() == {"input": 1.25, "output": 10.0, "cached_read": 0.125}
        assert price.tiers == ((200_000, Rates(input=2_500_000, output=15_000_000, cached_read=250_000)),)
        assert pricing.context_window("openai", "gpt-4o") == 128_000
        peak = price_of("deepseek", "deepseek-v4-flash")
        assert peak is not None
        assert [(a, b) for a, b, _ in peak.windows] == [(3600, 14400), (21600, 36000)]

    def test_every_provider_of_the_reference_has_prices(self) -> None:
        sure = {
            "openai": "gpt-4o",
            "anthropic": "claude-sonnet-4-5",
            "gemini": "gemini-2.5-flash",
            "groq": "llama-3.3-70b-versatile",
            "mistral": "mistral-small-latest",
            "deepseek": "deepseek-chat",
            "together": "openai/gpt-oss-120b",
            "fireworks": "gpt-oss-20b",
            "cerebras": "gpt-oss-120b",
            "sambanova": "gpt-oss-120b",
            "perplexity": "sonar-pro",
            "cohere": "command-a-03-2025",
            "bedrock": "amazon.nova-micro-v1:0",
        }
        for provider, model in sure.items():
            got = cost_of(provider, model, PLAIN)
            assert got is not None, provider
            assert got.total > 0

    def test_the_table_names_its_source_date_and_licence(self) -> None:
        info = pricing.table_info()
        assert info.models > 1000
        assert info.source.startswith("genai-prices ")
        assert "MIT" in info.licence
        found = price_of("openai", "gpt-4o")
        assert found is not None
        assert info.date in found.source

    def test_expected_cost_is_in_usd_and_follows_the_tiers(self) -> None:
        assert pricing.expected_cost("openai", "gpt-4o", 1000, 100.5) == pytest.approx(0.003505)
        assert pricing.expected_cost("gemini", "gemini-2.5-pro", 300_000, 0) == pytest.approx(0.75)

    def test_invented_names_do_not_grow_the_cache(self) -> None:
        for i in range(pricing._CACHE_LIMIT + 50):
            price_of("openai", f"invented-{i}")
        assert len(pricing._cache) <= pricing._CACHE_LIMIT
        assert price_of("openai", "gpt-4o") is not None


class TestRegister:
    @pytest.fixture(autouse=True)
    def _clean(self) -> Iterator[None]:
        yield
        for name in list(pricing._registered):
            pricing.unregister_price(name)

    def test_a_users_price_goes_before_the_table_even_after_a_look_up(self) -> None:
        assert cost_of("openai", "gpt-4o", PLAIN) == Cost(2_500_000, 0, 0, 1_000_000, 0, 3_500_000)
        pricing.register_price("openai/gpt-4o", input=1, output=2, context=10)
        assert cost_of("openai", "gpt-4o", PLAIN) == Cost(1_000_000, 0, 0, 200_000, 0, 1_200_000)
        assert pricing.context_window("openai", "gpt-4o") == 10
        assert cost_of("azure", "gpt-4o", PLAIN) == Cost(2_500_000, 0, 0, 1_000_000, 0, 3_500_000)
        assert pricing.unregister_price("OpenAI/GPT-4o")
        assert cost_of("openai", "gpt-4o", PLAIN) == Cost(2_500_000, 0, 0, 1_000_000, 0, 3_500_000)

    def test_a_bare_name_holds_for_every_provider(self) -> None:
        pricing.register_price("meta/own-model", input="0.1", output=0)
        for provider in ("vllm", "ollama"):
            got = cost_of(provider, "meta/own-model", PLAIN)
            assert got is not None
            assert got.total == 100_000

    def test_free_of_charge_is_a_price(self) -> None:
        pricing.register_price("local", input=0, output=0)
        assert cost_of("vllm", "local", PLAIN) == Cost(0, 0, 0, 0, 0, 0)

    def test_bad_input_is_named(self) -> None:
        with pytest.raises(ValueError, match="input must be a finite amount of USD >= 0, not -1"):
            pricing.register_price("m", input=-1, output=1)
        with pytest.raises(ValueError, match="unknown rate 'imput'"):
            pricing.register_price("m", input=1, output=1, tiers={1000: {"imput": 2}})
        with pytest.raises(ValueError, match="needs a model name"):
            pricing.register_price(" ", input=1, output=1)
        assert price_of("vllm", "m") is None


@pytest.fixture(scope="module")
def compiler() -> types.ModuleType:
    """scripts/compile_prices.py, which needs the development extra."""
    pytest.importorskip("genai_prices")
    path = Path(__file__).parents[2] / "scripts/compile_prices.py"
    spec = importlib.util.spec_from_file_location("compile_prices", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compile_prices"] = module
    spec.loader.exec_module(module)
    return module


class TestCompiled:
    """The table against the package it is compiled from."""

    @pytest.fixture(autouse=True)
    def _same_version(self, compiler: types.ModuleType) -> None:
        have = f"genai-prices {compiler.importlib.metadata.version('genai-prices')}"
        if have != builtin().info.source:
            pytest.skip(f"installed is {have}, the table is of {builtin().info.source}")

    def test_the_file_is_what_the_script_makes(self, compiler: types.ModuleType) -> None:
        day = compiler.dt.date.fromisoformat(builtin().info.date)
        assert compiler.render(compiler.compile_table(day)) == compiler.OUT.read_text(encoding="utf-8")

    def test_every_name_of_the_source_finds_the_row_it_has_there(self, compiler: types.ModuleType) -> None:
        day = compiler.dt.date.fromisoformat(builtin().info.date)
        sources = {p.id: p for p in compiler.source_providers}
        checked = 0
        for ours, how in compiler.PROVIDERS.items():
            if ours == "sambanova" or "source" not in how:
                continue
            source = sources[how["source"]]
            for model in source.models:
                for name in {model.id} | {r[1:] for r in compiler.rules(model.match) if r[0] == "="}:
                    if (theirs := source.find_model(name)) is None:
                        continue
                    row, found = compiler.row(theirs, day), builtin().find(ours, name)
                    assert (row is None) == (found is None), (ours, name)
                    if row and found:
                        assert found.rates == Rates(**row["rates"]), (ours, name)
                    checked += 1
        assert checked > 1000

    def test_costs_agree_with_the_source(self, compiler: types.ModuleType) -> None:
        from genai_prices import Usage

        noon = compiler.dt.datetime.fromisoformat(builtin().info.date + "T12:00:00+00:00")
        raw = usage.build(prompt=280_000, completion=7_000, cached=60_000, cache_write=20_000, cache_write_1h=5_000)
        theirs = Usage(
            input_tokens=280_000,
            output_tokens=7_000,
            cache_read_tokens=60_000,
            cache_write_tokens=20_000,
            cache_write_1h_tokens=5_000,
        )
        sources = {p.id: p for p in compiler.source_providers}
        for ours, theirs_id in {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}.items():
            for model in sources[theirs_id].models:
                found = builtin().find(ours, model.id)
                mine = found and cost_with(found, raw, noon.timestamp())
                if mine is None or found.model != model.id:
                    continue
                want = model.calc_price(theirs, sources[theirs_id], genai_request_timestamp=noon).total_price
                assert mine.total == round(want * 10**9), model.id


_COUNT_OR_NOT = st.one_of(st.integers(-1, 3), COUNTS, st.sampled_from([None, True, 0.0, "1", 2**54]))
_TOTALS = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT_OR_NOT)
_PARTS = {
    "prompt_tokens_details": ["cached_tokens", "cache_creation_tokens", "audio_tokens"],
    "completion_tokens_details": ["reasoning_tokens", "audio_tokens"],
}
_DETAILS = {
    holder: st.one_of(st.none(), st.dictionaries(st.sampled_from(names), st.one_of(st.just(0), _COUNT_OR_NOT)))
    for holder, names in _PARTS.items()
}


@given(st.fixed_dictionaries({}, optional={**_TOTALS, **_DETAILS}), AMOUNTS, st.one_of(st.none(), AMOUNTS), st.booleans())
def test_the_short_way_to_a_cost_is_the_long_one(
    raw: dict[str, Any], fresh: Decimal, answered: Decimal | None, per_request: bool
) -> None:
    price = price_from_usd("m", input=fresh, output=answered, cached_read=1, request=int(per_request))
    assert cost_with(price, raw) == cost_module._full_cost(price, raw, None)


def test_a_plain_usage_goes_the_short_way() -> None:
    price = price_from_usd("m", input=1, output=2)
    assert price.flat is not None and cost_module._flat_cost(*price.flat, PLAIN) == cost(price, PLAIN)
    assert price_from_usd("m", input=1, output=2, request=1).flat is None


class TestTerms:
    """Tiers, places and searches with prices of their own: the right amount or none at all."""

    @pytest.mark.parametrize("tier", ["default", "standard", "auto", "on_demand", "ON_DEMAND", None, "", 3])
    @pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "groq", "bedrock"])
    def test_the_standard_tier_costs_what_the_table_says(self, tier: Any, provider: str) -> None:
        model = {"openai": "gpt-5", "anthropic": "claude-opus-4-6", "gemini": "gemini-2.5-flash",
                 "groq": "openai/gpt-oss-120b", "bedrock": "amazon.nova-pro-v1:0"}[provider]  # fmt: skip
        plain = cost_of(provider, model, PLAIN)
        assert plain is not None
        assert cost_of(provider, model, {**PLAIN, "service_tier": tier}) == plain

    def test_flex_is_half_of_every_rate(self) -> None:
        raw = {"prompt_tokens": 1001, "completion_tokens": 7, "total_tokens": 1008,
               "prompt_tokens_details": {"cached_tokens": 1000}}  # fmt: skip
        price = price_of("openai", "gpt-5")
        assert price is not None
        got = cost_of("openai", "gpt-5", {**raw, "service_tier": "flex"})
        assert got is not None
        rates = price.rates
        assert rates.input and rates.output and rates.cached_read
        exact = Decimal(rates.input + 1000 * rates.cached_read + 7 * rates.output) / 2 / 1000
        assert got.total == int(exact.to_integral_value())
        assert got.input + got.cached_read + got.cache_write + got.output + got.fees == got.total

    @pytest.mark.parametrize(
        ("provider", "model", "tier"),
        [
            ("openai", "gpt-5", "priority"), ("openai", "gpt-5", "fast"), ("openai", "gpt-5", "scale"),
            ("anthropic", "claude-opus-4-6", "priority"), ("gemini", "gemini-2.5-flash", "priority"),
            ("vertex", "gemini-2.5-flash", "PROVISIONED_THROUGHPUT"), ("bedrock", "amazon.nova-pro-v1:0", "flex"),
            ("groq", "openai/gpt-oss-120b", "performance"), ("fireworks", "gpt-oss-120b", "priority"),
        ],
    )  # fmt: skip
    def test_a_tier_without_a_published_rule_has_no_known_cost(self, provider: str, model: str, tier: str) -> None:
        assert cost_of(provider, model, PLAIN) is not None
        assert cost_of(provider, model, {**PLAIN, "service_tier": tier}) is None

    def test_cached_tokens_are_not_discounted_twice_on_googles_flex(self) -> None:
        whole = cost_of("gemini", "gemini-2.5-flash", PLAIN)
        half = cost_of("vertex", "gemini-2.5-flash", {**PLAIN, "service_tier": "ON_DEMAND_FLEX"})
        assert whole is not None and half is not None and half.total * 2 == whole.total
        cached = {**PLAIN, "service_tier": "flex", "prompt_tokens_details": {"cached_tokens": 5}}
        assert cost_of("gemini", "gemini-2.5-flash", cached) is None

    def test_work_in_one_country_costs_a_tenth_more(self) -> None:
        plain = cost_of("anthropic", "claude-opus-4-6", PLAIN)
        here = cost_of("anthropic", "claude-opus-4-6", {**PLAIN, "inference_geo": "us"})
        assert plain is not None and here is not None and here.total * 10 == plain.total * 11
        for place in ("global", "not_available", None):
            assert cost_of("anthropic", "claude-opus-4-6", {**PLAIN, "inference_geo": place}) == plain
        assert cost_of("anthropic", "claude-opus-4-6", {**PLAIN, "speed": "fast"}) is None
        assert cost_of("anthropic", "claude-opus-4-6", {**PLAIN, "speed": "standard"}) == plain

    def test_searches_are_a_fee_where_it_is_known(self) -> None:
        plain = cost_of("anthropic", "claude-opus-4-6", PLAIN)
        asked = {**PLAIN, "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 2}}
        got = cost_of("anthropic", "claude-opus-4-6", asked)
        assert plain is not None and got is not None
        assert got.fees == 30_000_000
        assert got.total == plain.total + got.fees
        nothing = {**PLAIN, "server_tool_use": {"web_search_requests": 0}}
        assert cost_of("anthropic", "claude-opus-4-6", nothing) == plain
        assert cost_of("gemini", "gemini-2.5-flash", asked) is None
        assert cost_of("xai", "grok-4", {**PLAIN, "num_sources_used": 2}) is None

    def test_a_model_that_always_searches_has_a_fee_that_nobody_reports(self) -> None:
        assert cost_of("openai", "gpt-4o-search-preview", PLAIN) is None
        typed = usage.PlainUsage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100)
        assert pricing.cost_of_plain("openai", "gpt-4o-search-preview", typed) is None

    def test_a_providers_own_account_is_what_it_charges(self) -> None:
        ticks = {**PLAIN, "cost_in_usd_ticks": 318319000, "num_sources_used": 3}
        got = cost_of("xai", "grok-4", ticks)
        assert got is not None and got.total == 31_831_900
        told = cost_of("openrouter", "openai/gpt-4o-mini", {**PLAIN, "cost": 0.0005})
        assert told is not None and told.total == 500_000
        agreed = cost_of("openrouter", "openai/gpt-4o-mini", {**PLAIN, "cost": 0.00021})
        assert agreed is not None and (agreed.input, agreed.output) == (150_000, 60_000)

    def test_a_registered_price_holds_whatever_the_tier(self) -> None:
        pricing.register_price("openai/gpt-5", input=1, output=2)
        try:
            assert cost_of("openai", "gpt-5", {**PLAIN, "service_tier": "priority"}) == Cost(1_000_000, 0, 0, 200_000, 0, 1_200_000)
        finally:
            pricing.unregister_price("openai/gpt-5")

    def test_billed_units_beyond_tokens_are_unknown(self) -> None:
        raw = {**PLAIN, "billed_units": {"input_tokens": 10, "output_tokens": 2}}
        assert cost_of("cohere", "command-r-08-2024", raw) is not None
        raw["billed_units"]["search_units"] = 1
        assert cost_of("cohere", "command-r-08-2024", raw) is None

"""Seeded records of every kind: many models, keys, outcomes, unknown prices, late arrivals."""

from __future__ import annotations

import random

from trace_samples import make_record

from opentracy.traces.ids import trace_id_at
from opentracy.traces.model import Attempt, TraceRecord

#: start of an hour
SEED_MS = 1_759_996_800_000
MODELS = [
    ("gpt-4o", "openai"),
    ("gpt-4o-mini", "openai"),
    ("claude", "anthropic"),
    ("mixtral", "groq"),
    ("mini", "groq"),
]
OUTCOMES = ["ok"] * 8 + ["upstream_error", "timeout"]


def seeded(rows: int, *, seed: int = 7, hours: float = 30.0) -> list[TraceRecord]:
    """`rows` records over `hours`, the same for the same seed."""
    draw = random.Random(seed)
    return [_one(draw, number, SEED_MS + int(hours * 3_600_000 * number / rows)) for number in range(rows)]


def _one(draw: random.Random, number: int, ts_ms: int) -> TraceRecord:
    model, provider = draw.choice(MODELS)
    outcome = draw.choice(OUTCOMES)
    ttft = draw.choice([None, draw.uniform(5, 900)])
    return make_record(
        number,
        ts_ms=ts_ms,
        trace_id=trace_id_at(ts_ms, draw.randbytes(10)),
        model=model,
        provider=provider,
        outcome=outcome,
        http_status=200 if outcome == "ok" else draw.choice([429, 500, 503]),
        error_type=None if outcome == "ok" else draw.choice(["overloaded", "rate_limit", None]),
        key_id=draw.choice([None, "k1", "k2", "k3"]),
        project=draw.choice([None, "p1", "p2"]),
        user_id=draw.choice([None, "ann", "bob", "O'Neil"]),
        session_id=draw.choice([None, "s1"]),
        tags=draw.choice([None, [], ["prod"], ["prod", "eu"], ["it's"]]),
        cluster_id=draw.choice([None, 0, 3, 17]),
        alias=draw.choice([None, "smart"]),
        stream=draw.random() < 0.3,
        cache_hit=draw.random() < 0.1,
        has_tools=draw.random() < 0.2,
        fallback_from=draw.choice([None, None, "openai/gpt-4o"]),
        attempts=[Attempt()] * draw.randint(1, 3),
        latency_ms=draw.lognormvariate(6, 1.2),
        ttft_ms=ttft,
        tokens_in=draw.choice([None, draw.randint(1, 4000)]),
        tokens_out=draw.randint(0, 2000),
        tokens_cached=draw.choice([None, 0, 100]),
        tokens_reasoning=draw.choice([None, 7]),
        cost_nano=draw.choice([None, 0, draw.randint(1, 10**10)]),
        counterfactual_nano=draw.choice([None, draw.randint(1, 10**10)]),
        finish_reason=draw.choice(["stop", "length", "tool_calls", None]),
        request=None,
        response=None,
    )

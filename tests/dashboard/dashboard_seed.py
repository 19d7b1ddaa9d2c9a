"""A store like that of a small company: a week of traffic with days and nights, an incident, routed requests, tools.

The same arguments give the same rows, moved to the current hour. Used by the browser tests and by scripts/screenshots.py.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from opentracy.core.pricing import cost_of
from opentracy.traces import Attempt, Store, TraceRecord, TraceWriter
from opentracy.traces.ids import trace_id_at

DAY_MS = 86_400_000
#: the clock of the tests, frozen at the full hour: old texts would be removed by retention as soon as an engine starts
NOW_MS = int(time.time()) // 3600 * 3_600_000


@dataclass(frozen=True)
class Kind:
    """One kind of prompt: how it is asked, what comes back, and which answers are good enough."""

    cluster: int
    label: str
    prompts: tuple[str, ...]
    answer: str
    hard: float  # 0 easy .. 1 hard


KINDS = (
    Kind(11, "sql, query, table, join", (
        "Write a SQL query that lists customers without an order in the last {n} days.",
        "This query takes {n} seconds, what index would help?\n\n```sql\nSELECT * FROM orders WHERE lower(email) = $1\n```",
    ), "Use an anti join:\n\n```sql\nSELECT c.*\nFROM customers c\nLEFT JOIN orders o ON o.customer_id = c.id\nWHERE o.id IS NULL;\n```\n\n- it reads each table **once**\n- `NOT IN` would fail on NULLs", 0.8),
    Kind(23, "refund, order, delivery, customer", (
        "Where is my order {n}? It should have been here on Monday.",
        "I want a refund for order {n}, the box was empty.",
        "Can I change the delivery address of order {n}?",
    ), "I am sorry about that. I have looked at your order: it left our warehouse on Friday. **If it is not there by Wednesday, you get your money back** without sending anything.", 0.15),
    Kind(4, "translate, french, german, sentence", (
        "Translate to French: the meeting moved to {n} o'clock.",
        "Translate to German: your invoice {n} is attached.",
    ), "La réunion a été déplacée.", 0.1),
    Kind(37, "python, function, error, list", (
        "Why does this raise KeyError?\n\n```python\ncounts = {}\nfor word in words:\n    counts[word] += 1\n```",
        "Write a Python function that merges {n} sorted lists lazily.",
    ), "The key does not exist at the first `+=`. Use a `Counter`:\n\n```python\nfrom collections import Counter\ncounts = Counter(words)\n```", 1.05),
    Kind(52, "proof, integer, prime, number", (
        "Prove that there are infinitely many primes of the form 4k + {n}.",
        "How many ways are there to tile a 2 x {n} board with dominoes?",
    ), "Suppose there were finitely many, and look at N = 4·p₁·…·pₖ − 1. It leaves remainder 3, so it has a prime factor of the same form that is none of them.", 1.2),
    Kind(30, "summary, report, meeting, points", (
        "Summarise these notes in {n} bullet points: the launch moved to May, the price stays, support wants two more people.",
    ), "- The launch is in **May** now\n- The price stays\n- Support needs two more people", 0.2),
    Kind(45, "weather, city, tool, temperature", ("What is the weather in city {n}, and should I take a coat?",),
         "It is 8 °C and windy: take the coat.", 0.2),
)  # fmt: skip

#: model -> (provider, how good, tokens a second, share of direct requests)
MODELS: dict[str, tuple[str, float, float, float]] = {
    "gpt-4o-mini": ("openai", 0.74, 95, 0.30),
    "gpt-4o": ("openai", 0.86, 70, 0.18),
    "claude-sonnet-4-6": ("anthropic", 0.93, 62, 0.24),
    "claude-haiku-4-5": ("anthropic", 0.82, 120, 0.10),
    "gemini-2.5-flash": ("gemini", 0.80, 150, 0.08),
    "deepseek-chat": ("deepseek", 0.81, 45, 0.06),
    "mistral-large-latest": ("mistral", 0.79, 60, 0.04),
}
AUTO = ("openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4-6", "deepseek/deepseek-chat")
KEYS = ("support-bot", "search", "analytics", "internal-tools", "mobile-app", "batch-nightly", None)
TAGS = (["prod"], ["prod", "eu"], ["prod", "mobile"], ["staging"], ["batch"], None)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SYSTEM = "You are the assistant of a shop for outdoor clothes. Be short, kind and exact."


def _arrivals(rows: int, days: float, end_ms: int, draw: random.Random) -> list[int]:
    """Times with more traffic by day than by night and a little growth, the last at the end."""
    times = []
    while len(times) < rows - 1:
        at = draw.random()
        hour = (end_ms - (1 - at) * days * DAY_MS) / 3_600_000 % 24
        wave = 0.35 + 0.65 * max(0.0, math.sin((hour - 6) / 24 * 2 * math.pi)) + 0.25 * at
        if draw.random() < wave:
            times.append(int(end_ms - (1 - at) * days * DAY_MS))
    return [*sorted(times), end_ms]


@cache
def _place(label: str, prompt: str) -> tuple[int, str]:
    """Cluster and label of a kind of prompt as the bundled router sees it; the kind's own where it cannot be loaded."""
    from opentracy.routing import Candidate, load

    try:
        decision = load("default").decide(prompt.replace("{n}", "12"), candidates=[Candidate(AUTO[0])])
    except (OSError, ValueError):
        return next((kind.cluster, label) for kind in KINDS if kind.label == label)
    return decision.cluster_id, decision.cluster_label


def _scores(kind: Kind, draw: random.Random, tokens: tuple[int, int], at: int) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name in AUTO:
        provider, _, model = name.partition("/")
        skill = MODELS[model][1]
        quality = min(0.99, max(0.05, 1 - kind.hard * (1.05 - skill) * 2.4 - (1 - skill) * 0.1 + draw.gauss(0, 0.02)))
        cost = _cost(provider, model, at, *tokens)
        rows[name] = {"quality": round(quality, 4), "quality_error": 0.03, "cost": (cost or 0) / 1e9}
    dearest = max(row["cost"] for row in rows.values()) or 1.0
    for row in rows.values():
        row["utility"] = round(row["quality"] - 0.3 * row["cost"] / dearest, 4)
    return rows


def _cost(provider: str, model: str, at: int, tokens_in: int, tokens_out: int, cached: int = 0) -> int | None:
    usage: dict[str, Any] = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    if cached:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    found = cost_of(provider, model, usage, at / 1000)
    return None if found is None else found.total


def records(rows: int, *, days: float = 7.0, end_ms: int = NOW_MS, seed: int = 7) -> Iterator[TraceRecord]:
    """`rows` records in order of time, the newest at `end_ms`."""
    draw = random.Random(seed)
    names, weights = list(MODELS), [m[3] for m in MODELS.values()]
    for at in _arrivals(rows, days, end_ms, draw):
        kind = draw.choices(KINDS, (5, 9, 3, 5, 2, 3, 2))[0]
        yield _record(at, kind, draw, draw.choices(names, weights)[0], incident=_incident(at, end_ms))


def _incident(at: int, end_ms: int) -> bool:
    """An hour and a half, half a day before the end, in which one provider was overloaded."""
    return end_ms - 11.5 * 3_600_000 < at < end_ms - 10 * 3_600_000


def _record(at: int, kind: Kind, draw: random.Random, model: str, *, incident: bool) -> TraceRecord:
    tokens_in, tokens_out = int(draw.lognormvariate(5.6, 0.7)) + 20, int(draw.lognormvariate(5.0, 0.8)) + 5
    cached = int(tokens_in * 0.6) if draw.random() < 0.25 else 0
    record = TraceRecord(trace_id_at(at, draw.randbytes(10)), at)
    if draw.random() < 0.45:
        scores = _scores(kind, draw, (tokens_in, tokens_out), at)
        chosen = max(scores, key=lambda name: scores[name]["utility"])
        best = max(scores, key=lambda name: scores[name]["quality"])
        model = chosen.partition("/")[2]
        record.requested_model, record.route_candidates = "auto", scores
        record.cluster_id, record.cluster_label = _place(kind.label, kind.prompts[0])
        record.route_policy = "prior"
        record.route_score, record.router_version, record.routing_ms = scores[chosen]["utility"], "seeded", 0.2
        record.counterfactual_nano = round(scores[best]["cost"] * 1e9)
    provider, _, speed, _ = MODELS[model]
    if not record.requested_model:
        record.requested_model = "smart" if model == "claude-sonnet-4-6" and draw.random() < 0.3 else f"{provider}/{model}"
        record.alias = "smart" if record.requested_model == "smart" else None
    record.model, record.provider = model, provider
    record.key_id, record.tags = draw.choice(KEYS), draw.choice(TAGS)
    record.user_id = f"user-{draw.randrange(900)}" if draw.random() < 0.6 else None
    record.session_id = f"chat-{draw.randrange(4000)}" if draw.random() < 0.4 else None
    record.stream = draw.random() < 0.55
    record.engine_version = "1.0.0"
    _timing(record, draw, tokens_in, tokens_out, speed)
    record.tokens_in, record.tokens_out, record.tokens_cached = tokens_in, tokens_out, cached or None
    record.cost_nano = _cost(provider, model, at, tokens_in, tokens_out, cached)
    record.cost_source = "unknown" if record.cost_nano is None else "table"
    prompt = draw.choice(kind.prompts).replace("{n}", str(draw.randrange(2, 9000)))
    _bodies(record, kind, prompt)
    bad = draw.random() < (0.55 if incident and provider == "anthropic" else 0.012)
    if bad:
        _fail(record, draw, incident)
    elif draw.random() < (0.5 if incident else 0.015):
        _fell_back(record, draw)
    return record


def _timing(record: TraceRecord, draw: random.Random, tokens_in: int, tokens_out: int, speed: float) -> None:
    first = 180 + tokens_in * 0.25 + draw.lognormvariate(4.6, 0.6)
    whole = first + tokens_out / speed * 1000 * draw.uniform(0.8, 1.3)
    begin = (record.routing_ms or 0.0) + 0.3
    record.latency_ms = round(whole + begin, 2)
    record.ttft_ms = round(first + begin, 2) if record.stream else None
    target = f"{record.provider}/{record.model}"
    record.attempts = [Attempt(target, record.provider, 200, None, begin, round(whole, 2), tokens_out * 5, ttft_ms=first if record.stream else None)]


def _bodies(record: TraceRecord, kind: Kind, prompt: str) -> None:
    request: dict[str, Any] = {
        "model": record.requested_model,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}],
        "temperature": 0.2,
    }
    message: dict[str, Any] = {"role": "assistant", "content": kind.answer}
    record.finish_reason = "stop"
    if kind.cluster == 45:
        request["tools"] = [TOOL]
        record.has_tools = True
        call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bergen"}'}}
        request["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 8, "wind": "strong"}'},
        ]
    record.request = json.dumps(request, ensure_ascii=False).encode()
    answer = {"object": "chat.completion", "model": record.model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    record.response = json.dumps(answer, ensure_ascii=False).encode()
    record.body_state = "full"


def _fail(record: TraceRecord, draw: random.Random, incident: bool) -> None:
    kinds = ((529, "overloaded_error", "Overloaded"),) if incident else (
        (429, "rate_limit_exceeded", "Rate limit reached for requests"),
        (500, "server_error", "The server had an error while processing your request"),
        (400, "context_length_exceeded", "This model's maximum context length is 128000 tokens"),
        (504, "timeout", "no content within 60 s"),
        (429, "rate_limit_exceeded", "Rate limit reached for requests"),
        (503, "unavailable", "The engine is currently overloaded, please try again later"),
    )  # fmt: skip
    status, code, message = draw.choice(kinds)
    record.outcome = "timeout" if status == 504 else "upstream_error"
    record.http_status, record.error_type, record.error_code, record.error_msg = status, code, code, message
    record.response = record.finish_reason = record.ttft_ms = record.tokens_out = record.cost_nano = None
    record.latency_ms = round(draw.uniform(120, 900), 2) if status != 504 else 60_000.0
    first = record.attempts[0]
    first.status, first.code, first.ms, first.ttft_ms = status, code, round(record.latency_ms * 0.4, 2), None
    if status in (429, 500, 529):
        first.reason = f"retry: {status}"
        begin = first.start_ms + first.ms + record.latency_ms * 0.2
        record.attempts.append(Attempt(first.target, first.provider, status, code, begin, round(record.latency_ms * 0.35, 2)))


def _fell_back(record: TraceRecord, draw: random.Random) -> None:
    """The first target was overloaded; another one answered."""
    other = "anthropic/claude-sonnet-4-6" if record.provider != "anthropic" else "openai/gpt-4o"
    wait = round(draw.uniform(90, 400), 2)
    answered = record.attempts[0]
    failed = Attempt(other, other.partition("/")[0], 529, "overloaded_error", answered.start_ms, wait, reason="fallback: 529")
    answered.start_ms += wait + 30
    record.latency_ms += wait + 30
    if record.ttft_ms is not None:
        record.ttft_ms += wait + 30
    record.attempts = [failed, answered]
    record.fallback_from = other


def fill(path: Path, rows: int, *, days: float = 7.0, end_ms: int = NOW_MS) -> None:
    """Writes the rows into the store at `path`, and projects them."""
    store = Store.open(path)
    with TraceWriter(store) as writer:
        for record in records(rows, days=days, end_ms=end_ms):
            writer.put(record)
            while writer.counters.queue_rows > 4000:
                time.sleep(0.002)
        assert writer.flush(None)
    assert not writer.counters.dropped
    store.close()

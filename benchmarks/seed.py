"""Fills a trace store with seeded, realistic rows: `python benchmarks/seed.py 1000000 /tmp/traces.db`.

The text is slices of the standard library's own source, which compresses less well than chat logs with repeated system
prompts do; models, keys, tags, outcomes and latencies are skewed as real traffic is. The same seed gives the same rows.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import random
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from opentracy.traces import Attempt, Limits, Store, TraceRecord, TraceWriter
from opentracy.traces.ids import trace_id_at

MODELS = [
    (name, provider)
    for provider, names in {
        "openai": ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "o4-mini"],
        "anthropic": ["claude-sonnet-4-6", "claude-haiku-4-5", "claude-opus-4-6"],
        "gemini": ["gemini-2.5-pro", "gemini-2.5-flash"],
        "groq": ["llama-3.3-70b", "mixtral-8x7b", "gemma-9b"],
        "mistral": ["mistral-large", "codestral", "ministral-8b"],
        "deepseek": ["deepseek-chat", "deepseek-reasoner"],
        "cohere": ["command-r", "command-a"],
        "together": ["qwen-72b", "llama-405b", "llama-8b", "dbrx"],
    }.items()
    for name in names
]
KEYS = [f"k_{number:02d}" for number in range(40)]
TAGS = [["prod"], ["prod", "eu"], ["staging"], ["batch"], ["prod", "search"], None]
DAY_MS = 86_400_000


def library_text(limit: int = 8_000_000) -> str:
    """Source text of the standard library."""
    parts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        parts.append(path.read_text("utf-8", "replace"))
        size += len(parts[-1])
        if size > limit:
            break
    return "".join(parts)


class _Skewed:
    """Draws an index with Zipf's weights; `random.choices` sums the weights anew at every call."""

    def __init__(self, count: int) -> None:
        self._edges = list(itertools.accumulate(1 / (number + 1) for number in range(count)))

    def __call__(self, draw: random.Random) -> int:
        return bisect.bisect(self._edges, draw.random() * self._edges[-1])


def records(
    rows: int, *, days: float = 7.0, end_ms: int, seed: int = 1, text: str | None = None
) -> Iterator[TraceRecord]:
    """`rows` records in order of time, the last one at `end_ms`; about 1.5 kB of text each."""
    draw = random.Random(seed)
    words = library_text() if text is None else text
    model_of, key_of, cluster_of = _Skewed(len(MODELS)), _Skewed(len(KEYS)), _Skewed(64)
    step = days * DAY_MS / rows
    for number in range(rows):
        ts_ms = int(end_ms - (rows - 1 - number) * step)
        model, provider = MODELS[model_of(draw)]
        failed = draw.random() < 0.03
        tokens_in, tokens_out = int(draw.lognormvariate(5.5, 0.8)), int(draw.lognormvariate(4.8, 0.9))
        latency = draw.lognormvariate(6.6, 0.7)
        cost = None if draw.random() < 0.01 else tokens_in * 150 + tokens_out * 600
        yield TraceRecord(
            trace_id_at(ts_ms, draw.randbytes(10)),
            ts_ms,
            outcome="upstream_error" if failed else "ok",
            http_status=draw.choice((429, 500, 503, 529)) if failed else 200,
            error_type=draw.choice(("rate_limit", "overloaded", "server_error")) if failed else None,
            requested_model="auto" if number % 3 == 0 else f"{provider}/{model}",
            model=model,
            provider=provider,
            key_id=KEYS[key_of(draw)],
            user_id=f"user-{draw.randrange(5000)}" if number % 2 else None,
            session_id=f"s-{draw.randrange(100_000)}" if number % 4 == 0 else None,
            tags=TAGS[draw.randrange(len(TAGS))],
            cluster_id=cluster_of(draw) if number % 3 == 0 else None,
            stream=draw.random() < 0.4,
            fallback_from="openai/gpt-4o" if draw.random() < 0.01 else None,
            attempts=[Attempt(f"{provider}/{model}", provider, 200, None, 0.4, latency, 2000)],
            ttft_ms=latency / 3,
            latency_ms=latency,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_nano=cost,
            counterfactual_nano=None if cost is None else cost * 4,
            cost_source="unknown" if cost is None else "table",
            finish_reason=None if failed else "stop",
            request=_slice(draw, words, 1100),
            response=None if failed else _slice(draw, words, 350),
        )


def _slice(draw: random.Random, text: str, mean: int) -> bytes:
    size = min(int(draw.expovariate(1 / mean)) + 40, 20 * mean)
    at = draw.randrange(len(text) - size)
    return text[at : at + size].encode()


def fill(path: Path, rows: int, *, days: float = 7.0, end_ms: int | None = None) -> tuple[float, float]:
    """Writes the rows; returns seconds on the clock and of CPU for storing them (making them is taken off)."""
    words = library_text()
    end = time.time_ns() // 1_000_000 if end_ms is None else end_ms
    spent = cpu = 0.0
    with TraceWriter(Store.open(path), limits=Limits()) as writer:
        made = records(rows, days=days, end_ms=end, text=words)
        while batch := list(itertools.islice(made, 2000)):
            clock, used = time.perf_counter(), time.process_time()
            for record in batch:
                writer.put(record)
            while writer.counters.queue_rows > 4000:
                time.sleep(0.002)
            spent += time.perf_counter() - clock
            cpu += time.process_time() - used
        clock, used = time.perf_counter(), time.process_time()
        writer.flush(None)
        spent += time.perf_counter() - clock
    cpu += time.process_time() - used
    assert not writer.counters.dropped
    return spent, cpu


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--days", type=float, default=7.0)
    options = parser.parse_args()
    seconds, cpu = fill(options.path, options.rows, days=options.days)
    size = sum(path.stat().st_size for path in options.path.parent.glob(options.path.name + "*") if path.is_file())
    print(f"{options.rows} rows in {seconds:.1f} s: {options.rows / seconds:.0f} rows/s, the maker beside it")
    print(f"{cpu / options.rows * 1e6:.1f} us of CPU per row, {size / options.rows:.0f} bytes per row on disk")


if __name__ == "__main__":
    main()

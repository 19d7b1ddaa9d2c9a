"""Cost of routing one prompt, in CPU time of one thread, and as a ratio to one MiniLM int8 forward pass.

    OPENBLAS_NUM_THREADS=1 python benchmarks/routing.py [--router DIR] [--minilm]

Prints microseconds (p50, p95) for reading a 100-word prompt and for the whole decision, the start-up time and the
memory of the process. --minilm needs the extra of that name.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from pathlib import Path

from opentracy.routing import Candidate, load
from opentracy.routing.embed import embedder_by_id

WORDS = """explain in detail how the water cycle works near coastal regions and why evaporation from the ocean
depends on temperature wind speed and humidity then compute the energy needed to evaporate two
kilograms of water at twenty degrees and compare it with what a small household uses in one day
finally list three policies that a town council could adopt to protect its fresh water and describe
for each one the cost the expected benefit and the risk that it fails when rain""".split()  # noqa: SIM905
ROUNDS = 400


def prompts() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choice(WORDS) for _ in range(100)) + "?" for _ in range(ROUNDS)]


def percentiles(samples: list[int]) -> str:
    ordered = sorted(samples)
    lowest = f"p10 {ordered[len(ordered) // 10] / 1e3:8.0f}   "  # what other processes on the same caches spare
    return lowest + f"p50 {ordered[len(ordered) // 2] / 1e3:8.0f}   p95 {ordered[len(ordered) * 95 // 100] / 1e3:8.0f}"


def timed(run, texts: list[str]) -> list[int]:  # type: ignore[no-untyped-def]
    out = []
    for text in texts:
        start = time.thread_time_ns()
        run(text)
        out.append(time.thread_time_ns() - start)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--router", default="default")
    parser.add_argument("--minilm", action="store_true")
    args = parser.parse_args()
    start = time.process_time()
    router = load(args.router)
    print(f"start-up {time.process_time() - start:.3f} s CPU")
    names = router.artifact.manifest.models or ["gpt-5", "gpt-4o-mini", "deepseek-chat", "claude-sonnet-4"]
    candidates = [Candidate(n, 1e-6, 4e-6) for n in names]
    texts = prompts()
    for text in texts[:20]:
        router.decide(text, candidates=candidates, cost_weight=0.2)
    texts = texts[20:]
    print("read    us", percentiles(timed(router.estimate, texts)))
    fresh = [t + " Now?" for t in texts]
    decided = timed(lambda t: router.decide(t, candidates=candidates), fresh)
    print("decide  us", percentiles(decided), f"  ({len(candidates)} candidates)")
    print("cached  us", percentiles(timed(lambda t: router.decide(t, candidates=candidates), fresh)))
    resident = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())  # getrusage also knows our parent's
    print(f"RSS {int(resident[1]) / 1024 if resident else 0:.0f} MB at most, whole process")
    if args.minilm:
        slow = timed(embedder_by_id("minilm").embed, texts[:60])
        print("minilm  us", percentiles(slow))
        print(
            f"decision / MiniLM forward pass: {sorted(decided)[len(decided) // 2] / sorted(slow)[len(slow) // 2]:.4f}"
        )


if __name__ == "__main__":
    main()

"""Latencies in buckets that can be added: logarithmic, each about ten percent wide.

Belongs here: the bucket of a latency and percentiles over counted buckets. Percentiles cannot be added, bucket counts
can, so hours, models, machines and databases are put together exactly and the answer is within five percent of the
truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

BUCKETS_PER_E: Final = 10.5


def latency_bucket(ms: float) -> int:
    """`floor(ln(ms) * BUCKETS_PER_E)`; everything up to one millisecond is bucket 0."""
    return int(math.log(ms) * BUCKETS_PER_E) if ms > 1.0 else 0


def bucket_ms(bucket: int) -> float:
    """The latency that stands for a bucket: its geometric middle, within five percent of every value in it."""
    return math.exp((bucket + 0.5) / BUCKETS_PER_E)


def percentile(latencies: Mapping[int, int], share: float) -> float | None:
    """Milliseconds below which `share` of the requests stayed, within five percent; None without requests."""
    total = sum(latencies.values())
    if not total:
        return None
    rank = math.ceil(share * total)
    seen = 0
    for bucket in sorted(latencies):
        seen += latencies[bucket]
        if seen >= rank:
            return bucket_ms(bucket)
    return None

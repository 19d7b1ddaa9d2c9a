"""The fuzz targets run over their seeds, whole and damaged, so that they do not rot between fuzzing runs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
try:
    from targets import SEEDS, TARGETS
finally:
    sys.path.pop(0)


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_damaged_seeds_keep_the_promises(name: str) -> None:
    rng = random.Random(name)
    for seed in SEEDS[name]:
        TARGETS[name](seed)
        for _ in range(60):
            raw = bytearray(seed)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(raw))
                choice = rng.random()
                if choice < 0.4:
                    raw[at] = rng.randrange(256)
                elif choice < 0.7:
                    del raw[at : at + rng.randint(1, 9)]
                else:
                    raw[at:at] = raw[: rng.randint(1, 40)]
                if not raw:
                    break
            TARGETS[name](bytes(raw))

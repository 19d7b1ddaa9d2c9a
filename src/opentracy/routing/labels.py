"""What a cluster is called: the terms that set its prompts apart from all others.

Belongs here: naming. Not here: clustering. Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn
2008): a term must be frequent in the cluster against what all prompts together would suggest, and rare terms cannot
win by luck.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[^\W\d_]{3,20}")
_STOP = frozenset(
    """the and for that with are was were this from have has had not but you your his her she him they them
    their its our who what which when where why how does did can could would should will shall may might
    must one two three following all any some more most other than then there these those into over
    under about after before between each both few such only own same too very just out off down been
    being because while during above below again here also answer question please true false none
    correct best way use used using given make made write find get many much per let yes say said new
    first last however if else""".split()  # noqa: SIM905
)


def words(core: str) -> set[str]:
    """Terms of one stripped prompt, each once."""
    return {w for w in _WORD.findall(core.lower()) if w not in _STOP}


def cluster_terms(cores: Sequence[str], label: npt.NDArray[np.intp], k: int, top: int = 4) -> list[list[str]]:
    """For each of `k` clusters its most distinctive terms, best first; an empty list for a cluster without words."""
    bags = [words(c) for c in cores]
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    kept = {w for w, n in total.items() if n >= 2} or set(total)
    inside: list[Counter[str]] = [Counter() for _ in range(k)]
    for bag, c in zip(bags, label, strict=True):
        inside[int(c)].update(bag & kept)
    everything = sum(total[w] for w in kept)
    return [_top_terms(counts, total, everything, top) for counts in inside]


def _top_terms(counts: Counter[str], total: Counter[str], everything: int, top: int) -> list[str]:
    here = sum(counts.values())
    scored = []
    for word, n in counts.items():
        prior = 0.05 * total[word]  # pseudo-counts: a twentieth of the corpus speaks for the word's ordinary rate
        rest = total[word] - n
        strength = 0.05 * everything
        odds = np.log((n + prior) / (here + strength - n - prior + 1)) - np.log(
            (rest + prior) / (everything - here + strength - rest - prior + 1)
        )
        scored.append((-odds / np.sqrt(1 / (n + prior) + 1 / (rest + prior)), word))
    return [word for _, word in sorted(scored)[:top]]

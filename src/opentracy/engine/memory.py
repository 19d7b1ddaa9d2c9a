"""How much memory there is, and how much of it the bodies of requests may take.

Belongs here: the limits that a machine, a control group or a resource limit sets. Not here: who counts (`http`).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

_SHARE = 16  # reading a body and sending it on takes several times its size
_LEAST = 32 << 20
_MOST = 1 << 30
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> int:
    """Bytes that this process may have at most: the smallest of the limits that are set."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found.append(soft)
    for name in _GROUPS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError):
            continue
        if text.isdecimal():
            found.append(int(text))
    return min(found)


def body_budget(limit: int, workers: int) -> int:
    """Bytes that large request bodies may take together in one of `workers` processes."""
    return max(_LEAST, min(limit // _SHARE, _MOST) // workers)

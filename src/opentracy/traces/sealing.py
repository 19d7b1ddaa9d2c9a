"""Sealing in a process of its own: `python -m opentracy.traces.sealing PATH MIN_ROWS`.

Belongs here: the pace, and ending with whoever began it. Not here: what a segment is (`segments`). Making one takes a
hundred megabytes for a moment and most of a second of the processor, and an engine that serves has neither to spare.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from . import segments
from .sqlite import Store


def main(arguments: Sequence[str]) -> int:
    """Makes segments as long as there are rows for one."""
    path, rows = arguments[0], int(arguments[1])
    parent = os.getppid()
    store = Store.open(path, create=False, check=False)
    with contextlib.closing(store.connect(timeout=5.0)) as connection:
        while os.getppid() == parent and segments.seal(store, connection, min_rows=rows):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

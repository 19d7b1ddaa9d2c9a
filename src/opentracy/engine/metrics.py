"""Counters of one worker, written where the sum over all workers can be read.

Belongs here: what is counted and under which labels. Label values are bounded: a model that no configuration names
counts as `other`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentracy.traces import TraceRecord

if TYPE_CHECKING:
    from .app import Engine


class Metrics:
    """What this worker counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def refused(self, status: int) -> None:
        """A request without the right to be answered."""

    def rejected(self, record: TraceRecord) -> None:
        """A request that was accepted but not served."""

    def observe(self, record: TraceRecord) -> None:
        """A call that was served, well or not."""

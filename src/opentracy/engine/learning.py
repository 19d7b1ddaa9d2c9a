"""What this worker's router learns while it serves: judgements from the trace store, a new artifact on the disk.

Belongs here: the rhythm, and carrying the state over restarts. Not here: what a judgement says (`judgements`), the
running sums (`opentracy.routing.learn`), replays and drift, which one worker does for all (`shadow`).

Every worker reads the same statements in the same order, so all of them come to the same estimates without talking to
each other; what was read up to some statement is kept in a file, so that a restart need not read all of them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from opentracy.traces.locks import FileLock

from .judgements import BATCH, Judgement, news, outcome
from .questions import OWN

if TYPE_CHECKING:
    from opentracy.routing import Router
    from opentracy.routing.learn import Live
    from opentracy.traces import Reader

    from .app import Engine
    from .state import Snapshot

log = logging.getLogger("opentracy.engine")
PAUSE_S = 2.0
STOP_S = 10.0  # that the end of an engine waits for a round
SAVE_S = 5.0


class Kept(msgspec.Struct, frozen=True):
    """The file: what was learned about one version of a router, up to and with one statement."""

    router: str
    metric: str
    last: int
    live: msgspec.Raw


class Learning:
    """The learning of one worker. Its rounds run off the event loop, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._base: Router | None = None  # as loaded, nothing learned
        self._live: Live | None = None
        self._version = self._metric = ""
        self._last = 0
        self._saved = (0.0, 0)
        store = engine.traces.store
        self._file = None if store is None else store.path.with_name("learned.json")
        self._lock = None if store is None else FileLock(store.path.with_name(f"{store.path.name}.learner"))

    # ---------------------------------------------------------------- life
    async def start(self) -> None:
        """Takes up what an earlier run had learned, before the first request, and begins its rounds."""
        try:
            await OWN.ask(partial(self._round, self._engine.state), begun=True)
        except Exception:
            log.exception("what the router had learned could not be taken up")
        self._task = self._engine.loop.create_task(self._run())

    async def stop(self) -> None:
        """Ends them; what was learned is kept."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(TimeoutError):  # a round that hangs must not keep the engine
            await asyncio.wait_for(OWN.ask(partial(self._save, True), begun=True), STOP_S)
        if self._lock is not None:
            self._lock.release()

    def nudge(self) -> None:
        """There is a new judgement: do not wait for the next round."""
        self._asked.set()

    @property
    def leads(self) -> bool:
        """Whether this worker does what one does for all."""
        return self._lock is not None and self._lock.held

    async def _run(self) -> None:
        while True:
            try:
                more = await OWN.ask(partial(self._round, self._engine.state), begun=True)
                if not more:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._asked.wait(), PAUSE_S)
                self._asked.clear()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the router could not learn and goes on as it is")
                await asyncio.sleep(PAUSE_S)

    # ---------------------------------------------------------------- a round
    def _round(self, snapshot: Snapshot) -> bool:
        """Takes in what is new; True when there is more."""
        if self._lock is not None and not self._lock.held:
            self._lock.acquire()
        changed = self._look_for_a_new_router(snapshot)
        if self._base is None:
            return False
        reader = self._engine.traces.reader
        found: list[Judgement] = []
        if reader is not None:
            found = news(reader, snapshot.config.auto.metric, self._last)
            for judgement in found:
                self._take(reader, judgement, snapshot)
                self._last = judgement.id
        if found or changed:
            self._put_in_force(snapshot)
            self._save(False)
        return len(found) == BATCH

    def _look_for_a_new_router(self, snapshot: Snapshot) -> bool:
        """What was promoted or rolled back on the disk is used from now on; True when it was."""
        from .supervisor import load_router

        base, problem = load_router(snapshot.config)
        metric = snapshot.config.auto.metric
        snapshot.router_problem = problem
        if base is None:
            self._base = None
            return False
        if base is self._base and self._metric == metric:
            # a reload has made a snapshot with a router that knows nothing yet
            return snapshot.router is base and self._live is not None and bool(self._live.arms)
        self._base, self._metric = base, metric
        if self._version != base.version or self._live is None:
            if self._version:
                log.warning("router %s is in use, before it was %s", base.version, self._version)
            self._version = base.version
            self._live, self._last = self._kept(base.version, metric)
        return True

    def _put_in_force(self, snapshot: Snapshot) -> None:
        if self._base is not None:
            snapshot.router = self.applied(self._base)

    def applied(self, base: Router) -> Router:
        """A router with what was learned about it."""
        return base if self._live is None or not self._live.arms else base.learned(self._live)

    def onto(self, fresh: Snapshot) -> None:
        """A new snapshot keeps what was learned."""
        if fresh.router is not None and fresh.router is self._base:
            fresh.router = self.applied(fresh.router)

    def _take(self, reader: Reader, judgement: Judgement, snapshot: Snapshot) -> None:
        assert self._base is not None
        assert self._live is not None
        if not 0 <= judgement.value <= 1:
            return
        record = reader.get(judgement.trace_id, bodies=False)
        if record is not None and not record.route_candidates:
            record = reader.get(judgement.trace_id)
        found = None if record is None else outcome(record, judgement.value, self._base, snapshot.candidates())
        if found is None:
            return
        if judgement.before is not None and 0 <= judgement.before <= 1:
            self._live.revise(found.cluster_id, found.model, judgement.value - judgement.before)
            return
        if self._live.add(found):
            cluster, model, direction = self._live.alarms[-1]
            log.warning(
                "quality of %s in cluster %d has %s: what was learned before is forgotten",
                model, cluster, "risen" if direction > 0 else "fallen",
            )  # fmt: skip

    # ---------------------------------------------------------------- the file
    def _kept(self, version: str, metric: str) -> tuple[Live, int]:
        from opentracy.routing.learn import Live

        if self._file is not None and self._file.exists():
            try:
                kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
                if (kept.router, kept.metric) == (version, metric):
                    return Live.decode(bytes(kept.live)), kept.last
            except (OSError, ValueError) as e:
                log.warning("%s cannot be used, the judgements are read again: %s", self._file.name, e)
        return Live(), 0

    def _save(self, now: bool) -> None:
        """Keeps the state; one worker does it for all, since all have the same."""
        clock = self._engine.loop.time()
        if self._file is None or self._live is None or not self.leads or self._saved[1] == self._last:
            return
        if not now and clock - self._saved[0] < SAVE_S:
            return
        self._saved = (clock, self._last)
        body = msgspec.json.encode(Kept(self._version, self._metric, self._last, msgspec.Raw(self._live.encode())))
        _replace(self._file, body)

    # ---------------------------------------------------------------- for people
    def shown(self, limit: int = 50) -> dict[str, Any]:
        """What was learned, the largest shifts first, and the alarms, the latest first."""
        live, base = self._live, self._base
        if live is None or base is None:
            return {"outcomes": 0, "last_feedback": self._last, "shifts": [], "alarms": []}
        labels = {c.id: c.label for c in base.artifact.manifest.clusters}
        shifts = [
            {"cluster_id": c, "cluster_label": labels.get(c), "model": m, "shift": round(live.shift(c, m), 4),
             "error_left": round(live.error(c, m, 1.0), 4), "outcomes": arm.total}
            for c, models in list(live.arms.items()) for m, arm in list(models.items())
        ]  # fmt: skip
        shifts.sort(key=lambda row: (-abs(float(str(row["shift"]))), str(row["model"]), str(row["cluster_id"])))
        alarms = [
            {"cluster_id": c, "cluster_label": labels.get(c), "model": m, "direction": "up" if d > 0 else "down"}
            for c, m, d in reversed(live.alarms[-limit:])
        ]
        total = sum(arm.total for models in list(live.arms.values()) for arm in list(models.values()))
        return {"outcomes": total, "last_feedback": self._last, "shifts": shifts[:limit], "alarms": alarms}


def _replace(path: Path, body: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(body)
    part.replace(path)

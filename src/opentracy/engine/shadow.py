"""What one worker does for all: replays on a second model, judged within a budget, and the watch for drift.

Belongs here: the rhythm, the money, and calling models through this engine. Not here: which traces are worth a replay,
the judge's prompt and its verdict (`opentracy.routing.shadow`), what a judgement changes (`learning`).

A replay is a request like any other: routed to its model, priced, traced, tagged `shadow`. Its judgement is feedback on
its trace, by the author `judge:<model>@<version of the prompt>`, so that everything that reads feedback reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from opentracy.traces import Reader, TraceRecord
from opentracy.traces import feedback as statements

from .auth import Identity
from .dashboard_calls import ask, message_of
from .judgements import prompt_and_system, spelled
from .questions import OWN

if TYPE_CHECKING:
    from opentracy.routing import Router
    from opentracy.routing.shadow import Candidate, Replay

    from .app import Engine
    from .config import ShadowConfig
    from .state import Snapshot

log = logging.getLogger("opentracy.engine")
TICK_S = 1.0
LOOKED_AT = 500  # routed requests per round
DRIFT_SAMPLE, DRIFT_MS = 2000, 86_400_000
JUDGE_TOKENS = 200  # of a verdict, for its expected cost
_WATCHER = Identity("shadow", frozenset({"inference"}))
_COPIED = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "response_format")
_FRESH = "SELECT seq FROM traces WHERE seq > ? AND cluster_id IS NOT NULL ORDER BY seq LIMIT ?"
_RECENT = "SELECT seq, cluster_id FROM traces WHERE cluster_id IS NOT NULL AND ts_ms >= ? ORDER BY ts_ms DESC LIMIT ?"


class State(msgspec.Struct):
    """The file: where the last round ended, what today has cost, and what was found."""

    day: str = ""
    spent: float = 0.0  # USD today
    seq: int | None = None  # the last routed request that was looked at; None = begin with what comes
    replays: int = 0
    judged: int = 0
    unreadable: int = 0  # verdicts without a score
    failed: int = 0
    problem: str | None = None
    drift: list[dict[str, Any]] = []
    drift_ms: int | None = None


class Shadow:
    """The duties of the worker that leads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        store = engine.traces.store
        self._file = None if store is None else store.path.with_name("shadow.json")
        self._due = {"replay": 0.0, "drift": 0.0}
        self._state: State | None = None

    def start(self) -> None:
        """Begins; does nothing without a trace store."""
        if self._file is not None:
            self._task = self._engine.loop.create_task(self._run())

    async def stop(self) -> None:
        """Ends; a replay that is under way is given up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def shown(self) -> dict[str, Any]:
        """What the leader wrote last, whichever worker is asked."""
        plain = msgspec.to_builtins(self._read())
        config = self._engine.state.config.shadow
        return {**plain, "share": config.share, "judge": config.judge, "budget": config.budget}

    # ---------------------------------------------------------------- rhythm
    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            snapshot = self._engine.state
            if not self._engine.learning.leads or snapshot.router is None:
                self._state = None  # another worker may lead, and write, in between
                continue
            auto, shadow = snapshot.config.auto, snapshot.config.shadow
            try:
                if shadow.judge is not None and shadow.share > 0 and self._is_due("replay", shadow.every):
                    await self._replay(snapshot, shadow)
                if self._is_due("drift", auto.drift_every):
                    await OWN.ask(partial(self._watch, snapshot), begun=True)
            except asyncio.CancelledError:
                raise
            except Exception as e:
                log.exception("shadow evaluation failed and goes on")
                self._note(f"{e.__class__.__name__}")

    def _is_due(self, what: str, every: float) -> bool:
        now = self._engine.loop.time()
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    # ---------------------------------------------------------------- replays
    async def _replay(self, snapshot: Snapshot, config: ShadowConfig) -> None:
        state = self._today()
        reader = self._engine.traces.reader
        assert reader is not None
        assert config.judge is not None
        price = self._judge_cost(snapshot, config.judge)
        if price is None:
            self._note(f"the price of the judge {config.judge} is unknown: a budget could not be kept")
            return
        await self._engine.traces.current()
        records = await OWN.ask(partial(self._fresh, reader, state), begun=True)
        from opentracy.routing import shadow

        found = {r.trace_id: r for r in records}
        candidates = [c for r in records if (c := _candidate(r)) is not None]
        left = max(config.budget - state.spent, 0.0)
        # half a replay's judging is for the answer that was given: both are judged, or neither would be comparable
        plan = shadow.plan(candidates, share=config.share, budget=left, judge_cost=2 * price)
        for replay in plan:
            if self._engine.state is not snapshot or state.spent + replay.cost > config.budget:
                break
            await self._one(replay, found[replay.trace_id], config.judge, price, state)
            await OWN.ask(partial(self._save, state), begun=True)
        await OWN.ask(partial(self._save, state), begun=True)

    def _fresh(self, reader: Reader, state: State) -> list[TraceRecord]:
        connection = reader.current()
        if state.seq is None:
            # what was answered before shadow evaluation was switched on is left alone
            state.seq = int(connection.execute("SELECT ifnull(max(seq), 0) FROM traces").fetchone()[0])
        seqs = [row[0] for row in connection.execute(_FRESH, (state.seq, LOOKED_AT)).fetchall()]
        if seqs:
            state.seq = seqs[-1]
        return [r for r in reader.load(seqs, bodies=True) if r is not None]

    def _judge_cost(self, snapshot: Snapshot, judge: str) -> float | None:
        """Expected USD of judging one answer; None where the price is unknown."""
        from .capabilities import candidate

        target = snapshot.resolve(judge).targets[0]
        known = candidate(f"{target.provider}/{target.model}")
        if known.input_price is None or known.output_price is None:
            return None
        return known.input_price * 1000 + known.output_price * JUDGE_TOKENS

    async def _one(self, replay: Replay, record: TraceRecord, judge: str, price: float, state: State) -> None:
        """One replay with both verdicts. What fails costs what it has cost, and says nothing about quality."""
        body = _repeated(record, replay.model)
        if body is None:
            return
        state.replays += 1
        status, answer = await ask(self._engine, _WATCHER, body, tags="shadow")
        state.spent += _cost(answer, replay.cost - 2 * price)
        if status != 200:
            state.failed += 1
            state.problem = f"{replay.model}: {message_of(answer)}"[:300]
            return
        request = _as_text(body["messages"])
        trace_id = (answer.get("_routing") or {}).get("trace_id")
        pairs = [(trace_id, _answer_text(answer)), (record.trace_id, _stored_answer(record))]
        for at, text in pairs:
            if isinstance(at, str) and text:
                await self._judge(at, request, text, judge, price, state)

    async def _judge(self, trace_id: str, request: str, text: str, judge: str, price: float, state: State) -> None:
        from opentracy.routing.shadow import JUDGE_VERSION, judge_prompt, verdict

        messages = [{"role": "user", "content": judge_prompt(request, text)}]
        status, answer = await ask(self._engine, _WATCHER, {"model": judge, "messages": messages}, tags="shadow-judge")
        state.spent += _cost(answer, price)
        if status != 200:
            state.failed += 1
            state.problem = f"judge {judge}: {message_of(answer)}"[:300]
            return
        value = verdict(_answer_text(answer))
        if value is None:
            state.unreadable += 1
            return
        metric = self._engine.state.config.auto.metric
        await self._engine.traces.current()
        author = f"judge:{judge}@{JUDGE_VERSION}"
        await OWN.ask(partial(self._state_verdict, trace_id, metric, value, author), begun=True)
        state.judged += 1
        state.problem = None
        self._engine.learning.nudge()

    def _state_verdict(self, trace_id: str, metric: str, value: float, author: str) -> None:
        store = self._engine.traces.store
        assert store is not None
        statements.add(
            store.reader(), trace_id, metric, value, author=author, now_ms=time.time_ns() // 1_000_000
        )

    # ---------------------------------------------------------------- drift
    def _watch(self, snapshot: Snapshot) -> None:
        """Compares the last day's routed prompts with those that the router was trained on."""
        reader, router = self._engine.traces.reader, snapshot.router
        assert reader is not None
        assert router is not None
        state, now = self._today(), time.time_ns() // 1_000_000
        before = {(a["cluster_id"], a["kind"]) for a in state.drift}
        state.drift, state.drift_ms = drifted(reader, router, now - DRIFT_MS), now
        for alarm in state.drift:
            if (alarm["cluster_id"], alarm["kind"]) not in before:
                log.warning(
                    "traffic has drifted: cluster %d %r, %s %.3f instead of %.3f",
                    alarm["cluster_id"], alarm["cluster_label"], alarm["kind"], alarm["observed"], alarm["expected"],
                )  # fmt: skip
        self._save(state)

    # ---------------------------------------------------------------- the file
    def _today(self) -> State:
        state = self._state = self._read() if self._state is None else self._state
        day = datetime.now(UTC).date().isoformat()
        if state.day != day:
            state.day, state.spent = day, 0.0
        return state

    def _read(self) -> State:
        if self._file is not None and self._file.exists():
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode(self._file.read_bytes(), type=State)
        return State()

    def _save(self, state: State) -> None:
        assert self._file is not None
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(state))
        part.replace(self._file)

    def _note(self, problem: str) -> None:
        state = self._today()
        state.problem = problem
        self._save(state)


def drifted(reader: Reader, router: Router, since_ms: int) -> list[dict[str, Any]]:
    """Alarms over the routed requests since then. The share of a cluster is compared with its part of the training
    prompts only where the router was trained on prompts like the user's, that is, on labels for models.
    """
    from opentracy.routing.learn import drift

    m = router.artifact.manifest
    rows = reader.current().execute(_RECENT, (since_ms, DRIFT_SAMPLE)).fetchall()
    traffic: dict[int, list[float]] = {}
    for record in reader.load([seq for seq, _ in rows], bodies=True):
        asked = None if record is None else prompt_and_system(record)
        if record is not None and record.cluster_id is not None and asked is not None:
            traffic.setdefault(record.cluster_id, []).append(router.estimate(asked[0]).novelty)
    sizes = {c.id: c.size for c in m.clusters}
    if not m.models:
        total = sum(map(len, traffic.values()))
        sizes = {c: max(len(v), 1) * 10 for c, v in traffic.items()} if total else {}
    labels = {c.id: c.label for c in m.clusters}
    return [
        {"cluster_id": a.cluster_id, "cluster_label": labels.get(a.cluster_id), "kind": a.kind,
         "observed": a.observed, "expected": a.expected, "z": a.z}
        for a in drift(sizes, traffic)
    ]  # fmt: skip


def _candidate(record: TraceRecord) -> Candidate | None:
    """A trace as something to replay; None for what cannot be judged by its text alone."""
    from opentracy.routing.policy import Score
    from opentracy.routing.shadow import Candidate

    asked = prompt_and_system(record)
    if record.outcome != "ok" or record.has_tools or asked is None or not record.route_candidates:
        return None
    scores = []
    for model, row in record.route_candidates.items():
        if isinstance(row, dict):
            scores.append(
                Score(model, row.get("quality"), row.get("quality_error"), row.get("cost"), row.get("utility"),
                      row.get("excluded"))
            )  # fmt: skip
    return Candidate(record.trace_id, asked[0], spelled(record, record.route_candidates), tuple(scores))


def _repeated(record: TraceRecord, model: str) -> dict[str, Any] | None:
    """The stored request, sent to another model."""
    if record.request is None:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        stored = msgspec.json.decode(record.request)
        if isinstance(stored, dict) and isinstance(stored.get("messages"), list):
            kept = {name: stored[name] for name in _COPIED if stored.get(name) is not None}
            return {"model": model, "messages": stored["messages"], **kept}
    return None


def _as_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation for the judge: a single question as it stands, otherwise every turn with its role."""
    from .route import text_of

    if len(messages) == 1:
        return text_of(messages[0].get("content"))
    return "\n\n".join(f"{m.get('role')}: {text_of(m.get('content'))}" for m in messages)


def _answer_text(answer: Mapping[str, Any]) -> str:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _stored_answer(record: TraceRecord) -> str:
    if record.response is None:
        return ""
    with contextlib.suppress(msgspec.MsgspecError):
        stored = msgspec.json.decode(record.response)
        if isinstance(stored, dict):
            return _answer_text(stored)
    return ""


def _cost(answer: Mapping[str, Any], expected: float) -> float:
    """USD of a call; what was expected where nobody knows."""
    cost = answer.get("_cost")
    return float(cost) if isinstance(cost, int | float) else max(expected, 0.0)

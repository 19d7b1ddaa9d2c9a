"""Shadow evaluation: what to replay on a second model, within a budget, and how to have it judged.

Belongs here: choosing traces and models, the judge's prompt and the reading of its verdict. Not here: calling models;
the caller passes a function. Off the request path by construction: nothing here is reached from Router.decide.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentracy.routing.policy import Score

JUDGE_VERSION = "1"
_JUDGE = """You grade an answer to a request. Judge only what was asked: is it correct, complete and usable as it
stands? Length, tone and self-praise are worth nothing. If the request has one right answer, a wrong answer is worth 0.

<request>
{request}
</request>
<answer>
{answer}
</answer>

First state in one sentence what a right answer must contain. Then give the last line exactly as: SCORE: n
where n is a whole number from 0 (useless or wrong) to 10 (nothing to improve)."""
_VERDICT = re.compile(r"SCORE:\s*\**\s*(\d{1,2})(?:\s*/\s*10)?\s*\**\s*$", re.IGNORECASE | re.MULTILINE)
_LIMIT = 12_000  # characters of request and answer that the judge sees


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace that could be replayed: what was asked, who answered, what the router thought of everybody."""

    trace_id: str
    prompt: str
    model: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """Call `model` with the trace's prompt. cost: expected USD, of the call alone."""

    trace_id: str
    prompt: str
    model: str
    cost: float
    gain: float  # expected information, for ordering only


@dataclass(frozen=True, slots=True)
class Label:
    """One judged replay."""

    trace_id: str
    prompt: str
    model: str
    value: float  # 0..1
    cost: float  # USD spent, judge included
    judge: str
    judge_version: str = JUDGE_VERSION


Call = Callable[[str, str], tuple[str, float]]  # (model, prompt) -> (answer text, USD)


def sampled(trace_id: str, share: float) -> bool:
    """Whether a trace is in the sample: the same answer on every machine and every day."""
    draw = int.from_bytes(hashlib.sha256(b"shadow:" + trace_id.encode()).digest()[:8], "big") / 2**64
    return draw < share


def _gain(best: Score, other: Score) -> float:
    """Expected information about who is better: uncertain and close pairs first."""
    if best.utility is None or other.utility is None or not other.quality_error:
        return 0.0
    error = math.hypot(other.quality_error, best.quality_error or 0.0)
    return error * math.exp(-0.5 * ((best.utility - other.utility) / error) ** 2)


def plan(traces: Sequence[Candidate], *, share: float, budget: float, judge_cost: float = 0.0) -> list[Replay]:
    """The replays worth most, whose expected costs (with the judge's) fit into `budget` USD.

    share: part of the traces that is looked at at all. A model whose cost is unknown is never replayed: a budget could
    not be kept. Raises ValueError for a share outside 0..1 or a negative budget.
    """
    if not 0 <= share <= 1 or not budget >= 0:
        raise ValueError(f"share {share} must lie between 0 and 1, and budget {budget} must not be negative")
    found = []
    for trace in traces:
        if not sampled(trace.trace_id, share):
            continue
        best = next((s for s in trace.scores if s.model == trace.model), None)
        if best is None:
            continue
        for other in trace.scores:
            gain = _gain(best, other)
            if other.model != trace.model and other.excluded is None and other.cost is not None and gain > 0:
                found.append(Replay(trace.trace_id, trace.prompt, other.model, other.cost + judge_cost, gain))
    chosen, spent, used = [], 0.0, set[str]()
    for replay in sorted(found, key=lambda r: (-r.gain, r.cost, r.trace_id, r.model)):
        if replay.trace_id not in used and spent + replay.cost <= budget:
            chosen.append(replay)
            spent += replay.cost
            used.add(replay.trace_id)
    return chosen


def judge_prompt(request: str, answer: str) -> str:
    """What the judge is asked, version JUDGE_VERSION."""
    return _JUDGE.format(request=request[:_LIMIT], answer=answer[:_LIMIT])


def verdict(text: str) -> float | None:
    """The judge's score as 0..1; None when it gave none. The last line counts, so an answer cannot grade itself."""
    found = _VERDICT.findall(text)
    if not found or int(found[-1]) > 10:
        return None
    return int(found[-1]) / 10


def run(replays: Sequence[Replay], call: Call, judge: str, *, budget: float) -> list[Label]:
    """Replay and judge until the money actually spent reaches `budget`. A verdict that cannot be read gives no label.

    call: (model, prompt) -> (answer, USD); what it raises ends the run and is the caller's to handle.
    """
    out, spent = [], 0.0
    for replay in replays:
        if spent + replay.cost > budget:
            break
        answer, cost = call(replay.model, replay.prompt)
        opinion, judge_cost = call(judge, judge_prompt(replay.prompt, answer))
        spent += cost + judge_cost
        value = verdict(opinion)
        if value is not None:
            out.append(Label(replay.trace_id, replay.prompt, replay.model, value, cost + judge_cost, judge))
    return out

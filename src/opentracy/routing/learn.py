"""What judged outcomes change about the estimates, as they come in.

Belongs here: the running state per cluster and model, exploration, drift alarms. Values in, values out: time,
randomness and storage belong to the caller. Not here: retraining and promoting (promote.py), replaying traces
(shadow.py).

An outcome moves the estimate of its model in its cluster by (value - what was expected), shrunk by pseudo-counts that
stand for the offline labels. Greedy choice on such estimates was better in simulation than Thompson sampling over
clusters x models: most arms never deserve a visit. No outcome is not a bad outcome, and provider errors are not
outcomes at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from opentracy.routing.policy import Score

PSEUDO_COUNT = 12.0
HALF_LIFE = 1000.0  # outcomes of one cluster after which an old one counts half
_WEIGHT_CAP = 10.0  # of one outcome: an importance weight must not become a vote of its own
_ALARM = 14.0  # Page-Hinkley threshold in standard deviations: one false alarm in some 10,000 outcomes of an arm
_SLACK = 0.25  # drift per outcome that is tolerated, in standard deviations
_OVERLAP = 1.2816  # half-width of an 80 % interval in standard errors
EXPLORE_AT_MOST = 0.02


class Arm(msgspec.Struct):
    """Running sums of one model in one cluster."""

    weight: float = 0.0
    surprise: float = 0.0  # sum of weight * (value - expected)
    seen: int = 0  # outcomes since the last alarm
    total: int = 0  # outcomes ever
    high: float = 0.0  # Page-Hinkley sums, upward and downward
    low: float = 0.0
    rise: tuple[float, float] = (0.0, 0.0)  # weight and surprise since `high` was last 0
    fall: tuple[float, float] = (0.0, 0.0)  # the same for `low`


class _Stored(msgspec.Struct):
    version: int
    half_life: float
    arms: dict[str, dict[str, Arm]]  # cluster id (as text, JSON has no other keys) -> model -> sums
    alarms: list[tuple[int, str, float]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged answer. value 0..1; expected: the estimate when the choice was made; propensity: its chance then."""

    cluster_id: int
    model: str
    value: float
    expected: float
    propensity: float = 1.0


@dataclass(slots=True)
class Live:
    """Shifts learned since the artifact was trained. One writer; `shift` may be read by others between updates."""

    half_life: float = HALF_LIFE
    arms: dict[int, dict[str, Arm]] = field(default_factory=dict)
    alarms: list[tuple[int, str, float]] = field(default_factory=list)  # cluster, model, direction of the jump

    def add(self, outcome: Outcome) -> bool:
        """Take one outcome in. True when it set off an alarm: what was learned before the jump is forgotten.

        Raises ValueError for values outside 0..1 or a propensity outside (0, 1].
        """
        if not (0 <= outcome.value <= 1 and 0 <= outcome.expected <= 1):
            raise ValueError(f"value {outcome.value} and expected {outcome.expected} must lie between 0 and 1")
        if not 0 < outcome.propensity <= 1:
            raise ValueError(f"propensity {outcome.propensity} must lie in (0, 1]")
        cluster = self.arms.setdefault(outcome.cluster_id, {})
        keep = 0.5 ** (1 / self.half_life)
        for arm in cluster.values():
            arm.weight *= keep
            arm.surprise *= keep
        arm = cluster.setdefault(outcome.model, Arm())
        current = min(max(outcome.expected + self.shift(outcome.cluster_id, outcome.model), 0.02), 0.98)
        weight = min(1 / outcome.propensity, _WEIGHT_CAP)
        arm.weight += weight
        arm.surprise += weight * (outcome.value - outcome.expected)
        arm.seen += 1
        arm.total += 1
        arm.rise = (arm.rise[0] + weight, arm.rise[1] + weight * (outcome.value - outcome.expected))
        arm.fall = (arm.fall[0] + weight, arm.fall[1] + weight * (outcome.value - outcome.expected))
        return self._watch(outcome, arm, (outcome.value - current) / math.sqrt(current * (1 - current)))

    def _watch(self, outcome: Outcome, arm: Arm, step: float) -> bool:
        arm.high = max(0.0, arm.high + step - _SLACK)
        arm.low = max(0.0, arm.low - step - _SLACK)
        if arm.high == 0.0:
            arm.rise = (0.0, 0.0)
        if arm.low == 0.0:
            arm.fall = (0.0, 0.0)
        if max(arm.high, arm.low) < _ALARM or arm.seen < 8:
            return False
        direction = 1.0 if arm.high > arm.low else -1.0
        self.alarms.append((outcome.cluster_id, outcome.model, direction))
        weight, surprise = arm.rise if direction > 0 else arm.fall
        # a jump: what came before it is forgotten, unless it said the same and more
        if direction * surprise / (weight + PSEUDO_COUNT) > direction * arm.surprise / (arm.weight + PSEUDO_COUNT):
            arm.weight, arm.surprise = weight, surprise
        arm.seen, arm.high, arm.low, arm.rise, arm.fall = 0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0)
        return True

    def revise(self, cluster_id: int, model: str, by: float) -> None:
        """An author changed a judgement by this much: no further outcome, but the sum follows."""
        arm = self.arms.get(cluster_id, {}).get(model)
        if arm is not None:
            room = arm.weight if arm.weight > 0 else 0.0
            arm.surprise = min(max(arm.surprise + by, -room), room)

    def shift(self, cluster_id: int, model: str) -> float:
        """What to add to the estimate of `model` in this cluster."""
        arm = self.arms.get(cluster_id, {}).get(model)
        return 0.0 if arm is None else arm.surprise / (arm.weight + PSEUDO_COUNT)

    def snapshot(self) -> dict[int, dict[str, tuple[float, float]]]:
        """As it is now: cluster -> model -> (shift, share of the offline error that is left)."""
        return {c: {m: (self.shift(c, m), self.error(c, m, 1.0)) for m in models} for c, models in self.arms.items()}

    def error(self, cluster_id: int, model: str, offline: float) -> float:
        """Standard error of the shifted estimate, given the offline one's."""
        arm = self.arms.get(cluster_id, {}).get(model)
        return offline if arm is None else offline * math.sqrt(PSEUDO_COUNT / (PSEUDO_COUNT + arm.weight))

    def encode(self) -> bytes:
        """JSON, for a restart."""
        return msgspec.json.encode(_Stored(1, self.half_life, {str(c): a for c, a in self.arms.items()}, self.alarms))

    @classmethod
    def decode(cls, raw: bytes) -> Live:
        """Raises ValueError for anything that `encode` did not write."""
        try:
            stored = msgspec.json.decode(raw, type=_Stored)
            arms = {int(c): a for c, a in stored.arms.items()}
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"not a learning state: {error}") from None
        for arm in (arm for models in arms.values() for arm in models.values()):
            if not all(math.isfinite(v) for v in (arm.weight, arm.surprise, arm.high, arm.low)) or arm.weight < 0:
                raise ValueError("not a learning state: a sum is not a finite number")
        return cls(stored.half_life, arms, stored.alarms)


def explore(scores: Sequence[Score], chosen: str, draw: float, share: float = EXPLORE_AT_MOST) -> tuple[str, float]:
    """(model to call, its propensity): now and then a rival whose 80 % interval overlaps the choice's.

    draw: uniform in 0..1 from the caller. share above 2 % is cut to 2 %: a user's request is not an experiment.
    """
    share = min(max(share, 0.0), EXPLORE_AT_MOST)
    home = next(s for s in scores if s.model == chosen)
    if home.utility is None or home.quality_error is None:
        return chosen, 1.0
    floor = home.utility - _OVERLAP * home.quality_error
    rivals = sorted(
        s.model
        for s in scores
        if s.model != chosen
        and s.excluded is None
        and s.utility is not None
        and s.quality_error is not None
        and s.utility + _OVERLAP * s.quality_error > floor
    )
    if not rivals or share == 0.0:
        return chosen, 1.0
    if draw >= share:
        return chosen, 1.0 - share
    return rivals[min(int(draw / share * len(rivals)), len(rivals) - 1)], share / len(rivals)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One cluster whose traffic is no longer what the router was trained for."""

    cluster_id: int
    kind: str  # share: gets more or less traffic than expected; novelty: its prompts look unlike the training prompts
    observed: float
    expected: float
    z: float


def drift(
    sizes: Mapping[int, int],
    traffic: Mapping[int, Sequence[float]],
    *,
    novel_above: float = 0.9,
    z: float = 4.0,
    at_least: int = 50,
) -> list[Alarm]:
    """Clusters that drifted. sizes: training prompts per cluster; traffic: novelty of every recent prompt per cluster.

    A share alarm compares the cluster's part of the recent prompts with its part of the training prompts, a novelty
    alarm the part of novel prompts in it with the part that calibration leads to expect; both with a binomial z.
    """
    total, trained = sum(len(v) for v in traffic.values()), sum(sizes.values())
    if total < at_least or not trained:
        return []
    out = []
    for cluster_id in sorted(set(sizes) | set(traffic)):
        seen = traffic.get(cluster_id, ())
        expected = (sizes.get(cluster_id, 0) + 1) / (trained + max(len(sizes), 1))
        observed = len(seen) / total
        score = (observed - expected) / math.sqrt(
            expected * (1 - expected) / total + expected * (1 - expected) / trained
        )
        if abs(score) > z and abs(observed - expected) > 0.02:
            out.append(Alarm(cluster_id, "share", round(observed, 4), round(expected, 4), round(score, 2)))
        if len(seen) >= at_least:
            part, usual = sum(v > novel_above for v in seen) / len(seen), 1 - novel_above
            score = (part - usual) / math.sqrt(usual * (1 - usual) / len(seen))
            if score > z:
                out.append(Alarm(cluster_id, "novelty", round(part, 4), round(usual, 4), round(score, 2)))
    return out

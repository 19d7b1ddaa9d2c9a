"""Quality of a model that has no labels: a published ability, bent by how hard the prompt is and what it is about.

Belongs here: the arithmetic of the day-one prior and the file of published figures. Not here: estimating difficulty and
domains of a prompt (they are heads of an artifact, estimate.py). Price never enters: as a stand-in for ability it is
worse than knowing nothing.

The model is one-parameter item response: q = sigmoid(a - d), d the prompt's difficulty, a set so that the mean over
reference prompts equals the published figure; with domains, the sum over domains of p(domain | prompt) times the same
per domain. Domain figures are shrunk to the overall figure, the more the less certain they are. A domain that a model
has no figure for is as far from its overall figure as it is for the other candidates: domains are easy or hard for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

DOMAINS = ("math", "code", "knowledge", "commonsense", "reasoning")
_SIGNAL_SPREAD = 0.06  # standard deviation of true domain deviations around a model's overall figure
_EDGE = 0.02
_LEAST_GAIN = 0.05  # logits: a strong model is never taken for a weaker one


class Figure(msgspec.Struct, frozen=True):
    """One published number: share correct 0..1, its standard error, where and when it was published."""

    value: float
    se: float = 0.05
    source: str = ""
    date: str = ""
    checked: str | None = None  # when it was compared with its source; None = not yet, and `se` is wide


class Ability(msgspec.Struct, frozen=True):
    """What is known about a model without a single label of ours."""

    overall: Figure
    domains: dict[str, Figure] = {}
    output_tokens: float | None = None  # mean answer length, where measured
    cost: float | None = None  # USD per call, when the user states it (predict --abilities)
    offered: bool = True  # to everybody: no retired model, no special purpose, no price that is many times the others'


class UserAbility(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a user's abilities file: {"ability": .8, "domains": {"math": .9}, "cost": .001}."""

    ability: float
    domains: dict[str, float] = {}
    cost: float | None = None
    se: float = 0.03


class _Row(msgspec.Struct, frozen=True):
    models: list[str]
    overall: Figure
    domains: dict[str, Figure] = {}
    output_tokens: float | None = None
    offered: bool = True


class _Table(msgspec.Struct, frozen=True):
    rows: list[_Row]


def bare_name(model: str) -> str:
    """`provider/vendor/Model-Name` -> `model-name`: the part that names the weights, in lower case."""
    return model.rsplit("/", 1)[-1].lower()


_PLACE = re.compile(r"(?:global|regional|us-gov|[a-z]{2}|apac)\.(?=[a-z]+\.)")
_VENDOR = re.compile(r"[a-z]+\.(?=[a-z])")
_VERSION = re.compile(r"-(?:v\d+|(?:v?\d+:\d+))$")  # Bedrock's
_POINT = re.compile(r"(?<=\d)[p.](?=\d)")  # 4.6, 4p6 and 4-6 are all in use for one version
_RELEASE = re.compile(
    r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-\d\d-20\d\d)?"  # 20250514, 2025-08-07, 08-2024
    r"(?::[a-z]+)?$"  # a marketplace's variant
)


def plain_name(model: str) -> str:
    """What weights are called apart from where they are served and when they came out.

    `us.anthropic.claude-haiku-4-5-20251001-v1:0` and `claude-haiku-4-5@20251001` -> `claude-haiku-4-5`.
    """
    bare = bare_name(model)
    place = _PLACE.match(bare)
    bare = bare[place.end() :] if place else bare
    vendor = _VENDOR.match(bare)
    if vendor:
        bare = _VERSION.sub("", bare[vendor.end() :])
    return _POINT.sub("-", _RELEASE.sub("", bare, count=1))


class Abilities:
    """Lookup of published figures by model name. Immutable."""

    def __init__(self, rows: Mapping[str, Ability]) -> None:
        self._spelled = tuple(rows)  # some providers tell small letters from capitals
        self._rows = {k.lower(): v for k, v in rows.items()}
        self._plain: dict[str, Ability] = {}
        for name, row in self._rows.items():
            self._plain.setdefault(plain_name(name), row)

    def find(self, model: str) -> Ability | None:
        """By full name, by the bare name, then by what is left of it without place and date of release; None = no
        figures, so never chosen by score.
        """
        return self._rows.get(model.lower()) or self._rows.get(bare_name(model)) or self._plain.get(plain_name(model))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spelled)

    def overridden(self, rows: Mapping[str, Ability]) -> Abilities:
        """These figures with some replaced or added."""
        known = {name.lower() for name in rows}
        kept = {name: self._rows[name.lower()] for name in self._spelled if name.lower() not in known}
        return Abilities({**kept, **rows})

    @classmethod
    def parse(cls, raw: bytes) -> Abilities:
        """The shipped table (data/abilities.json). The names of a row share one object."""
        table = msgspec.json.decode(raw, type=_Table)
        rows = [(r.models, Ability(r.overall, r.domains, r.output_tokens, None, r.offered)) for r in table.rows]
        return cls({name: ability for models, ability in rows for name in models})

    @classmethod
    def parse_user(cls, raw: bytes, name: str = "abilities") -> Abilities:
        """A user's file: {model: {"ability", "domains", "cost", "se"}}. Raises ValueError naming model and field."""
        try:
            rows = msgspec.json.decode(raw, type=dict[str, UserAbility])
        except msgspec.MsgspecError as error:
            raise ValueError(f"{name}: {error}; expected {{model: {{ability, domains?, cost?, se?}}}}") from None
        out = {}
        for model, row in rows.items():
            for what, value in (("ability", row.ability), *row.domains.items()):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name}: {model}: {what} is {value}, expected a share between 0 and 1")
            unknown = set(row.domains) - set(DOMAINS)
            if unknown:
                raise ValueError(f"{name}: {model}: unknown domain {min(unknown)!r}; known: {', '.join(DOMAINS)}")
            domains = {d: Figure(v, row.se) for d, v in row.domains.items()}
            out[model] = Ability(Figure(row.ability, row.se), domains, None, row.cost)
        return cls(out)


@lru_cache(maxsize=1)
def published() -> Abilities:
    """The figures shipped in the package."""
    return Abilities.parse((Path(__file__).with_name("data") / "abilities.json").read_bytes())


def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def logit(p: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)), p kept off 0 and 1."""
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))


def difficulty_of(share: float) -> float:
    """-logit of one share, kept off 0 and 1."""
    if share < _EDGE:
        share = _EDGE
    elif share > 1 - _EDGE:
        share = 1 - _EDGE
    return math.log((1 - share) / share)


@dataclass(frozen=True, slots=True)
class Bend:
    """How far the estimates of a text are trusted. 1, 0 = one-parameter item response as it stands."""

    stretch: float  # of difficulty around the middle: estimates are too near it
    gain: float  # 0..1: how much of the difference between strong and weak models per text is believed


def bent_gain(gap: float, mean: float, trust: float) -> float:
    """Gain per step of ability, 1 on average. gap: logits between a strong and a weak model; mean: the usual gap."""
    return max(mean + trust * (gap - mean), _LEAST_GAIN) / mean


def bent_reference(
    reference: Mapping[str, Sequence[float]], domain: str, bend: Bend, pivot: float = 0.0
) -> tuple[list[float], list[float] | None]:
    """(difficulties, gains) of a domain's reference prompts; all prompts where the domain has none of its own.

    pivot: ability, in logits, around which gain spreads: a model of that ability is the same with every gain.
    """
    name = domain if domain in reference else "all"
    difficulties = [bend.stretch * v for v in reference[name]]
    gaps, everywhere = reference.get(name + ":gain"), reference.get("all:gain")
    if not bend.gain or not gaps or not everywhere:
        return difficulties, None
    mean = sum(everywhere) / len(everywhere)
    gains = [bent_gain(gap, mean, bend.gain) for gap in gaps]
    return [d + pivot * (gain - 1.0) for d, gain in zip(difficulties, gains, strict=True)], gains


def solve_abilities(
    targets: Sequence[float], difficulties: Sequence[float], gains: Sequence[float] | None = None
) -> npt.NDArray[np.float64]:
    """Per target the a with mean(sigmoid(gain * a - d)) over the reference prompts equal to it.

    gains: 1 where not given. All at once by bisection, because a new set of candidates is solved while a request waits.
    """
    d = np.asarray(difficulties, dtype=np.float64)
    g = np.ones(len(d)) if gains is None else np.asarray(gains, dtype=np.float64)
    wanted = np.clip(np.asarray(targets, dtype=np.float64), _EDGE, 1 - _EDGE)
    low, high = np.full(len(wanted), -12.0), np.full(len(wanted), 12.0)
    for _ in range(40):
        middle = (low + high) / 2
        below = sigmoid(np.multiply.outer(middle, g) - d).mean(1) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def shrunk_domains(ability: Ability) -> dict[str, float]:
    """Domain figures pulled to the overall figure by signal variance / (signal + error variance); those there are."""
    out = {}
    for domain, figure in ability.domains.items():
        rho = _SIGNAL_SPREAD**2 / (_SIGNAL_SPREAD**2 + figure.se**2)
        out[domain] = ability.overall.value + rho * (figure.value - ability.overall.value)
    return out


def domain_figures(abilities: Sequence[Ability]) -> npt.NDArray[np.float64]:
    """(models, domains) of models that are compared with one another.

    A missing figure is the overall figure, moved like the domain's known figures are moved from theirs: as one of them
    more that says nothing has moved.
    """
    if not abilities:
        return np.zeros((0, len(DOMAINS)))
    overall = np.array([a.overall.value for a in abilities])[:, None]
    known = [shrunk_domains(a) for a in abilities]
    moved = np.array([[row.get(d, math.nan) for d in DOMAINS] for row in known]) - overall
    there = ~np.isnan(moved)
    usual = np.where(there, moved, 0.0).sum(0) / (there.sum(0) + 1)
    return np.asarray(np.clip(overall + np.where(there, moved, usual), 0.0, 1.0))

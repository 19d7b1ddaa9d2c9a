"""A router: names for groups of deployments, an order of trying them by strategy, and rest for those that fail.

The calls themselves are those of `client`: same plan, same errors, same answers. Learned routing by prompt is the
engine's business (`model="auto"`), not this file's.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, overload

from . import _calls
from ._arguments import Place, check_model, check_retries, check_text, check_timeout
from ._health import Health
from ._job import Job, resolve
from .core.pricing import expected_cost
from .core.wire import Call, Target
from .streams import AsyncStream, Stream
from .types import EmbeddingResponse, ModelResponse

Strategy = Literal["round-robin", "least-cost", "lowest-latency", "weighted"]
_FIELDS = frozenset({"model_name", "model", "api_key", "api_base", "weight"})
_OUTPUT_GUESS = 256  # tokens, where the caller set no cap: only the order of prices matters


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one place, member of the group `model_name`. `weight`: its share under "weighted"."""

    model_name: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None
    weight: float = 1.0


class Router:
    """Spreads calls over deployments and takes those out that fail.

    `deployments`: dicts with `model_name` (the group), `model`, and perhaps `api_key`, `api_base`, `weight`; or a
    mapping from group to model strings or such dicts. `strategy` orders the members of a group for each call:
    "round-robin", "least-cost" (by the price table), "lowest-latency" (measured), "weighted" (at random). The others
    follow as fallbacks, then those of `fallbacks` ({group: [group or model string, ...]}). After `allowed_failures`
    failures in a row a deployment rests for `cooldown` seconds, after a rate limit for as long as the provider asks.

    ValueError for a strategy or field that does not exist, naming the ones that do.
    """

    def __init__(
        self,
        deployments: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]],
        *,
        strategy: Strategy = "round-robin",
        fallbacks: Mapping[str, Sequence[str]] | Sequence[Mapping[str, Sequence[str]]] | None = None,
        num_retries: int = 0,
        timeout: float = 120.0,
        allowed_failures: int = 3,
        cooldown: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        if strategy not in get_args(Strategy):
            raise ValueError(f"unknown strategy {strategy!r}; there are {', '.join(get_args(Strategy))}")
        check_timeout(timeout)
        self._groups = _groups(deployments)
        self._fallbacks = _fallbacks(fallbacks, self._groups)
        self._strategy = strategy
        self._num_retries = check_retries(num_retries)
        self._timeout = timeout
        self._health = Health(allowed_failures, cooldown, clock)
        self._uniform = uniform
        self._turns = {name: itertools.count() for name in self._groups}
        self._lock = threading.Lock()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(self._groups)

    @overload
    def completion(
        self, model: str, messages: list[dict[str, Any]], *, stream: Literal[False] = False, **kwargs: Any
    ) -> ModelResponse: ...
    @overload
    def completion(
        self, model: str, messages: list[dict[str, Any]], *, stream: Literal[True], **kwargs: Any
    ) -> Stream: ...
    def completion(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        stream: bool = False,
        timeout: float | None = None,
        num_retries: int | None = None,
        **kwargs: Any,
    ) -> ModelResponse | Stream:
        """As `opentracy.completion`; `model` is a group of this router, or any model string."""
        return _calls.run(self._chat(model, messages, stream, timeout, num_retries, kwargs), self._health)

    @overload
    async def acompletion(
        self, model: str, messages: list[dict[str, Any]], *, stream: Literal[False] = False, **kwargs: Any
    ) -> ModelResponse: ...
    @overload
    async def acompletion(
        self, model: str, messages: list[dict[str, Any]], *, stream: Literal[True], **kwargs: Any
    ) -> AsyncStream: ...
    async def acompletion(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        stream: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - per attempt, as in the contract
        num_retries: int | None = None,
        **kwargs: Any,
    ) -> ModelResponse | AsyncStream:
        """As `opentracy.acompletion`; `model` is a group of this router, or any model string."""
        await self._prepare(model)
        return await _calls.arun(self._chat(model, messages, stream, timeout, num_retries, kwargs), self._health)

    def embedding(self, model: str, input: str | list[str], **kwargs: Any) -> EmbeddingResponse:
        """As `opentracy.embedding`."""
        return _calls.run_embedding(self._vectors(model, input, kwargs), self._health)

    async def aembedding(self, model: str, input: str | list[str], **kwargs: Any) -> EmbeddingResponse:
        """As `opentracy.aembedding`."""
        await self._prepare(model)
        return await _calls.arun_embedding(self._vectors(model, input, kwargs), self._health)

    async def _prepare(self, model: str) -> None:
        """Before an asynchronous call: a cloud's credentials are fetched off the loop, for every member."""
        for name in (model, *self._fallbacks.get(model, ())):
            for member in self._groups.get(name, (Deployment(name, name),)):
                await _calls.prepare(Place(member.model, member.api_key, member.api_base))

    def _chat(
        self, model: str, messages: Any, stream: bool, timeout: Any, num_retries: Any, kwargs: dict[str, Any]
    ) -> Job:
        timeout, num_retries = self._defaults(timeout, num_retries)
        _refuse_places(kwargs)
        return _calls.chat(Place(model), messages, kwargs, stream, timeout, num_retries, self.targets)

    def _vectors(self, model: str, input: Any, kwargs: dict[str, Any]) -> Job:
        timeout, num_retries = self._defaults(kwargs.pop("timeout", None), kwargs.pop("num_retries", None))
        _refuse_places(kwargs)
        return _calls.vectors(Place(model), input, kwargs, timeout, num_retries, self.targets)

    def _defaults(self, timeout: Any, num_retries: Any) -> tuple[Any, Any]:
        return self._timeout if timeout is None else timeout, self._num_retries if num_retries is None else num_retries

    def targets(self, place: Place, call: Call) -> list[Target]:
        """Where a call would go now, in order: those resting come last, since they are better than nothing."""
        targets: list[Target] = []
        for name in (place.model, *self._fallbacks.get(place.model, ())):
            members = self._members(name)
            found = [t for t in members if t.deployment not in {seen.deployment for seen in targets}]
            targets += self._ordered(name, found, members, call)
        return sorted(targets, key=lambda t: self._health.resting(t) > 0)

    def _members(self, name: str) -> list[Target]:
        group = self._groups.get(name)
        if group is None:
            return [replace(resolve(Place(name))[0], deployment=name)]
        out = []
        for i, d in enumerate(group):
            target = resolve(Place(d.model, d.api_key, d.api_base, ()))[0]
            out.append(replace(target, deployment=f"{name}[{i}] {d.model}"))
        return out

    def _ordered(self, name: str, found: list[Target], members: list[Target], call: Call) -> list[Target]:
        if len(found) < 2:
            return found
        with self._lock:
            turn = next(self._turns[name]) % len(members)
        turned = [t for t in members[turn:] + members[:turn] if t in found]
        if self._strategy == "least-cost":
            return sorted(turned, key=lambda t: _expected(t, call))
        if self._strategy == "lowest-latency":
            return sorted(turned, key=lambda t: self._health.latency(t) or 0.0)  # the unmeasured are tried first
        if self._strategy == "weighted":
            weights = {t.deployment: d.weight for t, d in zip(members, self._groups[name], strict=True)}
            # the i-th largest of u^(1/w) is a draw without replacement by weight (Efraimidis and Spirakis 2006)
            return sorted(found, key=lambda t: -(max(self._uniform(), 1e-12) ** (1 / weights[t.deployment])))
        return turned


def _refuse_places(kwargs: Mapping[str, Any]) -> None:
    for name in ("api_key", "api_base", "fallbacks", "force_engine", "force_direct"):
        if kwargs.get(name):
            raise ValueError(f"{name} belongs to the router's deployments, not to a single call")


def _expected(target: Target, call: Call) -> float:
    prompt = sum(len(str(m.get("content") or "")) for m in call.messages) / 4
    cap = call.params.get("max_completion_tokens") or call.params.get("max_tokens") or _OUTPUT_GUESS
    cost = expected_cost(target.provider, target.model, prompt, cap)
    return float("inf") if cost is None else cost


def _groups(given: Any) -> dict[str, list[Deployment]]:
    if isinstance(given, Mapping):
        pairs = [(name, member) for name, members in given.items() for member in members]
        given = [{"model_name": n, **({"model": m} if isinstance(m, str) else m)} for n, m in pairs]
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ValueError("deployments must be a non-empty list of dicts, or a mapping from group to models")
    groups: dict[str, list[Deployment]] = {}
    for i, item in enumerate(given):
        deployment = _deployment(item, f"deployments[{i}]")
        groups.setdefault(deployment.model_name, []).append(deployment)
    return groups


def _deployment(item: Any, where: str) -> Deployment:
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} must be a dict with 'model_name' and 'model', got {type(item).__name__}")
    unknown = sorted(set(map(str, item)) - _FIELDS)
    if unknown:
        raise ValueError(f"{where} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")
    weight = item.get("weight", 1.0)
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 < weight < float("inf"):
        raise ValueError(f"{where}['weight'] must be a positive number, got {weight!r}")
    model = check_model(item.get("model"), f"{where}['model']")
    return Deployment(
        check_model(item.get("model_name", model), f"{where}['model_name']"),
        model,
        check_text(item.get("api_key"), "api_key"),
        check_text(item.get("api_base"), "api_base"),
        float(weight),
    )


def _fallbacks(given: Any, groups: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    merged: dict[str, tuple[str, ...]] = {}
    for part in (given,) if isinstance(given, Mapping) else given or ():
        for name, models in part.items():
            if name not in groups:
                raise ValueError(f"fallbacks: there is no group {name!r}; there are {', '.join(groups)}")
            merged[name] = tuple(check_model(m, f"fallbacks[{name!r}]") for m in models)
    return merged

"""One call of the SDK between the caller's arguments and the caller's result: checked, resolved, priced, described.

Shared by the blocking and the asyncio functions, the streams and the router. Where a model string leads is decided here
(CONTRACT: engine or provider, whose key); how bytes travel is the transport's business.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._arguments import Place
from .core.plan import Completed, Guard, PlanFailed, Policy, Run, run
from .core.wire import Attempt, Call, Credentials, Failure, Target, split_url
from .errors import class_name, error_from
from .providers import registry

if TYPE_CHECKING:
    from .errors import APIError  # at run time this would import the openai package

ENGINE = "opentracy"
ENGINE_URL = "http://localhost:8080"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password", re.I)
_warned: set[tuple[str, str]] = set()


def _uniform() -> float:
    import random  # only backoff needs it, and importing it costs as much as half of ours

    return random.random()


@dataclass(slots=True)
class Job:
    """A resolved call: what to send where, and what the caller will want to know afterwards."""

    call: Call
    targets: list[Target]
    policy: Policy
    requested: str
    started: float
    http_client: Any = None  # the caller's own, in place of our transport

    def run(self, guard: Guard | None = None) -> Run:
        """The plan, ready for a driver."""
        return run(
            self.call, self.targets, self.policy, clock=time.monotonic, wall=time.time, uniform=_uniform, guard=guard
        )

    def answer(self, done: Completed) -> dict[str, Any]:
        """The answer with its extras."""
        response: dict[str, Any] = done.response
        response.update(self.extras(done.target, done.attempts, response))
        return response

    def extras(self, target: Target, attempts: Sequence[Attempt], response: Mapping[str, Any]) -> dict[str, Any]:
        """`_provider`, `_cost`, `_latency_ms`, `_routing`; what the engine said of itself is kept."""
        dropped = attempts[-1].dropped
        if dropped:
            warn_dropped(target, dropped)
        latency = (time.monotonic() - self.started) * 1e3
        said = response.get("_routing")
        if target.provider == ENGINE and isinstance(said, dict):
            kept = {k: response[k] for k in ("_provider", "_cost") if k in response}
            return {"_provider": None, "_cost": None, **kept, "_latency_ms": latency, "_routing": said}
        routing: dict[str, Any] = {
            "requested_model": self.requested,
            "selected_model": target.model,
            "provider": target.provider,
            "attempts": sum([a.sent for a in attempts]),
        }
        if dropped:
            routing["dropped_params"] = list(dropped)
        cost = cost_in_usd(target, response, self.call.created)
        return {"_provider": target.provider, "_cost": cost, "_latency_ms": latency, "_routing": routing}

    def error(self, failed: PlanFailed) -> APIError:
        """The last target's failure as an exception, the earlier ones in its notes."""
        target, failure = failed.failures[-1]
        if target.provider == ENGINE and failure.kind in ("refused", "unreachable", "dns"):
            failure.message += " (is the engine running? `opentracy serve` starts one)"
        return self.raised(failure, target, failed.attempts, failed.failures[:-1])

    def raised(
        self,
        failure: Failure,
        target: Target,
        attempts: Sequence[Attempt],
        earlier: Iterable[tuple[Target, Failure]],
        partial: Any = None,
    ) -> APIError:
        """A failure as an exception. `earlier`: what failed before it, for the notes; `partial`: what of a stream had
        been given to the caller."""
        error = error_from(failure, target, attempts, self.policy.secrets, partial)
        if target.provider == ENGINE:
            error.provider = behind_engine(target, failure)
        for other, before in earlier:
            status = f" {before.status}" if before.status is not None else ""
            error.add_note(f"before that, {other.name} failed: {class_name(before)}{status}: {before.message}")
        return error


def behind_engine(target: Target, failure: Failure) -> str:
    """Which provider failed, as the engine says it; else as the model string does."""
    error = failure.body.get("error", failure.body) if isinstance(failure.body, dict) else None
    said = error.get("provider") if isinstance(error, dict) else None
    if isinstance(said, str) and said:
        return said
    try:
        return registry.split(target.model)[0].name
    except ValueError:
        return target.provider


def cost_in_usd(target: Target, response: Mapping[str, Any], at: float) -> float | None:
    """What the answer cost; None when usage or price is not known. `at`: Unix seconds, for prices by the hour."""
    from .core.pricing import cost_of, price_of  # late: it brings `decimal` and the price table along

    usage = response.get("usage")
    model = target.model
    if price_of(target.provider, model) is None:
        served = response.get("model")  # an alias or a deployment of the caller's own: the answer says what served it
        model = served if isinstance(served, str) else model
    cost = cost_of(target.provider, model, usage, at)
    return cost.usd if cost is not None else None


def warn_dropped(target: Target, dropped: Sequence[str]) -> None:
    """Says once per provider and parameter that it was left out."""
    for name in dropped:
        if (target.provider, name) not in _warned:
            _warned.add((target.provider, name))
            warnings.warn(
                f"{target.provider} has no equivalent for {name!r}, so it was left out (strict_params=True makes this "
                f"an error; _routing['dropped_params'] lists what was left out)",
                stacklevel=5,
            )


def resolve(place: Place) -> list[Target]:
    """The targets in order. ValueError as the reference page words it."""
    if place.force_engine and place.force_direct:
        raise ValueError("force_engine and force_direct exclude each other; pass one of them")
    url = engine_url(place)
    if url:
        return _at_engine(place, url)
    first = _direct(place.model, place.api_key, place.api_base)
    targets = [first]
    for fallback in place.fallbacks or ():
        same = registry.split(fallback.model)[0].name == first.provider
        key = fallback.api_key or (place.api_key if same else None)
        base = fallback.api_base or (place.api_base if same else None)
        targets.append(_direct(fallback.model, key, base))
    return targets


def engine_url(place: Place) -> str | None:
    """Where the engine is that the call goes to; None when it goes to the provider."""
    configured = os.environ.get("OPENTRACY_ENGINE_URL")
    if place.force_engine:
        return place.api_base or configured or ENGINE_URL
    return None if place.force_direct or place.api_base else configured or None


def _at_engine(place: Place, url: str) -> list[Target]:
    """A provider's key never goes to the engine; one of the engine's own does, when the caller addresses it."""
    token = os.environ.get("OPENTRACY_API_KEY")
    if place.api_key and (place.api_key.startswith("ot_") or (place.force_engine and place.api_base)):
        token = place.api_key
    models = [place.model, *(f.model for f in place.fallbacks or ())]
    return [registry.engine_target(model, url=url, api_key=token) for model in models]


def _direct(model: str, api_key: str | None, api_base: str | None) -> Target:
    env, credentials = _chained(model) if not api_key and not api_base else (os.environ, None)
    target = registry.target(model, env=env, api_key=api_key, api_base=api_base, credentials=credentials)
    if api_base and not api_key and api_base.startswith("http://") and target.credentials.key:
        _warn_plain(target, api_base)
    return target


def chain_of(model: str) -> str:
    """The credential chain to be asked for `model`: its provider's, where the environment holds no key; else ''."""
    try:
        row = registry.split(model)[0]
    except ValueError:
        return ""
    return row.chain if row.chain and not registry.has_credentials(row.name, os.environ) else ""


def _chained(model: str) -> tuple[Mapping[str, str], Credentials | None]:
    """The environment and the credentials that a cloud's own chain adds to it."""
    chain = chain_of(model)
    if not chain:
        return os.environ, None
    from .transport.chain import find

    found = find(chain, os.environ)
    if found is None:
        return os.environ, None
    row = registry.split(model)[0]
    names = row.option_vars.get(row.chain_option, ())
    if not found[1] or not names or any(os.environ.get(name) for name in names):
        return os.environ, found[0]
    return {**os.environ, names[0]: found[1]}, found[0]


def _warn_plain(target: Target, api_base: str) -> None:
    host = split_url(api_base)[0].host
    if host not in _LOCAL and (target.provider, host) not in _warned:
        _warned.add((target.provider, host))
        warnings.warn(f"the key of {target.provider} from the environment goes to {host} unencrypted", stacklevel=5)


def secrets_of(targets: Sequence[Target]) -> tuple[str, ...]:
    """Everything that must not be shown of a call."""
    return tuple([secret for target in targets for secret in target.credentials.secrets()])


def headed(targets: Sequence[Target], headers: Mapping[str, str]) -> list[Target]:
    """The targets with the caller's own headers, which go where a key of the call would: to the first's provider."""
    from .providers.headed import with_headers

    own = targets[0].provider
    return [with_headers(t, headers) if t.provider == own else t for t in targets]


def secret_values(headers: Mapping[str, str]) -> Iterator[str]:
    """The values of headers whose names say that they are secret."""
    for name, value in headers.items():
        if _SECRET_NAME.search(name):
            yield value
            yield value.rpartition(" ")[2]  # without "Bearer"


def check_keys(targets: Sequence[Target]) -> None:
    """Keys must be able to stand in a header; a stray line break in a key is the usual copying mistake."""
    for target in targets:
        for secret in target.credentials.secrets():
            if not secret.isprintable() or not secret.isascii() or " " in secret:
                raise ValueError(f"the key for {target.provider} holds a space, line break or non-ASCII character")

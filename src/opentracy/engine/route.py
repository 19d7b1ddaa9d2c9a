"""`auto`: which of the models that can be called should answer a request; and `POST /v1/route`, the same explained.

Belongs here: reading the prompt and the requirements out of a request, and what happens when the router cannot say. Not
here: the decision rule (`opentracy.routing`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.usual import UsualChat
from opentracy.routing.policy import NoCapableModel, Requirements

from .capabilities import candidate
from .errors import Refused
from .routes import json_body, json_response
from .state import Resolved, Snapshot

if TYPE_CHECKING:
    from opentracy.routing import Candidate, Decision

    from .app import Engine
    from .health import Health

log = logging.getLogger("opentracy.engine")
_CHARS_PER_TOKEN = 4
_REMEMBERED = 256  # orders of models, and sets of models that rest, per snapshot


@dataclasses.dataclass(slots=True)
class Routed:
    """A decision as the engine uses it: where the request goes, and the routing that explains it (nobody changes it).
    The last two are made when first needed."""

    snapshot: Snapshot
    first: str
    resolved: Resolved
    routing: Mapping[str, Any]
    members: bytes = b""  # `routing` as the members of a JSON object
    lane: Any = None


def auto(
    snapshot: Snapshot, health: Health, body: Mapping[str, Any], models: frozenset[str] | None = None
) -> tuple[Resolved, dict[str, Any]]:
    """Targets for `model="auto"` and the routing that explains them; Refused 503 when nothing can be chosen."""
    started = time.perf_counter()
    candidates = available(snapshot, health, models)
    weight = snapshot.config.auto.cost_weight
    decision = _decision(snapshot, candidates, *prompt_of(body["messages"]), requirements(body), weight)
    return _shown(_routed(snapshot, decision), started)


async def auto_apart(
    engine: Engine, snapshot: Snapshot, body: Mapping[str, Any], models: frozenset[str] | None = None
) -> tuple[Resolved, dict[str, Any]]:
    """`auto` with a router whose embedder may take its time: elsewhere, and with the default when it is late."""
    started = time.perf_counter()
    candidates = available(snapshot, engine.health, models)
    weight = snapshot.config.auto.cost_weight
    decision = await _decision_apart(engine, snapshot, candidates, body, weight)
    return _shown(_routed(snapshot, decision), started)


def apart(snapshot: Snapshot) -> bool:
    """Whether decisions must not be made on the event loop."""
    return snapshot.router is not None and not getattr(snapshot.router.embedder, "quick", False)


def _shown(routed: Routed, started: float) -> tuple[Resolved, dict[str, Any]]:
    routing = dict(routed.routing)
    routing["routing_ms"] = round((time.perf_counter() - started) * 1000, 3)
    routing["selected_by_router"] = routed.first
    return routed.resolved, routing


def auto_usual(snapshot: Snapshot, health: Health, chat: UsualChat) -> Routed:
    """`auto` for a request of texts; the same answer, and the same refusals. Refused where decisions are made apart."""
    if apart(snapshot):
        raise Refused(503, "The router's embedder takes its time", code="router_unavailable")
    candidates = available(snapshot, health)
    prompt, system = _prompt_of_texts(chat)
    weight = snapshot.config.auto.cost_weight
    return _routed(snapshot, _decision(snapshot, candidates, prompt, system, _requirements_of(chat), weight))


def _routed(snapshot: Snapshot, decision: Decision | str) -> Routed:
    if not isinstance(decision, str):
        known = decision.memo
        if isinstance(known, Routed) and known.snapshot is snapshot:
            return known
        order = decision.ranked(1 + snapshot.config.auto.fallbacks)
        found = Routed(snapshot, order[0], _resolved(snapshot, order), decision.routing())
        decision.memo = found
        return found
    order, routing = _without_router(snapshot, decision)
    return Routed(snapshot, order[0], _resolved(snapshot, order), routing)


def _resolved(snapshot: Snapshot, order: Sequence[str]) -> Resolved:
    key = tuple(order)
    known = snapshot.orders.get(key)
    if known is not None:
        return known
    targets = []
    for model in order:
        try:
            targets.append(snapshot.resolve(model).targets[0])
        except Refused as e:
            log.warning("auto: %s cannot be called: %s", model, e)
    if not targets:
        raise Refused(503, "None of the models of 'auto' can be called", code="router_unavailable", param="model")
    found = Resolved("auto", None, tuple(targets), snapshot.config.limits.num_retries, None)
    if len(targets) == len(order) and len(snapshot.orders) < _REMEMBERED:
        snapshot.orders[key] = found
    return found


def available(snapshot: Snapshot, health: Health, models: frozenset[str] | None = None) -> tuple[Candidate, ...]:
    """The candidates as they are now: marked when their circuit is open, left out when the key may not use them."""
    ill = health.ill()
    known = snapshot.available.get(ill) if models is None else None
    if known is not None:
        return known
    candidates = snapshot.candidates()
    if models is not None:
        candidates = tuple(c for c in candidates if c.model in models)
    if ill:
        candidates = tuple(dataclasses.replace(c, healthy=False) if c.model in ill else c for c in candidates)
    if models is None and len(snapshot.available) < _REMEMBERED:
        snapshot.available[ill] = candidates  # the same tuple each time: the router knows it without comparing
    return candidates


def _decision(
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    prompt: str,
    system: str | None,
    needs: Requirements,
    cost_weight: float,
) -> Decision | str:
    """The router's decision, or why there is none. Whatever the router does, the default answers."""
    if not candidates:
        known = ", ".join(snapshot.config.auto.models) or "no model with published figures"
        raise Refused(503, f"'auto' has nothing to choose from: no provider key for {known}", code="router_unavailable")
    if snapshot.router is None:
        return snapshot.router_problem or "no router"
    try:
        return snapshot.router.decide(
            prompt, system=system, candidates=candidates, default=snapshot.auto_default, cost_weight=cost_weight,
            requirements=needs,
        )  # fmt: skip
    except NoCapableModel as e:
        if not all(c.healthy for c in candidates):
            # nobody who could is well: then one who is not is better than nobody, as the last target of an alias is
            candidates = [dataclasses.replace(c, healthy=True) for c in candidates]
            return _decision(snapshot, candidates, prompt, system, needs, cost_weight)
        raise Refused(400, f"No model of 'auto' can serve this request: {e}", code="no_capable_model") from None
    except Exception as e:
        log.exception("the router failed")
        return f"router_error: {e.__class__.__name__}"


async def _decision_apart(
    engine: Engine,
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    body: Mapping[str, Any],
    cost_weight: float,
) -> Decision | str:
    def work() -> Decision | str:
        return _decision(snapshot, candidates, *prompt_of(body["messages"]), requirements(body), cost_weight)

    return await engine.decider.ask(work, lambda why: why)


def _without_router(snapshot: Snapshot, problem: str) -> tuple[list[str], dict[str, Any]]:
    default = snapshot.auto_default
    if default is None:
        raise Refused(
            503, f"The router is not available ({problem}) and no auto.default is set", code="router_unavailable"
        )
    return [default], {"fallback_reason": problem, "strategy": "default", "scores": {}}


def prompt_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The last user turn, and all system text."""
    prompt = ""
    system = []
    for message in messages:
        role = message["role"]
        if role == "user":
            prompt = text_of(message.get("content"))
        elif role in ("system", "developer"):
            system.append(text_of(message.get("content")))
    return prompt, "\n".join(system) if system else None


def _prompt_of_texts(chat: UsualChat) -> tuple[str, str | None]:
    """`prompt_of` for a request of texts."""
    prompt, system = "", []
    for message in chat.messages:
        if message.role == "user":
            prompt = message.content
        elif message.role == "system":
            system.append(message.content)
    return prompt, "\n".join(system) if system else None


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict) and p.get("type") == "text")
    return ""


def requirements(body: Mapping[str, Any]) -> Requirements:
    """What the request needs of whoever answers it."""
    characters = 0
    images = False
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, str):
            characters += len(content)
        elif isinstance(content, list):
            characters += len(text_of(content))
            images = images or any(isinstance(p, dict) and p.get("type") == "image_url" for p in content)
    form = body.get("response_format")
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    return Requirements(
        tokens=math.ceil(characters / _CHARS_PER_TOKEN) or None,
        output_tokens=cap if isinstance(cap, int) else None,
        tools=bool(body.get("tools")),
        images=images,
        json_schema=isinstance(form, dict) and form.get("type") == "json_schema",
    )


def _requirements_of(chat: UsualChat) -> Requirements:
    """`requirements` of a request of texts."""
    characters = sum([len(message.content) for message in chat.messages])
    cap = chat.max_completion_tokens or chat.max_tokens
    return Requirements(
        tokens=math.ceil(characters / _CHARS_PER_TOKEN) or None, output_tokens=cap if isinstance(cap, int) else None
    )


async def explain(engine: Engine, request: Request) -> Response:
    """`POST /v1/route`: the decision and its reasons, without a provider call."""
    body = await json_body(request)
    snapshot = engine.state
    if "messages" not in body:
        if not isinstance(body.get("prompt"), str):
            raise Refused(400, "Give a prompt (text) or messages", param="prompt")
        body["messages"] = [{"role": "user", "content": body["prompt"]}]
    messages = body["messages"]
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages)
    ):
        raise Refused(400, "messages must be a non-empty list of objects with a role", param="messages")
    weight = body.get("cost_weight", snapshot.config.auto.cost_weight)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise Refused(400, "cost_weight must be a number from 0 to 1", param="cost_weight")
    started = time.perf_counter()
    candidates = _asked(snapshot, body.get("models")) or available(snapshot, engine.health)
    if apart(snapshot):
        decision = await _decision_apart(engine, snapshot, candidates, body, weight)
    else:
        decision = _decision(snapshot, candidates, *prompt_of(messages), requirements(body), weight)
    if isinstance(decision, str):
        order, routing = _without_router(snapshot, decision)
    else:
        order, routing = decision.ranked(1 + snapshot.config.auto.fallbacks), decision.explained()
    routing["routing_ms"] = round((time.perf_counter() - started) * 1000, 3)
    routing["cost_weight"] = weight
    return json_response(
        {"object": "route", "model": order[0], "selected_model": order[0], "fallbacks": order[1:], **routing}
    )


def _asked(snapshot: Snapshot, models: Any) -> tuple[Candidate, ...] | None:
    if models is None:
        return None
    if not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models):
        raise Refused(400, "models must be a non-empty list of model names", param="models")
    try:
        return tuple(candidate(model) for model in models)
    except ValueError as e:
        raise Refused(400, str(e).partition(", or set")[0], param="models") from None


async def state(engine: Engine, request: Request) -> Response:
    """`GET /v1/router`: the router in use, what it learned since it was trained, its alarms, and shadow evaluation."""
    snapshot = engine.state
    router = snapshot.router
    found: dict[str, Any] = {
        "object": "router",
        "source": snapshot.config.auto.router,
        "version": None if router is None else router.version,
        "problem": snapshot.router_problem,
        "default": snapshot.auto_default,
        "models": list(snapshot.auto_models),
        "metric": snapshot.config.auto.metric,
        "learned": engine.learning.shown(),
    }
    if router is not None:
        m = router.artifact.manifest
        found |= {"embedder": m.embedder, "clusters": len(m.clusters), "labels": m.counts, "parent": m.parent}
    shadow = await engine.loop.run_in_executor(None, engine.shadow.shown)
    found["drift"], found["drift_ms"] = shadow.pop("drift"), shadow.pop("drift_ms")
    return json_response({**found, "shadow": shadow})

"""`GET /v1/models`: OpenAI's list, with prices, context and what the router knows beside.

Belongs here: which names a client may use with this engine. Not here: prices themselves (`core.pricing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.pricing import context_window, expected_cost
from opentracy.providers import registry

from .errors import Refused
from .routes import json_response
from .state import Snapshot

if TYPE_CHECKING:
    from .app import Engine


async def listing(engine: Engine, request: Request) -> Response:
    """Every name that can be used now."""
    return json_response({"object": "list", "data": entries(engine.state)})


async def one(engine: Engine, request: Request) -> Response:
    """One of them, or any model that resolves."""
    name = request.path_params["model"]
    for entry in entries(engine.state):
        if entry["id"] == name:
            return json_response(entry)
    resolved = engine.state.resolve(name)
    target = resolved.targets[0]
    if resolved.alias is None:
        return json_response(_model(target.name, engine.state))
    raise Refused(404, f"There is no model {name}", code="model_not_found", param="model")


def entries(state: Snapshot) -> list[dict[str, Any]]:
    """auto, the aliases, then the models of both."""
    found: list[dict[str, Any]] = []
    if state.auto_models or state.auto_default:
        found.append({**_base("auto", "opentracy"), "models": list(state.auto_models), "default": state.auto_default})
    names: dict[str, None] = dict.fromkeys(state.auto_models)
    for alias, settings in state.config.aliases.items():
        found.append({**_base(alias, "opentracy"), "model": settings.model, "fallbacks": list(settings.fallbacks)})
        names.update(dict.fromkeys(m for m in (settings.model, *settings.fallbacks) if m not in state.config.aliases))
    found += [_model(name, state) for name in names if state.has_key(registry.split(name)[0].name)]
    return found


def _base(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _model(name: str, state: Snapshot) -> dict[str, Any]:
    row, bare = registry.split(name)
    entry = _base(name, row.name)
    entry["context_window"] = context_window(row.name, bare)
    million_in, million_out = expected_cost(row.name, bare, 1_000_000, 0), expected_cost(row.name, bare, 0, 1_000_000)
    entry["pricing"] = None
    if million_in is not None and million_out is not None:
        entry["pricing"] = {"unit": "USD per million tokens", "input": million_in, "output": million_out}
    ability = state.router.abilities.find(name) if state.router is not None else None
    if ability is not None:
        figure = ability.overall
        entry["ability"] = {"value": figure.value, "se": figure.se, "source": figure.source, "date": figure.date}
    return entry

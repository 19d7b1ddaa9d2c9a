"""What the system screen shows: providers, store, retention, alerts, prices and the configuration, never a secret.

Belongs here: gathering. Not here: changing aliases (`dashboard_aliases`).
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.pricing import table_info
from opentracy.providers import registry

from .config import shown
from .dashboard_alerts import alerts
from .dashboard_audit import recent
from .dashboard_calls import ask, message_of
from .dashboard_trace import store_health
from .errors import Refused
from .routes import json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine


async def system(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/system`."""
    config = engine.state.config
    info = table_info()
    store = await store_health(engine)
    reader = engine.traces.reader
    await engine.traces.current()
    dropped = int(store.get("dropped") or 0)
    try:
        watched = await off_loop(lambda: alerts(engine, reader, dropped))
    except (OSError, sqlite3.Error) as e:
        # the store is what fails first; providers and configuration are wanted all the more then
        watched = {"problem": f"the store cannot be read: {e}"[:200], "rules": []}
    return json_response(
        {
            "version": engine.version,
            "uptime_s": round(time.time() - engine.begun, 1),
            "in_flight": len(engine.calls),
            "config_hash": engine.state.hash,
            "config_path": engine.config_path,
            "providers": _providers(engine),
            "aliases": [
                {"name": name, "model": a.model, "fallbacks": list(a.fallbacks),
                 "num_retries": a.num_retries, "timeout": a.timeout}
                for name, a in config.aliases.items()
            ],
            "auto": {
                "models": list(config.auto.models), "default": config.auto.default,
                "cost_weight": config.auto.cost_weight, "router": config.auto.router,
            },
            "store": store,
            "retention": {
                "content": config.traces.content, "durability": config.traces.durability,
                "metrics_days": config.traces.metrics_days, "bodies_days": config.traces.bodies_days,
            },
            "alerts": watched,
            "prices": {"updated": info.date, "source": info.source, "models": info.models},
            "config": shown(config),
            "audit": await off_loop(lambda: recent(engine)),
        }
    )  # fmt: skip


def _providers(engine: Engine) -> list[dict[str, Any]]:
    """Every provider: whether it can be called, where its key comes from (never what it is), and what is out."""
    state = engine.state
    circuits: dict[str, list[dict[str, Any]]] = {}
    for name in engine.health.known():
        kind, seconds, cause = engine.health.state(name)
        circuits.setdefault(name.partition("/")[0], []).append(
            {"target": name, "state": kind, "seconds": round(seconds, 1), "cause": cause}
        )
    rows = []
    for row in registry.providers():
        settings = state.config.providers.get(row.name)
        source = settings.api_key if settings is not None and settings.api_key else None
        callable_ = state.has_key(row.name)
        rows.append(
            {
                "name": row.name,
                "callable": callable_,
                "base": settings.api_base if settings is not None else None,
                "key": source or ("from the environment" if callable_ and row.needs_key else None),
                "circuits": circuits.get(row.name, []),
            }
        )
    return rows


async def test_provider(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/providers/{name}/test`: the smallest request to a model of it that this engine knows."""
    name = request.path_params["name"]
    try:
        row = registry.provider(name)
    except ValueError as e:
        raise Refused(404, str(e)) from None
    model = _model_of(engine, row.name)
    if model is None:
        raise Refused(
            409, f"No model of {row.name} is named in the configuration: use it in an alias or in auto.models"
        )
    body = {"model": model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 16}
    started = time.perf_counter()
    status, given = await ask(engine, request.state.identity, body, tags="provider-test")
    took = (time.perf_counter() - started) * 1000
    text = f"{model} answered in" if status == 200 else f"{model}: {status}, {message_of(given)}"
    return json_response({"ok": status == 200, "ms": round(took, 1), "text": text[:300]})


def _model_of(engine: Engine, provider: str) -> str | None:
    """A model of a provider that the configuration names, or that `auto` may choose."""
    config = engine.state.config
    named = [m for a in config.aliases.values() for m in (a.model, *a.fallbacks)]
    for model in (*engine.state.auto_models, *config.auto.models, *named):
        try:
            if registry.split(model)[0].name == provider:
                return model
        except ValueError:
            continue
    return None

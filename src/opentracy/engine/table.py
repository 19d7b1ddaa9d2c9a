"""The list of routes that are not hot, in one place: path, method, scope, handler, and what the OpenAPI document says.

A route that is not listed here does not exist, and one without a scope cannot be written down.
"""

from __future__ import annotations

from typing import Any

from opentracy.traces.export import FORMATS

from . import admin, feedback, metrics, models, openapi, otlp, pages, probes, traces
from .dashboard_routes import DASHBOARD
from .route import explain
from .route import state as router_state
from .routes import Route

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}
_OBJECT: dict[str, Any] = {"type": "object"}
_FILTER = dict.fromkeys(("q", "model", "provider", "status", "key", "tag", "user", "session", "since", "until"), _TEXT)
_ROUTE_BODY = {
    "type": "object",
    "properties": {
        "prompt": _TEXT,
        "messages": {"type": "array", "items": _OBJECT},
        "models": {"type": "array", "items": _TEXT, "minItems": 1},
        "cost_weight": {"type": "number", "minimum": 0, "maximum": 1},
    },
}

_FEEDBACK = {
    "type": "object",
    "required": ["trace_id", "metric", "value"],
    "properties": {"trace_id": _TEXT, "metric": _TEXT, "value": {"type": ["boolean", "number", "string"]}},
}

ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", "public", probes.health, "State of this engine, its providers and its store"),
    Route("GET", "/health/live", "public", probes.live, "Whether the process answers"),
    Route("GET", "/health/ready", "public", probes.ready, "Whether requests should be sent here"),
    Route("GET", "/metrics", "read", metrics.expose, "Counters of all workers for Prometheus", produces="text/plain"),
    Route("GET", "/openapi.json", "public", openapi.expose, "This document"),
    Route("GET", "/v1/models", "inference", models.listing, "Models, aliases and auto, with prices and context"),
    Route("GET", "/v1/models/{model:path}", "inference", models.one, "One model"),
    Route("POST", "/v1/route", "inference", explain, "Which model would answer a prompt, and why", _ROUTE_BODY),
    Route("GET", "/v1/router", "read", router_state, "The router in use, what it learned, and its alarms"),
    Route("GET", "/v1/traces", "read", traces.listing, "Traces, newest first",
          query={**_FILTER, "limit": _COUNT, "cursor": _TEXT}),
    Route("POST", "/v1/traces", "admin", traces.take, "Take in traces made elsewhere", _OBJECT,
          answers={201: "Committed"}),
    Route("POST", "/v1/otlp/v1/traces", "admin", otlp.take, "Take in spans as OTLP, protobuf or JSON", _OBJECT,
          accepts=("application/json", "application/x-protobuf")),
    Route("GET", "/v1/traces/facets", "read", traces.facet_counts, "Counts to narrow a list by", query=_FILTER),
    Route("GET", "/v1/traces/export", "read", traces.export, "Every trace that matches",
          query={**_FILTER, "format": {"enum": list(FORMATS)}},
          produces="application/x-ndjson"),
    Route("GET", "/v1/traces/tail", "read", traces.tail, "New traces as they come", query=_FILTER,
          produces="text/event-stream"),
    Route("GET", "/v1/traces/{trace_id}", "read", traces.one, "Everything about one request"),
    Route("DELETE", "/v1/traces/{trace_id}", "admin", traces.forget, "Remove one trace for good"),
    Route("GET", "/v1/stats", "read", traces.stats, "Sums over traces, by group and time",
          query={**_FILTER, "metric": _TEXT, "group_by": _TEXT, "bucket": _COUNT, "limit": _COUNT}),
    Route("POST", "/v1/feedback", "inference", feedback.add, "Say what an answer was worth", _FEEDBACK,
          answers={201: "Committed"}),
    Route("POST", "/v1/reload", "admin", admin.reload, "Read the configuration again"),
    Route("GET", "/v1/config", "admin", admin.config, "The configuration in force"),
    Route("GET", "/", "public", pages.index, "The dashboard", produces="text/html"),
    Route("GET", "/assets/{name:path}", "public", pages.asset, "The dashboard's files", produces="*/*"),
    *DASHBOARD,
)  # fmt: skip

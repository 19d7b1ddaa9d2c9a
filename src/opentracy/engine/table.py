"""The list of routes that are not hot, in one place: path, method, scope, handler, and what the OpenAPI document says.

A route that is not listed here does not exist, and one without a scope cannot be written down.
"""

from __future__ import annotations

from . import models, probes
from .route import explain
from .routes import Route

_OBJECT = {"type": "object"}

ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", "public", probes.health, "State of this engine, its providers and its store"),
    Route("GET", "/health/live", "public", probes.live, "Whether the process answers"),
    Route("GET", "/health/ready", "public", probes.ready, "Whether requests should be sent here"),
    Route("GET", "/v1/models", "inference", models.listing, "Models, aliases and auto, with prices and context"),
    Route("GET", "/v1/models/{model:path}", "inference", models.one, "One model"),
    Route("POST", "/v1/route", "inference", explain, "Which model would answer a prompt, and why", _OBJECT),
)

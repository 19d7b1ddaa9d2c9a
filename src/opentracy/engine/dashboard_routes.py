"""The routes that only the dashboard needs, with their scopes; `table` puts them beside the others.

Its pages are addresses of one file: what they show is decided in the browser.
"""

from __future__ import annotations

from typing import Any

from . import (
    dashboard_aliases,
    dashboard_calls,
    dashboard_datasets,
    dashboard_evaluations,
    dashboard_keys,
    dashboard_routing,
    dashboard_session,
    dashboard_system,
    dashboard_trace,
    dashboard_versions,
    pages,
)
from .routes import Route

_OBJECT: dict[str, Any] = {"type": "object"}
_P = "/v1/dashboard"
_HTML = "text/html"

PAGES: tuple[Route, ...] = tuple(
    Route("GET", path, "public", pages.index, "A screen of the dashboard", produces=_HTML)
    for path in (
        "/traces", "/traces/{trace_id}", "/routing", "/playground", "/spend", "/datasets",
        "/datasets/{name}", "/system",
    )
)  # fmt: skip

DASHBOARD: tuple[Route, ...] = (
    *PAGES,
    Route("GET", f"{_P}/session", "public", dashboard_session.session, "Who looks at the dashboard"),
    Route("POST", f"{_P}/login", "public", dashboard_session.login, "Sign in with a key", _OBJECT),
    Route("POST", f"{_P}/logout", "public", dashboard_session.logout, "Sign out", _OBJECT),
    Route("POST", f"{_P}/test-request", "inference", dashboard_calls.test_request, "Send a test request", _OBJECT),
    Route("GET", f"{_P}/store", "read", dashboard_trace.store, "How the trace store is"),
    Route("GET", f"{_P}/traces/{{trace_id}}", "read", dashboard_trace.one, "A trace with its cost taken apart"),
    Route("GET", f"{_P}/export", "read", dashboard_trace.export, "What a filter selects, as a file", produces="*/*"),
    Route("GET", f"{_P}/routing/clusters", "read", dashboard_routing.clusters, "Clusters and what is expected in them"),
    Route("GET", f"{_P}/routing/projection", "read", dashboard_routing.projection, "Last week at every cost weight"),
    Route("GET", f"{_P}/routing/savings", "read", dashboard_routing.savings, "Actual, always best, always cheapest"),
    Route("GET", f"{_P}/routing/versions", "read", dashboard_versions.listing, "Router versions"),
    Route("GET", f"{_P}/routing/compare", "read", dashboard_versions.compare, "Another version on last week's prompts"),
    Route("POST", f"{_P}/routing/promote", "admin", dashboard_versions.promote, "Use a router version", _OBJECT),
    Route("GET", f"{_P}/keys", "read", dashboard_keys.listing, "Virtual keys and their budgets"),
    Route("POST", f"{_P}/keys", "admin", dashboard_keys.create, "Make a key", _OBJECT, answers={201: "The key"}),
    Route("PUT", f"{_P}/keys/{{key_id}}", "admin", dashboard_keys.change, "Change a key", _OBJECT),
    Route("DELETE", f"{_P}/keys/{{key_id}}", "admin", dashboard_keys.revoke, "Revoke a key", _OBJECT),
    Route("POST", f"{_P}/keys/{{key_id}}/rotate", "admin", dashboard_keys.rotate, "A new text for a key", _OBJECT),
    Route("GET", f"{_P}/datasets", "read", dashboard_datasets.listing, "Datasets and their versions"),
    Route("POST", f"{_P}/datasets/{{name}}", "admin", dashboard_datasets.from_traces, "Make from a filter", _OBJECT,
          answers={201: "The version", 202: "It is being made"}),
    Route("GET", f"{_P}/datasets/{{name}}/making/{{making_id}}", "read", dashboard_datasets.making, "How one stands"),
    Route("GET", f"{_P}/datasets/{{name}}/rows", "read", dashboard_datasets.rows, "Rows of a version"),
    Route("POST", f"{_P}/datasets/{{name}}/rows", "admin", dashboard_datasets.add_rows, "A version with further rows",
          _OBJECT, answers={201: "The version"}),
    Route("GET", f"{_P}/datasets/{{name}}/export", "read", dashboard_datasets.export_rows, "A version as a file",
          produces="application/x-ndjson"),
    Route("GET", f"{_P}/evaluations", "read", dashboard_evaluations.listing, "Evaluations and their progress"),
    Route("POST", f"{_P}/evaluations", "admin", dashboard_evaluations.begin, "Run models on a dataset", _OBJECT,
          answers={202: "It runs"}),
    Route("GET", f"{_P}/evaluations/{{run_id}}/labels", "read", dashboard_evaluations.labels, "Scores to train from",
          produces="application/x-ndjson"),
    Route("POST", f"{_P}/evaluations/{{run_id}}/stop", "admin", dashboard_evaluations.stop, "Stop one", _OBJECT),
    Route("GET", f"{_P}/system", "read", dashboard_system.system, "Providers, aliases, store, alerts"),
    Route("POST", f"{_P}/providers/{{name}}/test", "admin", dashboard_system.test_provider, "Ask a provider", _OBJECT),
    Route("POST", f"{_P}/aliases/preview", "admin", dashboard_aliases.preview, "What a change does", _OBJECT),
    Route("PUT", f"{_P}/aliases/{{name}}", "admin", dashboard_aliases.save, "Write an alias and reload", _OBJECT),
)  # fmt: skip

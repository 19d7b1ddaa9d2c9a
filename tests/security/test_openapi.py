"""The engine against its own OpenAPI document: what it answers to generated requests is what the document says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from engine_kit import Engine, running
from opentracy.engine.standin import StandIn

schemathesis = pytest.importorskip("schemathesis")

ROUNDS = int(os.environ.get("OPENTRACY_OPENAPI_EXAMPLES", "12"))
# without an end by design; the work of minutes; and what changes or stops the engine under test
LEFT_OUT = ("/v1/traces/tail", "/v1/reload", "evaluations", "replay", "export", "login")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with StandIn(gap=0) as stand_in, running(env=stand_in.environment) as e:
        yield e


def _document() -> dict[str, Any]:
    from opentracy.engine.app import Engine as TheEngine
    from opentracy.engine.openapi import document
    from opentracy.engine.table import ROUTES

    class Described:
        version = TheEngine.version
        routes = ROUTES

    return document(Described())  # type: ignore[arg-type]


DOCUMENT = _document()
OPERATIONS = [
    (path, method) for path, item in DOCUMENT["paths"].items() for method in item if not any(part in path for part in LEFT_OUT)
]


def test_the_document_is_what_the_engine_serves(engine: Engine) -> None:
    assert engine.request("GET", "/openapi.json").json["paths"].keys() == DOCUMENT["paths"].keys()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_generated_requests(engine: Engine, path: str, method: str) -> None:
    """No 5xx that is not explained, no undeclared status, JSON errors in the one shape."""
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method.upper()]
    declared = {int(status) for status in DOCUMENT["paths"][path][method]["responses"]}

    @settings(max_examples=ROUNDS, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call(base_url=engine.url, timeout=20)
        assert response.status_code in declared, response.text[:300]
        if response.status_code >= 500:
            assert response.json()["error"]["code"] == "router_unavailable"
        if response.status_code >= 400:
            assert set(response.json()["error"]) >= {"message", "type", "code", "param"}

    ask()
    assert engine.process.poll() is None

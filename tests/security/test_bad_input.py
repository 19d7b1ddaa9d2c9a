"""A few thousand generated bad inputs; `python -m tests.security.bad_http` sends as many as one likes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_kit import Engine, running
from opentracy.engine.standin import StandIn

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.security.bad_http import run


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with StandIn(gap=0) as stand_in, running(env=stand_in.environment) as e:
        yield e


def test_generated_bad_input(engine: Engine) -> None:
    """No 5xx, no request without an answer, no traceback, nothing left open, and none a second later than a trivial one."""
    report = run(engine, int(os.environ.get("OPENTRACY_BAD_INPUTS", "4000")), seed=3)
    assert report.faults == [], report
    assert report.slow == [], report
    assert sum(report.statuses.values()) > report.inputs / 2


def test_no_redirect_is_made_from_a_host_header(engine: Engine) -> None:
    """A slash too many is a 404, not a redirect to wherever the caller says that we are."""
    for path in ("/v1/traces/", "/health/", "/v1/models/", "//evil.example/"):
        reply = engine.request("GET", path)
        assert reply.status in (200, 400, 404), path
        assert "location" not in reply.headers


def test_a_client_that_leaves_is_no_error_of_ours(engine: Engine) -> None:
    """Its leaving stands in no log as a failure, whatever the route."""
    before = engine.log.read_text()
    for path in (b"/v1/traces", b"/v1/stats", b"/v1/models", b"/metrics", b"/v1/traces/export", b"/v1/dashboard/session"):
        engine.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", wait=0.0001)
    time.sleep(0.8)
    assert engine.log.read_text() == before


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "odd", [{"tools": [{"9": {}, "id": [[], 1.5]}]}, {"messages": [{"role": "user", "content": 7}], "stream_options": "x"}]
)
def test_the_stand_in_answers_what_it_does_not_understand(engine: Engine, odd: dict[str, object], stream: bool) -> None:
    """It said nothing and left the connection open, so that the engine waited for ten minutes."""
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **odd}
    reply = engine.request("POST", "/v1/chat/completions", body)
    assert reply.status in (200, 400), reply

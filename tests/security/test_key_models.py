"""A virtual key that may use some models reaches no other one through an alias or `auto`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine_kit import Engine, bare_environment, keys_for, running
from faultserver import FaultServer, answer, error

CONFIG = """
[server]
admin_keys = ["env:ADMIN"]
[limits]
num_retries = 0
[aliases.dear]
model = "openai/gpt-4o"
fallbacks = ["openai/gpt-4o-mini"]
[auto]
models = ["openai/gpt-4o", "openai/gpt-4o-mini"]
default = "openai/gpt-4o"
cost_weight = 0
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server


@pytest.fixture(scope="module")
def engine(upstream: FaultServer) -> Iterator[Engine]:
    with running(CONFIG, env={**keys_for(upstream.base), "ADMIN": "admin-0123456789abcdef"}) as e:
        yield e


def make(engine: Engine, *models: str) -> dict[str, str]:
    flags = [part for model in models for part in ("--model", model)]
    command = [sys.executable, "-m", "opentracy", "keys", "add", "test", "--data-home", str(engine.home), *flags]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, timeout=60, check=True)
    return {"authorization": f"Bearer {done.stdout.strip()}"}


@pytest.mark.parametrize("asked", ["dear", "auto"])
def test_no_way_round(engine: Engine, upstream: FaultServer, asked: str) -> None:
    """What the key may not use is left out, whether it comes first or as a fallback."""
    cheap = make(engine, "openai/gpt-4o-mini")
    upstream(answer())
    reply = engine.chat(asked, headers=cheap)
    assert reply.status in (200, 403)
    upstream(error(500))
    engine.chat(asked, headers=cheap)
    assert {x.json["model"] for x in upstream.seen} <= {"gpt-4o-mini"}


def test_an_alias_that_the_key_names_is_whole(engine: Engine, upstream: FaultServer) -> None:
    upstream(error(500))
    engine.chat("dear", headers=make(engine, "dear"))
    assert [x.json["model"] for x in upstream.seen] == ["gpt-4o", "gpt-4o-mini"]


def test_nothing_of_an_alias_allowed(engine: Engine, upstream: FaultServer) -> None:
    upstream(answer())
    reply = engine.chat("dear", headers=make(engine, "groq/*"))
    assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
    assert upstream.seen == []

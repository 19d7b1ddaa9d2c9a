"""Where neither the call nor the environment names a key, a cloud's own chain is asked; and only then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import opentracy as ot
from opentracy._arguments import Place
from opentracy._job import resolve
from opentracy.core.wire import Credentials
from opentracy.transport import chain

MODEL = "bedrock/anthropic.claude-3-haiku-20240307-v1:0"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OPENTRACY_ENGINE_URL", raising=False)
    names: list[str] = []

    def find(name: str, env: Any) -> chain.Found:
        names.append(name)
        return Credentials(None, {"access_key": "AK", "secret_key": "SK"}), "eu-west-3"

    monkeypatch.setattr(chain, "find", find)
    return names


def test_the_chain_gives_credentials_and_region(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (target,) = resolve(Place(MODEL))
    assert target.credentials.extra["access_key"] == "AK"
    assert target.options["region"] == "eu-west-3"
    assert "eu-west-3" in target.base_url
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert resolve(Place(MODEL))[0].options["region"] == "us-west-2"
    assert asked == ["aws", "aws"]


def test_it_is_not_asked_when_there_is_a_key(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(Place(MODEL, api_key="bearer"))
    resolve(Place(MODEL, api_base="http://127.0.0.1:1"))
    resolve(Place("openai/gpt-4o", api_key="k"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK2")
    assert resolve(Place(MODEL))[0].credentials.extra["access_key"] == "AK2"
    assert asked == []


def test_asynchronous_calls_ask_off_the_loop(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads: list[str] = []
    real = chain.find
    monkeypatch.setattr(chain, "find", lambda *a: (threads.append(threading.current_thread().name), real(*a))[1])
    monkeypatch.setenv("BEDROCK_API_BASE", "http://127.0.0.1:9")
    with pytest.raises(ot.APIConnectionError):
        asyncio.run(ot.acompletion(MODEL, [{"role": "user", "content": "x"}]))
    assert threads[0] != "MainThread"


def test_a_routers_asynchronous_calls_ask_off_the_loop_too(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads: list[str] = []
    real = chain.find
    monkeypatch.setattr(chain, "find", lambda *a: (threads.append(threading.current_thread().name), real(*a))[1])
    monkeypatch.setenv("BEDROCK_API_BASE", "http://127.0.0.1:9")
    router = ot.Router([{"model_name": "x", "model": MODEL}])
    with pytest.raises(ot.APIConnectionError):
        asyncio.run(router.acompletion("x", [{"role": "user", "content": "x"}]))
    assert threads[0] != "MainThread"


def test_it_is_not_asked_for_what_goes_to_the_engine(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", "http://127.0.0.1:9")
    for call in (ot.acompletion, ot.Router([{"model_name": MODEL, "model": MODEL}]).acompletion):
        with pytest.raises(ot.APIConnectionError):
            asyncio.run(call(MODEL, [{"role": "user", "content": "x"}]))
    assert asked == []


def test_there_are_two_chains() -> None:
    with pytest.raises(ValueError, match="no credential chain 'x'"):
        chain.find("x", {})

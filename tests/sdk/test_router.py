"""The router: strategies decide the order, failures take deployments out, and time brings them back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import opentracy as ot
from faultserver import FaultServer, answer, error, stream
from opentracy import Router
from opentracy._arguments import Place
from opentracy.core.wire import Call

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def servers() -> Iterator[list[FaultServer]]:
    three = [FaultServer() for _ in range(3)]
    for s in three:
        s(answer())
    yield three
    for s in three:
        s.close()


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def deployments(servers: list[FaultServer], *models: str, **extra: Any) -> list[dict[str, Any]]:
    models = models or ("openai/gpt-4o-mini",) * len(servers)
    return [
        {"model_name": "fast", "model": m, "api_key": "k", "api_base": s.base, **extra}
        for m, s in zip(models, servers, strict=False)
    ]


def counts(servers: list[FaultServer]) -> list[int]:
    return [len(s.seen) for s in servers]


def test_round_robin_takes_turns(servers: list[FaultServer]) -> None:
    router = Router(deployments(servers))
    for _ in range(9):
        assert router.completion("fast", USER).choices[0].message.content == "hello"
    assert counts(servers) == [3, 3, 3]
    assert router.models == ("fast",)


def test_a_failing_member_is_covered_by_the_next_and_then_rests(servers: list[FaultServer]) -> None:
    clock = Clock()
    servers[0](error(500))
    router = Router(deployments(servers[:2]), allowed_failures=2, cooldown=30, clock=clock)
    for _ in range(8):
        assert router.completion("fast", USER)._provider == "openai"
    assert counts(servers)[:2] == [2, 8]  # two failures, then rest
    clock.now += 31
    servers[0](answer())
    for _ in range(4):
        router.completion("fast", USER)
    assert len(servers[0].seen) == 2


def test_a_rate_limit_rests_as_long_as_asked_and_a_bad_request_not_at_all(servers: list[FaultServer]) -> None:
    clock = Clock()
    router = Router(deployments(servers[:2]), clock=clock)
    servers[0](error(429, retry_after="20"))
    for _ in range(4):
        router.completion("fast", USER)
    assert len(servers[0].seen) == 1
    clock.now += 21
    servers[0](error(400))
    for _ in range(4):
        router.completion("fast", USER)
    assert len(servers[0].seen) == 2  # asked in every one of its turns


def test_resting_members_are_better_than_nothing(servers: list[FaultServer]) -> None:
    router = Router(deployments(servers[:1]), allowed_failures=1, clock=Clock())
    servers[0](error(500), answer())
    with pytest.raises(ot.InternalServerError):
        router.completion("fast", USER)
    assert router.completion("fast", USER).choices[0].message.content == "hello"


def test_group_fallbacks(servers: list[FaultServer]) -> None:
    servers[0](error(401))
    router = Router(
        {"fast": deployments(servers[:1]), "smart": [{"model": "openai/gpt-4o", "api_key": "k", "api_base": servers[1].base}]},
        fallbacks={"fast": ["smart"]},
    )
    r = router.completion("fast", USER)
    assert r._routing["selected_model"] == "gpt-4o"
    assert r._routing["attempts"] == 2


def test_least_cost_asks_the_cheapest_first(servers: list[FaultServer]) -> None:
    router = Router(deployments(servers, "openai/gpt-4o", "openai/gpt-4o-mini", "openai/no-such-price"), strategy="least-cost")
    order = [t.model for t in router.targets(Place("fast"), Call(USER, {}))]
    assert order == ["gpt-4o-mini", "gpt-4o", "no-such-price"]
    router.completion("fast", USER)
    assert counts(servers) == [0, 1, 0]


def test_lowest_latency_learns(servers: list[FaultServer]) -> None:
    router = Router(deployments(servers), strategy="lowest-latency")
    targets = {t.deployment: t for t in router.targets(Place("fast"), Call(USER, {}))}
    for seconds, target in zip((0.3, 0.1, 0.2), targets.values(), strict=True):
        router._health.report(target, None, seconds)
    names = list(targets)
    assert [t.deployment for t in router.targets(Place("fast"), Call(USER, {}))] == [names[1], names[2], names[0]]


def test_weights_are_shares(servers: list[FaultServer]) -> None:
    import random

    chance = random.Random(5)
    items = [{**d, "weight": w} for d, w in zip(deployments(servers), (1, 2, 7), strict=True)]
    router = Router(items, strategy="weighted", uniform=chance.random)
    first = Counter(router.targets(Place("fast"), Call(USER, {}))[0].deployment for _ in range(4000))
    shares = [first[d] / 4000 for d in sorted(first)]
    assert shares == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_streams_async_embeddings_and_plain_model_strings(servers: list[FaultServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_BASE", servers[2].base)
    monkeypatch.delenv("OPENTRACY_ENGINE_URL", raising=False)
    router = Router(deployments(servers[:1]), num_retries=1)
    servers[0](error(503, retry_after_ms=1), stream())
    chunks = list(router.completion("fast", USER, stream=True))
    assert chunks[-1]._routing["attempts"] == 2
    servers[0](answer())
    r = asyncio.run(router.acompletion("fast", USER, temperature=0))
    assert isinstance(r, ot.ModelResponse)
    assert servers[0].seen[0].json["temperature"] == 0
    assert router.completion("openai/gpt-4o", USER)._routing["selected_model"] == "gpt-4o"
    assert len(servers[2].seen) == 1
    vectors = {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]}
    servers[0](answer(body=vectors))
    assert router.embedding("fast", "hi").data[0].embedding == [1.0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Router([]), "deployments"),
        (lambda: Router([{"model_name": "a", "modle": "x"}]), "'modle'"),
        (lambda: Router([{"model_name": "a"}]), r"\['model'\]"),
        (lambda: Router([{"model": "openai/x", "weight": -1}]), "weight"),
        (lambda: Router([{"model": "openai/x"}], strategy="fastest"), "round-robin, least-cost"),  # type: ignore[arg-type]
        (lambda: Router([{"model": "openai/x"}], fallbacks={"b": ["c"]}), "no group 'b'"),
        (lambda: Router([{"model": "openai/x"}], num_retries=-1), "num_retries"),
        (lambda: Router([{"model": "openai/x"}]).completion("openai/x", USER, api_key="k"), "api_key belongs"),
    ],
)
def test_mistakes_have_a_name(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_deployment_does_not_show_its_key(servers: list[FaultServer]) -> None:
    router = Router([{"model_name": "a", "model": "openai/x", "api_key": "sk-secret"}])
    assert "sk-secret" not in repr(router._groups)

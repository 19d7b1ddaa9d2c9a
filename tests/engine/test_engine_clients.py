"""The official openai client against a running engine, unchanged; routing by auto; keys and scopes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from engine_process import Engine, Start

from faultserver import FaultServer, answer, error

MODELS = ("openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6", "smart", "auto")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def client(demo_engine: Any) -> Any:
    with openai.OpenAI(base_url=demo_engine.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


@pytest.mark.parametrize("model", MODELS)
def test_openai_client_plain_and_streamed(client: openai.OpenAI, model: str) -> None:
    """Plain, then streamed with usage; both through the engine to a provider."""
    messages: Any = [{"role": "user", "content": "What is 12 * 12?"}]
    done = client.chat.completions.create(model=model, messages=messages)
    assert "144" in (done.choices[0].message.content or "")
    assert done.usage is not None and done.usage.total_tokens > 0
    text, usage = "", None
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        usage = chunk.usage or usage
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert "144" in text
    assert usage is not None


@pytest.mark.parametrize("model", MODELS)
def test_openai_client_tools(client: openai.OpenAI, model: str) -> None:
    """A tool call and the turn after it."""
    messages: Any = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    tools: Any = [TOOL]
    done = client.chat.completions.create(model=model, messages=messages, tools=tools, tool_choice="required")
    calls = done.choices[0].message.tool_calls
    assert calls and calls[0].type == "function" and calls[0].function.name == "get_weather"
    json.loads(calls[0].function.arguments)
    messages += [done.choices[0].message, {"role": "tool", "tool_call_id": calls[0].id, "content": "Sunny, 21 degrees"}]
    assert client.chat.completions.create(model=model, messages=messages, tools=tools).choices[0].message.content


@pytest.mark.parametrize("model", MODELS)
def test_openai_client_async(demo_engine: Any, model: str) -> None:
    """The async client, plain and streamed."""

    async def run() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=demo_engine.url + "/v1", api_key="any", max_retries=0) as c:
            messages: Any = [{"role": "user", "content": "What is 3 + 4?"}]
            done = await c.chat.completions.create(model=model, messages=messages)
            text = ""
            async for chunk in await c.chat.completions.create(model=model, messages=messages, stream=True):
                text += chunk.choices[0].delta.content or ""
            return done.choices[0].message.content or "", text

    plain, streamed = asyncio.run(run())
    assert "7" in plain
    assert "7" in streamed


def test_openai_client_errors(client: openai.OpenAI) -> None:
    """Errors arrive as the classes that their statuses mean."""
    messages: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody/nothing", messages=messages)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="openai/gpt-4o", messages=messages, temperature=9)
    assert wrong.value.param == "temperature"
    assert [m.id for m in client.models.list()][:1] == ["auto"]


def test_client_does_not_multiply_retries(start_engine: Start, upstream: FaultServer) -> None:
    """When every attempt failed, the answer tells client SDKs not to start over."""
    engine = start_engine("", upstream)
    upstream(error(503))
    with openai.OpenAI(base_url=engine.url + "/v1", api_key="any") as c, pytest.raises(openai.InternalServerError):
        c.chat.completions.create(model="openai/gpt-4o", messages=[{"role": "user", "content": "x"}])
    assert len(upstream.seen) == 2  # the engine's own default: one retry


# ---------------------------------------------------------------- auto
AUTO = """
[auto]
models = ["openai/gpt-4o-mini", "openai/gpt-4o", "deepseek/deepseek-chat", "mistral/mistral-large-latest"]
default = "openai/gpt-4o-mini"
"""


@pytest.fixture(scope="module")
def routed(start_engine: Start, upstream: FaultServer) -> Engine:
    return start_engine(AUTO, upstream)


def test_auto_reaches_the_chosen_model(routed: Engine, upstream: FaultServer) -> None:
    """The chosen model's own name travels; one without a key is never chosen; the decision is explained and repeatable."""
    prompts = ["Write a python function that sorts a list", "What is the capital of France?", "Prove that 2 is prime"]
    for prompt in prompts:
        upstream(answer())
        explained = routed.request("POST", "/v1/route", {"prompt": prompt}).json
        chosen = set()
        for _ in range(3):
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
            reply = routed.request("POST", "/v1/chat/completions", body)
            routing = reply.json["_routing"]
            chosen.add(f"{routing['provider']}/{routing['selected_model']}")
            named = {"cluster_id", "cluster_label", "scores", "confidence", "router_version", "fallback_reason"}
            assert set(routing) >= named
            assert reply.headers["x-opentracy-cluster-id"] == str(routing["cluster_id"])
            assert upstream.seen[-1].json["model"] == routing["selected_model"]
        assert not any("mistral" in name for name in explained["scores"])
        assert chosen == {explained["model"]}


def test_auto_with_white_space(routed: Engine) -> None:
    """The same prompt with other white space lands in the same cluster."""
    found = {
        routed.request("POST", "/v1/route", {"prompt": p}).json["cluster_id"]
        for p in ("sort a list\nin python", "sort  a list in python ", "\n\tsort a list in\n\npython")
    }
    assert len(found) == 1


@pytest.mark.parametrize("body", [{}, {"prompt": 3}, {"messages": []}, {"prompt": "x", "models": []},
                                  {"prompt": "x", "cost_weight": 7}, {"prompt": "x", "models": ["nobody/x"]}])  # fmt: skip
def test_route_refuses_bad_input(routed: Engine, body: dict[str, Any]) -> None:
    assert routed.request("POST", "/v1/route", body).status == 400


def test_auto_without_any_model(start_engine: Start) -> None:
    """Row 85: 503 that says so, never a guess."""
    engine = start_engine("[auto]\nmodels = ['openai/gpt-4o']\n")
    reply = engine.chat("auto")
    assert (reply.status, reply.error["code"]) == (503, "router_unavailable")


# ---------------------------------------------------------------- keys and scopes
KEYS_CONFIG = """
[server]
api_keys = ["env:INFERENCE_KEY"]
read_keys = ["env:READ_KEY"]
admin_keys = ["env:ADMIN_KEY"]
"""
GIVEN = {"INFERENCE_KEY": "inf-0123456789abcdef", "READ_KEY": "read-0123456789abcdef", "ADMIN_KEY": "adm-0123456789abcdef"}
SCOPES = {"inference": {"inference"}, "read": {"read"}, "admin": {"inference", "read", "admin"}}


@pytest.fixture(scope="module")
def locked(start_engine: Start, upstream: FaultServer) -> Engine:
    return start_engine(KEYS_CONFIG, upstream, **GIVEN)


def _every_route() -> list[tuple[str, str, str]]:
    from opentracy.engine.app import HOT
    from opentracy.engine.table import ROUTES

    hot = [(method, path.decode(), scope) for path, (method, scope, _) in HOT.items()]
    return hot + [(r.method, r.path.replace(":path", ""), r.scope) for r in ROUTES]


@pytest.mark.parametrize("credential", ["none", "wrong", "basic", "query", "huge", "inference", "read", "admin"])
@pytest.mark.parametrize(("method", "path", "scope"), _every_route())
def test_every_route_with_every_credential(locked: Engine, credential: str, method: str, path: str, scope: str) -> None:
    """Made from the engine's own routes: without the route's scope nothing but 401 or 403 comes back."""
    if scope == "public" or path == "/v1/reload" or "tail" in path:
        pytest.skip("open to all" if scope == "public" else "covered where its effect is tested")
    headers = {
        "wrong": {"authorization": "Bearer nope"}, "basic": {"authorization": "Basic aW5mOng="},
        "huge": {"authorization": "Bearer " + "x" * 10_000},
    }.get(credential, {})  # fmt: skip
    if credential in SCOPES:
        headers = {"authorization": f"Bearer {GIVEN[{'inference': 'INFERENCE_KEY', 'read': 'READ_KEY', 'admin': 'ADMIN_KEY'}[credential]]}"}
    target = path.replace("{", "").replace("}", "") + ("?api_key=" + GIVEN["ADMIN_KEY"] if credential == "query" else "")
    reply = locked.request(method, target, {} if method != "GET" else None, headers)
    if credential not in SCOPES:
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
    elif scope not in SCOPES[credential]:
        assert reply.status == 403
    else:
        assert reply.status not in (401, 403)


def test_the_routes_are_these() -> None:
    """A new route must be added here, with its scope thought about."""
    public = {path for _, path, scope in _every_route() if scope == "public"}
    pages = {"/", "/assets/{name}", "/traces", "/traces/{trace_id}", "/routing", "/playground", "/spend", "/datasets",
             "/datasets/{name}", "/system"}  # fmt: skip
    session = {"/v1/dashboard/session", "/v1/dashboard/login", "/v1/dashboard/logout"}
    assert public == pages | session | {"/health", "/health/live", "/health/ready", "/openapi.json"}


def test_keys_are_nowhere(locked: Engine, upstream: FaultServer) -> None:
    """S15: neither the engine's nor the providers' keys appear in answers, logs, metrics or the store's raw bytes."""
    locked.headers = {"authorization": f"Bearer {GIVEN['ADMIN_KEY']}"}
    upstream(error(401, "Incorrect API key provided: sk-openai-secret-0123456789"))
    bodies = [locked.chat().body, locked.request("GET", "/v1/config").body, locked.request("GET", "/metrics").body,
              locked.request("GET", "/health").body, locked.request("GET", "/v1/traces/export").body]  # fmt: skip
    stored = [p.read_bytes() for p in locked.home.iterdir() if p.is_file()]
    for data in (*bodies, *stored):
        for secret in (*GIVEN.values(), "sk-openai-secret-0123456789"):
            assert secret.encode() not in data

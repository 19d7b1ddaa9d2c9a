"""One call, every way it can be made: streamed or not, blocking or not, directly or through the engine.

For all 13 providers the provider sees the same body (but for the stream switches), and the caller gets the same answer
at the same cost.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from five_wires import SCENES, Upstream

import opentracy as ot

MODELS = {
    "openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash",
    "groq": "llama-3.3-70b-versatile", "mistral": "mistral-large-latest", "deepseek": "deepseek-chat",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "fireworks": "accounts/fireworks/models/llama-v3p3-70b-instruct",
    "cerebras": "llama3.1-8b", "sambanova": "Meta-Llama-3.3-70B-Instruct", "perplexity": "sonar",
    "cohere": "command-a-03-2025", "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}  # fmt: skip
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is the weather in Oslo?"}]
TOOLS = [
    {"type": "function", "function": {"name": n, "description": d, "parameters": {"type": "object", "properties": p}}}
    for n, d, p in (("weather", "Weather of a city", {"city": {"type": "string"}}), ("clock", "The time", {}))
]
# a provider whose API offers no tools gets none, and so cannot be asked for them
NO_TOOLS = {"perplexity"}
SWITCHES = ("stream", "stream_options")


def meaning(r: Any) -> dict[str, Any]:
    """What of an answer must not depend on how it was fetched."""
    message = r.choices[0].message
    calls = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]
    usage = {k: v for k, v in dict(r.usage).items() if v}
    return {
        "content": message.content or "", "reasoning": message.get("reasoning_content") or "", "calls": calls,
        "finish": r.choices[0].finish_reason, "usage": usage, "cost": r._cost, "model": r.model, "provider": r._provider,
    }  # fmt: skip


def stripped(seen: tuple[str, Any]) -> tuple[str, Any]:
    """A request without what only says whether it streams."""
    path, body = seen
    path = (
        path.partition("?")[0]
        .replace("streamGenerateContent", "generateContent")
        .replace("converse-stream", "converse")
    )
    return path, {k: v for k, v in body.items() if k not in SWITCHES}


def ways(provider: str, **kw: Any) -> dict[str, Any]:
    """The call in its four direct shapes, each folded to a whole answer."""
    given = {"model": f"{provider}/{MODELS[provider]}", "messages": MESSAGES, "max_tokens": 2000, **kw}

    def streamed() -> Any:
        with ot.completion(**given, stream=True) as stream:
            for _ in stream:
                pass
        return stream.response

    async def astreamed() -> Any:
        stream = await ot.acompletion(**given, stream=True)
        async for _ in stream:
            pass
        return stream.response

    async def aplain() -> Any:
        return await ot.acompletion(**given)

    return {
        "plain": ot.completion(**given),
        "stream": streamed(),
        "async plain": asyncio.run(aplain()),
        "async stream": asyncio.run(astreamed()),
    }


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("provider", MODELS)
def test_the_same_call_every_way(
    provider: str, scene: str, upstream: Upstream, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.scene = SCENES[scene]
    if upstream.scene.calls and provider in NO_TOOLS:
        pytest.skip(f"{provider} offers no tools")
    kw = {"tools": TOOLS} if upstream.scene.calls else {}
    direct = ways(provider, **kw)
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", engine)
    routed = ways(provider, **kw)
    reference = meaning(direct["plain"])
    assert reference["content"] == upstream.scene.text
    assert reference["reasoning"] == upstream.scene.thinking
    assert [name for _, name, _ in reference["calls"]] == [name for _, name, _ in upstream.scene.calls]
    assert reference["usage"]["prompt_tokens"] == upstream.scene.prompt
    for way, answer in [*direct.items(), *((f"{k} through the engine", v) for k, v in routed.items())]:
        assert meaning(answer) == reference, way
    requests = [stripped(seen) for seen in upstream.seen]
    assert len(requests) == 8
    assert all(request == requests[0] for request in requests), requests

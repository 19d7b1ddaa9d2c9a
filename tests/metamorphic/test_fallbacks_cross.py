"""A target that fails, whatever way, and a fallback in whatever dialect: the answer is the fallback's own, and no more.

The caller sees each content once, hears who answered and how many requests that took, and after the first content of a
stream nobody else is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from five_wires import SCENES, Upstream
from test_same_call_everywhere import MESSAGES, MODELS, TOOLS, meaning

import opentracy as ot
from faultserver import EVENTS, FaultServer, answer, drop, error, event, hang, reset, stream

FALLBACKS = ("openai", "anthropic", "gemini", "cohere", "bedrock")
EARLY = {
    "500": error(500), "401": error(401), "a long wait": error(429, retry_after=90), "reset": reset, "no answer": drop,
    "filtered": error(400), "hangs": hang, "no protocol": answer(body=b"<html>"),
}  # fmt: skip
BEFORE_CONTENT = {
    **EARLY, "empty": stream(b"\n"), "only a role": stream(EVENTS[0]), "stalls": stream(EVENTS[0], end=b"", then=hang),
    "an error event": stream(EVENTS[0], event({}, error={"message": "boom", "code": 500})),
}  # fmt: skip
AFTER_CONTENT = {
    "cut": stream(*EVENTS[:2], end=b""), "ends early": stream(*EVENTS[:2]), "stalls": stream(*EVENTS[:2], end=b"", then=hang),
    "an error event": stream(*EVENTS[:2], event({}, error={"message": "boom", "code": 500})),
}  # fmt: skip


@pytest.fixture(scope="module")
def failing() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


def asked(failing: FaultServer, fault: str, fallback: str, **kw: Any) -> dict[str, Any]:
    """One that never answers is waited for as long as the fallback may take: no longer than a busy machine needs."""
    first = {"model": "groq/llama-3.3-70b-versatile", "api_base": failing.base, "api_key": "gsk-first"}
    times = {"timeout": 1.0 if fault in ("hangs", "stalls") else 10.0, "max_tokens": 99}
    return {**first, **times, "messages": MESSAGES, "fallbacks": [f"{fallback}/{MODELS[fallback]}"], **kw}


def both(kw: dict[str, Any]) -> Iterator[tuple[Any, list[str]]]:
    """The call, blocking and not: the whole answer, or the error; and the texts of a stream's chunks."""

    def blocking(texts: list[str]) -> Any:
        r = ot.completion(**kw)
        if kw.get("stream"):
            for c in r:
                texts.append(c.choices[0].delta.content or "")
            return r.response
        return r

    async def waiting(texts: list[str]) -> Any:
        r = await ot.acompletion(**kw)
        if kw.get("stream"):
            async for c in r:
                texts.append(c.choices[0].delta.content or "")
            return r.response
        return r

    for way in (blocking, lambda texts: asyncio.run(waiting(texts))):
        texts: list[str] = []
        try:
            found = way(texts)
        except ot.APIError as e:
            found = e
        yield found, texts


@pytest.mark.parametrize("fallback", FALLBACKS)
@pytest.mark.parametrize(("streamed", "fault"), [*((False, f) for f in EARLY), *((True, f) for f in BEFORE_CONTENT)])
def test_the_fallback_answers(upstream: Upstream, failing: FaultServer, streamed: bool, fault: str, fallback: str) -> None:
    upstream.scene = SCENES["text and tool"]
    wanted = meaning(ot.completion(f"{fallback}/{MODELS[fallback]}", MESSAGES, max_tokens=99, tools=TOOLS))
    failing(BEFORE_CONTENT[fault])
    upstream.seen.clear()
    for found, texts in both(asked(failing, fault, fallback, stream=streamed, tools=TOOLS)):
        assert isinstance(found, ot.ModelResponse), found
        assert meaning(found) == wanted
        assert "".join(texts) == (wanted["content"] if streamed else "")
        routing = found._routing
        assert (routing["provider"], routing["selected_model"]) == (fallback, MODELS[fallback])
        assert routing["attempts"] == 2
    assert (len(failing.seen), len(upstream.seen)) == (2, 2)
    assert {x.headers["authorization"] for x in failing.seen} == {"Bearer gsk-first"}


@pytest.mark.parametrize("fault", AFTER_CONTENT)
def test_nobody_else_is_asked_after_the_first_content(upstream: Upstream, failing: FaultServer, fault: str) -> None:
    failing(AFTER_CONTENT[fault])
    upstream.seen.clear()
    for found, texts in both(asked(failing, fault, "anthropic", stream=True, num_retries=2)):
        assert isinstance(found, ot.APIError)
        assert "".join(texts) == found.partial.choices[0].message.content == "hel"
        assert (found.provider, found.attempts) == ("groq", 1)
    assert upstream.seen == []

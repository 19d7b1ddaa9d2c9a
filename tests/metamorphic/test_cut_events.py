"""A stream that ends in the middle of an event has ended early, in every dialect: nothing is said of broken events."""

from __future__ import annotations

import pytest
from five_wires import SCENES, WIRES

from opentracy.core.wire import Call, HttpHead
from opentracy.providers import registry

MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5", "gemini": "gemini/gemini-2.5-flash",
          "cohere": "cohere/command-a-03-2025", "bedrock": "bedrock/amazon.nova-lite-v1:0"}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", MODELS)
def test_any_clean_end_before_the_finish_is_a_cut(name: str, scene: str) -> None:
    target = registry.target(MODELS[name], env={}, api_base="http://localhost")
    data = WIRES[name].stream(SCENES[scene], target.model)
    finished = 0
    for at in range(len(data)):
        decoder = target.dialect.open_stream(Call([], {}, True), target, HttpHead(200, {}))
        chunks = decoder.feed(data[:at])
        shown = decoder.progress
        chunks += decoder.close()
        failure = decoder.failure
        if failure is None:
            assert chunks[-1]["choices"][0]["finish_reason"]
            finished += 1
        else:
            assert not finished, "the finish was there already"
            assert failure.code == ("stream_truncated" if decoder.progress else "empty_stream"), data[:at][-60:]
            assert failure.retryable
            assert decoder.progress - shown <= 1
    assert finished

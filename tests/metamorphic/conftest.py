"""The thirteen providers on one test upstream, for the SDK and for a real engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from five_wires import Upstream

from running import free_port, no_opentracy_environment

BASE = {
    "openai": "/v1",
    "groq": "/openai/v1",
    "mistral": "/v1",
    "together": "/v1",
    "fireworks": "/inference/v1",
    "cerebras": "/v1",
    "sambanova": "/v1",
}
PROVIDERS = (
    "openai", "anthropic", "gemini", "groq", "mistral", "deepseek", "together", "fireworks", "cerebras", "sambanova",
    "perplexity", "cohere", "bedrock",
)  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream().start()
    yield server
    server.stop()


def environment(root: str) -> dict[str, str]:
    out = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-at-all",
        "AWS_REGION": "us-east-1",
    }
    for name in PROVIDERS:
        out[f"{name.upper()}_API_BASE"] = root + BASE.get(name, "")
        if name != "bedrock":
            out[f"{name.upper()}_API_KEY"] = "test-key-0123456789"
    return out


@pytest.fixture(scope="module")
def engine(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home, port = tmp_path_factory.mktemp("metamorphic"), free_port()
    env = {**no_opentracy_environment(), **environment(upstream.root), "OPENTRACY_DATA_HOME": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "opentracy", "serve", "--port", str(port)], env=env, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/health/live", timeout=2).close()
            break
        except OSError:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(40)


@pytest.fixture(autouse=True)
def clean(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(no_opentracy_environment()):
        monkeypatch.delenv(name)
    for name, value in environment(upstream.root).items():
        monkeypatch.setenv(name, value)
    upstream.seen.clear()

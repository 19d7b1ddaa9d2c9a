"""Starts real engine processes in front of a scripted provider."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from engine_process import KEYS, Engine, Start, bare_environment, free_port

import opentracy.engine.direct as direct_module
from faultserver import FaultServer


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The model of each call that began the short way."""
    began: list[str] = []
    for name in ("DirectCall", "DirectStream"):
        real = getattr(direct_module, name)

        class Counted(real):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any) -> None:
                began.append(args[5])
                super().__init__(*args)

        monkeypatch.setattr(direct_module, name, Counted)
    yield began


@pytest.fixture(scope="module")
def start_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts engines with a configuration text and extra environment; all are stopped at the end."""
    running: list[Engine] = []

    def start(config: str = "", upstream: FaultServer | None = None, flags: tuple[str, ...] = (), **env: str) -> Engine:
        home = tmp_path_factory.mktemp("engine")
        (home / "opentracy.toml").write_text(config)
        port, log = free_port(), home / "log"
        environ = {**bare_environment(), "OPENTRACY_DATA_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        if upstream is not None:
            for name in KEYS:
                environ[f"{name}_API_BASE"] = f"http://127.0.0.1:{upstream.port}/v1"
                environ[f"{name}_API_KEY"] = f"sk-{name.lower()}-secret-0123456789"
        command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), "--config", str(home / "opentracy.toml")]
        with log.open("wb") as out:
            process = subprocess.Popen([*command, *flags], env={**environ, **env}, stdout=out, stderr=out)
        engine = Engine(port, home, process, log)
        running.append(engine)
        for _ in range(400):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                if engine.request("GET", "/health/live").status == 200:
                    return engine
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    yield start
    for engine in running:
        if engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait(10)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server


@pytest.fixture(scope="module")
def engine(start_engine: Start, upstream: FaultServer) -> Engine:
    """An engine with an alias and short limits, in front of the scripted provider."""
    config = """
[limits]
first_token = 1.5
idle = 1.0
num_retries = 1
keepalive = 0.4

[aliases.smart]
model = "openai/gpt-4o"
fallbacks = ["groq/llama-3.3-70b-versatile"]
num_retries = 0
"""
    return start_engine(config, upstream)

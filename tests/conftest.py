"""Fixtures that several suites share: the stand-in providers, a real engine on them, and a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import hypothesis
import pytest

from opentracy.engine.standin import StandIn
from running import RunningEngine, free_port, no_opentracy_environment

# started in the background of a shell we would ignore Ctrl-C, and so would every command that a test starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# a busy machine is no failure: Hypothesis measures the wall clock by default
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    with StandIn(gap=0) as s:
        yield s


@pytest.fixture
def stand_in_environment(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Points the SDK in this process at the stand-in, and at nothing else."""
    for name in set(os.environ) - set(no_opentracy_environment()):
        monkeypatch.delenv(name)
    for name, value in stand_in.environment.items():
        monkeypatch.setenv(name, value)
    return stand_in


@pytest.fixture(scope="session")
def demo_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """One `opentracy serve --demo` for the whole session, with a store of its own."""
    home, port = tmp_path_factory.mktemp("demo-engine"), free_port()
    command = [sys.executable, "-m", "opentracy", "serve", "--demo", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**no_opentracy_environment(), "OPENTRACY_DATA_HOME": str(home)}, stdout=log, stderr=log
        )
    engine = RunningEngine(f"http://127.0.0.1:{port}", home, process)
    for _ in range(300):
        try:
            urllib.request.urlopen(engine.url + "/health/ready", timeout=2).close()
            break
        except OSError:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
    else:
        process.kill()
        pytest.fail("the engine did not become ready:\n" + (home / "log").read_text())
    yield engine
    process.terminate()
    process.wait(40)

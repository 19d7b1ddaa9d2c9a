"""Other gateways, each installed once into an environment of its own under `.bench/`, and how to start them.

Belongs here: names, versions, commands. Not here: how they are loaded (`gateways`).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).parents[1] / ".bench"


@dataclass(frozen=True)
class Gateway:
    """A server to be measured. `{port}` and `{provider}` in the command and environment are filled in at the start."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    model: str = "openai/gpt-4o-mini"


def _environment(name: str, *packages: str) -> Path:
    """The `bin` of a virtual environment with these packages, made when it is not there."""
    place = HOME / name
    if not (place / ".done").exists():
        print(f"installing {', '.join(packages)} into {place} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        command = [str(place / "bin" / "pip"), "-q", "install", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True)
        (place / ".done").touch()
    return place / "bin"


def go_engine() -> Gateway:
    """The engine of the public OpenTracy 0.4.1, written in Go: gateway mode, which stores nothing."""
    found = next(_environment("go", "opentracy==0.4.1").parent.glob("lib/*/site-packages/opentracy/_bin/*linux*"))
    env = {"GOMAXPROCS": "1", "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:{provider}", "AZURE_OPENAI_API_KEY": "x"}
    return Gateway(
        "Go engine 0.4.1", [str(found), "-gateway", "-host", "127.0.0.1", "-port", "{port}"], env, "azure/gpt-4o-mini"
    )


def litellm() -> Gateway:
    """LiteLLM's proxy with one model."""
    place = _environment("litellm", "litellm[proxy]")
    config = HOME / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: openai/gpt-4o-mini\n    litellm_params: {model: openai/gpt-4o-mini, "
        'api_base: "os.environ/BENCH_BASE", api_key: x}\n'
    )
    env = {
        "BENCH_BASE": "http://127.0.0.1:{provider}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # or it does not start without a key
    }  # fmt: skip
    return Gateway("LiteLLM proxy", [str(place / "litellm"), "--config", str(config), "--port", "{port}"], env)


def ours(name: str, home: str, model: str = "openai/gpt-4o-mini", workers: int = 1) -> Gateway:
    """This engine: traces on, content stored."""
    env = {
        "OPENTRACY_DATA_HOME": home, "OPENAI_API_BASE": "http://127.0.0.1:{provider}/v1", "OPENAI_API_KEY": "bench",
        "ANTHROPIC_API_BASE": "http://127.0.0.1:{provider}", "ANTHROPIC_API_KEY": "bench",
    }  # fmt: skip
    command = [sys.executable, "-m", "opentracy", "serve", "--port", "{port}", "--workers", str(workers)]
    return Gateway(name, command, env, model)

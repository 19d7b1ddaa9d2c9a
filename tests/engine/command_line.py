"""Commands as a user starts them, against a running engine or a store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine_process import Engine, Start, bare_environment

from faultserver import FaultServer

ADMIN = {"authorization": "Bearer adm-1"}


def started(start_engine: Start, upstream: FaultServer) -> Engine:
    """An engine that knows the administrator's key and retries nothing."""
    config = '[server]\nadmin_keys = ["env:ADMIN"]\n[limits]\nnum_retries = 0\n'
    engine = start_engine(config, upstream, ADMIN="adm-1")
    engine.headers = ADMIN
    return engine


def run(*words: str, key: str = "adm-1", env: dict[str, str] | None = None, code: int = 0, stdin: str = "") -> str:
    """What a command prints, or where it should fail what it complains of; its exit code must be `code`."""
    environ = {**bare_environment(), "OPENTRACY_API_KEY": key, "NO_COLOR": "1", **(env or {})}
    command = [sys.executable, "-m", "opentracy", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, input=stdin)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout
    return done.stdout if code == 0 else done.stderr


def rows(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def there(served: Engine) -> list[str]:
    """The option that means an engine."""
    return ["--engine", served.url]


def store(home: Path) -> list[str]:
    """The option that means a store."""
    return ["--store", str(home / "traces.db")]

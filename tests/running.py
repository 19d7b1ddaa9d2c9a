"""What several suites need to start a real engine: its address, a free port, an environment without surprises."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class RunningEngine:
    """A real `opentracy serve --demo` process."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def no_opentracy_environment() -> dict[str, str]:
    """The environment without anything that would steer the SDK or an engine."""
    ours = ("_API_KEY", "_API_BASE", "_BASE_URL")
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENTRACY_") and not k.endswith(ours)}

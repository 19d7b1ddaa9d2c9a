"""The list of changes that were made through the dashboard: who, what, when.

Belongs here: writing and reading it, a line of JSON each, in the data directory. No secret is ever part of a line.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request

from opentracy.core.jsonio import encode

if TYPE_CHECKING:
    from .app import Engine

_TAIL = 64 << 10  # bytes read back


def data_home(engine: Engine) -> Path | None:
    """Where this engine keeps its own files; None where traces are off."""
    store = engine.traces.store
    return None if store is None else store.path.parent


def note(engine: Engine, request: Request, what: str, detail: str) -> None:
    """Adds a line. A disk that is full must not undo the change that was made."""
    home = data_home(engine)
    if home is None:
        return
    who = request.state.identity.key_id or "this machine"
    line = encode({"ts_ms": time.time_ns() // 1_000_000, "who": who, "what": what, "detail": detail[:300]}) + b"\n"
    with contextlib.suppress(OSError):
        handle = os.open(home / "changes.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def recent(engine: Engine, limit: int = 20) -> list[dict[str, Any]]:
    """The last changes, newest first."""
    home = data_home(engine)
    if home is None:
        return []
    try:
        with (home / "changes.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
        if len(found) == limit:
            break
    return found

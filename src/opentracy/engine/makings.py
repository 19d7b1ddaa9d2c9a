"""Data sets that take longer to make than anybody waits for an answer: how each of them stands.

    DATA_HOME/datasets/.making/ID.json    {"id", "state", "version", "rows", "skipped", "problem"}

Belongs here: the file, which any worker reads, for a day. Not here: making one (`datasets`), HTTP
(`dashboard_datasets`).
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

from opentracy.core.jsonio import encode

KEEP_S: Final = 24 * 3600
#: a question is given up long before: whatever is said to run since then has nobody who makes it
SILENT_S: Final = 120
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


class Making(msgspec.Struct, omit_defaults=True):
    """One of them. `version`, `rows` and `skipped` as the answer of a quick one has them, once it is done."""

    id: str
    state: Literal["running", "done", "failed"] = "running"
    version: int | None = None
    rows: int | None = None
    skipped: int | None = None
    problem: str | None = None


class Makings:
    """Those in a folder, a file each."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "datasets" / ".making"

    def save(self, making: Making) -> None:
        """Writes it so that a reader sees the old or the new state, never half; forgets those of yesterday."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._folder / f"{making.id}.part"
        part.write_bytes(encode(msgspec.to_builtins(making)))
        part.replace(self._folder / f"{making.id}.json")
        for old in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another worker was faster
                if time.time() - old.stat().st_mtime > KEEP_S:
                    old.unlink()

    def one(self, making_id: str) -> Making:
        """How it stands. Raises KeyError when there is none."""
        path = self._folder / f"{making_id}.json"
        try:
            if not _ID.match(making_id):
                raise FileNotFoundError
            making = msgspec.json.decode(path.read_bytes(), type=Making)
            if making.state == "running" and time.time() - path.stat().st_mtime > SILENT_S:
                making.state, making.problem = "failed", "the engine that made it is gone"
        except FileNotFoundError:
            raise KeyError(f"No data set is made under the id {making_id[:40]}") from None
        return making

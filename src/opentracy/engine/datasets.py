"""Datasets on disk: numbered versions that are written once and never changed, as JSON lines one can read anywhere.

    DATA_HOME/datasets/NAME/0001.jsonl    a row each: {"messages": [...], "answer": text or null, ...}
    DATA_HOME/datasets/NAME/0001.json     rows, created_ms, source

Belongs here: names, versions, rows, and making rows from traces. Not here: HTTP (`dashboard_datasets`),
running models on them (`evaluations`).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from opentracy.core.jsonio import encode
from opentracy.traces.export import fine_tuning_example, records
from opentracy.traces.filters import Filters
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_ROWS = 100_000


class Example(msgspec.Struct, omit_defaults=True):
    """One row. `answer`: what is expected; `tools` as the request offered them."""

    messages: list[dict[str, Any]]
    answer: str | None = None
    trace_id: str | None = None
    model: str | None = None
    tools: list[dict[str, Any]] | None = None


class Version(msgspec.Struct):
    """One version's label."""

    version: int
    rows: int
    created_ms: int
    source: str


class Datasets:
    """The datasets in a folder. Safe from several processes: a version's number is taken by creating its file."""

    def __init__(self, home: Path) -> None:
        self._home = home / "datasets"

    def _folder(self, name: str) -> Path:
        if not NAME.match(name):
            raise ValueError(f"Not a dataset name: {name[:70]!r} (letters, digits, . _ -, at most 64, no leading dot)")
        return self._home / name

    def names(self) -> list[str]:
        """Every dataset, by name."""
        if not self._home.is_dir():
            return []
        return sorted(p.name for p in self._home.iterdir() if NAME.match(p.name) and self.versions(p.name))

    def versions(self, name: str) -> list[Version]:
        """Oldest first; empty for a name that does not exist. Raises ValueError for text that is no name."""
        folder = self._folder(name)
        found = [msgspec.json.decode(p.read_bytes(), type=Version) for p in folder.glob("[0-9]*.json")]
        return sorted(found, key=lambda v: v.version)

    def add(self, name: str, rows: Iterable[Example], source: str) -> Version:
        """A new version. Raises ValueError for no rows or too many."""
        folder = self._folder(name)
        content = [encode(msgspec.to_builtins(row)) for row in rows]
        if not 0 < len(content) <= MAX_ROWS:
            raise ValueError(f"A version has 1 to {MAX_ROWS} rows, not {len(content)}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = max((v.version for v in self.versions(name)), default=0) + 1
        while True:
            try:
                handle = os.open(folder / f"{number:04}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:
                number += 1
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join(content) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        made = Version(number, len(content), time.time_ns() // 1_000_000, source)
        # the label comes last, whole: a version without one was never finished and is not shown
        part = folder / f"{number:04}.part"
        part.write_bytes(encode(msgspec.to_builtins(made)))
        part.replace(folder / f"{number:04}.json")
        return made

    def version(self, name: str, number: int | None = None) -> Version:
        """One version, the last without a number. Raises KeyError when there is none, ValueError as `versions`."""
        versions = self.versions(name)
        if not versions:
            raise KeyError(f"There is no dataset {name}")
        for one in versions:
            if one.version == (versions[-1].version if number is None else number):
                return one
        raise KeyError(f"{name} has no version {number}")

    def extend(self, name: str, fresh: Iterable[Example], source: str) -> Version:
        """A new version: the rows of the last one, then these. `source` is for a dataset's first version."""
        versions = self.versions(name)
        old = list(self.rows(name, versions[-1].version)) if versions else []
        return self.add(name, [*old, *fresh], versions[-1].source if versions else source)

    def lines(self, name: str, version: int, form: str) -> Iterator[bytes]:
        """The rows as they are exported: `jsonl` as they are kept, `finetune` as OpenAI takes them."""
        rows = self.rows(name, version)
        if form == "finetune":
            return fine_tuning_lines(rows)
        return (encode(msgspec.to_builtins(row)) + b"\n" for row in rows)

    def rows(self, name: str, version: int) -> Iterator[Example]:
        """The rows of a version. Raises KeyError when there is none of that number."""
        path = self._folder(name) / f"{version:04}.jsonl"
        if not path.with_suffix(".json").exists():
            raise KeyError(f"{name} has no version {version}")
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield msgspec.json.decode(line, type=Example)


def example_of(record: TraceRecord) -> Example | None:
    """The row of a trace; None when its text is missing, masked, cut off or not a chat."""
    made = fine_tuning_example(record)
    if made is None:
        return None
    *messages, answer = made["messages"]
    text = answer.get("content")
    return Example(
        messages,
        text if isinstance(text, str) else None,
        record.trace_id,
        f"{record.provider}/{record.model}",
        made.get("tools"),
    )


def selected(reader: Reader, filters: Filters, limit: int) -> tuple[list[Example], int]:
    """The newest `limit` rows that the traces of a filter give, and how many traces gave none on the way there.

    Up to four times as many traces are looked at.
    """
    rows: list[Example] = []
    skipped = 0
    for record in records(reader, filters, limit=limit * 4):
        row = example_of(record)
        if row is None:
            skipped += 1
        else:
            rows.append(row)
        if len(rows) == limit:
            break
    return rows, skipped


def examples(given: object) -> list[Example]:
    """Rows out of JSON values. Raises ValueError for what is none, and for no rows."""
    try:
        rows = msgspec.convert(given, list[Example])
    except msgspec.ValidationError as e:
        raise ValueError(f"rows must be a list of {{messages, answer}}: {e}") from None
    if not rows or not all(row.messages for row in rows):
        raise ValueError("rows must have at least one row, each with messages")
    return rows


#: what `Datasets.lines` can write
FORMS = ("jsonl", "finetune")


def fine_tuning_lines(rows: Iterable[Example]) -> Iterator[bytes]:
    """OpenAI's fine-tuning form; rows without an expected answer are left out."""
    for row in rows:
        if row.answer is not None:
            example: dict[str, Any] = {"messages": [*row.messages, {"role": "assistant", "content": row.answer}]}
            if row.tools:
                example["tools"] = row.tools
            yield encode(example) + b"\n"

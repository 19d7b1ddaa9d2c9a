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
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from opentracy.core.jsonio import encode
from opentracy.traces.export import FINISHED, fine_tuning_example, rows
from opentracy.traces.filters import Filters
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader, TraceRow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_ROWS = 100_000
_BATCH = 500  # traces that are looked at together
_LABEL = re.compile(r"(\d{4,})\.json\Z")


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
        return sorted(p.name for p in self._home.iterdir() if NAME.match(p.name) and self._numbers(p.name))

    def _numbers(self, name: str) -> list[int]:
        """The numbers of a dataset's versions, lowest first, by the names of its files. Raises ValueError as
        `versions`."""
        folder = self._folder(name)
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(found[1]) for file in files if (found := _LABEL.match(file.name)))

    def versions(self, name: str, last: int | None = None) -> list[Version]:
        """Oldest first, the `last` ones; empty for a name that does not exist. Raises ValueError for text that is no
        name."""
        numbers = self._numbers(name)
        skipped = 0 if last is None else max(0, len(numbers) - last)
        return [self._label(name, number) for number in numbers[skipped:]]

    def _label(self, name: str, number: int) -> Version:
        return msgspec.json.decode((self._folder(name) / f"{number:04}.json").read_bytes(), type=Version)

    def add(self, name: str, rows: Iterable[Example], source: str) -> Version:
        """A new version. Raises ValueError for no rows or too many."""
        return self._write(name, [encode(msgspec.to_builtins(row)) for row in rows], source)

    def _write(self, name: str, content: Sequence[bytes], source: str) -> Version:
        folder = self._folder(name)
        if not 0 < len(content) <= MAX_ROWS:
            raise ValueError(f"A version has 1 to {MAX_ROWS} rows, not {len(content)}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = max(self._numbers(name), default=0) + 1
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
        numbers = self._numbers(name)
        if not numbers:
            raise KeyError(f"There is no dataset {name}")
        if number is not None and number not in numbers:
            raise KeyError(f"{name} has no version {number}")
        return self._label(name, numbers[-1] if number is None else number)

    def extend(self, name: str, fresh: Iterable[Example], source: str) -> Version:
        """A new version: the rows of the last one, then these. `source` is for a dataset's first version."""
        added = [encode(msgspec.to_builtins(row)) for row in fresh]
        numbers = self._numbers(name)
        if not numbers:
            return self._write(name, added, source)
        # as they stand: a hundred thousand rows are not read to be written again
        old = (self._folder(name) / f"{numbers[-1]:04}.jsonl").read_bytes().splitlines()
        return self._write(name, [*old, *added], self._label(name, numbers[-1]).source)

    def lines(self, name: str, version: int, form: str) -> Iterator[bytes]:
        """The rows as they are exported: `jsonl` as they are kept, `finetune` as OpenAI takes them."""
        if form == "finetune":
            return fine_tuning_lines(self.rows(name, version))
        return self._file(name, version)

    def _file(self, name: str, version: int) -> Iterator[bytes]:
        """The lines of a version. Raises KeyError when there is none of that number."""
        path = self._folder(name) / f"{version:04}.jsonl"
        if not path.with_suffix(".json").exists():
            raise KeyError(f"{name} has no version {version}")
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield line

    def rows(self, name: str, version: int) -> Iterator[Example]:
        """The rows of a version. Raises KeyError when there is none of that number."""
        return (msgspec.json.decode(line, type=Example) for line in self._file(name, version))


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
    found: list[Example] = []
    waiting: list[TraceRow] = []
    skipped = 0
    listed = rows(reader, filters, limit=limit * 4)
    while len(found) < limit and (waiting := list(islice(listed, min(limit, _BATCH)))):
        # a text that cannot be used is not unpacked to be left out
        usable = [row.seq for row in waiting if row.outcome == "ok" and row.finish_reason in FINISHED]
        loaded = dict(zip(usable, reader.load(usable, bodies=True), strict=True))
        for row in waiting:
            record = loaded.get(row.seq)
            made = example_of(record) if record is not None else None
            if made is None:
                skipped += 1
                continue
            found.append(made)
            if len(found) == limit:
                break
    return found, skipped


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

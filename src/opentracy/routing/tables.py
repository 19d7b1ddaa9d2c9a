"""Label, prompt and prediction files: the only place of this package that touches data files.

Belongs here: reading and writing parquet, csv and jsonl through duckdb, and saying clearly what is wrong with a file.
Column contract: `prompt`, `s:<model>` scores 0..1, `c:<model>` USD per call, optional `task` and `split`; empty = not
known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from opentracy.routing.data import Labels


class TableError(ValueError):
    """A file that cannot be used; the message names the file, the column and what was expected."""


@dataclass(frozen=True, slots=True)
class Table:
    """Labels with what else the file said about its rows."""

    labels: Labels
    task: tuple[str, ...] | None = None
    split: tuple[str, ...] | None = None

    def where(self, split: str) -> Labels:
        """The rows of one split; all rows when the file has no such column."""
        if self.split is None:
            return self.labels
        return self.labels.take([i for i, s in enumerate(self.split) if s == split])


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise TableError("reading data files needs the engine extra: pip install 'opentracy[engine]'") from None
    return duckdb


def read_columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All columns of a parquet, csv or jsonl file."""
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    duckdb = _duckdb()
    reader = {".csv": "read_csv_auto", ".jsonl": "read_json_auto", ".ndjson": "read_json_auto"}.get(
        path.suffix.lower(), "read_parquet"
    )
    try:
        with duckdb.connect() as connection:
            found = connection.execute(f"select * from {reader}(?)", [str(path)]).fetchnumpy()  # noqa: S608 (fixed names)
    except duckdb.Error as error:
        raise TableError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    return dict(found)


def _texts(path: Path, columns: Mapping[str, npt.NDArray[Any]], name: str) -> tuple[str, ...]:
    column = columns[name]
    masked = np.ma.getmaskarray(column)
    values = np.ma.getdata(column)
    out = []
    for i, value in enumerate(values):
        if masked[i] or value is None:
            if name == "prompt":
                raise TableError(f"{path}: row {i} has no prompt")
            value = ""
        out.append(value if isinstance(value, str) else str(value))
    return tuple(out)


def _numbers(path: Path, columns: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.float64]:
    column = columns[name]
    try:
        return np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    except (TypeError, ValueError):
        raise TableError(f"{path}: column {name!r} must hold numbers, found {np.ma.getdata(column).dtype}") from None


def read_labels(path: Path) -> Table:
    """A label file. Raises TableError."""
    columns = read_columns(path)
    if "prompt" not in columns:
        raise TableError(f"{path}: no column 'prompt'; found {', '.join(list(columns)[:8]) or 'none'}")
    models = [c[2:] for c in columns if c.startswith("s:")]
    if not models:
        raise TableError(f"{path}: no score column; expected one column s:<model> per model, values 0..1")
    scores = np.stack([_numbers(path, columns, "s:" + m) for m in models], 1)
    costs = None
    if any("c:" + m in columns for m in models):
        empty = np.full(len(scores), np.nan)
        costs = np.stack([_numbers(path, columns, "c:" + m) if "c:" + m in columns else empty for m in models], 1)
    try:
        labels = Labels(_texts(path, columns, "prompt"), tuple(models), scores, costs)
    except ValueError as error:
        raise TableError(f"{path}: {error}") from None
    side = {name: _texts(path, columns, name) if name in columns else None for name in ("task", "split")}
    return Table(labels, side["task"], side["split"])


def read_prompts(path: Path) -> tuple[str, ...]:
    """The column `prompt` of a file; missing prompts read as empty ones."""
    columns = read_columns(path)
    if "prompt" not in columns:
        raise TableError(f"{path}: no column 'prompt'; found {', '.join(list(columns)[:8]) or 'none'}")
    masked, values = np.ma.getmaskarray(columns["prompt"]), np.ma.getdata(columns["prompt"])
    return tuple("" if m or v is None else str(v) for m, v in zip(masked, values, strict=True))


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> None:
    """Write columns as parquet (or csv, by suffix): beside the name, then renamed."""
    duckdb = _duckdb()
    table = {  # noqa: F841 (duckdb finds it by name)
        name: np.asarray(values, dtype=object if len(values) and isinstance(values[0], str) else None)
        for name, values in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.partial")
    kind = "csv, header" if path.suffix.lower() == ".csv" else "parquet"
    name = str(staged).replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"copy (select * from \"table\") to '{name}' (format {kind})")  # noqa: S608 (a quoted path)
    staged.replace(path)

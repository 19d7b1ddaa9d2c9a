"""An evaluation: models over the rows of a dataset, each answer scored, the progress kept where any worker sees it.

Belongs here: the scores, the run and its file. Not here: how a model is called (the caller is an argument), HTTP
(`dashboard_evaluations`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from opentracy.core.jsonio import encode

from .datasets import MAX_ROWS, Datasets, Example

State = Literal["running", "done", "failed", "stopped"]
PARALLEL: Final = 4
MAX_MODELS: Final = 12
MAX_FAILURES: Final = 50
SAVE_S: Final = 0.5
SILENT_S: Final = 1200  # no call takes longer: a run that was not saved since has nobody who runs it
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
#: asks a model: (status, OpenAI answer) of a request body
Ask = Callable[[dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]


# ---------------------------------------------------------------- scores
def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def overlap(answer: str, expected: str) -> float:
    """F1 over words: 1 for the same words, 0 for none in common."""
    a, b = Counter(_words(answer)), Counter(_words(expected))
    same = sum((a & b).values())
    return 2 * same / (sum(a.values()) + sum(b.values())) if same else float(not a and not b)


def exact(answer: str, expected: str) -> float:
    """1 when the words are the same in the same order; case and punctuation do not count."""
    return float(_words(answer) == _words(expected))


def contains(answer: str, expected: str) -> float:
    """1 when the expected words stand in the answer, together and in order."""
    return float(f" {' '.join(_words(expected))} " in f" {' '.join(_words(answer))} ")


def number(answer: str, expected: str) -> float:
    """1 when the last number of both is the same."""
    found, wanted = _NUMBER.findall(answer), _NUMBER.findall(expected)
    if not found or not wanted:
        return 0.0
    return float(float(found[-1].replace(",", "")) == float(wanted[-1].replace(",", "")))


GRADERS: Final[dict[str, Callable[[str, str], float]]] = {
    "overlap": overlap,
    "exact": exact,
    "contains": contains,
    "number": number,
}


# ---------------------------------------------------------------- a run
class Result(msgspec.Struct):
    """One model so far. `score` and `latency_ms` are means over the `scored`; `cost` is USD, unknown ones apart."""

    model: str
    scored: int = 0
    score: float | None = None
    errors: int = 0
    cost: float = 0.0
    unpriced: int = 0
    latency_ms: float | None = None


class Failure(msgspec.Struct):
    """A row that could not be answered or scored nothing."""

    row: int
    model: str
    reason: str
    answer: str


class Cell(msgspec.Struct):
    """One answer that was scored: which row, which model, 0..1, and USD or None."""

    row: int
    model: str
    score: float
    cost: float | None


class Evaluation(msgspec.Struct):
    """What is kept of a run."""

    id: str
    dataset: str
    version: int
    grader: str
    models: list[str]
    total: int
    started_ms: int
    state: State = "running"
    done: int = 0
    ended_ms: int | None = None
    results: list[Result] = []
    failures: list[Failure] = []
    problem: str | None = None


class Runs:
    """The evaluations in a folder, a file each, replaced whole while they run."""

    def __init__(self, home: Path) -> None:
        self._home = home / "evaluations"

    def path(self, run_id: str) -> Path:
        """The file of a run. Raises ValueError for text that is no id."""
        if not re.fullmatch(r"[0-9a-f]{32}", run_id):
            raise ValueError("Not an evaluation's id")
        return self._home / f"{run_id}.json"

    def save(self, run: Evaluation) -> None:
        """Writes it so that a reader sees the old or the new state, never half."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path(run.id)
        part = path.with_suffix(".part")
        part.write_bytes(encode(msgspec.to_builtins(run)))
        part.replace(path)

    def save_cells(self, run_id: str, cells: Sequence[Cell]) -> None:
        """Keeps every score beside the run, once, when it is over."""
        part = self.path(run_id).with_suffix(".part")
        part.write_bytes(b"".join(encode(msgspec.to_builtins(cell)) + b"\n" for cell in cells))
        part.replace(self.path(run_id).with_suffix(".cells"))

    def cells(self, run_id: str) -> list[Cell]:
        """Every score of a run that is over. Raises KeyError when there are none."""
        try:
            lines = self.path(run_id).with_suffix(".cells").read_bytes().splitlines()
        except FileNotFoundError:
            raise KeyError(f"There are no scores of an evaluation {run_id}") from None
        return [msgspec.json.decode(line, type=Cell) for line in lines]

    def one(self, run_id: str) -> Evaluation:
        """A run. Raises KeyError when there is none."""
        try:
            return msgspec.json.decode(self.path(run_id).read_bytes(), type=Evaluation)
        except FileNotFoundError:
            raise KeyError(f"There is no evaluation {run_id}") from None

    def stop(self, run_id: str) -> None:
        """Asks a run to stop, whichever worker runs it. Raises KeyError when there is none."""
        if not self.path(run_id).exists():
            raise KeyError(f"There is no evaluation {run_id}")
        self.path(run_id).with_suffix(".stop").touch()

    def stopped(self, run_id: str) -> bool:
        """Whether it was asked to."""
        return self.path(run_id).with_suffix(".stop").exists()

    def all(self, dataset: str | None = None, limit: int = 50) -> list[Evaluation]:
        """Newest first (ids begin with their time)."""
        found = []
        for path in sorted(self._home.glob("*.json"), reverse=True):
            with contextlib.suppress(msgspec.DecodeError, OSError):
                run = msgspec.json.decode(path.read_bytes(), type=Evaluation)
                if run.state == "running" and time.time() - path.stat().st_mtime > SILENT_S:
                    run.state, run.problem = "failed", "the engine that ran it is gone"
                if dataset is None or run.dataset == dataset:
                    found.append(run)
            if len(found) == limit:
                break
        return found


def planned(
    sets: Datasets, dataset: str, version: int, models: object, grader: object, limit: object, run_id: str
) -> tuple[Evaluation, list[Example]]:
    """A run that may begin, and the rows it asks about: the first `limit` that have an expected answer.

    Raises ValueError for what makes no sense (its second argument names the parameter), KeyError for a version that
    does not exist.
    """
    named = isinstance(models, list) and all(isinstance(m, str) for m in models)
    if not isinstance(models, list) or not named or not 1 <= len(models) <= MAX_MODELS:
        raise ValueError(f"models must be a list of 1 to {MAX_MODELS} names", "models")
    if not isinstance(grader, str) or grader not in GRADERS:
        raise ValueError(f"grader must be one of {', '.join(GRADERS)}", "grader")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_ROWS:
        raise ValueError(f"limit must be a whole number from 1 to {MAX_ROWS}", "limit")
    rows = list(islice((row for row in sets.rows(dataset, version) if row.answer is not None), limit))
    if not rows:
        raise ValueError("No row of this version has an expected answer to compare with", "version")
    names = list(dict.fromkeys(models))
    now = time.time_ns() // 1_000_000
    return Evaluation(run_id, dataset, version, grader, names, len(rows) * len(names), now), rows


def label_lines(sets: Datasets, runs: Runs, run_id: str) -> Iterator[bytes]:
    """The scores of a run as what a router is trained from, a JSON line a prompt. Raises KeyError as `Runs.cells`.

    {"prompt", "s:MODEL": 0..1, "c:MODEL": USD}, as `opentracy routing train` and `add-model` read them.
    """
    from .route import prompt_of

    run, cells = runs.one(run_id), runs.cells(run_id)
    found: dict[int, dict[str, Any]] = {}
    for cell in cells:
        line = found.setdefault(cell.row, {})
        line[f"s:{cell.model}"] = cell.score
        if cell.cost is not None:
            line[f"c:{cell.model}"] = cell.cost
    rows = (row for row in sets.rows(run.dataset, run.version) if row.answer is not None)
    for at, row in enumerate(rows):
        if at in found:
            yield encode({"prompt": prompt_of(row.messages)[0], **found[at]}) + b"\n"


async def evaluate(run: Evaluation, rows: Sequence[Example], ask: Ask, runs: Runs) -> None:
    """Runs it to the end, or until it is told to stop; its file always says how far it is."""
    loop = asyncio.get_running_loop()
    run.results = [Result(model) for model in run.models]
    work = ((at, row, result) for result in run.results for at, row in enumerate(rows))
    saved = 0.0
    cells: list[Cell] = []

    async def worker() -> None:
        nonlocal saved
        for at, row, result in work:  # each takes the next from the same list
            cell = await _one(run, at, row, result, ask)
            if cell is not None:
                cells.append(cell)
            run.done += 1
            if loop.time() - saved > SAVE_S:
                saved = loop.time()
                await loop.run_in_executor(None, runs.save, run)
                if await loop.run_in_executor(None, runs.stopped, run.id):
                    run.state = "stopped"
            if run.state != "running":
                return

    try:
        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        if run.state == "running":
            run.state = "done"
    except asyncio.CancelledError:
        run.state, run.problem = "stopped", "it was interrupted"
        raise
    except Exception as e:
        run.state, run.problem = "failed", f"{e.__class__.__name__}: {e}"[:300]
        raise
    finally:
        run.ended_ms = time.time_ns() // 1_000_000
        # a million scores are a hundred megabytes to write, and others are served meanwhile
        await asyncio.shield(loop.run_in_executor(None, _save_all, runs, run, cells))


def _save_all(runs: Runs, run: Evaluation, cells: Sequence[Cell]) -> None:
    runs.save_cells(run.id, cells)
    runs.save(run)


async def _one(run: Evaluation, at: int, row: Example, result: Result, ask: Ask) -> Cell | None:
    body: dict[str, Any] = {"model": result.model, "messages": row.messages}
    if row.tools:
        body["tools"] = row.tools
    status, answer = await ask(body)
    if status != 200:
        result.errors += 1
        error = answer.get("error")
        reason = str(error.get("message")) if isinstance(error, dict) else f"status {status}"
        _fail(run, Failure(at, result.model, reason[:300], ""))
        return None
    text = _text(answer)
    score = GRADERS[run.grader](text, row.answer or "")
    n = result.scored
    result.scored = n + 1
    result.score = ((result.score or 0.0) * n + score) / (n + 1)
    result.latency_ms = ((result.latency_ms or 0.0) * n + float(answer.get("_latency_ms") or 0.0)) / (n + 1)
    cost = answer.get("_cost")
    if cost is None:
        result.unpriced += 1
    else:
        result.cost += float(cost)
    if score == 0.0:
        _fail(run, Failure(at, result.model, "scored 0", text[:2000]))
    return Cell(at, result.model, score, None if cost is None else float(cost))


def _fail(run: Evaluation, failure: Failure) -> None:
    if len(run.failures) < MAX_FAILURES:
        run.failures.append(failure)


def _text(answer: dict[str, Any]) -> str:
    choices = answer.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")

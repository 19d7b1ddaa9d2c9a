"""Evaluations over HTTP: begin one, look at all, stop one.

Belongs here: checks and the task that runs it in this worker. Not here: the run itself (`evaluations`).
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.jsonio import encode

from .auth import Identity
from .dashboard_audit import data_home, note
from .dashboard_calls import ask
from .dashboard_datasets import of as datasets_of
from .datasets import MAX_ROWS, Example
from .errors import Refused
from .evaluations import GRADERS, Evaluation, Runs, evaluate
from .route import prompt_of
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine

MAX_MODELS = 12
_RUNNING: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly


def runs_of(engine: Engine) -> Runs:
    """The evaluations of this engine; Refused 404 where it has no data directory."""
    home = data_home(engine)
    if home is None:
        raise Refused(404, "Evaluations are kept beside the traces, and traces are off (traces.enabled)")
    return Runs(home)


async def listing(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/evaluations?dataset=`."""
    found = await off_loop(partial(runs_of(engine).all, request.query_params.get("dataset")))
    return json_response({"evaluations": msgspec.to_builtins(found)})


async def begin(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/evaluations` `{dataset, version, models, grader, limit}`: answers at once, runs on."""
    runs, sets = runs_of(engine), datasets_of(engine)
    body = await json_body(request)
    models, grader, limit = body.get("models"), body.get("grader", "overlap"), body.get("limit", 50)
    if (
        not isinstance(models, list)
        or not 1 <= len(models) <= MAX_MODELS
        or not all(isinstance(m, str) for m in models)
    ):
        raise Refused(400, f"models must be a list of 1 to {MAX_MODELS} names", param="models")
    models = list(dict.fromkeys(models))
    for model in models:
        if model != "auto":
            engine.state.resolve(model)
    if grader not in GRADERS:
        raise Refused(400, f"grader must be one of {', '.join(GRADERS)}", param="grader")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_ROWS:
        raise Refused(400, f"limit must be a whole number from 1 to {MAX_ROWS}", param="limit")
    name, version = body.get("dataset"), body.get("version")
    if not isinstance(name, str) or not isinstance(version, int):
        raise Refused(400, "Name a dataset and its version", param="dataset")

    def load() -> list[Example]:
        rows = (row for row in sets.rows(name, version) if row.answer is not None)
        return list(islice(rows, limit))

    try:
        rows = await off_loop(load)
    except (KeyError, ValueError) as e:
        raise Refused(404, str(e.args[0]), code="not_found") from None
    if not rows:
        raise Refused(400, "No row of this version has an expected answer to compare with", param="version")
    run = Evaluation(
        engine.new_id(), name, version, grader, models, len(rows) * len(models), time.time_ns() // 1_000_000
    )
    await off_loop(partial(runs.save, run))
    identity: Identity = request.state.identity

    async def asked(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return await ask(engine, identity, body, tags=f"evaluation,dataset:{name}")

    task = engine.loop.create_task(evaluate(run, rows, asked, runs))
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    note(engine, request, "evaluation begun", f"{name} version {version}: {', '.join(models)}")
    return json_response({"id": run.id}, 202)


async def labels(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/evaluations/{id}/labels`: the scores as what a router is trained from, a JSON line a prompt.

    {"prompt", "s:MODEL": 0..1, "c:MODEL": USD}, as `opentracy routing train` and `add-model` read them.
    """
    runs, sets = runs_of(engine), datasets_of(engine)
    run_id = request.path_params["run_id"]

    def work() -> bytes:
        run, cells = runs.one(run_id), runs.cells(run_id)
        found: dict[int, dict[str, Any]] = {}
        for cell in cells:
            line = found.setdefault(cell.row, {})
            line[f"s:{cell.model}"] = cell.score
            if cell.cost is not None:
                line[f"c:{cell.model}"] = cell.cost
        rows = (row for row in sets.rows(run.dataset, run.version) if row.answer is not None)
        lines = ({"prompt": prompt_of(row.messages)[0], **found[at]} for at, row in enumerate(rows) if at in found)
        return b"".join(encode(line) + b"\n" for line in lines)

    try:
        content = await off_loop(work)
    except (KeyError, ValueError) as e:
        raise Refused(404, str(e.args[0]), code="not_found") from None
    attachment = {"content-disposition": f'attachment; filename="labels-{run_id}.jsonl"'}
    return Response(content, 200, attachment, "application/x-ndjson")


async def stop(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/evaluations/{id}/stop`."""
    run_id = request.path_params["run_id"]
    try:
        await off_loop(partial(runs_of(engine).stop, run_id))
    except (KeyError, ValueError) as e:
        raise Refused(404, str(e.args[0]), code="not_found") from None
    return json_response({"id": run_id})

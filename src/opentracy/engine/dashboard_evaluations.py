"""Evaluations over HTTP: begin one, look at all, stop one.

Belongs here: checks and the task that runs it in this worker. Not here: the run itself (`evaluations`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .auth import Identity
from .dashboard_audit import data_home, note
from .dashboard_calls import ask
from .dashboard_datasets import of as datasets_of
from .errors import Refused
from .evaluations import Runs, evaluate, label_lines, planned
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine

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
    name, version = body.get("dataset"), body.get("version")
    if not isinstance(name, str) or isinstance(version, bool) or not isinstance(version, int):
        raise Refused(400, "Name a dataset and its version", param="dataset")
    models, grader, limit = body.get("models"), body.get("grader", "overlap"), body.get("limit", 50)
    try:
        run, rows = await off_loop(partial(planned, sets, name, version, models, grader, limit, engine.new_id()))
    except KeyError as e:
        raise Refused(404, str(e.args[0]), code="not_found") from None
    except ValueError as e:
        raise Refused(400, str(e.args[0]), param=e.args[1] if len(e.args) > 1 else "dataset") from None
    for model in run.models:
        if model != "auto":
            engine.state.resolve(model)
    await off_loop(partial(runs.save, run))
    identity: Identity = request.state.identity

    async def asked(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return await ask(engine, identity, body, tags=f"evaluation,dataset:{name}")

    task = engine.loop.create_task(evaluate(run, rows, asked, runs))
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    note(engine, request, "evaluation begun", f"{name} version {version}: {', '.join(run.models)}")
    return json_response({"id": run.id}, 202)


async def labels(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/evaluations/{id}/labels`: the scores as what a router is trained from (`label_lines`)."""
    runs, sets = runs_of(engine), datasets_of(engine)
    run_id = request.path_params["run_id"]

    try:
        content = await off_loop(lambda: b"".join(label_lines(sets, runs, run_id)))
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

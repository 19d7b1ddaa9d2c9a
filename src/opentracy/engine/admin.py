"""What only an administrator may do over HTTP: reload the configuration, look at it, and manage virtual keys' callers.

Belongs here: thin handlers. Not here: the configuration itself (`configfile`) or the swap (`app`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from .config import shown
from .configfile import ConfigError
from .errors import Refused
from .routes import json_response

if TYPE_CHECKING:
    from .app import Engine


async def reload(engine: Engine, request: Request) -> Response:
    """`POST /v1/reload`: the new configuration in every worker, or 400 with the reason and nothing changed."""
    try:
        fresh = await asyncio.get_running_loop().run_in_executor(None, engine.fresh_state)
    except (ConfigError, OSError, ValueError) as e:
        raise Refused(400, f"The configuration was not reloaded: {e}", code="invalid_config") from None
    engine.swap(fresh)
    engine.tell_siblings()
    return json_response({"status": "reloaded", "config_hash": fresh.hash})


async def config(engine: Engine, request: Request) -> Response:
    """`GET /v1/config`: what is in force; secrets appear as the references that they are."""
    return json_response({"config_hash": engine.state.hash, "config": shown(engine.state.config)})

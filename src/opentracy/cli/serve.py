"""`opentracy serve`: the engine in the foreground.

Belongs here: flags, the banner, exit codes. Not here: anything that a running engine does (`opentracy.engine`).
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import click


@click.command()
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (default 8080).")
@click.option("--workers", type=int, help="Processes that share the port (default 1).")
@click.option("--config", "config_path", envvar="OPENTRACY_CONFIG", help="The configuration file.")
@click.option("--store", help="Where traces are kept (default ~/.opentracy/traces.db).")
@click.option("--demo", is_flag=True, help="Start stand-in providers for those without a key.")
@click.option("--open", "open_browser", is_flag=True, help="Open the dashboard in a browser.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
def serve(
    host: str | None, port: int | None, workers: int | None, config_path: str | None, store: str | None, demo: bool,
    open_browser: bool, log_level: str | None,
) -> None:  # fmt: skip
    """Serve every model behind one OpenAI-compatible address."""
    from opentracy.engine.configfile import ConfigError
    from opentracy.engine.supervisor import StartError, environment

    flags: dict[str, Any] = {
        "server.host": host, "server.port": port, "server.workers": workers, "traces.path": store,
        "server.log_level": log_level,
    }  # fmt: skip
    try:
        sys.exit(_serve(config_path, environment(), flags, demo=demo, open_browser=open_browser))
    except ConfigError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2)
    except StartError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2 if "without a key" in str(e) else 1)


def _serve(
    config_path: str | None, environ: dict[str, str], flags: dict[str, Any], *, demo: bool, open_browser: bool
) -> int:
    from opentracy.engine import supervisor
    from opentracy.engine.configfile import load, parse
    from opentracy.engine.state import Snapshot

    stand_in = None
    text = None
    if demo:
        from opentracy.engine import demo as demonstration

        stand_in = demonstration.start(environ)
        text = demonstration.CONFIG

    def configure() -> Any:
        if config_path is None and text is not None:
            return parse(text, environ, flags, name="the demo's configuration")
        return load(config_path, environ, flags)

    config = configure()
    logging.basicConfig(level=config.server.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervisor.refuse_open_bind(config)
    sock = supervisor.bind(config.server.host, config.server.port)
    router, problem = supervisor.load_router(config)
    store = supervisor.open_store(config, environ)

    def snapshot() -> Snapshot:
        return Snapshot(configure(), environ, router=router, router_problem=problem)

    first = snapshot()
    _banner(first, sock.getsockname(), store)
    try:
        return supervisor.serve_one(sock, first, store, reload=snapshot)
    finally:
        if stand_in is not None:
            stand_in.stop()


def _banner(snapshot: Any, address: tuple[Any, ...], store: Any) -> None:
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    click.echo(f"opentracy engine on http://{host}:{address[1]}", err=True)
    click.echo(f"  traces   {store.path if store is not None else 'off'}", err=True)

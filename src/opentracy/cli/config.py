"""`opentracy config`: checking and showing what `opentracy serve` would read."""

from __future__ import annotations

import json
import os
import sys

import click

config_option = click.option("--config", "path", envvar="OPENTRACY_CONFIG", help="The configuration file.")


@click.group()
def config() -> None:
    """Check and show the engine's configuration."""


@config.command()
@config_option
def check(path: str | None) -> None:
    """Say whether the configuration can be used, and if not, where it cannot."""
    from opentracy.engine.configfile import ConfigError, load
    from opentracy.engine.state import Snapshot
    from opentracy.engine.supervisor import StartError, refuse_open_bind

    environ = dict(os.environ)
    try:
        settings = load(path, environ)
        Snapshot(settings, environ)
        refuse_open_bind(settings)
    except (ConfigError, StartError) as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2)
    click.echo(f"{path or 'the defaults'}: ok")


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of lines.")
def show(path: str | None, as_json: bool) -> None:
    """Show every value in force; secrets appear as the references that they are."""
    from opentracy.engine.config import shown
    from opentracy.engine.configfile import ConfigError, load

    try:
        plain = shown(load(path, dict(os.environ)))
    except ConfigError as e:
        click.echo(f"opentracy: {e}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(plain, indent=2))
        return
    for section, values in plain.items():
        if not values:
            click.echo(f"{section}: none")
        for key, value in values.items():
            click.echo(f"{section}.{key} = {json.dumps(value)}")

"""The `opentracy` command: a click group whose subcommands are imported only when they are called.

Belongs here: the table of commands and the error border (exit codes). What a command does stands in its own module.
Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 engine unreachable, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import ModuleType

    import click

# command -> "module:attribute"; a module is imported only when its command (or the full help) is asked for
COMMANDS: dict[str, str] = {
    "routing": "opentracy.cli.routing:routing",
    "route": "opentracy.cli.routing:route",
    "traces": "opentracy.cli.traces:traces",
    "stats": "opentracy.cli.traces:stats",
    "top": "opentracy.cli.top:top",
    "feedback": "opentracy.cli.traces:feedback",
    "datasets": "opentracy.cli.datasets:datasets",
    "evals": "opentracy.cli.evals:evals",
    "db": "opentracy.cli.db:db",
    "serve": "opentracy.cli.serve:serve",
    "config": "opentracy.cli.config:config",
    "complete": "opentracy.cli.complete:complete",
    "chat": "opentracy.cli.complete:chat",
    "models": "opentracy.cli.catalogue:models",
    "providers": "opentracy.cli.catalogue:providers",
    "doctor": "opentracy.cli.doctor:doctor",
    "keys": "opentracy.cli.keys:keys",
}


def build() -> click.Group:
    """The command group; subcommands load on demand."""
    import click

    from opentracy import __version__

    class Lazy(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return sorted(COMMANDS)

        def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
            where = COMMANDS.get(name)
            if where is None:
                return None
            module, _, attribute = where.partition(":")
            command = getattr(import_module(module), attribute)
            assert isinstance(command, click.Command)
            return command

    @click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="opentracy")
    def opentracy() -> None:
        """One call to any language model, and an engine that learns which model should answer which prompt."""

    return opentracy


def main() -> None:
    """Console entry point."""
    try:
        import click
    except ImportError:
        sys.exit("opentracy: the command line needs the engine extra: pip install 'opentracy[engine]'")
    try:
        code = _run(click, build())
    finally:  # also for a command that ends the process itself
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:  # as it is where it was closed before we began
                    stream.flush()
            except OSError:
                _hush(stream)
    sys.exit(code)


def _hush(stream: TextIO) -> None:
    """Whoever reads us has gone: the interpreter must not fail on flushing what is left when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(click: ModuleType, command: click.Group) -> int:
    """Runs the command; its exit code."""
    try:
        code = command.main(prog_name="opentracy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return int(error.exit_code)
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return 130
        print("Aborted!", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _hush(sys.stdout)
        return 1
    return code if isinstance(code, int) else 0

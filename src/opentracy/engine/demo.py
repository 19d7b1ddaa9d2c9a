"""What `opentracy serve --demo` serves: stand-in providers, an alias whose first target is down, and `auto`.

A provider whose key stands in the environment is used for real; the stand-in takes the place of the others only.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from .standin import StandIn

CONFIG = """\
[aliases.smart]
model = "openai/gpt-4o-unavailable"
fallbacks = ["anthropic/claude-sonnet-4-6"]
num_retries = 1

[auto]
models = ["openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4-6"]
default = "openai/gpt-4o-mini"
cost_weight = 0.1
"""


def start(environment: MutableMapping[str, str]) -> StandIn | None:
    """Starts the stand-in and points every provider without a key of its own at it; None when none needs it."""
    stand_in = StandIn()
    missing = {name.partition("_API_")[0] for name in stand_in.environment if name.endswith("_API_KEY")}
    missing = {name for name in missing if not environment.get(f"{name}_API_KEY")}
    if not missing:
        return None
    stand_in.start()
    for name, value in stand_in.environment.items():
        if name.partition("_API_")[0] in missing:
            environment[name] = value
    return stand_in

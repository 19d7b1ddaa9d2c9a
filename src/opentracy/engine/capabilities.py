"""What `auto` must know of a model: what it costs, how much it reads, and what it can take beside text.

Belongs here: facts about models and providers, those that no price table holds among them. What is not known counts as
able: the provider then says no, and the next model is asked.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from opentracy.core.pricing import context_window, expected_cost
from opentracy.providers import registry

if TYPE_CHECKING:
    from opentracy.routing import Candidate

# families that read text alone; a name with one of the marks after it belongs to a sister that sees
_TEXT_ONLY = re.compile(
    r"(?:^|[/.])(?:deepseek|gpt-3\.5|gpt-oss|o1-mini|o3-mini|mixtral|mistral-7b|open-mi|codestral|ministral-[38]b-2410"
    r"|(?:meta-)?llama-?v?[23](?:[.p-]?[13])?-|(?:meta\.)llama3|qwen-?2(?:[.p]5)?-|qwen-?3-|kimi-k2|glm-4[.p][56]\b"
    r"|command-(?:r|a-03)|amazon\.nova-micro|(?:us|eu)\.amazon\.nova-micro|gemma-?2|phi-[34]-mini)",
    re.IGNORECASE,
)
_SEES = re.compile(r"vision|-vl\b|-vl-|janus|scout|maverick|omni|pixtral", re.IGNORECASE)


@lru_cache(maxsize=2048)
def able(model: str) -> tuple[bool, bool, bool]:
    """(tools, images, JSON schema) of `provider/model`. Raises ValueError for a model whose provider is unknown."""
    row, name = registry.split(model)
    dropped: frozenset[str] = getattr(row.quirks, "drop", frozenset())
    sees = _TEXT_ONLY.search(name) is None or _SEES.search(name) is not None
    return "tools" not in dropped, sees, "response_format" not in dropped


def candidate(model: str) -> Candidate:
    """What the router must know of a model: prices, context, and what it can take."""
    from opentracy.routing.policy import Candidate

    row, name = registry.split(model)
    tools, images, json_schema = able(model)
    return Candidate(
        model,
        input_price=_per_token(expected_cost(row.name, name, 1000, 0)),
        output_price=_per_token(expected_cost(row.name, name, 0, 1000)),
        context=context_window(row.name, name),
        tools=tools,
        vision=images,
        json_schema=json_schema,
    )


def _per_token(thousand: float | None) -> float | None:
    return None if thousand is None else thousand / 1000

"""What the models behind Bedrock's Converse differ in, found by the vendor and version in their ids.

Only facts about models; what is done with them stands in `bedrock_request`. An id may carry a region group (`us.`,
`eu.`, `global.` ...) or be an ARN that names nothing: such a model is trusted to take everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from . import anthropic_models
from .anthropic_models import Claude

_GROUP = re.compile(r"^(?:[a-z]{2,6}|us-gov)\.(?=[a-z0-9-]+\.)")
# Structured output came to Converse with the models of late 2025; these are older, or of vendors that never had it.
_NO_SCHEMA = re.compile(
    r"amazon\.|meta\.|cohere\.|ai21\.|writer\.|stability\.|deepseek\.r1|mistral\.(?:mistral-7b|mixtral|mistral-small-24|"
    r"mistral-large-24|pixtral-large)"
)
_FORCED_BY_NAME = re.compile(r"anthropic\.|amazon\.nova")
_FORCED_ANY = re.compile(r"anthropic\.|amazon\.nova|mistral\.")


Effort = Literal["claude", "nova", "gpt", "gpt-oss", "none"]


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts about one model.

    claude: the facts of a Claude model, else None. effort: which switch sets the reasoning effort. sampling, stop:
    temperature and top_p, stop sequences are taken. json_schema: structured output is native. forced: whether a call
    can be forced, by name or at all.
    """

    claude: Claude | None
    effort: Effort
    sampling: bool
    stop: bool
    json_schema: bool
    forced: Literal["name", "any", "no"]
    nova: bool
    echo_thoughts: bool


@lru_cache(maxsize=512)
def traits(model: str) -> Traits:
    """Facts about the model of this id."""
    name = model.lower()
    name = name.rpartition("/")[2] if name.startswith("arn:") else name
    name = _GROUP.sub("", name)
    claude = anthropic_models.facts(name) if "claude" in name else None
    effort: Effort = "none"
    gpt = name.startswith("openai.")
    if claude is not None:
        effort = "claude"
    elif name.startswith("amazon.nova-2"):
        effort = "nova"
    elif gpt:
        effort = "gpt-oss" if name.startswith("openai.gpt-oss") else "gpt"
    unknown = "." not in name  # an application inference profile, an imported model
    return Traits(
        claude=claude,
        effort=effort,
        sampling=effort != "gpt" and (claude is None or claude.sampling),
        stop=not gpt,
        json_schema=claude.json_schema if claude is not None else _NO_SCHEMA.match(name) is None,
        forced="name" if unknown or _FORCED_BY_NAME.match(name) else "any" if _FORCED_ANY.match(name) else "no",
        nova=name.startswith("amazon.nova"),
        echo_thoughts=unknown or claude is not None,
    )

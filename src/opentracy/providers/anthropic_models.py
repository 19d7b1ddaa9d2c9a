"""What the Claude models differ in, found by family and version in their names.

Only facts about models. What is done with them stands in `anthropic_request`. Source: Anthropic's reference, and the
model notes of PROTOCOLS section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_NEW = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_OLD = re.compile(r"claude-(\d{1,2})(?:[-.](\d))?(?:-([a-z]+))?(?!\d)")


@dataclass(frozen=True, slots=True)
class Claude:
    """Facts about one model.

    thinking: how reasoning is asked for ("none": not at all). off: the kind of `thinking` that stops it, as far as it
    can be stopped ("": it cannot). unasked: it thinks unless told otherwise. hidden_thinking: the text of thoughts
    comes only when asked for. xhigh: that effort is known. sampling: temperature, top_p, top_k are taken.
    sampling_pair: temperature and top_p are taken together. forced_tool: `tool_choice` may force a call. json_schema:
    structured output is native. max_tokens: what to ask for when the caller does not say (the wire demands a number);
    most: the most that may be asked for.
    """

    thinking: Literal["none", "budget", "adaptive"] = "budget"
    sampling: bool = True
    sampling_pair: bool = True
    forced_tool: bool = True
    off: Literal["disabled", "between_tools", ""] = "disabled"
    unasked: bool = False
    json_schema: bool = True
    xhigh: bool = False
    hidden_thinking: bool = False
    max_tokens: int = 4096
    most: int = 64000


@lru_cache(maxsize=512)
def facts(model: str) -> Claude:
    """Facts about the model of this name; of a name that tells no version: those that offend no model."""
    found = _family(model.lower())
    if found is None:
        named = "claude" in model.lower()
        mythos = "mythos" in model.lower()
        return Claude(
            thinking="adaptive" if named else "budget", forced_tool=not mythos, off="" if mythos else "disabled",
            unasked=mythos,
        )  # fmt: skip
    family, version = found
    if version < (3, 7):
        return Claude(thinking="none", json_schema=False, max_tokens=8192 if version == (3, 5) else 4096)
    latest = version >= (4, 7)
    always = family in ("fable", "mythos") or (family == "opus" and version >= (5, 5))  # never without thoughts
    return Claude(
        thinking="adaptive" if version >= (4, 6) else "budget",
        sampling=not latest,
        sampling_pair=version < (4, 1),
        forced_tool=not always and not (family == "sonnet" and version >= (5, 5)),
        off="" if always else "between_tools" if family == "sonnet" and version >= (5, 5) else "disabled",
        unasked=version >= (5, 0),
        json_schema=version >= (4, 5) or (family, version) == ("opus", (4, 1)),
        xhigh=latest,
        hidden_thinking=latest,
        max_tokens=16384,
        most=32000 if family == "opus" and version < (4, 5) else 64000,
    )


def _family(name: str) -> tuple[str, tuple[int, int]] | None:
    """("sonnet", (4, 5)) of claude-sonnet-4-5-20250929, claude-3-5-haiku-latest ..."""
    new = _NEW.search(name)
    if new:
        return new[1], (int(new[2]), int(new[3] or 0))
    old = _OLD.search(name)
    return (old[3] or "", (int(old[1]), int(old[2] or 0))) if old else None

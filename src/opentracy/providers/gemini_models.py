"""What the Gemini models differ in, found by version and tier in their names.

Only facts about models. What is done with them stands in `gemini_request`. Source: Google's reference, and the model
notes of PROTOCOLS section 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_NAME = re.compile(r"gemini-(?:(\d{1,2})(?:\.(\d{1,2}))?)?")
_LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}


@dataclass(frozen=True, slots=True)
class Gemini:
    """Facts about one model.

    thinking: how reasoning is asked for. minimal, medium: these levels of it are known. signatures: a function call
    must come back with a thought signature. json_schema: full JSON schemas are taken, not only the OpenAPI subset.
    schema_with_tools: structured output and function tools may be asked for together. result_media: pictures may stand
    inside a function's result. system: a system instruction is known.
    """

    thinking: Literal["none", "budget", "level"] = "level"
    pro: bool = False
    minimal: bool = True
    medium: bool = True
    signatures: bool = True
    json_schema: bool = True
    schema_with_tools: bool = True
    result_media: bool = True
    system: bool = True

    def thinking_config(self, effort: object) -> dict[str, object] | None:
        """`thinkingConfig` for OpenAI's `reasoning_effort`; None when the model does not think."""
        if self.thinking == "none":
            return None
        if effort != "none" and (not isinstance(effort, str) or effort not in _LEVELS):
            raise ValueError(f"reasoning_effort must be one of none, {', '.join(_LEVELS)}, not {effort!r}")
        if self.thinking == "budget":
            if effort == "none":
                return {"thinkingBudget": 128 if self.pro else 0}  # pro models cannot stop thinking altogether
            return {"thinkingBudget": _BUDGETS[effort], "includeThoughts": True}
        level = "minimal" if effort == "none" else _LEVELS[effort]
        if level == "minimal" and (self.pro or not self.minimal):
            level = "low"
        if level == "medium" and not self.medium:
            level = "high"
        return {"thinkingLevel": level, **({} if effort == "none" else {"includeThoughts": True})}


@lru_cache(maxsize=512)
def facts(model: str) -> Gemini:
    """Facts about the model of this name; a name without a version counts as a current model."""
    name = model.lower()
    found = _NAME.search(name)
    pro = "-pro" in name
    flash = "-flash" in name and "-lite" not in name
    if found is None and "gemini" not in name:
        gemma = "gemma" in name
        return Gemini(
            thinking="none", signatures=False, json_schema=not gemma, schema_with_tools=False, result_media=False,
            system=not gemma,
        )  # fmt: skip
    if found is None or found[1] is None:
        return Gemini(pro=pro, minimal=not flash)
    version = (int(found[1]), int(found[2] or 0))
    if version < (3, 0):
        thinks = version >= (2, 5) and "image" not in name and "tts" not in name
        return Gemini(
            thinking="budget" if thinks else "none", pro=pro, signatures=False, json_schema=version >= (2, 0),
            schema_with_tools=False, result_media=False,
        )  # fmt: skip
    return Gemini(pro=pro, minimal=not (flash and version >= (3, 7)), medium=not (pro and version == (3, 0)))

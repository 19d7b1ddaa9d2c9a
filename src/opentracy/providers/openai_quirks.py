"""How servers that speak OpenAI's wire format deviate from it: typed settings, one object per registry row.

Only data. What is done with a setting stands in the module of the dialect that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class ModelRule:
    """What one family of models refuses, found by a pattern at the start of the lower-case model name.

    `drop`: parameters it refuses; `only`: those it takes with this one value only; both hold, with `when_effort`, only
    while a `reasoning_effort` other than "none" is asked for. `cap`: the name it wants for the output cap.
    `effort`: the values of `reasoning_effort` it knows, by OpenAI's value.
    """

    pattern: str
    drop: frozenset[str] = NONE
    only: Mapping[str, Any] = field(default_factory=dict)
    when_effort: bool = False
    cap: Literal["max_tokens", "max_completion_tokens"] | None = None
    effort: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Quirks:
    """Deviations of one provider; the defaults are OpenAI's own behaviour."""

    path: str = "/chat/completions"
    """Appended to the base URL."""
    auth: Literal["bearer", "api-key"] = "bearer"
    """How the key travels."""
    cap: Literal["either", "max_tokens", "max_completion_tokens"] = "either"
    """Name of the output cap; "either": both are taken as given."""
    drop: frozenset[str] = NONE
    """Known OpenAI parameters without an equivalent."""
    single: frozenset[str] = NONE
    """Parameters that are taken only with the value 1."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """OpenAI's name -> the provider's name."""
    effort: Mapping[str, str] = field(default_factory=dict)
    """Values of `reasoning_effort` that are spelled otherwise."""
    effort_off: Mapping[str, Any] = field(default_factory=dict)
    """What is sent instead of `reasoning_effort: "none"`."""
    rules: tuple[ModelRule, ...] = ()
    """Families of models with rules of their own; the first that fits."""
    tiers: Mapping[str, str] = field(default_factory=dict)
    """Values of `service_tier` that are spelled otherwise."""
    usage_option: bool = True
    """Usage of a stream must be asked for; False: it comes anyway, and `stream_options` is refused."""
    developer_role: bool = False
    """The role `developer` is known."""
    alternate: bool = False
    """System messages come first, then user and assistant strictly take turns."""
    nine_char_ids: bool = False
    """Tool-call ids must be exactly nine letters or digits."""
    echo: frozenset[str] = NONE
    """Fields that we added to an answer and that go back with the next turn."""
    echo_tool_reasoning: bool = False
    """`reasoning_content` goes back within turns that call tools."""
    blank_reasoning: str = ""
    """Pattern of models that refuse turns with tool calls without `reasoning_content`; an empty one will do."""
    thoughts_in_content: str | None = None
    """`reasoning_content` goes back as a part of the content: pattern of models that always think; the others do where
    a `reasoning_effort` is asked for. None: it does not go back so."""
    cache_marks: bool = False
    """`cache_control` on content parts and tools is understood."""
    schema: bool = True
    """`response_format` of type json_schema is understood."""
    format_with_tools: bool = True
    """`response_format` may be asked for together with tools."""
    int_logprobs: bool = False
    """`logprobs` is a number."""
    files: Literal["file", "document_url", "file_url"] = "file"
    """The content part that holds a document."""
    rich_results: bool = False
    """Tool results may hold pictures and files; elsewhere these follow in a message of the user's."""
    openai_messages: bool = False
    """Fields that OpenAI alone puts into its messages (a refusal, speech) may come back; elsewhere they become text."""
    allowed_tools: bool = False
    """`tool_choice` may list the tools that may be called; elsewhere only these are sent."""
    whole_functions: bool = False
    """A function must have `parameters`, even if it takes none."""
    tool_history: bool = True
    """Calls and their results may stand in the history; else they are told in words."""
    max_temperature: float = 2
    """OpenAI's scale goes to 2; beyond this the provider refuses."""
    json_object: bool = True
    """`response_format` of type json_object is understood."""
    prefill: bool = False
    """A last assistant message must be marked as the beginning of the answer."""
    names: bool = True
    """Messages may carry `name`."""
    model_prefix: str = ""
    """Put before model names that have no slash."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request header -> option that fills it."""
    embeddings: bool = True
    """There is an /embeddings beside the chat path."""
    deployments: bool = False
    """URLs name deployments and an API version."""
    think_tags: str = ""
    """Pattern of models that put their reasoning into the text, as `<think>...</think>` at its start."""
    reasoning_outside: bool = False
    """`completion_tokens` does not hold the reasoning tokens; only the total does."""
    verbatim: bool = False
    """The other side is our own engine: nothing is changed."""


DEFAULT = Quirks()


@lru_cache(maxsize=1024)
def rule_for(quirks: Quirks, model: str) -> ModelRule | None:
    """The rule of the model's family, if it has one."""
    name = model.lower().removeprefix("ft:")
    return next((rule for rule in quirks.rules if re.match(rule.pattern, name)), None)


@lru_cache(maxsize=1024)
def thinks_in_text(quirks: Quirks, model: str) -> bool:
    """Whether this model's answers may begin with `<think>`."""
    return bool(quirks.think_tags) and re.match(quirks.think_tags, model.lower()) is not None


@lru_cache(maxsize=64)
def echoing(quirks: Quirks, name: str) -> Quirks:
    """The same provider, where it takes back one more of the fields that its answers carry."""
    return replace(quirks, echo=quirks.echo | {name})

"""In which words providers say two things for which they have no common code: the prompt does not fit, and the content
is not allowed.

Only wordings. Which answers are looked at, and what follows, stands in `failure`: a wording alone proves nothing, an
outage may mention any of them.
"""

from __future__ import annotations

import re

OVERFLOW = "context_length_exceeded"
POLICY = "content_policy_violation"
POLICY_CODES = frozenset(
    {POLICY, "content_filter", "content_policy", "content_filtered", "responsibleaipolicyviolation",
     "data_inspection_failed", "moderation_blocked"}
)  # fmt: skip
"""Codes, in lower case, by which a provider says it itself."""

_OVERFLOW = re.compile(
    r"context[_ ](?:length|window)[_ ]exceeded"
    r"|maximum (?:context|prompt|allowed input|input|sequence) length"
    r"|(?:prompt|input|request|conversation|messages?) (?:is |are )?too long"
    r"|exceed\w* (?:the |your )?(?:available |model'?s? |maximum )*context"
    r"|(?:longer|larger|greater) than the (?:model'?s )?(?:maximum )?(?:context|model) length"
    r"|context (?:window|length|size|limit) (?:is )?exceed|exceeds? (?:the )?(?:model'?s )?(?:token|context) limit"
    r"|too large for model with \d+ maximum"
    r"|(?:input|prompt) token count.{0,40}(?:exceeds|but model only supports|supports up to)"
    r"|input tokens? exceed|number of input tokens exceeds|exceeded model token limit"
    r"|too many (?:input )?tokens(?!: max[_ ]tokens)"
    r"|context length is only \d+"
    r"|reduce the length of (?:the messages|the input|your prompt)"
    r"|current length is \d+ while limit is \d+"
    r"|`inputs` (?:tokens \+ `max_new_tokens` must be|must have less than)"
    r"|cannot be greater than max_model_len|range of input length should be",
    re.I,
)
_POLICY = re.compile(
    r"content[_ ](?:policy|filter(?:ing)?|management|moderation)[_ ](?:policy|violation)"
    r"|blocked by (?:the )?(?:our )?content filter"
    r"|violat\w+ (?:our |the )?(?:\w+ )?(?:usage|content|safety) (?:polic|guideline)"
    r"|rejected (?:as a result of|by) (?:our|the) safety system|content exists risk"
    r"|(?:contains?|contain) (?:prohibited|inappropriate|sensitive) content|flagged (?:by|as|for) .{0,30}moderation"
    r"|requires moderation on|responsible ai polic|blocked by .{0,30}(?:safety|responsible ai)",
    re.I,
)


def says_overflow(message: str) -> bool:
    """Whether these are the words for a prompt that does not fit."""
    return _OVERFLOW.search(message) is not None


def says_policy(message: str) -> bool:
    """Whether these are the words for content that is not allowed."""
    return _POLICY.search(message) is not None

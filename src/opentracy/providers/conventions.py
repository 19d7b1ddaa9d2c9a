"""How OpenTelemetry's GenAI conventions name the providers (`gen_ai.provider.name`), where they do not as we do.

Belongs here: the table, for spans that leave and that come in. Not here: the attributes (`opentracy.traces.otel`).
Source: open-telemetry/semantic-conventions-genai, registry of `gen_ai.provider.name`, read in 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OTEL_NAMES: Final[Mapping[str, str]] = MappingProxyType({
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
})  # fmt: skip

"""Reading fields of JSON that should have a type and may hold anything: a provider's answer, a caller's message.

What comes from a provider is read leniently, what a caller wrote strictly, naming the field.
"""

from __future__ import annotations

from typing import Any


def text_or(value: Any, default: str) -> str:
    """A text field that should be there; `default` where it is missing, empty or no text."""
    return value if isinstance(value, str) and value else default


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of objects."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def entries(value: Any, field: str) -> list[dict[str, Any]]:
    """A field that must be a list of objects where it is given; ValueError names it otherwise."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{field} must be a list of dicts")
    return list(value)

"""A function call whose arguments come in pieces, each with the JSON path of the value it belongs to.

Vertex sends these when asked for (`streamFunctionCallArguments`). Source: PROTOCOLS section 4.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from .fields import objects

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[(\d{1,6})\]")
_VALUES = ("stringValue", "numberValue", "boolValue")
_MAX_ITEMS = 10_000


class PartialCall:
    """Collects one call. A string value may come in several pieces."""

    def __init__(self) -> None:
        self._part: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._args: dict[str, Any] = {}

    def add(self, part: dict[str, Any]) -> bool:
        """Takes one piece; whether the call is complete now."""
        function = part["functionCall"]
        self._part.update({k: v for k, v in part.items() if k != "functionCall"})
        self._function.update({k: v for k, v in function.items() if k in ("id", "name") and v})
        if isinstance(function.get("args"), dict):
            self._args.update(function["args"])
        for piece in objects(function.get("partialArgs")):
            self._put(piece)
        return not function.get("willContinue")

    def part(self) -> dict[str, Any]:
        """The whole call as a part of the usual form."""
        return {**self._part, "functionCall": {**self._function, "args": self._args}}

    def _put(self, piece: dict[str, Any]) -> None:
        steps: list[str | int] = []
        for name, single, double, number in _STEP.findall(str(piece.get("jsonPath") or "")):
            steps.append(int(number) if number else name or single or double)
        if not steps or isinstance(steps[0], int):
            return
        value = next((piece[k] for k in _VALUES if k in piece), None)
        holder: Any = self._args
        for step, following in pairwise(steps):
            empty: Any = [] if isinstance(following, int) else {}
            holder = _descend(holder, step, empty)
            if holder is None:
                return
        _set(holder, steps[-1], value)


def _descend(holder: Any, step: str | int, empty: Any) -> Any:
    """The container at `step`, made when it is not there; None where the path does not fit what came before."""
    found = _get(holder, step)
    if not isinstance(found, type(empty)):
        if found is not None:
            return None
        _set(holder, step, empty)
        found = _get(holder, step)
    return found


def _get(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(str(step))
    return holder[step] if isinstance(step, int) and isinstance(holder, list) and step < len(holder) else None


def _set(holder: Any, step: str | int, value: Any) -> None:
    before = _get(holder, step)
    if isinstance(before, str) and isinstance(value, str):
        value = before + value
    if isinstance(holder, dict):
        holder[str(step)] = value
    elif isinstance(holder, list) and isinstance(step, int) and step < _MAX_ITEMS:
        holder.extend([None] * (step + 1 - len(holder)))
        holder[step] = value

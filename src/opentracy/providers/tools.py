"""Reading OpenAI's `tools` and `tool_choice`, for the dialects whose wire has another form of them.

Belongs here: what the caller declared. How a provider spells it stands in its dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Function:
    """One declared function. `parameters` is a JSON schema of type object; `strict` None where nothing was said."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model may do: decide itself, call something, call nothing. `names`: only these functions, if any."""

    mode: Literal["auto", "required", "none"]
    names: tuple[str, ...] = ()


def functions_of(tools: Any, provider: str) -> list[Function]:
    """The declared functions; ValueError for a tool of another type, since a native wire has no place for it."""
    if tools is None:
        return []
    if not isinstance(tools, (list, tuple)):
        raise ValueError(f"tools must be a list, not {type(tools).__name__}")
    return [_function(tool, provider) for tool in tools]


def _function(tool: Any, provider: str) -> Function:
    if not isinstance(tool, dict):
        raise ValueError(f"an entry of tools must be a dict, not {type(tool).__name__}")
    kind = tool.get("type", "function")
    inner = tool.get("function")
    if kind != "function" or not isinstance(inner, dict):
        raise ValueError(f"{provider} takes only tools of type 'function', not {kind!r}")
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a function in tools needs a name")
    parameters = inner.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        parameters = {"type": "object", "properties": {}}
    elif parameters.get("type") != "object":
        parameters = {"type": "object", **parameters} if "type" not in parameters else parameters
    return Function(name, inner.get("description") or "", parameters, inner.get("strict"))


def choice_of(tool_choice: Any) -> Choice:
    """`tool_choice` in any of its forms: None, a word, a named function, `allowed_tools`."""
    if tool_choice is None or tool_choice == "auto":
        return Choice("auto")
    if tool_choice in ("required", "any"):
        return Choice("required")
    if tool_choice == "none":
        return Choice("none")
    if isinstance(tool_choice, dict):
        if tool_choice.get("type") == "allowed_tools":
            return _allowed(tool_choice.get("allowed_tools", tool_choice))
        inner = tool_choice.get("function")
        name = inner.get("name") if isinstance(inner, dict) else tool_choice.get("name")
        if isinstance(name, str) and name:
            return Choice("required", (name,))
        kind = tool_choice.get("type")
        if kind in ("auto", "any", "required", "none"):
            return choice_of(kind)
    raise ValueError(
        "tool_choice must be 'auto', 'none', 'required' or {'type': 'function', 'function': {'name': ...}}, "
        f"not {tool_choice!r}"
    )


def _allowed(inner: Any) -> Choice:
    listed = inner.get("tools") if isinstance(inner, dict) else None
    names = []
    for tool in listed if isinstance(listed, (list, tuple)) else ():
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            names.append(function["name"])
    if not names:
        raise ValueError("tool_choice of type allowed_tools needs a list of tools")
    return Choice("required" if inner.get("mode") == "required" else "auto", tuple(names))


def allowed(functions: list[Function], choice: Choice) -> list[Function]:
    """The functions that `choice` leaves to the model; ValueError when it names one that was not declared."""
    if not choice.names:
        return functions
    unknown = [n for n in choice.names if all(f.name != n for f in functions)]
    if unknown:
        raise ValueError(f"tool_choice names a function that is not among tools: {unknown[0]}")
    return [f for f in functions if f.name in choice.names]

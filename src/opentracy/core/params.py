"""What the parameters of OpenAI's chat API are, and the rules for those that a provider lacks.

The rule (the same for every dialect): a known parameter is translated where the provider has an equivalent; one without
an equivalent is dropped and the drop is reported, or refused with `strict_params`; an unknown name passes verbatim.
How a provider spells a parameter belongs to its dialect, not here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from typing import Any, is_typeddict

import msgspec

CHAT_PARAMS = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
        "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
        "store", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
EMBEDDING_PARAMS = frozenset({"dimensions", "encoding_format", "input", "user"})


def sort_params(
    params: Mapping[str, Any], supported: Collection[str], *, strict: bool, provider: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Splits `params` into the unknown ones (to be passed on verbatim) and the names of those to be dropped.

    `supported` are the known OpenAI parameters that the dialect handles itself; None values count as not given.
    `strict`: ValueError names what would have been dropped.
    """
    unknown: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in params.items():
        if value is None or name in supported:
            continue
        if name in CHAT_PARAMS:
            if name != "n" or value != 1:
                dropped.append(name)
        else:
            unknown[name] = value
    refuse_dropped(dropped, strict=strict, provider=provider)
    return unknown, tuple(dropped)


def refuse_dropped(dropped: Collection[str], *, strict: bool, provider: str) -> None:
    """With `strict_params`, a parameter that would be dropped is an error."""
    if strict and dropped:
        names = ", ".join(sorted(dropped))
        raise ValueError(f"{provider} has no equivalent for: {names} (remove it, or call without strict_params)")


def max_tokens(params: Mapping[str, Any]) -> Any:
    """The output cap under either of its names, the newer one first; None when not given."""
    value = params.get("max_completion_tokens")
    return params.get("max_tokens") if value is None else value


def stop_list(value: Any) -> list[str]:
    """`stop` as a list; a single string is a list of one."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)) and all(isinstance(s, str) for s in value):
        return list(value)
    raise ValueError(f"stop must be a string or a list of strings, not {type(value).__name__}")


def response_format(value: Any) -> dict[str, Any] | None:
    """OpenAI's `response_format` as a dict. A class becomes a strict `json_schema` of what it describes.

    Classes: pydantic's of either generation (pydantic is not imported), dataclasses, TypedDicts, msgspec's structs.
    Shapes: {"type": "text" | "json_object"} or {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}.
    """
    if value is None or isinstance(value, dict):
        return value
    if isinstance(value, type):
        schema = _schema_of(value)
        if schema is not None:
            named = {"name": value.__name__[:64], "schema": strict_schema(schema), "strict": True}
            return {"type": "json_schema", "json_schema": named}
    what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise ValueError(
        f"response_format must be a dict, or a pydantic model, dataclass or TypedDict class, not {what}"
    )


def _schema_of(described: type) -> dict[str, Any] | None:
    """The JSON schema of a class that describes an object; None for any other class."""
    for name in ("model_json_schema", "schema"):  # pydantic's names, the second that of its first generation
        make = getattr(described, name, None)
        if callable(make):
            found = make()
            return found if isinstance(found, dict) else None
    if is_dataclass(described) or is_typeddict(described) or issubclass(described, msgspec.Struct):
        try:
            return msgspec.json.schema(described)
        except (TypeError, ValueError, NameError) as e:
            raise ValueError(f"response_format: {described.__name__} has no JSON schema: {e}") from None
    return None


def json_schema_of(fmt: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The schema inside a `json_schema` response format, or None."""
    if fmt is None or fmt.get("type") != "json_schema":
        return None
    inner = fmt.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else {}


def json_hint(schema: dict[str, Any] | None) -> str:
    """The wish for a JSON answer in words, for providers that cannot be asked for one, or not together with tools."""
    if not schema:
        return "When you give the final answer, write one JSON object and nothing else."
    wish = "When you give the final answer, write one JSON object, and nothing else, that follows this JSON schema:\n"
    return wish + msgspec.json.encode(schema).decode()


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema in the form that strict decoding asks for: objects closed, every property required.

    A `null` default says nothing that `anyOf ... null` does not say already, and is refused; so is a `$ref` with
    anything beside it, whose target is written out instead.
    """
    out: dict[str, Any] = _strict(schema, schema, frozenset())
    return out


def _strict(schema: Any, root: Mapping[str, Any], inside: frozenset[str]) -> Any:
    if isinstance(schema, list):
        return [_strict(item, root, inside) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and len(schema) > 1:
        ref = str(schema["$ref"])
        target = definition(ref, root)
        if ref in inside:
            return {"$ref": ref}  # a type that holds itself is written out once
        if target is not None:
            beside = {k: v for k, v in schema.items() if k != "$ref"}
            return _strict({**target, **beside}, root, inside | {ref})
    out: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            out[name] = {k: _strict(v, root, inside) for k, v in value.items()}
        elif name in ("enum", "const"):
            out[name] = value
        elif name != "default" or value is not None:
            out[name] = _strict(value, root, inside)
    if out.get("type") == "object" and "additionalProperties" not in out:
        out["additionalProperties"] = False
    if isinstance(out.get("properties"), dict):
        out["required"] = list(out["properties"])
    return out


def definition(ref: str, root: Mapping[str, Any]) -> dict[str, Any] | None:
    """The local definition that `#/$defs/Name` points to."""
    found: Any = root
    for step in ref.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None

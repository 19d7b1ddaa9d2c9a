"""JSON schema in the forms that Gemini takes: nearly whole, or the OpenAPI subset of the older fields.

Source: PROTOCOLS section 4.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_DECORATION = frozenset(("$schema", "strict"))
_SUBSET = frozenset(
    {
        "type", "format", "title", "description", "nullable", "enum", "items", "minItems", "maxItems", "properties",
        "required", "minimum", "maximum", "minLength", "maxLength", "pattern", "anyOf", "propertyOrdering",
        "minProperties", "maxProperties", "example", "default",
    }
)  # fmt: skip
_MAX_DEPTH = 20


def has_properties(schema: Any) -> bool:
    """Whether a tool's schema says anything: Gemini refuses an object without properties."""
    if not isinstance(schema, dict):
        return False
    return bool(schema.get("properties") or schema.keys() - {"type", "properties", "required", "additionalProperties",
                                                             "title", "description", "$schema", "strict"})  # fmt: skip


def json_schema(schema: Any) -> Any:
    """The schema for `responseJsonSchema` and `parametersJsonSchema`: without what only OpenAI understands.

    A constant is not looked at there; a choice of one value is.
    """
    if not isinstance(schema, dict):
        return schema
    found: Schema = _enumerated({k: v for k, v in schema.items() if k not in _DECORATION})
    return found


def _enumerated(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_enumerated(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: Schema = {}
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            out[name] = {k: _enumerated(v) for k, v in value.items()}
        elif name == "const":
            out.setdefault("enum", [value])
        else:
            out[name] = value if name in ("enum", "default", "example", "examples") else _enumerated(value)
    return out


def openapi_schema(schema: Any, defs: Schema | None = None, depth: int = 0) -> Any:
    """The schema for `responseSchema` and `parameters`: references inlined, unions with null made nullable.

    A reference inside itself ends as a plain object after 20 levels: the subset cannot say it.
    """
    if not isinstance(schema, dict):
        return schema
    if depth > _MAX_DEPTH:
        return {"type": "object"}
    own = (schema.get(name) for name in ("definitions", "$defs"))
    known = dict(defs or {})
    for found in own:
        known.update(found if isinstance(found, dict) else {})
    schema = _resolved(schema, known)
    out: Schema = {}
    for name, value in schema.items():
        if name == "properties" and isinstance(value, dict):
            out[name] = {k: openapi_schema(v, known, depth + 1) for k, v in value.items()}
        elif name == "items":
            out[name] = openapi_schema(value, known, depth + 1)
        elif name in ("anyOf", "oneOf") and isinstance(value, list):
            _union(out, [openapi_schema(v, known, depth + 1) for v in value])
        elif name == "allOf" and isinstance(value, list):
            for part in value:
                out.update(openapi_schema(part, known, depth + 1))
        elif name == "const":
            out["enum"] = [value]
        elif name == "type" and isinstance(value, list):
            _types(out, value)
        elif name in _SUBSET:
            out[name] = value
    return out


def _resolved(schema: Schema, defs: Schema) -> Schema:
    ref = schema.get("$ref")
    if not isinstance(ref, str):
        return schema
    target = defs.get(ref.rpartition("/")[2])
    if not isinstance(target, dict):
        raise ValueError(f"the schema refers to {ref!r}, which it does not define")
    return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}


def _union(out: Schema, options: list[Any]) -> None:
    rest = [o for o in options if o != {"type": "null"}]
    if len(rest) < len(options):
        out["nullable"] = True
    if len(rest) == 1 and isinstance(rest[0], dict):
        out.update(rest[0])
    elif rest:
        out["anyOf"] = rest


def _types(out: Schema, types: list[Any]) -> None:
    rest = [t for t in types if t != "null"]
    if len(rest) < len(types):
        out["nullable"] = True
    if len(rest) == 1:
        out["type"] = rest[0]
    elif rest:
        out["anyOf"] = [{"type": t} for t in rest]

"""The shared parameter rules: translate, else drop and say so, else refuse; unknown names pass."""

from __future__ import annotations

from typing import Any

import pytest

from opentracy.core import params


def test_known_parameters_without_an_equivalent_are_dropped_and_unknown_ones_pass() -> None:
    given = {"temperature": 1, "seed": 3, "n": 1, "user": None, "thinking": {"type": "enabled"}, "top_k": 4}
    unknown, dropped = params.sort_params(given, {"temperature"}, strict=False, provider="p")
    assert unknown == {"thinking": {"type": "enabled"}, "top_k": 4}
    assert dropped == ("seed",)


def test_strict_params_names_all_that_would_be_dropped() -> None:
    with pytest.raises(ValueError, match="p has no equivalent for: n, seed"):
        params.sort_params({"seed": 3, "n": 2}, (), strict=True, provider="p")


@pytest.mark.parametrize(
    ("given", "want"),
    [({}, None), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 0}, 0), ({"max_tokens": 5, "max_completion_tokens": 7}, 7)],
)
def test_the_output_cap_has_two_names(given: dict[str, Any], want: int | None) -> None:
    assert params.max_tokens(given) == want


def test_stop_is_a_list() -> None:
    assert params.stop_list(None) == []
    assert params.stop_list("a") == ["a"]
    assert params.stop_list(("a", "b")) == ["a", "b"]
    with pytest.raises(ValueError, match="stop must be"):
        params.stop_list([1])


class Reply:
    """Looks to us like a pydantic model class."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                "title": {"type": "string", "default": None},
                "kind": {"enum": [{"default": None}, "b"]},
                "inner": {"$ref": "#/$defs/Inner"},
                "told": {"$ref": "#/$defs/Inner", "description": "d"},
                "default": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
            },
            "required": ["title"],
            "$defs": {"Inner": {"type": "object", "properties": {}, "additionalProperties": True}},
        }


def test_a_pydantic_class_becomes_a_strict_schema() -> None:
    fmt = params.response_format(Reply)
    assert fmt is not None
    schema = fmt["json_schema"]["schema"]
    assert (fmt["type"], fmt["json_schema"]["name"], fmt["json_schema"]["strict"]) == ("json_schema", "Reply", True)
    assert schema["required"] == ["title", "kind", "inner", "told", "default"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["properties"]["kind"] == {"enum": [{"default": None}, "b"]}
    assert schema["properties"]["default"]["items"]["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["additionalProperties"] is True
    assert schema["properties"]["inner"] == {"$ref": "#/$defs/Inner"}
    assert schema["properties"]["told"].keys() == {"type", "properties", "additionalProperties", "required", "description"}
    assert params.json_schema_of(fmt) == schema


def test_a_schema_that_refers_to_itself_does_not_run_away() -> None:
    child = {"$ref": "#/$defs/Node", "description": "d"}
    node = {"type": "object", "properties": {f"child{i}": child for i in range(9)}}
    schema = params.strict_schema({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert schema["$defs"]["Node"]["additionalProperties"] is False
    assert schema["$defs"]["Node"]["properties"]["child0"] == {"$ref": "#/$defs/Node"}
    lost = params.strict_schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/None", "title": "t"}}})
    assert lost["properties"]["a"] == {"$ref": "#/$defs/None", "title": "t"}


def test_a_response_format_is_a_dict_or_a_class() -> None:
    given = {"type": "json_object"}
    assert params.response_format(given) is given
    assert params.response_format(None) is None
    assert params.json_schema_of(given) is None
    with pytest.raises(ValueError, match="response_format must be"):
        params.response_format("json")
    with pytest.raises(ValueError, match="response_format must be"):
        params.response_format(Reply())

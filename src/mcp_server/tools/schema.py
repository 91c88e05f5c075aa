"""JSON Schemas made small: inline, without titles, and without saying that null is allowed too."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from events.ledger import Json
from mcp_server.tools.arguments import LARGEST

_NOISE = ("title", "default", "additionalProperties")


def input_schema(arguments: type[BaseModel]) -> Json:
    """Return the schema of a tool's arguments, with no ``$ref``."""
    schema = arguments.model_json_schema()
    definitions = schema.pop("$defs", {})
    for one in (schema, *definitions.values()):
        one.pop("description", None)  # a docstring is for people who read the program
    small: Json = _small(schema, definitions)
    for name in ("reason", "idempotency_key"):  # what is particular to the tool comes first
        if name in small["properties"]:
            small["properties"][name] = small["properties"].pop(name)
    return {**small, "additionalProperties": False}


def _small(schema: Any, definitions: Json) -> Any:
    if isinstance(schema, list):
        return [_small(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _small(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return _one_of(schema, definitions)
    small: Json = {}
    for key, value in schema.items():
        if key == "properties":
            small[key] = {name: _small(part, definitions) for name, part in value.items()}
        elif key == "default" and value not in (None, [], False):
            small[key] = value
        elif key not in _NOISE and value != LARGEST:
            small[key] = _small(value, definitions)
    return small


def _one_of(schema: Json, definitions: Json) -> Json:
    """Drop the null of an optional field: not to give it is the way to say nothing."""
    parts: list[Json] = []
    for part in schema["anyOf"]:
        small = _small(part, definitions)
        parts += small["anyOf"] if set(small) == {"anyOf"} else [small]
    parts = [part for part in parts if part != {"type": "null"}]
    one: Json = parts[0] if len(parts) == 1 else {"anyOf": parts}
    if "description" in schema:
        return {**one, "description": schema["description"]}
    return one


def output_schema(properties: Mapping[str, Any]) -> Json:
    """Return the schema of an answer: of a success, or of an error with its code."""
    errors = {"code": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"}}
    return {"type": "object", "properties": {**properties, **errors}}

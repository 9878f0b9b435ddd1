"""One JSON Schema (draft 2020-12) of a config file, so that an editor completes, explains and checks while one types.

    top level: ModelSpec's keys; if architecture is X, then X's keys too; `layers`: rows with one key out of LAYERS

Every config that load_model accepts fits the schema; what only arithmetic can tell is left to load_model.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Type

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from spec.layers import LAYERS, Layer
from spec.model import ModelSpec

Schema = Dict[str, Any]


class _Generator(GenerateJsonSchema):
    """pydantic's generator, but a Layer is a row of a layer list, and keys carry no title that repeats them."""

    def model_schema(self, schema: Any) -> Schema:
        return _row() if schema["cls"] is Layer else super().model_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(architectures: Mapping[str, Type[BaseModel]]) -> Schema:
    """The schema of the whole file, as plain values with a fixed order of keys.

    Args:
        architectures: the options class of each architecture (builders.ARCHITECTURES).
    """
    classes = [ModelSpec, *architectures.values(), *LAYERS.values()]
    _, generated = models_json_schema([(cls, "validation") for cls in classes], schema_generator=_Generator)
    parts = generated["$defs"]
    model = parts.pop("ModelSpec")
    options = {word: parts.pop(cls.__name__) for word, cls in architectures.items()}
    for cls in LAYERS.values():
        _allow_inputs(parts[cls.__name__])
    model["properties"]["architecture"]["enum"] = list(options)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A model of trt-transplant",
        "description": model["description"],
        "type": "object",
        "required": model["required"],
        "properties": model["properties"],
        "allOf": [_choice(word, part, list(model["properties"])) for word, part in options.items()],
        "$defs": dict(sorted(parts.items())),
    }


def _choice(word: str, options: Schema, shared: List[str]) -> Schema:
    """The keys of one architecture; propertyNames refuses all others, since `additionalProperties` sees no `then`."""
    then = {
        "description": options["description"],
        "required": options.get("required", []),
        "properties": options["properties"],
        "propertyNames": {"enum": shared + list(options["properties"])},
    }
    return {"if": {"required": ["architecture"], "properties": {"architecture": {"const": word}}}, "then": then}


def _row() -> Schema:
    """`- convolution: {...}`: an object with exactly one key, the layer's type."""
    rows = {word: {"$ref": f"#/$defs/{cls.__name__}"} for word, cls in LAYERS.items()}
    return {
        "description": "one layer: - type: {name: ..., ...}",
        "type": "object",
        "properties": rows,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _allow_inputs(layer: Schema) -> None:
    """`inputs: [a, b]` is as good as `input: a`."""
    layer["properties"]["inputs"] = layer["properties"]["input"]

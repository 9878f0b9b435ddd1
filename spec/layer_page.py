"""The keys of every layer as a Markdown page, out of the schema that editors read.

    LAYERS ─> JSON Schema of each ─> | key | value | default | what it is |
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Type

from spec.layers import LAYERS, Layer

COMMON = ("name", "input", "reference", "scope", "tensors")
"""Keys of every layer, or of every one with weights; they have a table of their own."""

HEAD = """# Layers

A row of `layers:` is a type with its keys: `- dense: {name: fc, units: 10, bias: true}`. Keys without a default must be
said. A number may be a fraction, `1/127.5`; axes are n, c, h, w or numbers. This page is written by
`python run.py schema --layers`.
"""

EXAMPLE = """
Some rows of torchvision's MobileNetV2, with its names: an expansion, a depthwise convolution, a residual sum, the end:

```yaml
  - convolution: {name: features.2.conv.0.0, filters: 96, kernel: 1, padding: valid, bias: false}
  - batch_norm: {name: features.2.conv.0.1, epsilon: 1.0e-5}
  - activation: {name: features.2.conv.0.2, function: relu6}
  - depthwise_convolution: {name: features.2.conv.1.0, kernel: 3, stride: 2, padding: 1, bias: false}
  - batch_norm: {name: features.2.conv.1.1, epsilon: 1.0e-5}
  - activation: {name: features.2.conv.1.2, function: relu6}
  - elementwise: {name: features.3.add, inputs: [features.3.conv.3, features.2.conv.3], function: sum}
  - pooling: {name: pooled, function: average, window: global, reference: [":adaptive_avg_pool2d"]}
  - flatten: {name: flat, reference: [":flatten"]}
  - dense: {name: classifier.1, units: 1000, bias: true}
```

In Keras and TensorFlow, whose average leaves n c: `- reduce: {name: avg_pool, function: mean, axes: [h, w]}`. A channel
shuffle is a reshape, a transpose and a reshape; dropout and identity are left out.
"""

WEIGHTED = "`inputs` is another word for `input`; `scope` and `tensors` are keys of layers with weights."


def layer_page() -> str:
    """The whole page."""
    tables = ["\n".join(_section(word, cls)) for word, cls in LAYERS.items()]
    common = ["", "## Keys of all layers", "", *_table(_rows(LAYERS["convolution"], COMMON)), "", WEIGHTED]
    return "\n".join([HEAD.rstrip("\n"), EXAMPLE.rstrip("\n"), *common, *tables]) + "\n"


def _section(word: str, cls: Type[Layer]) -> Iterator[str]:
    own = [key for key in cls.model_json_schema()["properties"] if key not in COMMON]
    first = (cls.__doc__ or "").strip().splitlines()[0]
    yield from ("", f"## {word}", "", first, "")
    yield from _table(_rows(cls, own)) if own else ["No keys of its own."]


def _table(rows: Iterator[Tuple[str, ...]]) -> Iterator[str]:
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _rows(cls: Type[Layer], keys: Sequence[str]) -> Iterator[Tuple[str, ...]]:
    schema = cls.model_json_schema()
    for key in keys:
        found = schema["properties"][key]
        default = "" if key in schema.get("required", ()) else _default(found)
        yield f"`{key}`", _value(found), default, found.get("description", "")


def _default(schema: Dict[str, Any]) -> str:
    value = schema.get("default")
    return "left out" if value in (None, [], {}, "") else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _value(schema: Dict[str, Any]) -> str:
    """In words: `same`, `valid` or integer; integer or [integer, integer]."""
    if "anyOf" in schema:
        kinds = dict.fromkeys(_value(each) for each in schema["anyOf"] if each.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _list(_value(schema["items"]), schema.get("maxItems"))
    return "number" if "pattern" in schema else str(schema["type"])


def _list(of: str, most: Optional[int]) -> str:
    if most != 2:
        return f"[{of}, ...]"
    first, *more = of.split(" or ")
    return f"[{first}, {first}]" + " or pairs" * bool(more)

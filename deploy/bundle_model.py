"""model.yaml of a bundle: the same graph with every layer written out, whatever architecture the config named.

    ModelSpec + [Layer, ...] ── model_yaml ──> text ── load_model, build_graph ──> an equal Graph (see `description`)
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Sequence

import yaml

from deploy.bundle_manifest import RANGES, WEIGHTS
from spec.graph import Graph
from spec.layers import Layer
from spec.model import ModelSpec


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader, and YAML 1.2, would take for a number: PyYAML writes the text 1e5 without quotes."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def model_yaml(model: ModelSpec, layers: Sequence[Layer], uses_ranges: bool) -> str:
    """The text of model.yaml.

    Args:
        layers: what the architecture expands to, before the inputs' own layers are added.
        uses_ranges: whether ranges.json lies beside it.
    """
    plain = model.model_dump(exclude_defaults=True, include={"description", "inputs", "batch"})
    head = {
        "name": model.name,
        "description": plain.get("description"),
        "architecture": "plain",
        "inputs": plain["inputs"],
        "batch": plain.get("batch"),
        "weights": {"path": WEIGHTS},
        "precision": model.precision.as_written(),
        "ranges": RANGES if uses_ranges else None,
        "outputs": list(model.outputs),
    }
    rows = [f"{key}: {_flow(value)}" for key, value in head.items() if value is not None]
    return "\n".join([*rows, "layers:", *_layer_rows(layers)]) + "\n"


def description(graph: Graph) -> Dict[str, Any]:
    """All that a graph says, as plain values; graphs are equal where these are, whatever file they came from."""
    return {
        "name": graph.name,
        "inputs": {name: spec.model_dump() for name, spec in graph.inputs.items()},
        "layers": [{"type": layer.type, **layer.model_dump()} for layer in graph.layers],
        "outputs": list(graph.outputs),
        "tensors": {name: tensor._asdict() for name, tensor in graph.tensors.items()},
        "batch": graph.batch.model_dump() if graph.batch else None,
    }


def _layer_rows(layers: Sequence[Layer]) -> List[str]:
    """A row a layer; what it reads is left out where that is the layer before."""
    rows, before = [], ""
    for layer in layers:
        keys = layer.model_dump(exclude_defaults=True, by_alias=True)
        if layer.inputs == (before,):
            del keys["input"]
        rows.append(f"  - {layer.type}: {_flow(keys)}")
        before = layer.name
    return rows


def _flow(value: Any) -> str:
    """One line of YAML."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=1 << 30, allow_unicode=True)
    return text.replace("\n...\n", "\n").rstrip("\n")

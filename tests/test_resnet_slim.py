"""builders/resnet_slim.py against the variables that TF-Slim itself creates, and the strides it uses.

tests/data/slim_resnet_v1_50.txt: `name shape` of each variable in the checkpoint that benchmarks/foreign_slim.py writes
with TensorFlow 1.15.5. Its numbers are compared, layer by layer, by benchmarks/foreign_models.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

import numpy as np

from builders.resnet_slim import ResNetSlim
from spec.graph import Graph, build_graph
from spec.model import ModelSpec, WeightsSpec
from weights.checkpoint import Checkpoint, TensorInfo
from weights.sources import CONVENTIONS
from weights.transplant import match

VARIABLES = Path(__file__).with_name("data") / "slim_resnet_v1_50.txt"
STAGES = [(3, 64, 2), (4, 128, 2), (6, 256, 2), (3, 512, 1)]
SCOPE = "resnet_v1_50"


def graph_of_slim() -> Graph:
    stages = [{"blocks": blocks, "width": width, "stride": stride} for blocks, width, stride in STAGES]
    options = ResNetSlim(scope=SCOPE, stem_filters=64, stages=stages, epsilon=1.001e-5, classes=1000)
    image = {"shape": [1, 225, 225, 3], "dtype": "float32", "layout": "NHWC"}
    keys = {"weights": {"path": "slim.ckpt"}, "outputs": [f"{SCOPE}/predictions"], "architecture": "plain"}
    return build_graph(ModelSpec(name="slim", inputs={"image": image}, **keys), options.expand("image"))


def slim_checkpoint() -> Checkpoint:
    """The variables of Slim's checkpoint, without their numbers."""
    lines = (line.split() for line in VARIABLES.read_text().splitlines())
    tensors = {name: TensorInfo(tuple(map(int, shape.split("x"))), "float32") for name, shape in lines}
    return Checkpoint(VARIABLES, "tf_bundle", "names only", (), tensors, lambda name: np.empty(0))


def matched(graph: Graph) -> Dict[Tuple[str, str], str]:
    spec = WeightsSpec(path="slim.ckpt")
    transfers = match(graph, slim_checkpoint(), spec, CONVENTIONS["tensorflow"])
    return {(transfer.layer, transfer.role): transfer.tensor for transfer in transfers}


def test_every_variable_of_slim_has_its_slot():
    found = matched(graph_of_slim())
    assert sorted(found.values()) == sorted(slim_checkpoint().tensors) and len(found) == 267
    unit = f"{SCOPE}/block1/unit_1/bottleneck_v1"
    assert found[f"{unit}/conv1", "kernel"] == f"{unit}/conv1/weights"
    assert found[f"{unit}/shortcut/BatchNorm", "variance"] == f"{unit}/shortcut/BatchNorm/moving_variance"
    assert found[f"{SCOPE}/logits", "bias"] == f"{SCOPE}/logits/biases"


def test_the_last_unit_of_a_block_strides_in_its_padded_3x3_convolution():
    graph = graph_of_slim()
    strided = {layer.name for layer in graph.layers if getattr(layer, "stride", None) == (2, 2)}
    units = [f"{SCOPE}/block{block}/unit_{unit}/bottleneck_v1" for block, unit in ((1, 3), (2, 4), (3, 6))]
    stem = {f"{SCOPE}/conv1", f"{SCOPE}/pool1"}
    assert strided == stem | {f"{unit}/{part}" for unit in units for part in ("conv2", "shortcut")}
    padded = {layer.name for layer in graph.layers if layer.type == "padding"}
    assert padded == {f"{SCOPE}/Pad"} | {f"{unit}/Pad" for unit in units}


def test_shapes_halve_behind_the_last_unit():
    tensors = graph_of_slim().tensors
    names = {f"{SCOPE}/block1/unit_2/bottleneck_v1/Relu": (1, 256, 57, 57),
             f"{SCOPE}/block1/unit_3/bottleneck_v1/Relu": (1, 256, 29, 29),
             f"{SCOPE}/block4/unit_3/bottleneck_v1/Relu": (1, 2048, 8, 8),
             f"{SCOPE}/predictions": (1, 1000, 1, 1)}  # fmt: skip
    assert {name: tensors[name].shape for name in names} == names


def test_the_shortcut_is_projected_once_a_block_and_pooled_where_it_strides():
    kinds = {layer.name: layer.type for layer in graph_of_slim().layers if layer.name.endswith("/shortcut")}
    assert sorted(kinds.values()) == ["convolution"] * 4 + ["pooling"] * 3
    assert kinds[f"{SCOPE}/block1/unit_3/bottleneck_v1/shortcut"] == "pooling"

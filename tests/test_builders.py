"""Each architecture against the real network: names, parameter shapes and the shape of every layer's output."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, Iterator, Tuple

import pytest

from builders import ARCHITECTURES, expand
from builders.architecture import Architecture
from spec.errors import ConfigError
from spec.graph import Graph, build_graph
from spec.layers import Slot
from spec.load import load_model

CONFIGS = Path(__file__).parents[1] / "configs"


def graph_of(config: str, *overrides: str) -> Graph:
    model = load_model(CONFIGS / f"{config}.yaml", ARCHITECTURES, overrides)
    return build_graph(model, expand(model))


def sizes_of(slot: Slot) -> Tuple[int, ...]:
    """Axis lengths in the order of the slot's layout; all of it is o i h w here."""
    return tuple(slot.sizes[axis] for axis in slot.layout.split())


TORCH_ROLES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def torch_parameters(graph: Graph) -> Dict[str, Tuple[int, ...]]:
    return {f"{layer.name}.{TORCH_ROLES.get(slot.role, slot.role)}": sizes_of(slot) for layer, slot in graph.slots()}


# (block, blocks of each stage, parameters, sha256 of the sorted lines `name [sizes]`, num_batches_tracked left out):
# torchvision 0.28.0, models.resnet18().state_dict() and so on
TORCHVISION = {
    "resnet18": ("basic", (2, 2, 2, 2), 102, "fc669aac650ab66f6f786c5b13cfd6a691e18838ab2798d6273f9c7376e98c7b"),
    "resnet34": ("basic", (3, 4, 6, 3), 182, "efabbe4b2289112be43dfa89fe7af8cfa27714b2c6ccd40c4807e25079c0ac21"),
    "resnet50": ("bottleneck", (3, 4, 6, 3), 267, "584ee931ad382885ad353fa64c8bf7736b8cd3a2259cc79a8f1e68cb3de2b163"),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnet_torch_has_torchvisions_parameters(name):
    block, blocks, count, digest = TORCHVISION[name]
    graph = graph_of("model4", f"block={block}", *(f"stages.{i}.blocks={n}" for i, n in enumerate(blocks)))
    lines = sorted(f"{key} {list(sizes)}" for key, sizes in torch_parameters(graph).items())
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


@pytest.fixture(scope="module")
def torch_model():
    """The sample's own module, without storage."""
    torch = pytest.importorskip("torch")
    from samples import model4

    with torch.device("meta"):
        return model4.build()


def test_resnet_torch_has_the_samples_parameters(torch_model):
    theirs = {name: tuple(tensor.shape) for name, tensor in torch_model.state_dict().items()}
    ours = torch_parameters(graph_of("model4"))
    assert ours == {name: shape for name, shape in theirs.items() if not name.endswith("num_batches_tracked")}


def test_resnet_torch_has_the_samples_outputs(torch_model):
    import torch

    shapes: Dict[str, Tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)}))
        for name, module in torch_model.named_modules()
        if not list(module.children())
    ]
    torch_model(torch.empty(1, 3, 256, 256, device="meta"))
    for hook in hooks:
        hook.remove()
    graph = graph_of("model4")
    # PyTorch has one relu module a block, run three times; ours are relu1, relu2 and relu
    ours = {name: tensor.shape for name, tensor in graph.tensors.items() if name in shapes}
    assert ours == shapes
    assert len(ours) == 53 + 53 + 17 + 3


@pytest.fixture(scope="module")
def keras_model():
    keras = pytest.importorskip("keras")
    return keras.applications.ResNet50(weights=None)


@pytest.fixture(scope="module")
def keras_sample():
    pytest.importorskip("keras")
    from samples import model2

    return model2.build()


KERAS_ONLY_OURS = {"image", "predictions/softmax"}
"""The input has its own name in Keras, and the softmax is an argument of its last Dense."""

AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
"""Keras' h w i o and i o, as our o i h w and o i."""


def assert_is_keras(graph: Graph, model) -> None:
    """Layer names, every parameter's shape in Keras' order, every output's shape."""
    theirs = {layer.name: layer for layer in model.layers[1:]}
    ours = {layer.name: layer for layer in graph.layers if not layer.name.startswith("image/")}
    assert set(ours) - KERAS_ONLY_OURS == set(theirs)
    parameters: Dict[str, list] = {name: [] for name in theirs}
    for layer, slot in graph.slots():
        parameters[layer.name].append(sizes_of(slot))
    for name, layer in theirs.items():
        wanted = [tuple(weight.shape[axis] for axis in AXES[len(weight.shape)]) for weight in layer.weights]
        assert parameters[name] == wanted, name
        assert graph.tensors[name].shape == channels_first(layer.output.shape), name


def channels_first(shape) -> Tuple[int, ...]:
    """n h w c -> n c h w, with a batch of 1 for Keras' None."""
    rest = tuple(shape[1:])
    return (1,) + (rest[2:] + rest[:2] if len(rest) == 3 else rest)


@pytest.mark.xdist_group("tensorflow")
def test_resnet_keras_is_resnet50(keras_model):
    stages = "[{blocks: 3, width: 64, stride: 1}, {blocks: 4, width: 128, stride: 2}, "
    stages += "{blocks: 6, width: 256, stride: 2}, {blocks: 3, width: 512, stride: 2}]"
    graph = graph_of("model2", f"stages={stages}")
    assert_is_keras(graph, keras_model)
    assert len(list(graph.slots())) == len(keras_model.weights) == 320


@pytest.mark.xdist_group("tensorflow")
def test_resnet_keras_with_skips_is_the_sample(keras_sample):
    assert_is_keras(graph_of("model2"), keras_sample)


@pytest.mark.xdist_group("tensorflow")
def test_resnet_keras_has_the_epsilon_of_keras(keras_model):
    epsilons = {layer.epsilon for layer in keras_model.layers if hasattr(layer, "epsilon")}
    assert epsilons == {layer.epsilon for layer in graph_of("model2").layers if layer.type == "batch_norm"}


TF_ROLES = {"kernel": "kernel", "bias": "bias", "mean": "moving_mean", "variance": "moving_variance"}
MODEL1_ROLES = {"kernel": "weights", "bias": "biases"}
SIZES_TO_TF = {"o i h w": (2, 3, 1, 0), "o i": (1, 0), "c": (0,), "o": (0,)}


def tf_parameters(graph: Graph, roles: Dict[str, str]) -> Iterator[Tuple[str, Tuple[int, ...]]]:
    for layer, slot in graph.slots():
        sizes = sizes_of(slot)
        shape = tuple(sizes[axis] for axis in SIZES_TO_TF[slot.layout])
        yield f"{layer.name}/{roles.get(slot.role, slot.role)}", shape


@pytest.fixture(scope="module", params=["model1", "model3"])
def tf_sample(request):
    """(config, TensorFlow graph, roles): the samples' networks as TensorFlow builds them."""
    tf = pytest.importorskip("tensorflow").compat.v1
    from samples import model1, model3

    with tf.Graph().as_default() as graph:
        model1.network() if request.param == "model1" else model3.network(is_training=False)
    return request.param, graph, MODEL1_ROLES if request.param == "model1" else TF_ROLES


@pytest.mark.xdist_group("tensorflow")
def test_tensorflow_models_have_the_samples_variables(tf_sample):
    config, source, roles = tf_sample
    theirs = {each.op.name: tuple(each.shape.as_list()) for each in source.get_collection("variables")}
    assert dict(tf_parameters(graph_of(config), roles)) == theirs


@pytest.mark.xdist_group("tensorflow")
def test_tensorflow_models_have_the_samples_outputs(tf_sample):
    """Layers without variables are ops of the same name; those with are the last op in their scope."""
    config, source, _ = tf_sample
    graph = graph_of(config)
    operations = {operation.name: operation for operation in source.get_operations()}
    compared = 0
    for layer in graph.layers:
        operation = operations.get(layer.name)
        if operation is None or layer.type == "cast":
            assert layer.type in ("convolution", "batch_norm", "dense", "cast", "transpose", "scale"), layer.name
            continue
        shape = operation.outputs[0].shape.as_list()
        assert graph.tensors[layer.name].shape == channels_first(shape), layer.name
        compared += 1
    assert compared >= len(graph.layers) / 3


COUNTS = {"model1": (22, 12), "model2": (188, 332), "model3": (189, 267), "model4": (175, 267)}


@pytest.mark.parametrize("config", COUNTS)
def test_layer_and_parameter_counts(config):
    graph = graph_of(config)
    assert (len(graph.layers), len(list(graph.slots()))) == COUNTS[config]


@pytest.mark.parametrize(
    ("config", "shape"), [("model1", (1, 100)), ("model2", (1, 1000)), ("model3", (1, 1000)), ("model4", (1, 1000))]
)
def test_output_shapes(config, shape):
    graph = graph_of(config)
    assert [graph.tensors[name] for name in graph.outputs] == [(shape, "float32")]


@pytest.mark.parametrize("config", COUNTS)
def test_a_dynamic_batch_reaches_the_output(config):
    graph = graph_of(config, "batch={min: 1, opt: 4, max: 8}")
    assert {tensor.shape[0] for tensor in graph.tensors.values()} == {-1}


@pytest.mark.parametrize("config", COUNTS)
def test_every_layer_knows_its_line(config):
    assert all(":" in layer.place for layer in graph_of(config).layers)


def test_a_skip_from_nowhere_is_reported():
    with pytest.raises(ConfigError, match="layer 'skip3_pool': no tensor 'conv2_block3_uot' to read; did you mean"):
        graph_of("model2", "stages.1.skip.source=conv2_block3_uot")


def test_a_skip_of_the_wrong_size_is_reported():
    with pytest.raises(ConfigError, match="layer 'skip3_concat': .* differ beside axis 'c'"):
        graph_of("model2", "stages.1.skip.window=3")


@pytest.mark.parametrize("word", ARCHITECTURES)
def test_architectures_explain_themselves(word):
    assert ARCHITECTURES[word].__doc__ and ARCHITECTURES[word].__doc__ != Architecture.__doc__

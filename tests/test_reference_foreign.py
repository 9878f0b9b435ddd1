"""Models nobody here wrote, through their own code: every layer of our architectures finds its tensor in them.

Weights are random, batch-norm statistics too. torchvision, timm and transformers are in no extra: install them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import pytest
from small_reference import Case, assert_close, opened, random_image, randomise_torch

from spec.layers import Activation, Elementwise, Flatten

SIZE = 64
DEPTHS = {"resnet18": ("basic", (2, 2, 2, 2)), "resnet50": ("bottleneck", (3, 4, 6, 3))}


@pytest.fixture(scope="module")
def torchvision_operators() -> Iterator[None]:
    """torchvision's wheel gets its operators from CUDA's libraries and does not import without; ResNets need none."""
    torch = pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except ImportError:
        yield
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        yield
    else:
        yield


TORCH_SOURCES: Dict[str, str] = {
    "torchvision": "from torchvision.models import {net}\ndef build(): return {net}(weights=None)",
    "timm": "import timm\ndef build(): return timm.create_model('{net}', pretrained=False)",
}


def torch_config(folder: Path, net: str, module: str, more: str = "") -> Path:
    block, blocks = DEPTHS[net]
    stages = "\n".join(
        f"  - {{blocks: {count}, width: {64 * 2**number}, stride: {2 if number else 1}}}"
        for number, count in enumerate(blocks)
    )
    path = folder / "configs" / "m.yaml"
    path.parent.mkdir()
    path.write_text(
        f"name: {net}\narchitecture: resnet_torch\nblock: {block}\n"
        f"inputs: {{image: {{shape: [1, 3, {SIZE}, {SIZE}], dtype: float32, layout: NCHW}}}}\n"
        "weights: {path: ../net.pth, ignore: ['*.num_batches_tracked']}\n"
        f"reference: {{callable: '{module}:build'{more}}}\n"
        f"stem: {{filters: 64, kernel: 7, stride: 2, padding: 3}}\nstages:\n{stages}\n"
        "epsilon: 1.0e-5\nclasses: 1000\noutputs: [fc]\n"
    )
    return path


def foreign_torch(folder: Path, module: str, source: str) -> Any:
    """The module that `source` builds, with random weights, which are saved as net.pth."""
    import torch

    (folder / f"{module}.py").write_text(source)
    scope: dict = {}
    exec(source, scope)
    net = randomise_torch(scope["build"]())
    torch.save(net.state_dict(), folder / "net.pth")
    return net


def assert_every_layer(case: Case, image: np.ndarray, output: np.ndarray) -> Dict[str, np.ndarray]:
    """Every layer has a tensor of its shape, and those whose names are ours alone follow from what they read."""
    arrays = case.run(image=image).arrays
    assert list(arrays) == case.layer_names
    for layer in case.graph.layers:
        assert arrays[layer.name].shape == tuple(case.graph.tensors[layer.name].shape), layer.name
        read = [arrays[name] for name in layer.inputs if name in arrays]
        if isinstance(layer, Activation):
            np.testing.assert_array_equal(arrays[layer.name], read[0].clip(0))
        elif isinstance(layer, Elementwise):
            np.testing.assert_array_equal(arrays[layer.name], read[0] + read[1])
        elif isinstance(layer, Flatten):
            np.testing.assert_array_equal(arrays[layer.name], read[0].reshape(1, -1))
    assert_close(arrays[case.graph.outputs[0]], output)
    return arrays


@pytest.mark.parametrize("net", DEPTHS)
@pytest.mark.parametrize("library", TORCH_SOURCES)
def test_torch(library, net, tmp_path, torchvision_operators):
    torch = pytest.importorskip("torch")
    pytest.importorskip(library)
    module = f"{library}_{net}"
    found = foreign_torch(tmp_path, module, TORCH_SOURCES[library].format(net=net))
    image = random_image(1, 3, SIZE, SIZE)
    case = opened(torch_config(tmp_path, net, module))
    assert_every_layer(case, image, found(torch.from_numpy(image)).detach().numpy())


TRANSFORMERS = """
from transformers import ResNetConfig, ResNetForImageClassification
def build():
    return ResNetForImageClassification(ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512],
                                                     layer_type="basic", num_labels=1000))
"""


def transformers_names() -> Dict[str, str]:
    """Our layers of a ResNet-18 -> the tensors of transformers', for `reference.tensors`."""
    parts = {"conv": "convolution", "bn": "normalization"}
    names = {f"{ours}1": f"resnet.embedder.embedder.{theirs}" for ours, theirs in parts.items()}
    names.update(relu="resnet.embedder.embedder.activation", maxpool="resnet.embedder.pooler", avgpool="resnet.pooler")
    names.update(flatten="classifier.0", fc="classifier.1")
    for stage in range(4):
        for block in range(2):
            ours, theirs = f"layer{stage + 1}.{block}", f"resnet.encoder.stages.{stage}.layers.{block}"
            names.update({f"{ours}.relu1": f"{theirs}.layer.0.activation", f"{ours}.relu": f"{theirs}.activation"})
            names[f"{ours}.add"] = f"{theirs}:add"
            for step in (0, 1):
                for part, word in parts.items():
                    names[f"{ours}.{part}{step + 1}"] = f"{theirs}.layer.{step}.{word}"
        if stage:
            scope = f"resnet.encoder.stages.{stage}.layers.0.shortcut"
            names[f"layer{stage + 1}.0.downsample.0"] = f"{scope}.convolution"
            names[f"layer{stage + 1}.0.downsample.1"] = f"{scope}.normalization"
    return names


def test_transformers(tmp_path, torchvision_operators):
    """Other names throughout: the config gives each."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    found = foreign_torch(tmp_path, "transformers_resnet18", TRANSFORMERS)
    names = transformers_names()
    given = ", ".join(f"{ours}: '{theirs}'" for ours, theirs in names.items())
    case = opened(torch_config(tmp_path, "resnet18", "transformers_resnet18", f", tensors: {{{given}}}"))
    image = random_image(1, 3, SIZE, SIZE)
    assert_every_layer(case, image, found(torch.from_numpy(image)).logits.detach().numpy())
    assert dict(case.run(image=image).names) == {name: names[name] for name in case.layer_names}


KERAS = """name: resnet50
architecture: resnet_keras
inputs: {{image: {{shape: [1, {size}, {size}, 3], dtype: float32, layout: NHWC}}}}
weights: {{path: net.h5}}
reference: {{keras: net.{suffix}}}
stem_filters: 64
stages:
  - {{blocks: 3, width: 64, stride: 1}}
  - {{blocks: 4, width: 128, stride: 2}}
  - {{blocks: 6, width: 256, stride: 2}}
  - {{blocks: 3, width: 512, stride: 2}}
epsilon: 1.001e-5
classes: 1000
outputs: [predictions/softmax]
"""


@pytest.mark.parametrize("library, suffix", [("keras", "h5"), ("keras", "keras"), ("tf_keras", "h5")])
def test_keras_applications(library, suffix, tmp_path):
    keras = pytest.importorskip(library)
    net = keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3))
    random = np.random.default_rng(0)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, each.shape) for each in layer.get_weights()])
    net.save(tmp_path / f"net.{suffix}")
    (tmp_path / "m.yaml").write_text(KERAS.format(size=SIZE, suffix=suffix))
    image = random_image(1, SIZE, SIZE, 3)
    case = opened(tmp_path / "m.yaml")
    arrays = assert_every_layer(case, image, np.asarray(net(image, training=False)))
    exponentials = np.exp(arrays["predictions"] - arrays["predictions"].max())
    assert_close(arrays["predictions/softmax"], exponentials / exponentials.sum())


def test_keras_applications_as_a_tensorflow_graph(tmp_path):
    """The same network, frozen: Keras' layers are scopes, the classifier's softmax is in the scope `predictions`."""
    tensorflow = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("tf_keras")
    tf = tensorflow.compat.v1
    with tf.Graph().as_default() as graph, tf.Session() as session:
        net = keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3))
        session.run(tf.global_variables_initializer())
        random = np.random.default_rng(0)
        norms = [each.initializer for each in tf.global_variables() if "_bn/" in each.op.name]
        values = {each.inputs[1]: random.uniform(0.5, 1.5, each.inputs[1].shape) for each in norms}
        session.run(norms, values)
        outputs = [net.output.op.name]
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)
        image = random_image(1, SIZE, SIZE, 3)
        wanted = session.run(net.output, {net.input: image})
    keras.backend.clear_session()
    (tmp_path / "net.pb").write_bytes(frozen.SerializeToString())
    text = KERAS.format(size=SIZE, suffix="h5").replace("keras: net.h5", "graph: net.pb")
    (tmp_path / "m.yaml").write_text(text)
    assert_every_layer(opened(tmp_path / "m.yaml"), image, wanted)

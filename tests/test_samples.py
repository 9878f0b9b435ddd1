"""The four source models: what they write, that they run, and that their numbers are fit to be compared."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import pytest

from samples import SAMPLES, command, seeded

FILES = {
    "model1": [
        "checkpoint",
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
        "model.ckpt.meta",
        "model.pb",
    ],
    "model2": ["resnet50_skips.h5", "resnet50_skips.keras", "resnet50_skips.weights.h5"],
    "model3": [
        "checkpoint",
        "inference.meta",
        "model.ckpt-2.data-00000-of-00001",
        "model.ckpt-2.index",
        "model.ckpt-2.meta",
    ],
    "model4": ["resnet50.pth", "resnet50_training.pth"],
}
IMAGES = {
    "model1": ((2, 224, 224, 3), "uint8"),
    "model2": ((2, 224, 224, 3), "float32"),
    "model3": ((2, 224, 224, 3), "uint8"),
    "model4": ((2, 3, 256, 256), "float32"),
}
CLASSES = {"model1": 100, "model2": 1000, "model3": 1000, "model4": 1000}
LAYER_COUNTS = {"model1": 27, "model2": 186, "model3": 190, "model4": 151}

Directory = Callable[[str], Path]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, sample_directory: Directory):
    """Name, module and directory of one model whose checkpoint is written."""
    directory = sample_directory(request.param)
    pytest.importorskip(SAMPLES[request.param].framework)
    return request.param, importlib.import_module(SAMPLES[request.param].module), directory


def probabilities(name: str, output: np.ndarray) -> np.ndarray:
    """[n, classes]; model4 ends in logits, the others in a softmax."""
    if name != "model4":
        return output
    exponentials = np.exp(output - output.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


# What is written


def test_files(sample):
    name, _, directory = sample
    written = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert [file for file in FILES[name] if not written.get(file)] == []


def test_write_returns_its_files_and_repeats_them(sample_directory, tmp_path):
    """model1 only, for speed; it has no step of training between the random numbers and the file."""
    pytest.importorskip("tensorflow")
    from samples import model1

    files = model1.write(tmp_path, seed=0)
    assert sorted(path.name for path in files) == FILES["model1"] == sorted(path.name for path in tmp_path.iterdir())
    again, data = sample_directory("model1"), "model.ckpt.data-00000-of-00001"
    assert (tmp_path / data).read_bytes() == (again / data).read_bytes()


def test_another_seed_is_another_model(sample_directory, tmp_path):
    pytest.importorskip("tensorflow")
    from samples import model1

    model1.write(tmp_path, seed=1)
    image = model1.random_image(3)
    assert np.abs(model1.run(sample_directory("model1"), image) - model1.run(tmp_path, image)).max() > 1e-3


def test_model1_checkpoint_and_frozen_graph_agree(sample_directory):
    tf = pytest.importorskip("tensorflow").compat.v1
    from samples import model1

    directory, image = sample_directory("model1"), model1.random_image(5)
    definition = tf.GraphDef.FromString((directory / "model.pb").read_bytes())
    with tf.Graph().as_default(), tf.Session() as session:
        frozen = tf.import_graph_def(definition, return_elements=["prob:0"], name="")
        output = session.run(frozen[0], {"image:0": image})
    np.testing.assert_array_equal(output, model1.run(directory, image))


def test_model1_names(sample_directory):
    tf = pytest.importorskip("tensorflow")
    names = dict(tf.train.list_variables(str(sample_directory("model1") / "model.ckpt")))
    layers = ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2"]
    assert set(names) == {f"{layer}/{role}" for layer in layers for role in ("weights", "biases")}
    assert names["conv1/weights"] == [5, 5, 3, 32] and names["fc1/weights"] == [4704, 256]


def test_model2_files_hold_the_same_weights(sample_directory):
    keras = pytest.importorskip("keras")
    from samples import model2

    directory = sample_directory("model2")
    full = keras.saving.load_model(directory / "resnet50_skips.h5", compile=False)
    archive = keras.saving.load_model(directory / "resnet50_skips.keras", compile=False)
    rebuilt = model2.build()
    rebuilt.load_weights(directory / "resnet50_skips.weights.h5")
    for one, two, three in zip(full.weights, archive.weights, rebuilt.weights):
        assert one.path == two.path == three.path
        np.testing.assert_array_equal(one.numpy(), two.numpy())
        np.testing.assert_array_equal(one.numpy(), three.numpy())


def test_model3_checkpoint_holds_what_training_leaves(sample_directory):
    tf = pytest.importorskip("tensorflow")
    reader = tf.train.load_checkpoint(str(sample_directory("model3")))
    names = set(reader.get_variable_to_shape_map())
    weights = {name for name in names if not name.endswith(("/Momentum", "/ExponentialMovingAverage", "global_step"))}
    trainable = {name for name in weights if "/moving_" not in name}
    slots = {f"{name}/{slot}" for name in trainable for slot in ("Momentum", "ExponentialMovingAverage")}
    assert len(weights) == 53 * 5 + 2 and names == weights | slots | {"global_step"}
    assert reader.get_tensor("global_step") == 2
    gammas = np.concatenate([reader.get_tensor(name) for name in sorted(weights) if name.endswith("/gamma")])
    assert 0.49 < gammas.min() < 0.51 and 1.49 < gammas.max() < 1.51
    shadow, kernel = (reader.get_tensor(f"logits/kernel{end}") for end in ("/ExponentialMovingAverage", ""))
    assert 0.001 < np.abs(shadow - kernel).max() / np.abs(kernel).max() < 0.1


def test_model4_names_are_torchvisions(sample_directory):
    torch = pytest.importorskip("torch")
    tensors = torch.load(sample_directory("model4") / "resnet50.pth", weights_only=True)
    assert len(tensors) == 320
    assert tensors["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert tensors["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert tensors["layer4.2.bn3.running_var"].shape == (2048,)
    assert list(tensors)[-2:] == ["fc.weight", "fc.bias"]


def test_model4_training_checkpoint(sample_directory):
    torch = pytest.importorskip("torch")
    bare, training = [torch.load(sample_directory("model4") / name, weights_only=True) for name in FILES["model4"]]
    assert sorted(training) == ["best_acc", "epoch", "optimizer", "state_dict"]
    assert type(training["epoch"]) is int and type(training["best_acc"]) is float
    assert list(training["state_dict"]) == [f"module.{name}" for name in bare]
    assert all(torch.equal(training["state_dict"][f"module.{name}"], bare[name]) for name in bare)
    buffers = [state["momentum_buffer"] for state in training["optimizer"]["state"].values()]
    assert len(buffers) == 161 and all(buffer.abs().max() > 0 for buffer in buffers)


# That it runs


def test_random_image(sample):
    name, module, _ = sample
    image = module.random_image(0, batch=2)
    assert (image.shape, image.dtype) == IMAGES[name]
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, module.random_image(0, batch=2))
    assert not np.array_equal(image[0], image[1]) and not np.array_equal(image, module.random_image(1, batch=2))


def test_output_is_unsaturated_and_depends_on_the_image(sample):
    name, module, directory = sample
    output = module.run(directory, module.random_image(0, batch=2))
    assert output.shape == (2, CLASSES[name]) and output.dtype == np.float32
    prob = probabilities(name, output)
    entropy = -(prob * np.log(prob)).sum(axis=1) / np.log(CLASSES[name])
    assert prob.max() < 0.9 and (0.5 < entropy).all() and (entropy < 0.999).all()
    assert np.abs(np.log(prob[0] / prob[1])).max() > 0.05


def test_command_line(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    from samples import model1

    command.main(model1, ["--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == [str(tmp_path / name) for name in FILES["model1"]]
    assert lines[5].startswith("output [1, 100] float32") and len(lines) == 11


def test_nothing_imports_a_framework():
    modules = ", ".join(sample.module for sample in SAMPLES.values())
    code = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


# That its numbers are fit to be compared


def tensorflow_activations(meta: Path, checkpoint: Path, image: np.ndarray) -> Dict[str, np.ndarray]:
    """Every float tensor with a batch axis, by operation name."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(str(meta)).restore(session, str(checkpoint))
        outputs = [operation.outputs[0] for operation in graph.get_operations() if operation.outputs]
        batched = [each for each in outputs if each.dtype == tf.float32 and each.shape.rank and each.shape[0] is None]
        return session.run({each.op.name: each for each in batched}, {"image:0": image})


def model1_activations(directory: Path, image: np.ndarray) -> Dict[str, np.ndarray]:
    return tensorflow_activations(directory / "model.ckpt.meta", directory / "model.ckpt", image)


def model2_activations(directory: Path, image: np.ndarray) -> Dict[str, np.ndarray]:
    import keras

    model = keras.saving.load_model(directory / "resnet50_skips.h5", compile=False)
    layers = model.layers[1:]
    outputs = keras.Model(model.input, [layer.output for layer in layers])(image, training=False)
    return {layer.name: np.asarray(output) for layer, output in zip(layers, outputs)}


def model3_activations(directory: Path, image: np.ndarray) -> Dict[str, np.ndarray]:
    return tensorflow_activations(directory / "inference.meta", directory / "model.ckpt-2", image)


def model4_activations(directory: Path, image: np.ndarray) -> Dict[str, np.ndarray]:
    """Cloned in the hook: the in-place ReLU would overwrite the batch norm's output."""
    import torch

    from samples import model4

    model, found = model4.build(), {}
    model.load_state_dict(torch.load(directory / "resnet50.pth", weights_only=True))
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.detach().clone()}))
    model(torch.from_numpy(image))
    return {name: output.numpy() for name, output in found.items()}


ACTIVATIONS = {
    "model1": model1_activations,
    "model2": model2_activations,
    "model3": model3_activations,
    "model4": model4_activations,
}
BY_DEFINITION_OTHER = {"to_float": "pixels 0..255", "prob": "sums to 1", "predictions": "sums to 1"}


def test_every_layer_is_of_sane_magnitude_and_varies(sample):
    name, module, directory = sample
    activations = ACTIVATIONS[name](directory, module.random_image(0))
    magnitude = {layer: np.sqrt(np.mean(np.square(array, dtype=np.float64))) for layer, array in activations.items()}
    spread = {layer: array.std() / np.abs(array).max() for layer, array in activations.items()}
    compared = set(activations) - set(BY_DEFINITION_OTHER)
    assert {layer: magnitude[layer] for layer in compared if not 0.01 < magnitude[layer] < 100.0} == {}
    assert {layer: size for layer, size in spread.items() if not size > 0.01} == {}
    assert len(activations) == LAYER_COUNTS[name]


def test_batch_norm_is_random_in_every_channel():
    norm = seeded.batch_norm(np.random.default_rng(0), 64)
    assert all(np.unique(array).size == 64 and array.dtype == np.float32 for array in norm)
    assert norm.gamma.min() > 0.5 and norm.gamma.max() < 1.5
    assert np.sum(norm.variance < 1e-3) == 8 and np.sum(norm.variance > 0.5) == 56 and norm.variance.max() < 2.0


@pytest.mark.parametrize("shape, output_axis", [((3, 5, 7, 64), -1), ((64, 7, 3, 5), 0)])
def test_normalised_kernel_has_the_variance_of_its_norm(shape: List[int], output_axis: int):
    rng = np.random.default_rng(0)
    norm = seeded.batch_norm(rng, 64)
    kernel = seeded.normalised_kernel(rng, shape, norm, output_axis)
    assert kernel.shape == shape and kernel.dtype == np.float32
    found = np.moveaxis(kernel, output_axis, 0).reshape(64, -1).var(axis=1) * 105 / 2
    np.testing.assert_allclose(found, norm.variance, rtol=0.6)

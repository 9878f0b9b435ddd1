"""References of the four models: every layer has one, and it is what the framework computes by itself."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
from small_reference import Case, assert_close, config, opened
from test_samples import ACTIVATIONS

from engine.manifest import sha256_of_file
from samples import SAMPLES
from spec.errors import ConfigError
from verify.image_layout import arranged, fits
from verify.recorded import Origin, record
from verify.reference import SOURCES, reference_names, unresolved

ROOT = Path(__file__).resolve().parents[1]
LAYER_COUNTS = {"model1": 22, "model2": 188, "model3": 189, "model4": 175}
FILES = {
    # what the config of each model reads out of its sample directory
    "model1": {"weights.path": "model.ckpt", "reference.graph": "model.ckpt.meta"},
    "model2": {"weights.path": "resnet50_skips.h5", "reference.keras": "resnet50_skips.h5"},
    "model3": {"weights.path": "model.ckpt-2", "reference.graph": "inference.meta"},
    "model4": {"weights.path": "resnet50.pth"},
}
SAME = {
    # our layer -> the tensor of an independent run (test_samples): convolution, batch norm, sum, pooling, the end
    "model1": {"to_float": "to_float", "conv1": "conv1/BiasAdd", "norm2": "norm2", "pool4": "pool4", "prob": "prob"},
    "model2": {
        "conv1_pad": "conv1_pad",
        "conv3_block2_2_conv": "conv3_block2_2_conv",
        "skip3_concat": "skip3_concat",
        "skip4_bn": "skip4_bn",
        "predictions/softmax": "predictions",
    },
    "model3": {
        "image/cast": "to_float",
        "image/normalised": "shift",
        "pool_concat": "pool_concat",
        "stage2/unit1/conv2": "stage2/unit1/conv2/Conv2D",
        "stage3/unit2/bn1": "stage3/unit2/bn1/FusedBatchNormV3",
        "stage4/unit1/shortcut_avg": "stage4/unit1/shortcut_avg",
        "logits": "logits/BiasAdd",
    },
    # layerS.B is the output of a block, whose last step is the in-place ReLU; its own relu is called three times
    "model4": {"bn1": "bn1", "layer2.0.relu": "layer2.0", "layer3.1.conv2": "layer3.1.conv2", "fc": "fc"},
}

Directory = Callable[[str], Path]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, sample_directory: Directory) -> Any:
    """Name, opened case, random image and directory of one model."""
    pytest.importorskip(SAMPLES[request.param].framework)
    directory = sample_directory(request.param)
    image = importlib.import_module(SAMPLES[request.param].module).random_image(0)
    return request.param, opened_sample(request.param, directory), image, directory


def opened_sample(name: str, directory: Path) -> Case:
    overrides = [f"{key}={directory / file}" for key, file in FILES[name].items()]
    return opened(ROOT / "configs" / f"{name}.yaml", overrides)


def test_every_layer_has_a_reference_and_it_is_right(sample):
    name, case, image, directory = sample
    activations = case.run(image=image)
    assert list(activations.arrays) == list(activations.names) == case.layer_names
    assert len(case.layer_names) == LAYER_COUNTS[name]
    assert unresolved(case.graph, case.reference, activations.names) == []
    shapes = {layer: tuple(case.graph.tensors[layer].shape) for layer in case.layer_names}
    assert {layer: array.shape for layer, array in activations.arrays.items()} == shapes
    assert all(array.flags.c_contiguous and np.ptp(array) > 0 for array in activations.arrays.values())
    independent = ACTIVATIONS[name](directory, image)
    for ours, theirs in SAME[name].items():
        wanted = independent[theirs]
        if wanted.ndim == 4 and name != "model4" and ours not in ("to_float", "image/cast"):
            wanted = wanted.transpose(0, 3, 1, 2)
        assert_close(activations.arrays[ours], wanted)


def test_layers_share_a_tensor_only_where_they_are_the_input(sample):
    """A rule that gave two layers one tensor would compare one of them with the wrong one."""
    _, case, _, _ = sample
    names = list(reference_names(case.model, case.graph, case.reference).values())
    assert len(names) == len(set(names)) > 20


def test_recorded_and_read_back(sample, tmp_path):
    """With the same comparison as its result, and without the framework."""
    name, case, image, directory = sample
    activations = case.run(image=image)
    config_file = directory / next(iter(FILES[name].values()))
    digests = {config_file.name: sha256_of_file(config_file)} if config_file.is_file() else {}
    record(tmp_path / "a.safetensors", activations, Origin(name, digests))
    removed = [key for key in SOURCES if getattr(case.model.reference, key) is not None]
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    (tmp_path / "m.yaml").write_text(text)
    again = opened(tmp_path / "m.yaml", [f"reference={{activations: {tmp_path / 'a.safetensors'}}}"]).run(image=image)
    assert removed and again.title.startswith(activations.title) and dict(again.names) == dict(activations.names)
    for layer, array in activations.arrays.items():
        np.testing.assert_array_equal(again.arrays[layer], array)


# configs


def test_a_model_without_a_reference(tmp_path):
    path = config(
        tmp_path / "m.yaml", "shape: [1, 4], dtype: float32", "path: x", "graph: x", ["cast: {name: a, dtype: float16}"]
    )
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "reference" not in line))
    with pytest.raises(
        ConfigError, match="m.yaml: nothing to compare with - say reference: .* graph, keras, callable, act"
    ):
        opened(path)


def test_every_way_to_name_a_reference_is_opened_by_a_module():
    from spec.model import ReferenceSpec

    assert set(SOURCES) == set(ReferenceSpec.model_fields) - {"feed", "feeds", "tensors"}
    for name in SOURCES.values():
        assert callable(importlib.import_module(name).open_source)


BLOCKED = {
    "graph: net.meta": ("tensorflow", "TensorFlow", "pip install tensorflow-cpu"),
    "keras: net.keras": ("keras", "Keras 3", "pip install keras"),
    "callable: 'samples.model4:build'": ("torch", "PyTorch", "pip install torch"),
    "activations: net.safetensors": ("safetensors", "safetensors", "pip install safetensors"),
}


@pytest.mark.parametrize("reference", BLOCKED)
def test_a_missing_framework_is_named(reference, tmp_path):
    import json
    import zipfile

    module, title, cure = BLOCKED[reference]
    for file in ("net.meta", "net.safetensors"):
        (tmp_path / file).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", "{}")
    path = config(
        tmp_path / "m.yaml", "shape: [1, 4], dtype: float32", "path: x", reference, ["cast: {name: a, dtype: float16}"]
    )
    message = message_without(module, path)
    assert f"m.yaml:6: reference.{reference.split(':')[0]}: the reference needs {title}" in message
    assert cure in message and "run.py record" in message


def message_without(module: str, path: Path) -> str:
    """What opening a reference says in a process where `module` cannot be imported."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from pathlib import Path\nfrom small_reference import opened\nfrom spec.errors import MissingFramework\n"
        f"try:\n    opened(Path({str(path)!r}))\nexcept MissingFramework as error:\n    print(error)\n"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opening_modules_imports_no_framework():
    code = (
        f"import sys, {', '.join(SOURCES.values())}\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'torch', 'h5py', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# layouts


def image(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


LAYOUTS: List[Any] = [
    # array, its layout, the layout wanted, shape wanted, axes of the result
    (image(1, 2, 3, 4), "NHWC", "NCHW", (1, 4, 2, 3), (0, 3, 1, 2)),
    (image(1, 2, 3, 4), "NCHW", "NHWC", (1, 3, 4, 2), (0, 2, 3, 1)),
    (image(1, 2, 3, 4), "NHWC", "NHWC", (1, 2, 3, 4), (0, 1, 2, 3)),
    (image(1, 2, 3, 4), "NHWC", "NCHW", (1, 2, 3, 4), (0, 1, 2, 3)),  # fits only as it is
    (image(1, 2, 3, 4), "NHWC", "NCHW", (1, 9, 9, 9), (0, 3, 1, 2)),  # fits neither way: the comparison reports it
    (image(1, 3, 3, 3), "NHWC", "NCHW", (1, 3, 3, 3), (0, 3, 1, 2)),  # fits both ways
    (image(5, 2, 3, 4), "NHWC", "NCHW", (-1, 4, 2, 3), (0, 3, 1, 2)),
    (image(1, 2, 3, 4), "NHWC", "NCHW", None, (0, 3, 1, 2)),
    (image(2, 3, 4), "NHWC", "NCHW", (2, 4, 3), (0, 1, 2)),
]


@pytest.mark.parametrize("array, have, want, shape, axes", LAYOUTS)
def test_arranged(array, have, want, shape, axes):
    np.testing.assert_array_equal(arranged(array, have, want, shape), array.transpose(axes))


def test_fits():
    assert fits((1, 2), None) and fits((1, 2), (-1, 2)) and fits((), ())
    assert not fits((1, 2), (1, 3)) and not fits((1, 2), (1, 2, 1))

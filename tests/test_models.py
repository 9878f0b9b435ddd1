"""The four models: every form of their checkpoints ends in one plan, and what the network computes is right.

    source framework, same weights, same images ──> reference  ┐
    YAML + checkpoint -> network definition ──> interpreter    ┴─> largest error below 1e-5 of the largest magnitude
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest

import run
from commands.configs import load_graph
from engine.interpreter import Interpreter
from engine.network import define
from engine.tensorrt_api import load
from samples import SAMPLES
from tests.own_logging import own_logging  # noqa: F401
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

DYNAMIC = "batch={min: 1, opt: 2, max: 4}"

# Each form of a model's checkpoint: the file in its sample directory, and what else the config must say.
FORMS: Dict[str, Dict[str, Tuple[str, List[str]]]] = {
    "model1": {"checkpoint": ("model.ckpt", []), "frozen graph": ("model.pb", [])},
    "model2": {
        "HDF5": ("resnet50_skips.h5", []),
        "weights only": ("resnet50_skips.weights.h5", []),
        "archive": ("resnet50_skips.keras", []),
    },
    "model3": {"checkpoint": ("model.ckpt-2", []), "directory": ("", [])},
    "model4": {
        "state_dict": ("resnet50.pth", []),
        "training checkpoint": ("resnet50_training.pth", ["weights.prefix=module."]),
    },
}

# One fact of the config changed at a time. The small epsilons show in the nearly dead channels only.
MISTAKES = [
    ("model1", "layers.2.scale.shift=-0.99"),
    ("model1", "layers.3.convolution.padding=same_lower"),
    ("model1", "layers.5.lrn.alpha_of=mean"),
    ("model1", "layers.9.lrn.beta=0.75"),
    ("model1", "layers.15.pooling.count_padding=true"),
    ("model1", "layers.16.flatten.order=NCHW"),
    ("model2", "epsilon=1.0e-5"),
    ("model2", "stages.1.skip.pool=max"),
    ("model3", "epsilon=1.0e-5"),
    ("model3", "weights.average=ExponentialMovingAverage"),
    ("model4", "epsilon=1.0e-3"),
]

TOLERANCE = 1e-5


def overrides_of(name: str, form: str, directory: Path) -> List[str]:
    file, more = FORMS[name][form]
    return [f"weights.path={directory / file}", *more]


def first_form(name: str) -> str:
    return next(iter(FORMS[name]))


def manifest_of(name: str, overrides: Sequence[str], directory: Path, capsys: Any) -> Any:
    """What the main job writes beside the plan it ends in."""
    words = ["--config", name, "--no-verify", "--output", str(directory)]
    assert run.main([*words, *(word for each in overrides for word in ("--set", each))]) == 0
    assert capsys.readouterr().err == ""
    manifest = json.loads((directory / f"{name}.plan.json").read_text())
    assert (directory / f"{name}.plan").stat().st_size == manifest["plan"]["bytes"] > 5_000_000
    return manifest


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_model_ends_in_the_same_plan(name, sample_directory, tmp_path, capsys):
    overrides = {form: overrides_of(name, form, sample_directory(name)) for form in FORMS[name]}
    manifests = {form: manifest_of(name, overrides[form], tmp_path, capsys) for form in overrides}
    assert len({manifest["plan"]["sha256"] for manifest in manifests.values()}) == 1
    files = [tuple(manifest["checkpoint"]["sha256"]) for manifest in manifests.values()]
    assert len(set(files)) == len(files) or name == "model3"  # its directory names the same files


@pytest.mark.parametrize("name, form", [(name, form) for name in FORMS for form in FORMS[name]])
def test_every_form_of_a_model_ends_in_a_plan_with_a_dynamic_batch(name, form, sample_directory, tmp_path, capsys):
    """Their bytes differ from build to build: TensorRT-RTX 1.7.1 numbers its temporaries (`__mye5554`) anew."""
    overrides = [*overrides_of(name, form, sample_directory(name)), DYNAMIC]
    manifest = manifest_of(name, overrides, tmp_path, capsys)
    assert manifest["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert [each["shape"][0] for each in manifest["inputs"] + manifest["outputs"]] == [-1, -1]


@pytest.fixture(scope="module")
def reference(sample_directory) -> Callable[[str], Tuple[np.ndarray, np.ndarray]]:
    """`reference("model1")`: two images, and what the source framework makes of them; computed once."""
    known: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}

    def of(name: str) -> Tuple[np.ndarray, np.ndarray]:
        if name not in known:
            pytest.importorskip(SAMPLES[name].framework)
            sample = importlib.import_module(SAMPLES[name].module)
            images = sample.random_image(7, batch=2)
            known[name] = images, sample.run(sample_directory(name), images)
        return known[name]

    return of


def computed(name: str, overrides: Sequence[str], images: np.ndarray) -> np.ndarray:
    """The model's output for images, from a network definition of its own."""
    model, graph = load_graph(name, overrides)
    checkpoint = open_checkpoint(model.weights_path, model.weights.key)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint, model.weights.convention))
    tensorrt = load("auto")
    network: Any = define(graph, weights.arrays, tensorrt).network
    (output,) = Interpreter(network, tensorrt.module).run({next(iter(graph.inputs)): images}).values()
    return output


def error_of(output: np.ndarray, wanted: np.ndarray) -> float:
    """Largest error, relative to the largest magnitude; a wrong shape or a NaN is no number at all."""
    assert output.shape == wanted.shape and np.isfinite(output).all()
    return float(np.abs(output.astype(np.float64) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("name", FORMS)
def test_one_image_gives_what_the_source_framework_gives(name, sample_directory, reference):
    images, outputs = reference(name)
    overrides = overrides_of(name, first_form(name), sample_directory(name))
    error = error_of(computed(name, overrides, images[:1]), outputs[:1])
    assert 0 < error < TOLERANCE


@pytest.mark.parametrize("name", FORMS)
def test_a_dynamic_batch_of_two_gives_what_the_source_framework_gives(name, sample_directory, reference):
    images, outputs = reference(name)
    overrides = overrides_of(name, first_form(name), sample_directory(name)) + [DYNAMIC]
    error = error_of(computed(name, overrides, images), outputs)
    assert 0 < error < TOLERANCE


@pytest.mark.parametrize("name, mistake", MISTAKES, ids=" ".join)
def test_a_mistake_in_the_config_is_seen(name, mistake, sample_directory, reference):
    images, outputs = reference(name)
    overrides = overrides_of(name, first_form(name), sample_directory(name)) + [mistake]
    assert error_of(computed(name, overrides, images[:1]), outputs[:1]) > 10 * TOLERANCE

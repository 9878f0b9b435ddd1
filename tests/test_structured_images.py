"""verify.structured_images: the same for a seed, varied between seeds, and in each input's own range, dtype, layout."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
import pytest
import yaml

from spec.graph import build_graph
from spec.layers import LAYERS
from spec.model import ModelSpec
from verify.inputs import make_inputs
from verify.structured_images import COMPONENTS, structured_image, structured_inputs

SIZE = (31, 45, 3)


def graph_of_input(**keys: Any) -> Any:
    found: Dict[str, Any] = {"weights": {"path": "none"}, "outputs": ["relu"], "architecture": "plain"}
    batch: Optional[Dict[str, int]] = keys.pop("batch", None)
    model = ModelSpec(name="net", inputs={"x": keys}, batch=batch, **found)
    return build_graph(model, [LAYERS["activation"](name="relu", function="relu")])


def test_a_seed_gives_the_same_image_wherever_it_stands_in_a_batch():
    graph = graph_of_input(shape=[2, 3, 31, 45], dtype="float32", layout="NCHW")
    first = structured_inputs(graph, [(7, 0), (8, 0)])["x"]
    second = structured_inputs(graph, [(8, 0), (7, 0)])["x"]
    np.testing.assert_array_equal(first, second[::-1])
    assert not np.array_equal(first[0], first[1])


def test_images_differ_more_from_each_other_than_noise_does():
    """Of means over 4 x 4 patches, which is what is left of noise, hardly anything varies; here nearly all does."""
    images = np.stack([structured_image((32, 32, 3), (seed,)) for seed in range(40)])
    noise = np.random.default_rng(0).random(images.shape)
    patches = [each.reshape(40, 8, 4, 8, 4, 3).mean((2, 4)).std(0).mean() for each in (images, noise)]
    assert patches[0] > 2 * patches[1]


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("size", [SIZE, (1, 12, 1), (2, 2, 4)], ids=str)
def test_every_component_has_the_size_and_stays_in_range(name, size):
    found = COMPONENTS[name](np.random.default_rng(1), size)
    assert found.shape == size
    assert -1e-9 <= found.min() and found.max() <= 1 + 1e-9


def test_an_image_reaches_from_dark_to_bright():
    image = structured_image(SIZE, (3,))
    assert (image.min(), image.max()) == (0.0, 1.0)


FLOATS = "shape: [1, 9, 7, 3], dtype: float32, layout: NHWC"
INPUTS = {
    # what the config says of an input: what its numbers lie between
    "pixels": ("shape: [1, 9, 7, 3], dtype: uint8, layout: NHWC", (0, 255)),
    "normalised": ("shape: [1, 3, 9, 7], dtype: float32, layout: NCHW", (-2, 2)),
    "half": ("shape: [1, 3, 9, 7], dtype: float16, layout: NCHW", (-2, 2)),
    "scaled by us": (f"{FLOATS}, preprocessing: {{scale: 0.00392}}", (0, 255)),
    "means of pixels": (f"{FLOATS}, preprocessing: {{mean: [123.7, 116.8, 103.9]}}", (0, 255)),
    "means of parts": (f"{FLOATS}, preprocessing: {{mean: [0.485, 0.456, 0.406]}}", (0, 1)),
    "no image": ("shape: [1, 40], dtype: float32", (-2, 2)),
    "no image of three axes": ("shape: [1, 4, 5], dtype: float32", (-2, 2)),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_what_the_engine_takes(name):
    text, (low, high) = INPUTS[name]
    keys = yaml.safe_load(f"{{{text}}}")
    arrays, title = make_inputs(graph_of_input(**keys), "structured:5")
    array = arrays["x"]
    assert array.shape == tuple(keys["shape"]) and array.dtype == keys["dtype"] and array.flags.c_contiguous
    assert (array.min(), array.max()) == (low, high)
    assert title == "structured images of seed 5"


def test_a_layout_only_moves_axes():
    nhwc = structured_inputs(graph_of_input(shape=[1, 9, 7, 3], dtype="float32", layout="NHWC"), [(1, 0)])["x"]
    nchw = structured_inputs(graph_of_input(shape=[1, 3, 9, 7], dtype="float32", layout="NCHW"), [(1, 0)])["x"]
    np.testing.assert_array_equal(nhwc.transpose(0, 3, 1, 2), nchw)


def test_image_0_of_an_agreement_is_structured_0():
    graph = graph_of_input(shape=[1, 9, 7, 3], dtype="uint8", layout="NHWC")
    np.testing.assert_array_equal(make_inputs(graph, "structured:4")[0]["x"], structured_inputs(graph, [(4, 0)])["x"])


def test_a_dynamic_batch_gets_different_images():
    graph = graph_of_input(
        shape=[-1, 3, 9, 7], dtype="float32", layout="NCHW", batch={"min": 1, "opt": 2, "max": 4}
    )
    image = make_inputs(graph, "structured:0")[0]["x"]
    assert len(image) == 2 and not np.array_equal(image[0], image[1])

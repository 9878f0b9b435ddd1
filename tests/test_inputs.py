"""What stands between the user's pipeline and the first layer: every combination, checked by evaluating the layers."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from pydantic import ValidationError

from spec.graph import build_graph
from spec.inputs import adapt_inputs
from spec.layers import Activation, Cast, Elementwise, Gather, Layer, Scale, Transpose
from spec.model import InputSpec, ModelSpec

IMAGE = {"NHWC": (2, 5, 4, 3), "NCHW": (2, 3, 5, 4)}
STEPS = {"scale": 1 / 255, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.5], "swap_channels": True}

DTYPES = ("uint8", "float32", "float16")
LAYOUTS = ("NHWC", "NCHW")


def model_of(outputs: Sequence[str] = ("relu",), **inputs: dict) -> ModelSpec:
    keys = {"name": "m", "weights": {"path": "w"}, "architecture": "plain", "outputs": outputs, "inputs": inputs}
    return ModelSpec.model_validate(keys).loaded(None, Path("m.yaml"), {})


def image_of(dtype: str, layout: str, preprocessing: Optional[dict] = None) -> dict:
    return {"shape": IMAGE[layout], "dtype": dtype, "layout": layout, "preprocessing": preprocessing}


def relu(name: str = "relu", *inputs: str) -> Layer:
    return Activation(name=name, inputs=inputs or ("image",), function="relu")


def named(layers: Sequence[Layer]) -> List[Tuple[str, Tuple[str, ...]]]:
    return [(layer.name, layer.inputs) for layer in layers]


def evaluated(layers: Sequence[Layer], **tensors: np.ndarray) -> Dict[str, np.ndarray]:
    """The few layer types that inputs add, and relu, in NumPy; float64 for float32, so that rounding hides nothing."""
    for layer in layers:
        x = tensors[layer.inputs[0]]
        if isinstance(layer, Cast):
            assert layer.dtype == "float32"
            x = x.astype(np.float64)
        elif isinstance(layer, Transpose):
            x = x.transpose(layer.axes)
        elif isinstance(layer, Gather):
            x = x.take(layer.indices, layer.axis)
        elif isinstance(layer, Scale):
            x = x * np.reshape(layer.scale, (-1, 1, 1)) + np.reshape(layer.shift, (-1, 1, 1))
        else:
            assert isinstance(layer, Activation)
            x = x.clip(min=0)
        tensors[layer.name] = x
    return tensors


def preprocessed(image: np.ndarray, layout: str, preprocessing: Optional[dict]) -> np.ndarray:
    """What a user's own code would do in float64, n c h w: to channels first, swap, (x * scale - mean) / std."""
    image = image.astype(np.float64)
    if layout == "NHWC":
        image = np.moveaxis(image, 3, 1)
    if preprocessing is None:
        return image
    mean, std = (np.reshape(preprocessing[key], (3, 1, 1)) for key in ("mean", "std"))
    return (image[:, ::-1] * preprocessing["scale"] - mean) / std


@pytest.mark.parametrize("own_cast", [False, True])
@pytest.mark.parametrize("preprocessing", [None, STEPS], ids=["as-is", "preprocessed"])
@pytest.mark.parametrize(("dtype", "layout"), list(product(DTYPES, LAYOUTS)))
def test_the_first_layer_reads_what_the_users_code_would_feed(dtype, layout, preprocessing, own_cast):
    model = model_of(image=image_of(dtype, layout, preprocessing))
    cast = Cast(name="to_float", inputs=("image",), dtype="float32")
    graph = build_graph(model, [cast, relu("relu", "to_float")] if own_cast else [relu()])
    image = np.random.default_rng(0).integers(0, 255, IMAGE[layout]).astype(dtype)
    made = evaluated(graph.layers, image=image)
    expected = preprocessed(image, layout, preprocessing).clip(min=0)
    np.testing.assert_allclose(made["relu"], expected, rtol=1e-12)
    assert graph.tensors["relu"] == (expected.shape, "float32")


# (dtype, layout, preprocessed, the layer list casts by itself): the layers in front of or behind that cast
EXPECTED = {
    ("uint8", "NHWC", False, False): ["image/cast", "image/nchw", "relu"],
    ("uint8", "NHWC", False, True): ["to_float", "image/nchw", "relu"],
    ("uint8", "NHWC", True, False): ["image/cast", "image/nchw", "image/swap", "image/normalised", "relu"],
    ("uint8", "NHWC", True, True): ["image/cast", "image/nchw", "image/swap", "image/normalised", "to_float", "relu"],
    ("uint8", "NCHW", False, False): ["image/cast", "relu"],
    ("uint8", "NCHW", False, True): ["to_float", "relu"],
    ("uint8", "NCHW", True, False): ["image/cast", "image/swap", "image/normalised", "relu"],
    ("uint8", "NCHW", True, True): ["image/cast", "image/swap", "image/normalised", "to_float", "relu"],
    ("float32", "NHWC", False, False): ["image/nchw", "relu"],
    ("float32", "NHWC", False, True): ["to_float", "image/nchw", "relu"],
    ("float32", "NHWC", True, False): ["image/nchw", "image/swap", "image/normalised", "relu"],
    ("float32", "NHWC", True, True): ["image/nchw", "image/swap", "image/normalised", "to_float", "relu"],
    ("float32", "NCHW", False, False): ["relu"],
    ("float32", "NCHW", False, True): ["to_float", "relu"],
    ("float32", "NCHW", True, False): ["image/swap", "image/normalised", "relu"],
    ("float32", "NCHW", True, True): ["image/swap", "image/normalised", "to_float", "relu"],
    ("float16", "NHWC", False, False): ["image/cast", "image/nchw", "relu"],
    ("float16", "NHWC", False, True): ["to_float", "image/nchw", "relu"],
    ("float16", "NHWC", True, False): ["image/cast", "image/nchw", "image/swap", "image/normalised", "relu"],
    ("float16", "NHWC", True, True): ["image/cast", "image/nchw", "image/swap", "image/normalised", "to_float", "relu"],
    ("float16", "NCHW", False, False): ["image/cast", "relu"],
    ("float16", "NCHW", False, True): ["to_float", "relu"],
    ("float16", "NCHW", True, False): ["image/cast", "image/swap", "image/normalised", "relu"],
    ("float16", "NCHW", True, True): ["image/cast", "image/swap", "image/normalised", "to_float", "relu"],
}


@pytest.mark.parametrize(("dtype", "layout", "steps", "own_cast"), EXPECTED)
def test_each_added_layer_is_there_only_where_it_is_needed(dtype, layout, steps, own_cast):
    model = model_of(image=image_of(dtype, layout, STEPS if steps else None))
    layers = [relu()]
    if own_cast:
        layers = [Cast(name="to_float", inputs=("image",), dtype="float32"), relu("relu", "to_float")]
    names = [layer.name for layer in adapt_inputs(model, layers)]
    assert names == EXPECTED[dtype, layout, steps, own_cast]


def test_every_combination_is_written_down():
    assert set(EXPECTED) == set(product(DTYPES, LAYOUTS, (False, True), (False, True)))


def test_a_float16_input_is_computed_with_in_float32():
    graph = build_graph(model_of(image=image_of("float16", "NHWC")), [relu()])
    assert graph.tensors["image"].dtype == "float16"
    assert {graph.tensors[layer.name].dtype for layer in graph.layers} == {"float32"}


def test_several_readers_all_read_the_adapted_image():
    layers = [relu("a"), relu("b"), Elementwise(name="sum", inputs=("a", "b", "image"), function="sum")]
    adapted = adapt_inputs(model_of(image=image_of("uint8", "NHWC")), layers)
    assert named(adapted) == [
        ("image/cast", ("image",)),
        ("image/nchw", ("image/cast",)),
        ("a", ("image/nchw",)),
        ("b", ("image/nchw",)),
        ("sum", ("a", "b", "image/nchw")),
    ]


def test_two_casts_of_one_image_both_read_the_adapted_one():
    layers = [
        Cast(name="a", inputs=("image",), dtype="float32"),
        Cast(name="b", inputs=("image",), dtype="int32"),
    ]
    adapted = adapt_inputs(model_of(image=image_of("uint8", "NHWC")), layers)
    assert named(adapted)[2:] == [("a", ("image/nchw",)), ("b", ("image/nchw",))]


def test_later_readers_of_the_models_own_cast_are_rewired_too():
    layers = [
        Cast(name="to_float", inputs=("image",), dtype="float32"),
        relu("a", "to_float"),
        Elementwise(name="sum", inputs=("a", "to_float"), function="sum"),
    ]
    adapted = adapt_inputs(model_of(image=image_of("uint8", "NHWC")), layers)
    assert named(adapted) == [
        ("to_float", ("image",)),
        ("image/nchw", ("to_float",)),
        ("a", ("image/nchw",)),
        ("sum", ("a", "image/nchw")),
    ]


def test_two_inputs_are_adapted_each_by_itself():
    layers = [relu("a", "left"), Elementwise(name="sum", inputs=("a", "right"), function="sum")]
    model = model_of(left=image_of("uint8", "NCHW"), right=image_of("float32", "NHWC"))
    assert sorted(named(adapt_inputs(model, layers))) == [
        ("a", ("left/cast",)),
        ("left/cast", ("left",)),
        ("right/nchw", ("right",)),
        ("sum", ("a", "right/nchw")),
    ]


def test_the_given_layers_are_left_as_they_were():
    layers = [relu()]
    adapt_inputs(model_of(image=image_of("uint8", "NHWC")), layers)
    assert named(layers) == [("relu", ("image",))]


def test_an_unread_input_gets_no_layers():
    assert adapt_inputs(model_of(image=image_of("uint8", "NHWC")), [relu("a", "other")]) == [relu("a", "other")]


@pytest.mark.parametrize(
    ("steps", "scale", "shift"),
    [
        ({"mean": [1, 2, 4]}, (1.0,) * 3, (-1.0, -2.0, -4.0)),
        ({"std": [1, 2, 4]}, (1.0, 0.5, 0.25), (0.0,) * 3),
        ({"scale": 2, "mean": 1, "std": [1, 2, 4]}, (2.0, 1.0, 0.5), (-1.0, -0.5, -0.25)),
        ({"scale": "1/127.5", "mean": 1.0}, (1 / 127.5,), (-1.0,)),
    ],
)
def test_scale_and_shift_of_every_channel(steps, scale, shift):
    (layer, _) = adapt_inputs(model_of(image=image_of("float32", "NCHW", steps)), [relu()])
    assert (layer.name, layer.scale, layer.shift) == ("image/normalised", scale, shift)


@pytest.mark.parametrize("steps", [{}, {"scale": 1, "mean": 0, "std": 1}, {"mean": [0, 0, 0]}])
def test_preprocessing_that_does_nothing_adds_nothing(steps):
    assert named(adapt_inputs(model_of(image=image_of("float32", "NCHW", steps)), [relu()])) == [("relu", ("image",))]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"preprocessing": {"mean": [1, 2]}}, "preprocessing.mean has 2 numbers, the image has 3 channels"),
        ({"preprocessing": {"std": [1, 2, 3, 4]}}, "preprocessing.std has 4 numbers, the image has 3 channels"),
        ({"preprocessing": {"std": [1, 0, 1]}}, r"std \[1.0, 0.0, 1.0\] divides by zero"),
        ({"shape": [1, 3], "layout": None, "preprocessing": {}}, "preprocessing is for images"),
        ({"layout": None}, "an input of four axes needs layout: NHWC or NCHW, any other has none"),
        ({"shape": [1, 3]}, "an input of four axes needs layout: NHWC or NCHW, any other has none"),
        ({"shape": [1, 0, 5, 3]}, "must be positive; only the batch in front may be -1"),
        ({"shape": [0, 5, 5, 3]}, "must be positive"),
        ({"shape": [1, -1, 5, 3]}, "must be positive"),
    ],
)
def test_inputs_that_make_no_sense(keys, message):
    with pytest.raises(ValidationError, match=message):
        InputSpec.model_validate(dict({"shape": [1, 5, 5, 3], "dtype": "uint8", "layout": "NHWC"}, **keys))

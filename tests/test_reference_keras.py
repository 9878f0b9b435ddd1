"""References in Keras: fused activations, layers called twice, models inside models, both Keras, no foreign code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from small_reference import assert_close, config, opened, random_image  # noqa: E402

from spec.errors import ConfigError, UsageError, VerificationError  # noqa: E402
from verify.reference import reference_names  # noqa: E402

OLD = Path(__file__).parent / "data" / "old_frameworks"
IMAGE = "shape: [1, 9, 7, 3], dtype: float32, layout: NHWC"
LAYERS = [
    "convolution: {name: conv, filters: 4, kernel: 3, stride: 2, padding: same, bias: true}",
    "activation: {name: conv/relu, function: relu}",
    "batch_norm: {name: bn, epsilon: 1.0e-3}",
    "flatten: {name: flat, order: NHWC}",
    "dense: {name: fc, units: 5, bias: true}",
    "softmax: {name: fc/softmax}",
]


def network():
    """Two fused activations; every weight random."""
    layers = keras.layers
    image = keras.Input((9, 7, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(image)
    x = layers.Flatten(name="flat")(layers.BatchNormalization(name="bn")(x))
    return randomised(keras.Model(image, layers.Dense(5, activation="softmax", name="fc")(x)))


def randomised(model):
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 0.5, each.shape).astype(np.float32) for each in model.get_weights()])
    return model


def case(folder: Path, model, file: str = "m.keras", layers=LAYERS, more: str = ""):
    model.save(folder / file)
    return opened(config(folder / "m.yaml", IMAGE, f"path: {file}", f"keras: {file}{more}", layers))


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_fused_activations_have_two_tensors(file, tmp_path):
    model = network()
    found = case(tmp_path, model, file)
    image = random_image(1, 9, 7, 3)
    activations = found.run(image=image)
    assert activations.names == {
        "image/nchw": "the input 'image'",
        "conv": "conv:linear",
        "conv/relu": "conv",
        "bn": "bn",
        "flat": "flat",
        "fc": "fc:linear",
        "fc/softmax": "fc",
    }
    linear = keras.ops.conv(image, model.get_layer("conv").kernel, 2, "same") + model.get_layer("conv").bias
    assert_close(activations.arrays["conv"], np.asarray(linear).transpose(0, 3, 1, 2))
    assert_close(activations.arrays["conv/relu"], np.asarray(linear).clip(0).transpose(0, 3, 1, 2))
    assert (activations.arrays["conv"] < 0).any()
    assert activations.functions == {"conv/relu": "relu"}
    assert_close(activations.arrays["fc/softmax"], np.asarray(model(image)))
    exponentials = np.exp(activations.arrays["fc"] - activations.arrays["fc"].max())
    assert_close(activations.arrays["fc/softmax"], exponentials / exponentials.sum())
    assert "Keras 3" in activations.title and file in activations.title


@pytest.mark.parametrize(
    "layer, word",
    [
        (keras.layers.ReLU(), "relu"), (keras.layers.ReLU(max_value=6), "relu6"), (keras.layers.ReLU(20.0), None),
        (keras.layers.ReLU(negative_slope=0.1), None), (keras.layers.Activation("relu6"), "relu6"),
        (keras.layers.Dense(3, activation="relu"), "relu"), (keras.layers.Dense(3), None),
        (keras.layers.Softmax(), None),
    ],
)  # fmt: skip
def test_a_layer_that_ends_in_relu_or_relu6(layer, word):
    from verify.keras_reference import _function

    assert _function(layer) == word


def test_the_model_is_left_as_it_was(tmp_path):
    found = case(tmp_path, network())
    image = random_image(1, 9, 7, 3)
    first, second = found.run(image=image).arrays, found.run(image=image).arrays
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_an_activation_of_its_own_is_not_taken_for_a_fused_one(tmp_path):
    image = keras.Input((9, 7, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(image)
    found = case(tmp_path, randomised(keras.Model(image, keras.layers.ReLU(name="act")(x))), layers=LAYERS[:2])
    assert reference_names(*found) == {"conv": "conv"}
    assert found.reference.names() == ["image", "conv", "act"]


def test_sequential_model_operations_and_layers_called_twice(tmp_path):
    layers = keras.layers
    image = keras.Input((9, 7, 3), name="image")
    shared = layers.Conv2D(3, 1, activation="relu", name="shared")
    inner = keras.Sequential([keras.Input((9, 7, 3)), layers.Conv2D(2, 3, activation="tanh", name="ic")], name="inner")
    model = randomised(keras.Model(image, inner(shared(shared(image)) + 3.0)))
    rows = ["activation: {name: inner/ic, function: relu}"]
    found = case(tmp_path, model, layers=rows)
    names = ["image", "shared:linear#1", "shared#1"]
    names = ["image", "shared#1:linear", "shared#1", "shared#2:linear", "shared#2", "add"]
    known = [name for name in found.reference.names() if "input_layer" not in name]
    assert known == [*names, "inner/ic:linear", "inner/ic", "inner"]
    pixels = random_image(1, 9, 7, 3)
    arrays = found.reference.activations({"image": pixels}, known)
    layer = model.get_layer("shared")
    once = layer(pixels)
    twice = layer(once)
    assert_close(arrays["shared#1"], np.asarray(once))
    assert_close(arrays["shared#2"], np.asarray(twice))
    assert_close(arrays["add"], np.asarray(twice) + 3)
    assert_close(arrays["shared#2:linear"].clip(0), np.asarray(twice))
    assert_close(np.tanh(arrays["inner/ic:linear"]), arrays["inner/ic"])
    assert_close(arrays["inner"], np.asarray(model(pixels)))


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_a_sequential_model_from_a_file_has_each_layer_once(tmp_path, file):
    layers = keras.layers
    convolution = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")
    head = [layers.BatchNormalization(name="bn"), layers.Flatten(name="flat"), layers.Dense(5, name="fc")]
    model = randomised(keras.Sequential([keras.Input((9, 7, 3), name="image"), convolution, *head]))
    found = case(tmp_path, model, file)
    names = ["conv:linear", "conv", "bn", "flat", "fc"]
    assert [name for name in found.reference.names() if name != "image"] == names
    pixels = random_image(1, 9, 7, 3)
    assert_close(found.reference.activations({"image": pixels}, names)["fc"], np.asarray(model(pixels)))


def test_a_model_of_keras_2_is_opened_by_keras_2(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    path = OLD / "keras_2_2_4.h5"
    rows = ["convolution: {name: conv1, filters: 4, kernel: 3, stride: 1, padding: same, bias: true}"]
    image = "shape: [1, 5, 7, 3], dtype: float32, layout: NHWC"
    found = opened(config(tmp_path / "m.yaml", image, f"path: {path}", f"keras: {path}", rows))
    names = ["image", "conv1", "dw", "shared#1", "shared#2", "inner/ic", "inner/ibn", "inner", "flat", "fc"]
    known = [name for name in found.reference.names() if "input_1" not in name]
    assert known == names and tf_keras.__version__ in found.reference.title
    pixels = random_image(1, 5, 7, 3)
    arrays = found.reference.activations({"image": pixels}, names)
    model = tf_keras.models.load_model(path, compile=False)
    assert_close(arrays["fc"], model(pixels).numpy())
    inner = model.get_layer("inner")
    assert_close(arrays["inner/ic"], inner.get_layer("ic")(arrays["shared#2"]).numpy())
    assert_close(arrays["conv1"], model.get_layer("conv1")(pixels).numpy())
    assert_close(found.run(image=pixels).arrays["conv1"], arrays["conv1"].transpose(0, 3, 1, 2))


def test_fused_activations_in_keras_2(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    image = tf_keras.Input((9, 7, 3), name="image")
    x = tf_keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(image)
    model = randomised(tf_keras.Model(image, x))
    found = case(tmp_path, model, "m.h5", LAYERS[:2])
    arrays = found.run(image=random_image(1, 9, 7, 3)).arrays
    assert list(arrays) == ["image/nchw", "conv", "conv/relu"] and (arrays["conv"] < 0).any()
    assert_close(arrays["conv"].clip(0), arrays["conv/relu"])


SEPARABLE = [
    "depthwise_convolution:"
    " {name: sep_dw, scope: sep, kernel: 3, stride: 2, padding: same, bias: false, multiplier: 2}",
    "convolution: {name: sep, filters: 8, kernel: 1, padding: valid, bias: true}",
    "activation: {name: sep/tanh, function: tanh}",
]


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_the_halves_of_a_separable_convolution(library, tmp_path):
    """Two layers of ours have the scope of the one in Keras: the depthwise half is its own tensor."""
    library = pytest.importorskip(library)
    image = library.Input((9, 7, 3), name="image")
    geometry = {"strides": 2, "padding": "same", "depth_multiplier": 2}
    separable = library.layers.SeparableConv2D(8, 3, **geometry, activation="tanh", name="sep")
    model = randomised(library.Model(image, separable(image)))
    found = case(tmp_path, model, "m.h5", SEPARABLE)
    assert [name for name in found.reference.names() if name != "image"] == ["sep:depthwise", "sep:linear", "sep"]
    pixels = random_image(1, 9, 7, 3)
    activations = found.run(image=pixels)
    arrays = activations.arrays
    names = {layer: activations.names[layer] for layer in ("sep_dw", "sep", "sep/tanh")}
    assert names == {"sep_dw": "sep:depthwise", "sep": "sep:linear", "sep/tanh": "sep"}
    half = library.layers.DepthwiseConv2D(3, **geometry, use_bias=False)
    half.build((1, 9, 7, 3))
    half.set_weights([np.asarray(separable.depthwise_kernel)])
    assert_close(arrays["sep_dw"], np.asarray(half(pixels)).transpose(0, 3, 1, 2))
    pointwise, bias = np.asarray(separable.pointwise_kernel)[0, 0], np.asarray(separable.bias)
    linear = np.einsum("nchw,co->nohw", arrays["sep_dw"].astype(np.float64), pointwise) + bias[:, None, None]
    assert_close(arrays["sep"], linear)
    assert_close(arrays["sep/tanh"], np.asarray(model(pixels)).transpose(0, 3, 1, 2))
    assert arrays["sep_dw"].shape == (1, 6, 5, 4) and np.abs(arrays["sep"] - arrays["sep/tanh"]).max() > 0.1


@pytest.mark.parametrize("file", ["m.h5", "m.keras"])
def test_a_separable_convolution_passes_layer_by_layer(tmp_path, file):
    """The whole way, for files whose two halves lie under one scope, by name and by number."""
    pytest.importorskip("tensorrt_rtx")
    from engine.network import define
    from tests.backends import rtx
    from verify.compare import Tolerance
    from verify.verification import verify
    from weights import convention_of, open_checkpoint
    from weights.readings import readings_of
    from weights.transplant import transplant

    image = keras.Input((9, 7, 3), name="image")
    geometry = {"strides": 2, "padding": "same", "depth_multiplier": 2}
    separable = keras.layers.SeparableConv2D(8, 3, **geometry, activation="tanh", name="sep")
    found = case(tmp_path, randomised(keras.Model(image, separable(image))), file, SEPARABLE)
    checkpoint = open_checkpoint(found.model.weights_path)
    weights = transplant(found.graph, checkpoint, found.model.weights, convention_of(checkpoint))
    definition = define(found.graph, weights.arrays, rtx())
    activations, readings = found.run(image=random_image(1, 9, 7, 3)), readings_of(found.graph, weights)
    comparison = verify(definition, activations, Tolerance(0.0, 1e-5), readings).comparison
    assert comparison.passed and [row.layer for row in comparison.rows][-3:] == ["sep_dw", "sep", "sep/tanh"]


def test_only_a_depthwise_layer_is_the_depthwise_half(tmp_path):
    """And one whose layer in Keras is no SeparableConv2D keeps that layer's own output."""
    image = keras.Input((9, 7, 3), name="image")
    x = keras.layers.SeparableConv2D(4, 3, name="sep")(image)
    x = keras.layers.DepthwiseConv2D(3, name="dw")(x)
    rows = [
        "depthwise_convolution: {name: first, scope: sep, kernel: 3, padding: valid, bias: false}",
        "convolution: {name: second, scope: sep, filters: 4, kernel: 1, padding: valid, bias: true}",
        "depthwise_convolution: {name: dw, kernel: 3, padding: valid, bias: true}",
    ]
    found = case(tmp_path, randomised(keras.Model(image, x)), layers=rows)
    assert reference_names(*found) == {"first": "sep:depthwise", "second": "sep", "dw": "dw"}


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_code_in_a_file_is_not_run(library, file, tmp_path):
    """tf_keras.models.load_model itself runs the code of an .h5."""
    library = pytest.importorskip(library)
    image = library.Input((9, 7, 3), name="image")
    witness = tmp_path / "ran"
    scope: dict = {}
    exec(f"def touch(x):\n    open({str(witness)!r}, 'w').close()\n    return x", scope)
    x = library.layers.Lambda(scope["touch"], output_shape=(9, 7, 3), name="evil")(image)
    witness.unlink(missing_ok=True)
    with pytest.raises(VerificationError, match=r"holds Python code \(Lambda 'evil'\), not run here"):
        case(tmp_path, library.Model(image, x), file, LAYERS[:1])
    assert not witness.exists()


def test_only_some_keys_make_a_lambda(tmp_path):
    """A layer that is merely named so is none."""
    image = keras.Input((9, 7, 3), name="Lambda")
    model = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(image))
    assert "conv" in case(tmp_path, randomised(model), layers=LAYERS[:1]).run(image=random_image(1, 9, 7, 3)).arrays


def test_files_that_are_no_model(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    network().save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "cut.keras").write_bytes(saved(tmp_path)[:3000])
    for file in ("text.h5", "m.weights.h5", "cut.keras"):
        with pytest.raises(VerificationError, match="no full Keras model, or damaged") as caught:
            opened(config(tmp_path / "m.yaml", IMAGE, "path: x", f"keras: {file}", LAYERS))
        assert "m.yaml:6: reference.keras" in str(caught.value) and file in str(caught.value)
    with pytest.raises(UsageError, match="m.yaml:6: reference.keras: no file .*absent.keras"):
        opened(config(tmp_path / "m.yaml", IMAGE, "path: x", "keras: absent.keras", LAYERS))


def saved(folder: Path) -> bytes:
    network().save(folder / "whole.keras")
    return (folder / "whole.keras").read_bytes()


def test_a_model_that_keras_cannot_rebuild(tmp_path):
    """Keras' own message, and the file."""
    model = network()
    model.save(tmp_path / "m.h5")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        text = json.loads(file.attrs["model_config"])
        text["config"]["layers"][1]["config"]["filter"] = 4
        file.attrs["model_config"] = json.dumps(text)
    with pytest.raises(VerificationError, match=r"Keras 3.* cannot load .*m\.h5"):
        opened(config(tmp_path / "m.yaml", IMAGE, "path: m.h5", "keras: m.h5", LAYERS))


def test_two_inputs_go_by_name(tmp_path):
    one, two = keras.Input((9, 7, 3), name="image"), keras.Input((9, 7, 3), name="depth")
    model = keras.Model([one, two], keras.layers.Subtract(name="difference")([one, two]))
    rows = ["elementwise: {name: difference, inputs: [image, depth], function: sub}"]
    both = f"{IMAGE}}}\n  depth: {{{IMAGE}"
    model.save(tmp_path / "m.keras")
    path = config(tmp_path / "m.yaml", both, "path: m.keras", "keras: m.keras", rows)
    image, depth = random_image(1, 9, 7, 3), random_image(1, 9, 7, 3, seed=1)
    found = opened(path).run(depth=depth, image=image)
    assert_close(found.arrays["difference"], (image - depth).transpose(0, 3, 1, 2))
    swapped = opened(path, ["reference.tensors={image: depth, depth: image}"]).run(depth=depth, image=image)
    assert_close(swapped.arrays["difference"], (depth - image).transpose(0, 3, 1, 2))
    with pytest.raises(ConfigError, match="its inputs are image, depth, ours image, depth"):
        opened(path, ["reference.tensors={image: nothing}"])


def test_wrong_size(tmp_path):
    found = case(tmp_path, network())
    with pytest.raises(VerificationError, match="input 'image' is 1 x 8 x 7 x 3, Keras .* takes N x 9 x 7 x 3"):
        found.run(image=random_image(1, 8, 7, 3))

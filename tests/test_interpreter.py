"""The interpreter as a whole: what it reads back, which layers it runs, whose memory it touches, what it refuses."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.interpreter.evaluators import EVALUATORS, IN_PLACE
from engine.interpreter.pointwise import ACTIVATIONS, ELEMENTWISE, UNARY
from engine.interpreter.readback import ABSENT_BEFORE, FIELDS, REPLACED_BY_INPUT, plain_weights
from engine.interpreter.reduction import REDUCTIONS
from engine.interpreter.resize import METHODS, ROUNDINGS
from spec.errors import TensorRTError
from tests.one_layer import BUILDER, constant, network_of, outputs_of, trt

RANDOM = np.random.default_rng(7)
KERNEL = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGE = RANDOM.standard_normal((2, 3, 6, 9)).astype(np.float32)


def named(layer: Any, name: str) -> Any:
    """The layer's output; layer and output called `name`."""
    layer.name = layer.get_output(0).name = name
    return layer.get_output(0)


def residual_network() -> Any:
    """image -> conv -> relu -> (twice, conv) sum -> mean; conv is read by two layers."""
    network = BUILDER.create_network()
    image = network.add_input("image", trt.float32, (-1, 3, 6, 9))
    conv = named(network.add_convolution_nd(image, 4, (3, 3), KERNEL), "conv")
    relu = named(network.add_activation(conv, trt.ActivationType.RELU), "relu")
    twice = named(network.add_elementwise(relu, relu, trt.ElementWiseOperation.SUM), "twice")
    total = named(network.add_elementwise(twice, conv, trt.ElementWiseOperation.SUM), "sum")
    network.mark_output(named(network.add_reduce(total, trt.ReduceOperation.AVG, 0b1100, True), "mean"))
    return network


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return Interpreter(residual_network(), trt)


def test_every_table_covers_what_tensorrt_has():
    assert set(EVALUATORS) == set(FIELDS)
    assert set(EVALUATORS) - {"FULLY_CONNECTED"} <= set(trt.LayerType.__members__)
    assert set(REPLACED_BY_INPUT) | {kind for kind, _ in ABSENT_BEFORE} | IN_PLACE <= set(FIELDS)
    assert set(ACTIVATIONS) == set(trt.ActivationType.__members__)
    assert set(ELEMENTWISE) == set(trt.ElementWiseOperation.__members__)
    assert set(UNARY) == set(trt.UnaryOperation.__members__)
    assert set(REDUCTIONS) == set(trt.ReduceOperation.__members__) - {"NONE"}
    assert set(METHODS) == set(trt.InterpolationMode.__members__)
    assert set(ROUNDINGS) == set(trt.ResizeRoundMode.__members__)


@pytest.mark.parametrize("kind", sorted(set(FIELDS) - {"FULLY_CONNECTED"}))
def test_every_field_is_an_attribute_of_its_class(kind):
    class_name, names = FIELDS[kind]
    assert [name for name in names if not hasattr(getattr(trt, class_name), name)] == []


def test_layers_are_described(interpreter):
    described = [(layer.name, layer.type, [t.name for t in layer.inputs]) for layer in interpreter.layers]
    assert described == [
        ("conv", "CONVOLUTION", ["image"]),
        ("relu", "ACTIVATION", ["conv"]),
        ("twice", "ELEMENTWISE", ["relu", "relu"]),
        ("sum", "ELEMENTWISE", ["twice", "conv"]),
        ("mean", "REDUCE", ["sum"]),
    ]
    assert interpreter.layers[0].outputs[0].shape == (-1, 4, 4, 7)
    assert interpreter.layers[0].fields.stride_nd == (1, 1)


def test_a_constant_set_after_its_consumer_runs_before_it():
    """set_input() lets a later layer feed an earlier one: insertion order is not evaluation order."""

    def build(network, x):
        layer = network.add_convolution_nd(x, 4, (3, 3), trt.Weights())
        layer.set_input(1, constant(network, KERNEL))
        return layer

    interpreter = Interpreter(network_of(build, x=IMAGE), trt)
    assert [layer.type for layer in interpreter.layers] == ["CONSTANT", "CONVOLUTION"]


def test_layers_that_need_not_wait_keep_the_order_they_were_added_in():
    network = BUILDER.create_network()
    image = network.add_input("image", trt.float32, (1, 3, 6, 9))
    for name in ("first", "second", "third"):
        network.mark_output(named(network.add_activation(image, trt.ActivationType.RELU), name))
    assert [layer.name for layer in Interpreter(network, trt).layers] == ["first", "second", "third"]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_runs(interpreter, batch):
    images = RANDOM.standard_normal((batch, 3, 6, 9)).astype(np.float32)
    together = interpreter.run({"image": images})["mean"]
    alone = [interpreter.run({"image": image[None]})["mean"][0] for image in images]
    assert together.shape == (batch, 4, 1, 1)
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5, atol=1e-7)


def test_every_tensor_can_be_fetched_and_none_is_overwritten(interpreter):
    every = interpreter.run({"image": IMAGE}, fetch="all")
    assert list(every) == ["image", "conv", "relu", "twice", "sum", "mean"]
    assert np.array_equal(every["relu"], np.maximum(every["conv"], 0))
    assert np.array_equal(every["sum"], every["relu"] + every["relu"] + every["conv"])
    assert (every["conv"] < 0).any()
    assert np.array_equal(every["mean"], interpreter.run({"image": IMAGE})["mean"])


def test_fed_arrays_are_not_overwritten(interpreter):
    conv = RANDOM.standard_normal((2, 4, 4, 7)).astype(np.float32)
    before = conv.copy()
    interpreter.run({"conv": conv})
    interpreter.run({"conv": conv}, fetch=["relu"])
    assert np.array_equal(conv, before)


def test_a_view_of_a_tensor_still_needed_is_not_overwritten():
    """shuffle gives a view of conv; the relu after it must not write into conv, which the sum reads later."""
    network = BUILDER.create_network()
    image = network.add_input("image", trt.float32, (-1, 3, 6, 9))
    conv = named(network.add_convolution_nd(image, 4, (3, 3), KERNEL), "conv")
    view = named(network.add_shuffle(conv), "view")
    relu = named(network.add_activation(view, trt.ActivationType.RELU), "relu")
    network.mark_output(named(network.add_elementwise(relu, conv, trt.ElementWiseOperation.SUB), "negative"))
    result = Interpreter(network, trt).run({"image": IMAGE}, fetch=["negative", "conv"])
    assert np.array_equal(result["negative"], np.maximum(-result["conv"], 0))
    assert Interpreter(network, trt).run({"image": IMAGE})["negative"].max() > 0


def test_relu_overwrites_a_tensor_nobody_needs_any_more():
    def build(network, x):
        conv = network.add_convolution_nd(x, 4, (3, 3), KERNEL).get_output(0)
        return network.add_activation(conv, trt.ActivationType.RELU)

    interpreter = Interpreter(network_of(build, x=IMAGE), trt)
    conv, relu = (layer.outputs[0].name for layer in interpreter.layers)
    both = interpreter.run({"x": IMAGE}, fetch=[conv, relu])
    assert not np.shares_memory(both[conv], both[relu])
    assert np.array_equal(interpreter.run({"x": IMAGE})[relu], both[relu])


def test_a_constant_is_never_overwritten():
    def build(network, x):
        negated = network.add_unary(constant(network, [[1.0, 2.0]]), trt.UnaryOperation.NEG).get_output(0)
        return network.add_elementwise(x, negated, trt.ElementWiseOperation.SUM)

    interpreter = Interpreter(network_of(build, x=np.zeros((1, 2), np.float32)), trt)
    for _ in range(2):
        (y,) = interpreter.run({"x": np.zeros((1, 2), np.float32)}).values()
        assert y.tolist() == [[-1, -2]]


def test_an_intermediate_tensor_isolates_what_is_behind_it(interpreter):
    ones = np.ones((1, 4, 4, 7), np.float32)
    assert interpreter.run({"twice": 3 * ones, "conv": ones}, fetch=["sum"])["sum"].tolist() == (4 * ones).tolist()
    assert list(interpreter.run({"conv": -ones}, fetch=["relu"])) == ["relu"]


def test_one_layer_runs_alone(interpreter):
    ones = np.ones((1, 4, 4, 7), np.float32)
    result = interpreter.run_layer("sum", {"twice": ones, "conv": -ones})
    assert list(result) == ["sum"]
    assert not result["sum"].any()


def test_one_layer_runs_alone_with_its_constants():
    """A kernel that is a constant of the network need not be fed."""

    def build(network, x):
        layer = network.add_convolution_nd(x, 4, (3, 3), trt.Weights())
        layer.set_input(1, constant(network, KERNEL))
        named(layer, "conv")
        return layer

    interpreter = Interpreter(network_of(build, x=IMAGE), trt)
    assert np.array_equal(interpreter.run_layer("conv", {"x": IMAGE})["conv"], interpreter.run({"x": IMAGE})["conv"])


def test_the_network_may_change_or_go_after_it_was_read():
    """TensorRT borrows the memory of weights, and frees what a setter was given when the layer's wrapper goes."""
    network = BUILDER.create_network()
    image = network.add_input("image", trt.float32, (1, 3, 6, 9))
    weights = KERNEL.copy()
    layer = network.add_convolution_nd(image, 4, (3, 3), np.zeros_like(weights))
    layer.kernel = weights
    network.mark_output(named(layer, "conv"))
    interpreter = Interpreter(network, trt)
    before = interpreter.run({"image": IMAGE[:1]})["conv"]
    weights[:] = 0
    del layer, network, image
    assert np.array_equal(interpreter.run({"image": IMAGE[:1]})["conv"], before)
    assert before.any()


def test_float64_differs_from_float32_by_rounding_only():
    exact = Interpreter(residual_network(), trt, np.float64).run({"image": IMAGE}, fetch="all")
    rounded = Interpreter(residual_network(), trt).run({"image": IMAGE}, fetch="all")
    for name, y in exact.items():
        assert (y.dtype, rounded[name].dtype) == (np.float64, np.float32)
        assert np.abs(y - rounded[name]).max() <= 1e-6 * np.abs(y).max()
    assert not np.array_equal(exact["conv"], rounded["conv"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_half_tensors_are_rounded_after_each_layer(dtype):
    """1 + 2^-11 is a tie that rounds to 1 in half precision, so doubling the rounded sum gives 2, not 2 + 2^-10."""

    def build(network, x):
        nearly = network.add_elementwise(
            x, constant(network, [2.0**-11], np.float16), trt.ElementWiseOperation.SUM
        ).get_output(0)
        return network.add_elementwise(nearly, nearly, trt.ElementWiseOperation.SUM)

    (y,) = outputs_of(build, dtype, x=np.ones(1, np.float16))
    assert y.dtype == dtype
    assert y.tolist() == [2.0]


def test_overflow_gives_infinity_without_a_warning(recwarn):
    (y,) = outputs_of(lambda network, x: network.add_unary(x, trt.UnaryOperation.EXP), x=np.full(1, 200, np.float32))
    assert y.tolist() == [np.inf]
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


MISTAKES: Dict[str, Any] = {
    "unknown feed": ({"feeds": {"imagee": IMAGE}}, r"feed 'imagee': the network has no such tensor; did you mean"),
    "unknown fetch": ({"feeds": {"image": IMAGE}, "fetch": ["rellu"]}, r"fetch 'rellu': .*did you mean 'relu'"),
    "one name for fetch": ({"feeds": {"image": IMAGE}, "fetch": "relu"}, r"'relu', wanted a list of tensor names"),
    "nothing fed": ({"feeds": {}}, r"network input 'image': not fed"),
    "not enough fed": ({"feeds": {"twice": np.ones((1, 4, 4, 7), np.float32)}}, r"network input 'image': not fed"),
    "shape": ({"feeds": {"image": IMAGE[:, :2]}}, r"feed 'image': shape \(2, 2, 6, 9\), wanted \(-1, 3, 6, 9\)"),
    "rank": ({"feeds": {"image": IMAGE[0]}}, r"feed 'image': shape \(3, 6, 9\), wanted \(-1, 3, 6, 9\)"),
    "dtype": ({"feeds": {"image": IMAGE.astype(np.float64)}}, r"feed 'image': float64, wanted float32 \(FLOAT\)"),
    "batches that differ": (
        {"feeds": {"conv": np.ones((2, 4, 4, 7), np.float32), "twice": np.ones((3, 4, 4, 7), np.float32)}},
        r"layer 'sum' \(ELEMENTWISE\): cannot be evaluated: .*could not be broadcast",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(interpreter, mistake):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(TensorRTError, match=message):
        interpreter.run(**arguments)


def test_several_mistakes_are_named_at_once(interpreter):
    with pytest.raises(TensorRTError) as caught:
        interpreter.run({"image": IMAGE[0], "relu": np.ones((1, 4, 4, 7), np.int32)})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "name, inputs, message",
    [("sum", {"twice": 1}, r"layer 'sum' \(ELEMENTWISE\): input 'conv' \(-1, 4, 4, 7\) is not fed"),
     ("summ", {}, r"0 layers named 'summ', wanted one; did you mean 'sum'")],
)  # fmt: skip
def test_a_layer_alone_needs_its_inputs(interpreter, name, inputs, message):
    with pytest.raises(TensorRTError, match=message):
        interpreter.run_layer(name, inputs)


def test_layers_it_cannot_run_are_all_named_at_once():
    network = BUILDER.create_network()
    x = network.add_input("x", trt.float32, (1, 2, 4, 4))
    named(network.add_einsum([x], "abcd->abdc"), "sums")
    fp8 = network.add_quantize(x, constant(network, 1.0), trt.fp8)
    named(fp8, "narrow")
    refused = network.add_convolution_nd(x, 4, (3, 3), KERNEL)  # 3 channels wanted, x has 2
    refused.name = "refused"
    with pytest.raises(TensorRTError) as caught:
        Interpreter(network, trt)
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [
        "layer 'sums' (EINSUM)", "layer 'narrow' (QUANTIZE)", "layer 'refused' (CONVOLUTION)",
    ]  # fmt: skip
    assert "does not run this type; it runs ACTIVATION, CAST" in problems[0]
    assert "is FP8" in problems[1]
    assert "TensorRT could not infer the shape" in problems[2]


def test_bfloat16_weights_cannot_be_read_back():
    """The bindings return trt.Weights, not an array, where NumPy lacks the type."""
    bits = np.array([0x3F80, 0x4000], np.uint16)
    network = BUILDER.create_network()
    named(network.add_constant((2,), trt.Weights(trt.bfloat16, bits.ctypes.data, 2)), "weights")
    with pytest.raises(TensorRTError, match=r"layer 'weights' \(CONSTANT\): weights: BF16 weights cannot be read back"):
        Interpreter(network, trt)


def test_only_float32_and_float64_are_offered():
    with pytest.raises(TensorRTError, match="dtype float16, wanted float32 or float64"):
        Interpreter(residual_network(), trt, np.float16)


def test_broken_views_of_weights_are_refused():
    """TensorRT 8.5 to 10.14 on NumPy 2 returns arrays of strides (0,), so that every weight reads as the first."""
    broken = np.broadcast_to(np.float32(3), (6,))
    with pytest.raises(TensorRTError, match=r"'kernel'.*strides \(0,\).*install 'numpy<2', or TensorRT 10.16"):
        plain_weights(broken, "kernel", np.dtype(np.float32))


@pytest.mark.parametrize("dtype, kept", [(np.float16, np.float64), (np.float32, np.float64), (np.int8, np.int8)])
def test_weights_are_copied_in_the_dtype_of_the_arithmetic(dtype, kept):
    stored = np.arange(3, dtype=dtype)
    read = plain_weights(stored, "kernel", np.dtype(np.float64))
    assert read.dtype == kept
    assert not np.shares_memory(read, stored)
    assert plain_weights(stored[:0], "bias", np.dtype(np.float64)) is None

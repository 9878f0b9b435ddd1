"""weights.transplant: what is refused before a tensor is read, what is read, and that every fact of a move matters."""

from __future__ import annotations

import hashlib
from typing import Any, Dict

import ml_dtypes
import numpy as np
import pytest

import run
from engine.interpreter import Interpreter
from engine.network import define
from engine.tensorrt_api import load
from spec.errors import AuditError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, CountedCheckpoint, load_text, tensorflow_arrays, torch_arrays, write_small
from weights import convention_of, open_checkpoint
from weights.matching import match
from weights.sources import CONVENTIONS
from weights.transplant import Weights, transplant

TORCH, TENSORFLOW, KERAS = (CONVENTIONS[word] for word in ("torch", "tensorflow", "keras"))
IMAGE = np.random.default_rng(3).standard_normal((2, 2, 7, 9)).astype(np.float32)
SECOND = "  - dense: {name: second, units: 4, bias: true"


def moved(directory, arrays: Dict[str, np.ndarray], convention: Any = TORCH, text: str = SMALL, **weights) -> Weights:
    """SMALL's weights out of these arrays, `weights:` having these keys."""
    model, graph = load_text(directory, text)
    checkpoint = CountedCheckpoint(arrays)
    return transplant(graph, checkpoint, model.weights.model_copy(update=weights), convention)


def problems_of(directory, arrays: Dict[str, np.ndarray], convention: Any = TORCH, text: str = SMALL, **weights):
    """Every message of the audit, which must not have read a tensor."""
    model, graph = load_text(directory, text)
    checkpoint = CountedCheckpoint(arrays)
    with pytest.raises(AuditError) as failure:
        transplant(graph, checkpoint, model.weights.model_copy(update=weights), convention)
    assert checkpoint.reads == []
    assert failure.value.exit_code == 2
    return failure.value.problems


def without(arrays: Dict[str, np.ndarray], *names: str) -> Dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if name not in names}


# What goes where


def test_the_ledger_is_exact(tmp_path):
    arrays = tensorflow_arrays()
    weights = moved(tmp_path, arrays, TENSORFLOW)
    rows = {(row.layer, row.role): row for row in weights.ledger}
    assert list(rows) == [
        ("conv", "kernel"), ("conv", "bias"), ("bn", "gamma"), ("bn", "beta"), ("bn", "mean"), ("bn", "variance"),
        ("fc", "kernel"), ("fc", "bias"),
    ]  # fmt: skip
    kernel = rows["conv", "kernel"]
    assert kernel[2:7] == ("conv/kernel", "h w i o -> o i h w", (3, 3, 2, 3), (3, 2, 3, 3), "float32")
    assert rows["fc", "kernel"][2:7] == ("fc/kernel", "i o -> o i", (36, 4), (4, 36), "float32")
    assert rows["bn", "variance"][2:7] == ("bn/moving_variance", "c -> c", (3,), (3,), "float32")
    for row in weights.ledger:
        assert row.sha256 == hashlib.sha256(np.ascontiguousarray(arrays[row.tensor]).tobytes()).hexdigest()


def test_both_conventions_give_the_same_arrays(tmp_path):
    torch, tensorflow = moved(tmp_path, torch_arrays()), moved(tmp_path, tensorflow_arrays(), TENSORFLOW)
    assert list(torch.arrays) == list(tensorflow.arrays)
    for key, array in torch.arrays.items():
        assert np.array_equal(array, tensorflow.arrays[key])
        assert tensorflow.arrays[key].flags.c_contiguous
    assert np.array_equal(torch.of("conv")["kernel"], torch_arrays()["conv.weight"])
    assert sorted(torch.of("bn")) == ["beta", "gamma", "mean", "variance"]


def test_match_reads_no_tensor(tmp_path):
    model, graph = load_text(tmp_path)
    checkpoint = CountedCheckpoint(torch_arrays())
    assert [transfer.tensor for transfer in match(graph, checkpoint, model.weights, TORCH)] == list(torch_arrays())
    assert checkpoint.reads == []


def test_every_tensor_is_read_once_and_the_ignored_never(tmp_path):
    model, graph = load_text(tmp_path)
    checkpoint = CountedCheckpoint(dict(torch_arrays(), epoch=np.array(3)))
    transplant(graph, checkpoint, model.weights.model_copy(update={"ignore": ("epoch",)}), TORCH)
    assert checkpoint.reads == list(torch_arrays())


def test_a_scope_shared_by_two_layers_is_read_once(tmp_path):
    text = SMALL.replace("outputs: [fc]", SECOND + ", scope: fc, input: flat}\noutputs: [fc, second]")
    model, graph = load_text(tmp_path, text)
    checkpoint = CountedCheckpoint(torch_arrays())
    weights = transplant(graph, checkpoint, model.weights, TORCH)
    assert sorted(checkpoint.reads) == sorted(torch_arrays())
    assert np.array_equal(weights.arrays["fc", "kernel"], weights.arrays["second", "kernel"])
    assert [row.tensor for row in weights.ledger if row.role == "kernel"] == ["conv.weight", "fc.weight", "fc.weight"]


def test_tensors_names_an_irregular_tensor(tmp_path):
    text = SMALL.replace("units: 4, bias: true", "units: 4, bias: true, tensors: {kernel: head/W}")
    arrays = torch_arrays()
    arrays["net.head/W"] = arrays.pop("fc.weight")
    arrays = {name if name.startswith("net.") else f"net.{name}": array for name, array in arrays.items()}
    weights = moved(tmp_path, arrays, text=text, prefix="net.")
    assert np.array_equal(weights.arrays["fc", "kernel"], arrays["net.head/W"])


def test_a_prefix_stands_before_every_name(tmp_path):
    arrays = {f"module.{name}": array for name, array in torch_arrays().items()}
    weights = moved(tmp_path, arrays, prefix="module.")
    assert [row.tensor for row in weights.ledger] == list(arrays)


def test_an_empty_scope_leaves_the_role_alone(tmp_path):
    text = SMALL.replace("units: 4, bias: true", 'units: 4, bias: true, scope: ""')
    arrays = {name.replace("fc.", ""): array for name, array in torch_arrays().items()}
    assert np.array_equal(moved(tmp_path, arrays, text=text).arrays["fc", "kernel"], arrays["weight"])


def test_the_average_is_taken_where_there_is_one(tmp_path):
    arrays, average = tensorflow_arrays(), "ExponentialMovingAverage"
    averaged = {f"{name}/{average}": 2 * array for name, array in arrays.items() if "moving_" not in name}
    weights = moved(tmp_path, dict(arrays, **averaged), TENSORFLOW, average=average)
    for row in weights.ledger:
        name = row.tensor.replace(f"/{average}", "")
        assert (row.tensor != name) == ("moving_" not in name)
    assert np.array_equal(weights.arrays["bn", "gamma"], 2 * arrays["bn/gamma"])
    assert np.array_equal(weights.arrays["bn", "mean"], arrays["bn/moving_mean"])
    assert weights.averages(average) == ", 6 of them averages" and weights.averages(None) == ""


def test_the_job_says_how_many_tensors_were_averages(tmp_path, capsys):
    arrays = tensorflow_arrays()
    arrays["fc/kernel/EMA"] = arrays["fc/kernel"]
    text = SMALL.replace("{path: small.safetensors}", "{path: small.safetensors, convention: tensorflow}")
    config = write_small(tmp_path, text, arrays)
    words = ["--config", str(config), "--output", str(tmp_path / "out"), "--dry-run"]
    assert run.main([*words, "--set", "weights.average=EMA"]) == 0
    assert "8 of 9 tensors, 1 of them averages, 217 parameters" in capsys.readouterr().out
    assert run.main([*words, "--set", "weights.ignore='*/EMA'"]) == 0
    assert "8 of 9 tensors, 217 parameters" in capsys.readouterr().out


AVERAGES: Dict[str, Any] = {
    # what stands behind NAME/ of fc's kernel: what is said of average `ExponentialMovingAvg`
    "one": (["ExponentialMovingAverage"], "there is NAME/ExponentialMovingAverage: say weights: {average: Exponential"),
    "two": (["old/ema", "ExponentialMovingAverage"], "there is NAME/ExponentialMovingAverage, NAME/old/ema: say "),
    "unlike": (["ema"], "there is NAME/ema: say weights: {average: ema}, or remove `average`"),
    "slots": (["Momentum", "Adam", "Adam_1"], "nor any other; remove `average: ExponentialMovingAvg` from weights"),
    "none": ([], "nor any other; remove `average: ExponentialMovingAvg` from weights"),
}


@pytest.mark.parametrize("there", AVERAGES)
def test_an_average_that_fits_no_tensor_is_an_error(tmp_path, there):
    ends, words = AVERAGES[there]
    extra = {f"fc/kernel/{end}": tensorflow_arrays()["fc/kernel"] for end in ends}
    arrays, asked = dict(tensorflow_arrays(), **extra), {"average": "ExponentialMovingAvg", "ignore": ("fc/kernel/*",)}
    (problem,) = problems_of(tmp_path, arrays, TENSORFLOW, **asked)
    assert problem.startswith("memory.ckpt: weights.average: no tensor that a layer uses has an average NAME/Exp")
    assert words in problem


@pytest.mark.parametrize("average", ["ema", "Avg"])
def test_an_average_of_a_tensor_that_no_layer_uses_is_none(tmp_path, average):
    arrays = dict(tensorflow_arrays(), **{"other/kernel": np.ones(1), "other/kernel/ema": np.ones(1)})
    (problem,) = problems_of(tmp_path, arrays, TENSORFLOW, average=average, ignore=("other/*",))
    assert f"has an average NAME/{average}, nor any other" in problem


def test_an_average_where_the_framework_has_none(tmp_path):
    (problem,) = problems_of(tmp_path, torch_arrays(), TORCH, average="ema")
    assert "no tensor that a layer uses has an average NAME/ema, nor any other; remove `average: ema`" in problem
    model, graph = load_text(tmp_path)
    names = ["conv/0", "conv/1", "bn/0", "bn/1", "bn/2", "bn/3", "fc/0", "fc/1"]
    numbered = CountedCheckpoint(dict(zip(names, tensorflow_arrays().values())), positional=True)
    with pytest.raises(AuditError, match="has an average NAME/ema, nor any other"):
        match(graph, numbered, model.weights.model_copy(update={"average": "ema"}), KERAS)


def test_averages_are_unused_where_nobody_asks_for_them(tmp_path):
    arrays = tensorflow_arrays()
    arrays["fc/kernel/ExponentialMovingAverage"] = arrays["fc/kernel"]
    (problem,) = problems_of(tmp_path, arrays, TENSORFLOW)
    assert "1 tensor that no layer uses: fc/kernel/ExponentialMovingAverage 36x4" in problem


@pytest.mark.parametrize("variables", [2, 4], ids=["one layer used twice", "two halves of one layer"])
def test_layers_under_one_scope_share_its_numbers_or_go_on(tmp_path, variables):
    rows = "".join(f"  - dense: {{name: {name}, scope: s, units: 5, bias: true}}\n" for name in ("first", "second"))
    text = "name: net\narchitecture: plain\ninputs: {x: {shape: [1, 5], dtype: float32}}\nweights: {path: none}\n"
    model, graph = load_text(tmp_path, f"{text}layers:\n{rows}outputs: [second]\n")
    arrays = {f"s/{k}": np.full((5, 5) if k % 2 == 0 else 5, k, np.float32) for k in range(variables)}
    found = transplant(graph, CountedCheckpoint(arrays, positional=True), model.weights, KERAS).arrays
    taken = [int(found[layer, role].flat[0]) for layer in ("first", "second") for role in ("kernel", "bias")]
    assert taken == ([0, 1, 0, 1] if variables == 2 else [0, 1, 2, 3])


def test_positional_variables_are_taken_by_their_number(tmp_path):
    """Keras 3 numbers a layer's variables in the order it makes them; gamma, beta, mean, variance."""
    arrays = tensorflow_arrays()
    roles = {"conv": ["kernel", "bias"], "bn": ["gamma", "beta", "moving_mean", "moving_variance"],
             "fc": ["kernel", "bias"]}  # fmt: skip
    numbered = {f"{layer}/{n}": arrays[f"{layer}/{role}"] for layer in roles for n, role in enumerate(roles[layer])}
    model, graph = load_text(tmp_path)
    weights = transplant(graph, CountedCheckpoint(numbered, positional=True), model.weights, KERAS)
    for key, array in moved(tmp_path, arrays, TENSORFLOW).arrays.items():
        assert np.array_equal(weights.arrays[key], array)


def test_a_batch_norm_without_gamma_starts_at_beta(tmp_path):
    text = SMALL.replace("epsilon: 1.0e-3", "epsilon: 1.0e-3, gamma: false")
    arrays = tensorflow_arrays()
    numbered = {f"bn/{n}": arrays[f"bn/{role}"] for n, role in enumerate(["beta", "moving_mean", "moving_variance"])}
    for layer in ("conv", "fc"):
        numbered.update({f"{layer}/0": arrays[f"{layer}/kernel"], f"{layer}/1": arrays[f"{layer}/bias"]})
    model, graph = load_text(tmp_path, text)
    weights = transplant(graph, CountedCheckpoint(numbered, positional=True), model.weights, KERAS)
    assert np.array_equal(weights.arrays["bn", "variance"], arrays["bn/moving_variance"])
    assert ("bn", "gamma") not in weights.arrays


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_dtype_stays_as_it_is_stored(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in torch_arrays().items()}
    weights = moved(tmp_path, arrays)
    assert {array.dtype for array in weights.arrays.values()} == {np.dtype(dtype)}
    assert {row.dtype for row in weights.ledger} == {np.dtype(dtype).name}
    assert weights.ledger[0].sha256 == hashlib.sha256(arrays["conv.weight"].tobytes()).hexdigest()


def test_a_file_gives_what_memory_gives(tmp_path):
    write_small(tmp_path)
    checkpoint = open_checkpoint(tmp_path / "small.safetensors")
    model, graph = load_text(tmp_path)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint, None))
    assert {row[:4] for row in weights.ledger} == {row[:4] for row in moved(tmp_path, torch_arrays()).ledger}
    assert {row.sha256 for row in weights.ledger} == {row.sha256 for row in moved(tmp_path, torch_arrays()).ledger}


# What is refused, before anything is read


def test_missing_tensors_are_named_with_the_nearest(tmp_path):
    arrays = torch_arrays()
    arrays["fc.wieght"] = arrays.pop("fc.weight")
    missing, unused = problems_of(tmp_path, arrays)
    assert missing.startswith(f"{tmp_path / 'small.yaml'}:11: layer 'fc': kernel: missing in memory.ckpt: fc.weight;")
    assert "nearest: fc.wieght" in missing
    assert unused.startswith("memory.ckpt: 1 tensor that no layer uses: fc.wieght 4x36;")


def test_every_spelling_of_a_missing_tensor_is_named(tmp_path):
    (problem,) = problems_of(tmp_path, without(tensorflow_arrays(), "conv/bias"), TENSORFLOW)
    assert "layer 'conv': bias: missing in memory.ckpt: conv/bias (or biases, b)" in problem


def test_unused_tensors_come_with_patterns_that_would_ignore_them(tmp_path):
    arrays = torch_arrays()
    slots = {f"{name}.Momentum": array for name, array in arrays.items()}
    (problem,) = problems_of(tmp_path, dict(arrays, **slots, step=np.array(7.0)))
    assert problem.startswith("memory.ckpt: 9 tensors that no layer uses: conv.weight.Momentum 3x2x3x3, ")
    assert 'weights: {ignore: ["*.Momentum", "step"]}' in problem
    assert len(moved(tmp_path, dict(arrays, **slots, step=np.array(7.0)), ignore=("*.Momentum", "step")).ledger) == 8


def test_many_unused_tensors_are_counted_and_not_all_named(tmp_path):
    extra = {f"other{number}": np.zeros(2, np.float32) for number in range(25)}
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **extra))
    assert "25 tensors" in problem and "other9 2 and 15 more;" in problem and "other10" not in problem


def test_an_ignored_tensor_may_still_be_used(tmp_path):
    assert len(moved(tmp_path, torch_arrays(), ignore=("*",)).ledger) == 8


def test_a_wrong_shape_says_found_wanted_and_axes(tmp_path):
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **{"conv.bias": np.zeros((4,), np.float32)}))
    assert problem == (
        f"{tmp_path / 'small.yaml'}:7: layer 'conv': bias <- 'conv.bias': has shape 4, wanted 3 (o)"
    )


@pytest.mark.parametrize(
    "shape, hint", [((3, 3, 2, 3), True), ((3, 3, 3, 2), True), ((3, 2, 9), False), ((3, 2, 5, 5), False)]
)
def test_the_same_sizes_in_another_order_hint_at_the_convention(tmp_path, shape, hint):
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **{"conv.weight": np.zeros(shape, np.float32)}))
    assert "wanted 3x2x3x3 (o i h w)" in problem
    assert ("weights.convention" in problem) == hint


@pytest.mark.parametrize(
    "filters, shape, hint",
    [
        (4, (4, 1, 3, 3), "; groups: 2 would fit"),
        (3, (3, 1, 3, 3), ""),
        (4, (4, 3, 3, 3), ""),
        (4, (4, 1, 5, 5), ""),
        (4, (4, 0, 3, 3), ""),
    ],
)
def test_a_kernel_of_fewer_inputs_hints_at_groups(tmp_path, filters, shape, hint):
    text = SMALL.replace("filters: 3", f"filters: {filters}")
    problems = problems_of(tmp_path, dict(torch_arrays(), **{"conv.weight": np.zeros(shape, np.float32)}), text=text)
    (said,) = [problem for problem in problems if "kernel <- 'conv.weight'" in problem]
    assert said.endswith(f"(o i h w){hint}")


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1,), ()])
def test_nothing_is_squeezed_or_broadcast(tmp_path, shape):
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **{"bn.bias": np.ones(shape, np.float32)}))
    assert "layer 'bn': beta <- 'bn.bias': has shape" in problem


def test_two_spellings_are_a_doubt(tmp_path):
    arrays = dict(tensorflow_arrays(), **{"fc/weights": tensorflow_arrays()["fc/kernel"]})
    (problem,) = problems_of(tmp_path, arrays, TENSORFLOW)
    assert "layer 'fc': kernel: fc/kernel and fc/weights both fit; say which with tensors: {kernel: ...}" in problem
    text = SMALL.replace("units: 4, bias: true", "units: 4, bias: true, tensors: {kernel: fc/weights}")
    weights = moved(tmp_path, arrays, TENSORFLOW, text, ignore=("fc/kernel",))
    assert {row.tensor for row in weights.ledger} >= {"fc/weights"}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_whole_numbers_are_no_weights(tmp_path, dtype):
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **{"fc.weight": np.ones((4, 36), dtype)}))
    assert f"layer 'fc': kernel <- 'fc.weight': holds {dtype}, wanted floating-point numbers" in problem


def test_a_slope_a_channel_does_not_fill_a_slope_an_element(tmp_path):
    text = SMALL.replace("activation: {name: relu, function: relu}", "prelu: {name: relu, shared: false}")
    (problem,) = problems_of(tmp_path, dict(torch_arrays(), **{"relu.weight": np.ones(3, np.float32)}), text=text)
    assert "alpha <- 'relu.weight': gives 3x1x1 (c 1 1), the layer wants 3x3x4 (c h w)" in problem


def test_all_problems_come_at_once(tmp_path):
    arrays = without(torch_arrays(), "conv.weight", "fc.bias")
    arrays.update({"bn.bias": np.zeros(4, np.float32), "fc.weight": np.zeros((4, 36), np.int32), "left": np.zeros(1)})
    problems = problems_of(tmp_path, arrays)
    assert [problem.split("; ")[0].split(": ", 1)[1] for problem in problems] == [
        "layer 'conv': kernel: missing in memory.ckpt: conv.weight",
        "layer 'bn': beta <- 'bn.bias': has shape 4, wanted 3 (c)",
        "layer 'fc': kernel <- 'fc.weight': holds int32, wanted floating-point numbers",
        "layer 'fc': bias: missing in memory.ckpt: fc.bias",
        "1 tensor that no layer uses: left 1",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_number_that_is_none_is_found(tmp_path, dtype, value):
    arrays = {name: array.astype(dtype) for name, array in torch_arrays().items()}
    arrays["conv.weight"][1, 0, 2, 1] = arrays["conv.weight"][2, 1, 0, 0] = value
    arrays["fc.bias"][3] = value
    with pytest.raises(AuditError) as failure:
        moved(tmp_path, arrays)
    assert failure.value.problems == (
        "memory.ckpt: tensor 'conv.weight' (kernel of layer 'conv') holds 2 values that are NaN or infinite, "
        "the first at [1, 0, 2, 1]",
        "memory.ckpt: tensor 'fc.bias' (bias of layer 'fc') holds 1 values that are NaN or infinite, the first at [3]",
    )


def test_a_float64_beyond_float32_is_infinite_to_the_network(tmp_path):
    arrays = {name: array.astype(np.float64) for name, array in torch_arrays().items()}
    arrays["fc.bias"][1] = 1e39
    with pytest.raises(AuditError, match="fc.bias.*infinite, the first at \\[1\\]"):
        moved(tmp_path, arrays)


# Every fact of a move matters: the network against PyTorch's own functions, and each fact wrong in turn


def computed(directory, arrays: Dict[str, np.ndarray], convention: Any = TORCH, text: str = SMALL) -> np.ndarray:
    """fc [n, 4] of IMAGE, by the network definition these arrays give."""
    _, graph = load_text(directory, text.replace("[1, 2, 7, 9]", "[2, 2, 7, 9]"))
    tensorrt = load("auto")
    definition = define(graph, moved(directory, arrays, convention, text).arrays, tensorrt)
    return Interpreter(definition.network, tensorrt.module).run({"image": IMAGE})["fc"]


def reference() -> np.ndarray:
    """fc [n, 4] of IMAGE, by PyTorch."""
    torch = pytest.importorskip("torch")
    functional, arrays = torch.nn.functional, {name: torch.from_numpy(a) for name, a in torch_arrays().items()}
    x = functional.conv2d(torch.from_numpy(IMAGE), arrays["conv.weight"], arrays["conv.bias"], stride=2)
    statistics = arrays["bn.running_mean"], arrays["bn.running_var"]
    x = functional.batch_norm(x, *statistics, arrays["bn.weight"], arrays["bn.bias"], eps=1e-3)
    x = torch.flatten(torch.relu(x), 1)
    return functional.linear(x, arrays["fc.weight"], arrays["fc.bias"]).numpy()


def error_of(output: np.ndarray) -> float:
    return float(np.abs(output - reference()).max() / np.abs(reference()).max())


def swapped(first: str, second: str):
    def mutate(arrays: Dict[str, np.ndarray]) -> None:
        arrays[first], arrays[second] = arrays[second], arrays[first]

    return mutate


def changed(name: str, change: Any):
    def mutate(arrays: Dict[str, np.ndarray]) -> None:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))

    return mutate


MUTATIONS = {
    "kernel rows and columns swapped": changed("conv.weight", lambda a: a.transpose(0, 1, 3, 2)),
    "kernel turned by 180 degrees": changed("conv.weight", lambda a: a[:, :, ::-1, ::-1]),
    "filters reordered": changed("conv.weight", lambda a: a[::-1]),
    "input channels reordered": changed("conv.weight", lambda a: a[:, ::-1]),
    "convolution's bias dropped": changed("conv.bias", lambda a: 0 * a),
    "convolution's bias negated": changed("conv.bias", lambda a: -a),
    "gamma and beta swapped": swapped("bn.weight", "bn.bias"),
    "mean and variance swapped": swapped("bn.running_mean", "bn.running_var"),
    "beta and mean swapped": swapped("bn.bias", "bn.running_mean"),
    "variance taken for deviation": changed("bn.running_var", np.square),
    "dense inputs reordered": changed("fc.weight", lambda a: a[:, ::-1]),
    "dense kernel reshaped, not transposed": changed("fc.weight", lambda a: a.reshape(36, 4).T),
    "dense bias dropped": changed("fc.bias", lambda a: 0 * a),
}

SPEC_MUTATIONS = {
    "flattened in the other order": ("order: NCHW", "order: NHWC"),
    "another epsilon": ("epsilon: 1.0e-3", "epsilon: 1.0e-5"),
}


@pytest.mark.parametrize("arrays, convention", [(torch_arrays, TORCH), (tensorflow_arrays, TENSORFLOW)])
def test_the_right_move_gives_what_pytorch_gives(tmp_path, arrays, convention):
    assert error_of(computed(tmp_path, arrays(), convention)) < 1e-6


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_move_is_seen(tmp_path, mutation):
    arrays = torch_arrays()
    MUTATIONS[mutation](arrays)
    assert error_of(computed(tmp_path, arrays)) > 1e-3


@pytest.mark.parametrize("mutation", SPEC_MUTATIONS)
def test_a_wrong_spec_is_seen(tmp_path, mutation):
    assert error_of(computed(tmp_path, torch_arrays(), text=SMALL.replace(*SPEC_MUTATIONS[mutation]))) > 1e-3


@pytest.mark.parametrize("convention", [TENSORFLOW, KERAS])
def test_a_square_kernel_read_in_the_wrong_layout_is_seen(tmp_path, convention):
    """3x3 kernels of 3 channels and 3 filters have the same shape in every layout: only numbers tell."""
    text = SMALL.replace("shape: [1, 2, 7, 9]", "shape: [1, 3, 7, 9]")
    right, wrong = torch_arrays(), tensorflow_arrays()
    right["conv.weight"] = np.random.default_rng(5).standard_normal((3, 3, 3, 3)).astype(np.float32)
    wrong["conv/kernel"] = right["conv.weight"]
    kernels = moved(tmp_path, right, text=text), moved(tmp_path, wrong, convention, text)
    assert not np.array_equal(*(weights.arrays["conv", "kernel"] for weights in kernels))


PREFIXES = [
    # the config's, the checkpoint's: what is said
    ("", "module.", "behind 'module.': say weights: {prefix: module.}"),
    ("module.", "", "without 'module.' in front: remove `prefix: module.` from weights"),
    ("model.", "module.", "behind 'module.', not behind 'model.': say weights: {prefix: module.}"),
    ("net.", "module.net.", "behind 'module.net.', not behind 'net.': say weights: {prefix: module.net.}"),
]


@pytest.mark.parametrize("asked, there, words", PREFIXES)
@pytest.mark.parametrize("convention", [TORCH, TENSORFLOW])
def test_a_wrong_prefix_is_one_message_and_no_weight_is_advised_away(tmp_path, convention, asked, there, words):
    arrays = torch_arrays() if convention is TORCH else tensorflow_arrays()
    if convention is TENSORFLOW:
        arrays["fc/weights"] = arrays.pop("fc/kernel")  # not the first spelling that is tried
    arrays = {there + name: array for name, array in arrays.items()}
    problems = problems_of(tmp_path, arrays, convention, prefix=asked)
    assert problems == (f"memory.ckpt: every missing tensor is there {words}",)


def test_a_prefix_that_some_tensors_have_is_not_advised_away(tmp_path):
    arrays = {name if name.startswith("fc.") else f"net.{name}": array for name, array in torch_arrays().items()}
    problems = problems_of(tmp_path, arrays, prefix="net.")
    assert len(problems) == 3 and not any("remove" in problem for problem in problems)
    alone = dict(without(torch_arrays(), "fc.bias"), **{"other.fc.bias": torch_arrays()["fc.bias"]})
    assert not any("{prefix: " in problem for problem in problems_of(tmp_path, alone))


def test_a_bias_that_the_config_denies_is_named_with_its_layer_and_line(tmp_path):
    text = SMALL.replace("padding: valid, bias: true", "padding: valid, bias: false")
    model, graph = load_text(tmp_path, text)
    with pytest.raises(AuditError) as refused:
        match(graph, CountedCheckpoint(torch_arrays()), model.weights, TORCH)
    (problem,) = refused.value.problems
    assert ".yaml:7: layer 'conv': the checkpoint holds a bias, 'conv.bias'; say bias: true" in problem

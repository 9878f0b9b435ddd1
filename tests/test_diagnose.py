"""Mistakes on purpose, one at a time: the diff fails, names that very layer first, and says that very fact.

    a network of the framework's own + its right config ─ one fact changed ─> Comparison.first_bad, its diagnosis

The references are the frameworks'; tests/diagnosed_*.py hold the networks. No row says what the fact should be but in
words that name the framework's own value.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import pytest
import yaml

from commands.testing import compare_layers
from engine.tensorrt_api import load
from spec.errors import VerificationError
from spec.layers import Convolution
from tests import diagnosed_cubes, diagnosed_tensorflow, diagnosed_torch
from tests.mistakes import CONFIG_MISTAKES, INPUT_MISTAKES, RULE_MISTAKES, STORED_MISTAKES, SWAPPED
from verify.compare import Comparison, Tolerance
from verify.diagnose import diagnose
from verify.hypotheses import HYPOTHESES, Case
from verify.hypotheses.normalization import EPSILONS
from verify.report import verdict_lines
from weights.checkpoint import Source
from weights.layout import parse_rule
from weights.sources import CONVENTIONS

WRITERS: Dict[str, Callable[[Path], Path]] = {
    "tensorflow": diagnosed_tensorflow.write,
    "torch": diagnosed_torch.write,
    "cubes tensorflow": diagnosed_cubes.write_tensorflow,
    "cubes keras": diagnosed_cubes.write_keras,
    "cubes torch": diagnosed_cubes.write_torch,
}


@pytest.fixture(scope="module")
def config_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`config_of("torch")`, `config_of("cubes keras")`: the right config, its checkpoint beside it; written once."""
    written: Dict[str, Path] = {}

    def of(network: str) -> Path:
        pytest.importorskip(network.split()[-1])
        if network not in written:
            write = WRITERS[network]
            written[network] = write(tmp_path_factory.mktemp(network.replace(" ", "_")))
        return written[network]

    return of


def overrides(config: Path, layer: str, keys: str) -> List[str]:
    """`padding=2` of a layer as `--set` has it: `layers.3.convolution.padding=2`."""
    rows = yaml.safe_load(config.read_text())["layers"]
    found = [(number, word) for number, row in enumerate(rows) for word in row if row[word]["name"] == layer]
    ((number, word),) = found
    pairs = (" " + keys).replace(", ", ",").split(" ")[1:]
    return [f"layers.{number}.{word}.{pair}" for pair in pairs]


def assert_first_bad(comparison: Comparison, layer: str, says: str) -> None:
    """The diff failed at this very layer, with this diagnosis before any other."""
    assert not comparison.passed
    assert comparison.first_bad.layer == layer
    assert says in comparison.first_bad.diagnosis[0], comparison.first_bad.diagnosis
    for line in comparison.first_bad.diagnosis:
        found, _, wanted = line.partition(", but ")
        assert found.rpartition("padding ")[2] != wanted.partition(" agrees")[0], line
    lines = verdict_lines(comparison)
    assert f"  diagnosis: {comparison.first_bad.diagnosis[0]}" in lines
    assert any(line.startswith(f"FIRST BAD LAYER: {layer} (") for line in lines)


@pytest.mark.parametrize("network", WRITERS)
def test_the_right_config_has_no_failure(network, config_of):
    comparison = compare_layers(str(config_of(network)))
    assert comparison.passed and comparison.failed == () and comparison.first_bad is None
    assert all(row.diagnosis == () for row in comparison.rows)


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES, ids=lambda each: f"{each.network} {each.layer} {each.keys}")
def test_a_wrong_key_is_named(mistake, config_of):
    config = config_of(mistake.network)
    comparison = compare_layers(str(config), *overrides(config, mistake.layer, mistake.keys))
    assert_first_bad(comparison, mistake.layer, mistake.says)


@pytest.mark.parametrize("convention, layer, key, rule, says", RULE_MISTAKES)
def test_a_wrong_axis_order_is_named(convention, layer, key, rule, says, config_of, monkeypatch):
    sources = CONVENTIONS[convention].sources
    monkeypatch.setitem(sources, key, Source(sources[key].names, rule))
    assert_first_bad(compare_layers(str(config_of(f"cubes {convention}"))), layer, says)


def test_every_rule_that_moves_axes_has_been_broken():
    """One with a single axis, a PyTorch slope a channel for instance, can only be read in one way."""
    rules = {(name, key): source.rule for name, each in CONVENTIONS.items() for key, source in each.sources.items()}
    moving = {where for where, rule in rules.items() if "->" in rule and len(parse_rule(rule).source) > 1}
    assert moving - {(convention, key) for convention, _, key, _, _ in RULE_MISTAKES} == set()


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("one, other", SWAPPED)
def test_swapped_statistics_are_named(convention, one, other, config_of, monkeypatch):
    sources = CONVENTIONS[convention].sources
    rows = {role: sources["batch_norm", role] for role in (one, other)}
    monkeypatch.setitem(sources, ("batch_norm", one), rows[other])
    monkeypatch.setitem(sources, ("batch_norm", other), rows[one])
    says = f"{one} and {other} as named, but each in the other's place agrees"
    assert_first_bad(compare_layers(str(config_of(f"cubes {convention}"))), "bn", says)


def stored_otherwise(config: Path, layer: str, tensor: str, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """An override that takes the weights from a copy of Keras' file with one tensor changed."""
    import h5py

    path = config.with_name("other.h5")
    shutil.copy(config.with_name("net.h5"), path)
    with h5py.File(path, "r+") as file:
        dataset = file[f"model_weights/{layer}/{layer}/{tensor}"]
        dataset[...] = change(dataset[...])
    return f"weights.path={path}"


@pytest.mark.parametrize("name", STORED_MISTAKES)
def test_a_tensor_stored_otherwise_is_named(name, config_of):
    layer, tensor, change, says = STORED_MISTAKES[name]
    config = config_of("cubes keras")
    assert_first_bad(compare_layers(str(config), stored_otherwise(config, layer, tensor, change)), layer, says)


@pytest.mark.parametrize("name", INPUT_MISTAKES)
def test_wrong_preprocessing_is_named(name, config_of):
    changes, says = INPUT_MISTAKES[name]
    assert_first_bad(compare_layers(str(config_of("tensorflow")), *changes), "image/normalised", says)


def test_a_stride_on_the_other_convolution_of_a_block(config_of):
    config = config_of("torch")
    changes = overrides(config, "block.conv1", "stride=2") + overrides(config, "block.conv2", "stride=1")
    comparison = compare_layers(str(config), *changes)
    assert_first_bad(comparison, "block.conv1", "stride 2, but stride 1 (is it on another layer of the block?) agrees")
    by_name = {row.layer: row for row in comparison.rows}
    assert by_name["block.conv1"].problem == "shape 2x6x3x3, the reference has 2x6x6x5"
    assert "stride 1, but stride 2" in by_name["block.conv2"].diagnosis[0]


def test_a_dropped_bias(config_of):
    config = config_of("tensorflow")
    changes = [*overrides(config, "conv1", "bias=false"), "weights.ignore=[conv1/bias]"]
    assert_first_bad(compare_layers(str(config), *changes), "conv1", "no bias, but bias [")


def test_a_bias_too_many(config_of):
    config = config_of("tensorflow")
    changes = overrides(config, "conv2", "bias=true") + overrides(config, "conv2", "tensors={bias:conv3/bias}")
    changes = [change.replace("bias:", "bias: ") for change in changes]
    assert_first_bad(compare_layers(str(config), *changes), "conv2", "a bias, but no bias agrees")


def test_a_reference_behind_the_activation(config_of):
    change = "reference.tensors.activated=activated/relu"
    says = "convolution alone, but the reference's tensor is behind a relu: it agrees"
    assert_first_bad(compare_layers(str(config_of("tensorflow")), change), "activated", says)


def test_a_forgotten_activation(config_of):
    """bn1, relu, then every reader of relu: the config has no relu, and its readers read bn1."""
    right = config_of("torch")
    text = right.read_text()
    row = "  - activation: {name: relu, function: relu}\n"
    assert row in text
    config = right.with_name("forgotten.yaml")
    config.write_text(text.replace(row, "").replace("input: relu", "input: bn1"))
    comparison = compare_layers(str(config))
    assert_first_bad(comparison, "second", "its input as it is, but its input after relu agrees ")
    pooled = next(row for row in comparison.rows if row.layer == "maxpool")
    for row in (comparison.first_bad, pooled):
        assert row.diagnosis[0].startswith("its input as it is, but its input after relu agrees ")
        assert row.diagnosis[0].endswith(": is an activation missing before it?")


def test_of_epsilons_that_agree_alike_the_most_usual_is_named_first(config_of):
    """Where no variance is small, 1e-5 and 1.001e-5 cannot be told apart, and what the numbers give is 1e-5 too."""
    import torch

    config = config_of("torch")
    state = torch.load(config.with_name("net.pth"), weights_only=True)
    state["bn1.running_var"].copy_(torch.tensor([0.05, 0.5, 1.0]))
    path = config.with_name("wide.pth")
    torch.save(state, path)
    comparison = compare_layers(str(config), *overrides(config, "bn1", "epsilon=1.0e-3"), f"weights.path={path}")
    assert_first_bad(comparison, "bn1", "epsilon 0.001, but epsilon 1e-05 agrees")
    assert "epsilon 0.001, but epsilon 1.001e-05 agrees" in comparison.first_bad.diagnosis[1]
    named = {line.split("but epsilon ")[1].split()[0] for line in comparison.first_bad.diagnosis}
    assert named <= {f"{epsilon:.4g}" for epsilon in EPSILONS}


def test_a_layer_behind_a_wrong_shape_is_not_blamed(config_of):
    config = config_of("torch")
    changes = overrides(config, "block.conv1", "padding=1") + overrides(
        config, "up", "padding=[[2, 1], [2, 1]] output_padding=0"
    )
    comparison = compare_layers(str(config), *changes)
    assert_first_bad(comparison, "block.conv1", "padding 1 symmetric, but 0 agrees")
    behind = next(row for row in comparison.rows if row.layer == "block.conv2")
    assert behind.problem.startswith("cannot be run on the reference's inputs")
    wanted = "its inputs have other shapes than the reference's, but on those the layer as it is agrees to "
    assert behind.diagnosis[0].startswith(wanted)


def test_a_mistake_of_no_known_kind_is_said_to_be_unexplained(config_of):
    config = config_of("cubes keras")
    noise = np.random.default_rng(1).uniform(0.1, 1.0, (3, 3, 3, 3)).astype(np.float32)
    comparison = compare_layers(str(config), stored_otherwise(config, "conv", "kernel", lambda _: noise))
    assert comparison.first_bad.layer == "conv" and comparison.first_bad.diagnosis == ()
    assert verdict_lines(comparison)[-1] == "  diagnosis: none of the classic mistakes explains it"


@pytest.mark.parametrize("stored, wanted", [("other", "its own kernel, but that of other agrees"), ("larger", None)])
def test_a_kernel_of_another_layer_is_named(stored, wanted):
    """Two scopes exchanged: the checkpoint has the right kernel under another layer's name."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    image, own = (rng.standard_normal(shape, dtype=np.float32) for shape in ((1, 3, 7, 5), (4, 3, 3, 3)))
    right = rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
    reference = torch.nn.functional.conv2d(torch.from_numpy(image), torch.from_numpy(right)).numpy()
    layer = Convolution(name="conv", inputs=("image",), filters=4, kernel=3, padding=0, bias=False)
    kernels = {("conv", "kernel"): own, ("other", "kernel"): right, ("larger", "kernel"): np.pad(right, 1)}
    found = {key: array for key, array in kernels.items() if key[0] in ("conv", stored)}
    case = Case(layer, (image,), {"kernel": own}, reference, lambda _: iter(()), stored=found)
    says = diagnose(case, load("tensorrt_rtx"), Tolerance())
    assert [each.startswith(wanted) and each.endswith(": are two scopes exchanged?") for each in says] == (
        [True] if wanted else []
    )


def test_a_swap_that_the_source_does_not_have(config_of):
    with pytest.raises(VerificationError, match=r"layer 'image/swap': PyTorch .* has no tensor for 'image/swap'"):
        compare_layers(str(config_of("torch")), "inputs.image.preprocessing={swap_channels: true}")


def test_every_layer_type_with_hypotheses_has_been_broken(config_of):
    broken = {mistake.layer for mistake in CONFIG_MISTAKES} | {row[1] for row in RULE_MISTAKES}
    texts = (config_of(network).read_text() for network in WRITERS)
    rows = [row for text in texts for row in yaml.safe_load(text)["layers"]]
    types = {word for row in rows for word in row if row[word]["name"] in broken}
    assert {word for word, hypotheses in HYPOTHESES.items() if hypotheses} - types == set()

"""Every layer of the four models against the framework it came from, through what a user calls.

compare_layers, assert_layers_agree (three lines in a test)     run.py diff, run.py record, the main job
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest

import run
from commands.configs import load_graph
from commands.testing import assert_layers_agree, compare_layers
from samples import SAMPLES
from tests import diagnosed_torch
from tests.own_logging import own_logging  # noqa: F401
from tests.sample_models import FILES, LAYERS, overrides_of
from verify.compare import Comparison

ROOT = Path(__file__).resolve().parents[1]
DYNAMIC = "batch={min: 1, opt: 2, max: 4}"
TOLERANCE = 1e-5


@pytest.fixture
def overrides(sample_directory) -> Callable[[str], List[str]]:
    """`overrides("model1")` points the config at the sample files; skips where their framework is not installed."""

    def of(name: str) -> List[str]:
        pytest.importorskip(SAMPLES[name].framework)
        return overrides_of(name, sample_directory(name))

    return of


def assert_all_compared(comparison: Comparison, name: str, batch: int) -> None:
    """Every tensor of every layer, isolated and accumulated, below the tolerance; nothing skipped."""
    _, graph = load_graph(name, [])
    tensors = [tensor for layer in graph.layers for tensor in layer.tensor_names]
    assert [row.layer for row in comparison.rows] == tensors and len(tensors) == LAYERS[name]
    for row in comparison.rows:
        assert row.problem == "" and row.diagnosis == ()
        assert row.isolated.error < TOLERANCE and row.accumulated.error < TOLERANCE
        assert row.isolated.magnitude > 0 and row.shape[0] == batch
    assert comparison.passed and comparison.needed < TOLERANCE
    assert 0 < comparison.worst.worst_error


@pytest.mark.parametrize("name", FILES)
def test_every_layer_of_a_model_agrees(name, overrides):
    assert_all_compared(compare_layers(name, *overrides(name)), name, batch=1)


@pytest.mark.parametrize("name", FILES)
def test_every_layer_agrees_with_a_dynamic_batch_of_two(name, overrides):
    comparison = compare_layers(name, *overrides(name), DYNAMIC, input="random:1")
    assert_all_compared(comparison, name, batch=2)


# the helper


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The config of a small PyTorch network, its checkpoint beside it."""
    pytest.importorskip("torch")
    return diagnosed_torch.write(tmp_path_factory.mktemp("small"))


def test_three_lines_pass(small):
    assert_layers_agree(str(small))


def test_three_lines_fail_with_layer_element_and_diagnosis(small):
    with pytest.raises(AssertionError) as caught:
        assert_layers_agree(str(small), "layers.1.batch_norm.epsilon=0.01")
    text = str(caught.value)
    assert "FIRST BAD LAYER: bn1 (batch_norm): isolated " in text
    assert "  worst element: bn1[" in text and "candidate " in text and ", reference " in text
    assert "  diagnosis: epsilon 0.01, but epsilon 1e-05 agrees to " in text
    assert "reference: PyTorch " in text and "input: random numbers of seed 0" in text


def test_a_looser_tolerance_is_the_users_own_choice(small):
    change = "layers.1.batch_norm.epsilon=1.001e-5"
    error = compare_layers(str(small), change).needed
    assert TOLERANCE < error < 1e-2
    assert_layers_agree(str(small), change, rtol=1.01 * error)


def test_the_helper_leaves_logging_as_it_was(small, caplog):
    import logging

    before = logging.getLogger().handlers[:], logging.getLogger().level
    compare_layers(str(small))
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


# run.py diff


def test_diff_prints_the_worst_layers_and_the_verdict(small, capsys):
    assert run.main(["diff", "--config", str(small)]) == 0
    out = capsys.readouterr().out
    assert "layers passed: |c - r| <= 0 + 1e-05 * max|r|" in out and "FIRST BAD LAYER" not in out


def test_a_quiet_diff_that_passes_says_the_verdict_alone(small, capsys):
    assert run.main(["diff", "-q", "--config", str(small)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("PASSED | Runtime: ")


def test_diff_that_fails_ends_with_1_and_the_diagnosis(small, tmp_path, capsys):
    words = ["diff", "--config", str(small), "--set", "layers.1.batch_norm.epsilon=0.01", "--json"]
    assert run.main([*words, str(tmp_path / "diff.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "diagnosis: epsilon 0.01, but epsilon 1e-05 agrees to" in lines[-2]
    assert lines[-1].startswith("FAILED | Runtime: ")
    written = json.loads((tmp_path / "diff.json").read_text())
    assert written["passed"] is False and written["first_bad"] == "bn1"
    assert "epsilon 1e-05" in written["rows"][1]["diagnosis"][0]


def test_diff_of_given_numbers(small, tmp_path):
    image = np.random.default_rng(5).uniform(-3, 3, (2, 3, 23, 21)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    comparison = compare_layers(str(small), input=str(tmp_path / "image.npy"))
    assert comparison.passed and comparison.input == str(tmp_path / "image.npy")
    other = compare_layers(str(small))
    assert comparison.rows[0].accumulated.magnitude != other.rows[0].accumulated.magnitude


# without the frameworks

BLOCKED = """\
import sys
for name in ("tensorflow", "keras", "tf_keras", "torch"):
    sys.modules[name] = None  # import then raises ModuleNotFoundError, as where it is not installed
sys.path.insert(0, {root!r})
import run
sys.exit(run.main(sys.argv[1:]))
"""


def without_frameworks(*words: str) -> Tuple[int, str, str]:
    """run.py in a process that cannot import a source framework: (exit code, output, errors)."""
    command = [sys.executable, "-c", BLOCKED.format(root=str(ROOT)), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def sets(*overrides: str) -> List[str]:
    return [word for each in overrides for word in ("--set", each)]


@pytest.fixture(scope="module")
def recorded(sample_directory, tmp_path_factory) -> Path:
    """Activations of model1 on an input of its own, written by `run.py record` in another process."""
    pytest.importorskip("tensorflow")
    path = tmp_path_factory.mktemp("recorded") / "model1.safetensors"
    words = ["record", "--config", "model1", *sets(*overrides_of("model1", sample_directory("model1")))]
    command = [sys.executable, str(ROOT / "run.py"), *words, "--input", "random:3", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def of_recording(directory: Path, recording: Path) -> List[str]:
    return sets(f"weights.path={directory / 'model.ckpt'}", f"reference={{activations: {recording}}}")


def test_a_recording_is_compared_with_where_no_framework_is(recorded, sample_directory, tmp_path):
    words = ["diff", "--config", "model1", *of_recording(sample_directory("model1"), recorded)]
    code, out, err = without_frameworks(*words, "--json", str(tmp_path / "diff.json"))
    assert (code, err) == (0, "")
    written = json.loads((tmp_path / "diff.json").read_text())
    assert len(written["rows"]) == LAYERS["model1"] and written["passed"]
    assert written["needed"] < TOLERANCE and written["input"] == "random numbers of seed 3"
    assert "recorded in model1.safetensors" in out


def test_a_recording_finds_and_names_the_same_mistakes(recorded, sample_directory):
    mistake = sets("layers.5.lrn.alpha_of=mean")
    words = of_recording(sample_directory("model1"), recorded)
    code, out, err = without_frameworks("diff", "--config", "model1", *words, *mistake)
    assert (code, err) == (1, "")
    assert "FIRST BAD LAYER: norm1 (lrn)" in out and "alpha of the mean, but of the sum agrees to" in out


def test_a_missing_framework_is_said_plainly_and_is_no_failure(sample_directory, tmp_path):
    words = ["--config", "model1", *sets(*overrides_of("model1", sample_directory("model1")))]
    code, out, err = without_frameworks(*words, "--output", str(tmp_path))
    assert (code, err) == (0, "")
    (said,) = [line for line in out.splitlines() if line.startswith("verify")]
    assert "not verified against the source model" in said and "TensorFlow" in said and "run.py record" in said
    assert (tmp_path / "model1.plan").is_file()
    manifest = json.loads((tmp_path / "model1.plan.json").read_text())
    assert "TensorFlow" in manifest["verification"]["not_verified"]


def test_diff_without_the_framework_says_what_to_do(sample_directory):
    words = ["diff", "--config", "model1", *sets(*overrides_of("model1", sample_directory("model1")))]
    code, _, err = without_frameworks(*words)
    assert code == 2 and "Traceback" not in err
    assert "the reference needs TensorFlow, which does not import here" in err and "run.py record" in err


# the main job


def job(config: Path, output: Path, *options: str) -> int:
    return run.main(["--config", str(config), "--output", str(output), *options])


def manifest_in(output: Path) -> Dict[str, Any]:
    return json.loads((output / "broken.plan.json").read_text())


def last_lines(out: str) -> Sequence[str]:
    return [line for line in out.splitlines() if line.startswith("verify")]


def test_the_main_job_verifies_by_default(small, tmp_path, capsys):
    assert job(small, tmp_path) == 0
    lines = last_lines(capsys.readouterr().out)
    assert lines[0].startswith("verify    candidate: the network definition of TensorRT")
    assert lines[1].startswith("verify    reference: PyTorch ") and "net.pth" in lines[1]
    verification = manifest_in(tmp_path)["verification"]
    assert verification["passed"] is True and verification["layers"] == len(compare_layers(str(small)).rows)
    assert verification["worst_error"] < TOLERANCE


def test_a_network_that_differs_gets_no_plan(small, tmp_path, capsys):
    assert job(small, tmp_path, *sets("layers.1.batch_norm.epsilon=0.01")) == 1
    lines = last_lines(capsys.readouterr().out)
    assert "diagnosis: epsilon 0.01, but epsilon 1e-05 agrees to" in lines[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, reason",
    [(["--no-verify"], " (--no-verify)"), (sets("reference=null"), ": the config names no `reference`")],
)
def test_what_was_not_compared_is_said_plainly(options, reason, small, tmp_path, capsys):
    assert job(small, tmp_path, *options) == 0
    assert last_lines(capsys.readouterr().out) == [f"verify    not verified against the source model{reason}"]
    assert manifest_in(tmp_path)["verification"] == {"not_verified": f"not verified against the source model{reason}"}

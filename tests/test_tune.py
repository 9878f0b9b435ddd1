"""run.py tune on real TensorRT-RTX networks: it finds the layers that fail in fp16 or int8 and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import run
from commands.configs import load_graph
from engine.build_options import PlanOptions
from engine.interpreter import Interpreter
from engine.network import define
from engine.precision import FP32, plan_precision
from engine.tensorrt_api import gpu_count
from spec.errors import DeviceError, UsageError
from tests.backends import rtx
from tests.memory_device import MemoryDevice
from tests.own_logging import own_logging  # noqa: F401
from tests.sample_models import overrides_of
from tests.small_models import SMALL, graph_of, torch_arrays, write_small
from verify import trials
from verify.inputs import make_inputs
from verify.precision_choice import choice_of
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

POOL = "  - pooling: {name: pool, function: max, window: 1, stride: 1, padding: valid}\n"
NET = "# a network that fp16 breaks in one place\n" + SMALL.replace("  - flatten", POOL + "BROKEN  - flatten")
OVERFLOW = "  - scale: {name: up, scale: 5.0e+4}\n  - scale: {name: down, scale: 2.0e-5}\n"
CANCEL = "  - scale: {name: plus, shift: 4096.0}\n  - scale: {name: minus, shift: -4096.0}\n"


def write_net(directory: Path, broken: str = OVERFLOW, precision: str = "") -> Path:
    return write_small(directory, NET.replace("BROKEN", broken) + precision)


def tune(config: Path, *options: str) -> int:
    rtx()
    words = ["tune", "--config", str(config), "--backend", "tensorrt_rtx"]
    return run.main([*words, "--tolerance", "1e-2", *options])


def error_as_configured(config: Path) -> float:
    """Of the network that the config now describes, on an input that no search saw."""
    model, graph = load_graph(str(config), [])
    checkpoint = open_checkpoint(model.weights_path)
    arrays = transplant(graph, checkpoint, model.weights, convention_of(checkpoint, None)).arrays
    names, tensorrt = [layer.name for layer in graph.layers], rtx()
    layers = model.precision.of_layers(names, "here")
    inputs = make_inputs(graph, "random:77")[0]
    found, wanted = (
        Interpreter(define(graph, arrays, tensorrt, precision).network, tensorrt.module).run(inputs)["fc"]
        for precision in (plan_precision(graph, layers, model.precision.default, {}, tensorrt), FP32)
    )
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    "broken, kept", [(OVERFLOW, ["up", "down"]), (CANCEL, ["plus", "minus"])], ids=["overflow", "cancellation"]
)
def test_it_finds_the_one_group_that_breaks_and_nothing_else(tmp_path, capsys, broken, kept):
    config = write_net(tmp_path, broken)
    assert tune(config, "--precision", "fp16") == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out.splitlines()[-1]) == {"precision": {"default": "fp16", "fp32": kept}}
    assert "1 of 5 groups (2 layers) in fp32" in out and "no single one of them can be low" in out


def test_weights_beyond_the_range_of_half_are_a_reason_that_is_told(tmp_path, capsys):
    config = write_net(tmp_path, "")
    arrays = torch_arrays()
    write_small(tmp_path, config.read_text(), {**arrays, "fc.weight": arrays["fc.weight"] * 1e6})
    assert tune(config, "--precision", "fp16") == 0
    out = capsys.readouterr().out
    assert "layer 'fc': numbers up to" in out and "do not fit float16" in out
    assert yaml.safe_load(out.splitlines()[-1])["precision"]["fp32"] == ["fc"]


def test_nothing_is_kept_where_nothing_need_be(tmp_path, capsys):
    assert tune(write_net(tmp_path, ""), "--precision", "fp16") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "precision: fp16" and "1 trial" in out


@pytest.mark.parametrize(
    "before, after",
    [
        ("precision: fp32  # as trained\n# end\n", "precision: {}  # as trained\n# end\n"),
        ("precision:\n  default: fp16\n  fp32: [fc]\n", "precision:\n  {}\n"),
        ("", "precision: {}\n"),
    ],
    ids=["a word", "a block", "absent"],
)
def test_what_is_written_into_the_config_is_all_that_changes_and_holds_when_run(tmp_path, before, after):
    config = write_net(tmp_path, precision=before)
    assert tune(config, "--precision", "fp16", "--write") == 0
    wanted = NET.replace("BROKEN", OVERFLOW) + after.format("{default: fp16, fp32: [up, down]}")
    assert config.read_bytes() == wanted.encode()
    assert error_as_configured(config) <= 1e-2


def test_the_precision_of_the_config_is_what_is_tuned_without_the_option(tmp_path):
    config = write_net(tmp_path, precision="precision: {default: fp16, fp32: [fc]}\n")
    assert tune(config, "--write") == 0
    assert config.read_text().splitlines()[-1] == "precision: {default: fp16, fp32: [up, down]}"


def test_a_file_of_its_own_and_every_trial_as_json(tmp_path, capsys):
    config, output, trace = write_net(tmp_path), tmp_path / "found.yaml", tmp_path / "trials.json"
    assert tune(config, "--precision", "fp16", "--output", str(output), "--json", str(trace)) == 0
    assert yaml.safe_load(output.read_text()) == {"precision": {"default": "fp16", "fp32": ["up", "down"]}}
    assert output.read_text().startswith("# run.py tune") and "precision: {" not in capsys.readouterr().out
    told = json.loads(trace.read_text())
    assert told["precision"] == {"default": "fp16", "fp32": ["up", "down"]}
    assert told["complete"] and not told["exhausted"]
    assert [trial["step"] for trial in told["trials"][:3]] == ["none kept", "all kept", "rank"]
    assert told["trials"][0]["error"] == "inf"


def test_every_layer_can_be_judged(tmp_path, capsys):
    """The tensor of `up` itself is infinite in fp16, so with --layers nothing less than fp32 will do there."""
    assert tune(write_net(tmp_path), "--precision", "fp16", "--layers", "--measure", "max") == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out.splitlines()[-1])["precision"]["fp32"] == ["up", "down"]
    assert "8 tensors of the fp32 network" in out and "max error" in out


def test_int8_keeps_the_convolution_that_suffers_in_fp16(tmp_path, capsys):
    """A range a thousandth of what the tensor holds saturates it."""
    second = "  - convolution: {name: second, filters: 3, kernel: 1, padding: valid, bias: false}\n"
    config = write_net(tmp_path, second)
    weights = {**torch_arrays(), "second.weight": np.eye(3, dtype=np.float32)[:, :, None, None]}
    write_small(tmp_path, config.read_text(), weights)
    (tmp_path / "ranges.json").write_text(json.dumps({"ranges": {"image": 4.0, "pool": 0.001}}))
    options = ["--precision", "int8", "--set", f"ranges={tmp_path / 'ranges.json'}", "--tolerance", "5e-2"]
    assert tune(config, *options) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out.splitlines()[-1]) == {"precision": {"default": "int8", "fp16": ["second"]}}
    assert "1 of 2 groups" in out


def test_ranges_that_only_set_names_are_written_too(tmp_path, monkeypatch):
    """Else the next build has int8 in its config and no ranges; `--set` has paths from here, the YAML from itself."""
    (tmp_path / "configs").mkdir()
    config = write_small(tmp_path / "configs")
    (tmp_path / "ranges.json").write_text(json.dumps({"ranges": {"image": 4.0}}))
    monkeypatch.chdir(tmp_path)
    options = ["--precision", "int8", "--set", "ranges=ranges.json", "--tolerance", "5e-2", "--write"]
    assert tune(config, *options) == 0
    assert config.read_text() == SMALL + "precision: int8\nranges: ../ranges.json\n"
    assert run.main(["--config", str(config), "--output", str(tmp_path / "out"), "--no-verify"]) == 0


@pytest.mark.parametrize("other, said", [("--output", "--output and --json"), ("--write", "--json and --write")])
def test_one_file_for_two_results_is_refused_before_the_work(tmp_path, capsys, other, said):
    config = write_net(tmp_path)
    words = ["--write"] if other == "--write" else ["--output", str(config)]
    before = config.read_bytes()
    assert tune(config, "--precision", "fp16", "--json", str(config), *words) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {said}: both write {config}; name another file for one of them\n"
    assert "weights" not in captured.out and config.read_bytes() == before


@pytest.mark.parametrize("flags", [False, True])
def test_a_first_convolution_that_flags_leave_half_is_no_candidate(flags):
    """For TensorRT 8.5 an image of so few channels stays as it is where what is made of it is wanted in half."""
    convolution = {"filters": 8, "kernel": 3, "stride": 1, "padding": "same", "bias": True}
    layers = [("convolution", {"name": name, **convolution}) for name in ("first", "second")]
    graph = graph_of(layers, {"image": (1, 3, 8, 8)}, ["first", "second"])
    found = choice_of(graph, "int8", "fp16", spare_images=flags)
    assert list(found.groups) == list(found.costs) == (["second"] if flags else ["first", "second"])
    assert choice_of(graph, "int8", "fp32", spare_images=flags) == choice_of(graph, "int8", "fp32")


def test_what_even_all_kept_cannot_reach_is_a_failure_with_a_cure(tmp_path, capsys):
    config = write_net(tmp_path)
    (tmp_path / "ranges.json").write_text(json.dumps({"ranges": {"image": 4.0}}))
    options = ["--precision", "int8", "--set", f"ranges={tmp_path / 'ranges.json'}"]
    assert tune(config, *options) == 1
    err = capsys.readouterr().err
    assert all(words in err for words in ("all 1 groups in fp16", "is inf", "wanted 0.01", "--high fp32"))
    assert tune(config, *options, "--high", "fp32") == 0  # the cure
    assert {"up", "down"} <= set(yaml.safe_load(capsys.readouterr().out.splitlines()[-1])["precision"]["fp32"])


@pytest.mark.parametrize(
    "end, code, words",
    [
        (KeyboardInterrupt(), 130, "interrupted"),  # as Ctrl-C does, between two lines of ours
        (DeviceError("CUDA: out of memory"), 1, "a trial failed"),
        (UsageError("timing.cache: cannot be read"), 2, "a trial failed"),
    ],
    ids=["Ctrl-C", "GPU memory", "timing cache"],
)
def test_whatever_ends_the_search_the_best_so_far_is_told(tmp_path, capsys, monkeypatch, end, code, words):
    real, calls = trials.Interpreted.error, []  # type: Any, List[Any]

    def error(self: Any, kept: Any) -> float:
        calls.append(kept)
        if len(calls) == 4:
            raise end
        return float(real(self, kept))

    monkeypatch.setattr(trials.Interpreted, "error", error)
    config, trace = write_net(tmp_path), tmp_path / "trials.json"
    before = config.read_bytes()
    assert tune(config, "--precision", "fp16", "--write", "--json", str(trace)) == code
    captured = capsys.readouterr()
    assert f"{words}; the best so far; 3 trials" in captured.out and "4 of 5 groups" in captured.out
    assert "precision: {default: fp16" in captured.out  # printed, since it is not written
    assert config.read_bytes() == before and str(end) in captured.err
    told = json.loads(trace.read_text())
    assert len(told["trials"]) == 3 and told["precision"]["default"] == "fp16" and told["complete"] is False


class Loaded:
    """engine.runner.Runner that gives what each case expects, and counts what it took."""

    opened, closed, runs = 0, 0, 0
    arguments: Any = ()

    def __init__(self, *arguments: Any) -> None:
        Loaded.opened, Loaded.arguments = Loaded.opened + 1, arguments

    def run(self, inputs: Any) -> Any:
        Loaded.runs += 1
        return {"fc": inputs["image"]}

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *error: Any) -> None:
        Loaded.closed += 1


def test_an_engine_is_loaded_once_a_trial_and_not_once_a_case(monkeypatch):
    devices = []
    monkeypatch.setattr(trials, "open_device", lambda: devices.append(MemoryDevice()) or devices[-1])
    monkeypatch.setattr(trials, "build_plan", lambda *arguments: b"plan")
    monkeypatch.setattr(trials, "Runner", Loaded)
    images = [np.full((1, 2), number, np.float32) for number in range(5)]
    cases = [trials.Case({"image": image}, {"fc": image}) for image in images]
    definition = SimpleNamespace(tensorrt="here", graph=SimpleNamespace(outputs=["fc"]))
    built = trials.Built(PlanOptions(dla_core=1), lambda kept: definition, cases, "max", print)
    assert [built.error(frozenset()), built.error(frozenset("a"))] == [0.0, 0.0]
    assert (len(devices), Loaded.opened, Loaded.closed, Loaded.runs) == (2, 2, 2, 10)
    assert Loaded.arguments == ("here", b"plan", devices[-1], 1)


def test_a_recorded_reference_judges_instead_of_fp32(tmp_path, capsys):
    """Activations of other weights, so that nothing but them explains the error that is found."""
    from engine.manifest import sha256_of_files
    from verify.recorded import Origin, record
    from verify.verification import Activations

    config = write_net(tmp_path, "", "reference: {activations: fp32.safetensors}\n")
    graph = load_graph(str(config), [])[1]
    inputs = make_inputs(graph, "random:5")[0]
    arrays = {layer.name: np.ones(graph.tensors[layer.name].shape, np.float32) for layer in graph.layers}
    names = {name: name for name in arrays}
    origin = Origin("small", sha256_of_files([tmp_path / "small.safetensors"]))
    record(tmp_path / "fp32.safetensors", Activations(arrays, names, inputs, "ones", "seed 5"), origin)
    assert tune(config, "--precision", "fp16", "--reference") == 1
    captured = capsys.readouterr()
    assert "ones" in captured.out and "a larger --tolerance; and see `run.py diff`" in captured.err


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "most layers are fp32; say --precision fp16 or --precision int8"),
        (["--precision", "tf32"], "most layers are tf32"),
        (["--precision", "fp16", "--high", "fp16"], "wanted --high fp32"),
        (["--precision", "int8"], "int8 needs the ranges of 1 tensor: image"),
        (["--precision", "int8", "--set", "ranges=null", "--write"], "int8 needs the ranges of 1 tensor: image"),
        (["--precision", "fp16", "--images", "random:0"], "wanted random:COUNT"),
        (["--precision", "fp16", "--reference"], "nothing to compare with"),
        (["--precision", "fp16", "--input", "random:3"], "--input with --reference"),
        (["--precision", "fp16", "--sparsity"], "--sparsity: trials are run on the CPU here"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys, options, words):
    assert tune(write_net(tmp_path), *options) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err


def test_ranges_that_int8_lacks_are_said_before_the_work(tmp_path, capsys):
    assert tune(write_net(tmp_path), "--precision", "int8") == 2
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith(("expected", "result"))]


def test_a_config_that_cannot_be_edited_is_refused_before_the_work(tmp_path, capsys):
    config = write_net(tmp_path, precision="description: &x fp16\nprecision: *x\n")
    assert tune(config, "--write") == 2
    captured = capsys.readouterr()
    assert "small.yaml:18: 'precision' is written so that it cannot be edited" in captured.err
    assert "weights" not in captured.out


def test_starting_trials_from_what_they_share_changes_nothing(tmp_path, capsys, monkeypatch):
    """With the activations that are kept, and with no memory to keep any."""
    told = []
    for memory in (trials.REUSED_BYTES, 0):
        monkeypatch.setattr(trials, "REUSED_BYTES", memory)
        assert tune(write_net(tmp_path), "--precision", "fp16", "--layers") == 0
        told.append(capsys.readouterr().out.partition("none kept")[2])
    assert told[0] == told[1] and "rank" in told[0]


def test_a_real_model_in_seconds(sample_directory, capsys):
    overrides = [word for each in overrides_of("model1", sample_directory("model1")) for word in ("--set", each)]
    words = ["tune", "--config", "model1", *overrides, "--backend", "tensorrt_rtx", "--precision", "fp16"]
    assert run.main([*words, "--tolerance", "3e-4", "--images", "random:1"]) == 0
    kept = yaml.safe_load(capsys.readouterr().out.splitlines()[-1])["precision"]["fp32"]
    assert "prob" in kept and len(kept) < 12


@pytest.mark.skipif(gpu_count() == 0, reason="needs a GPU: there a trial is an engine")
def test_where_tensors_have_no_types_trials_are_engines(tmp_path, capsys):
    pytest.importorskip("tensorrt")
    words = ["tune", "--config", str(write_net(tmp_path)), "--backend", "tensorrt", "--precision", "fp16"]
    sources = ["--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN"]
    assert run.main([*words, *sources, "--tolerance", "1e-2"]) == 0
    out = capsys.readouterr().out
    found = yaml.safe_load(out.splitlines()[-1])["precision"]
    # half is allowed, not ordered: where TensorRT runs layers as small as these in floats, no engine breaks
    assert found in ("fp16", {"default": "fp16", "fp32": ["up", "down"]})
    assert ("up low, emulated on the CPU: inf" in out) == (found != "fp16")

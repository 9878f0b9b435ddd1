"""run.py bench: its options, what it measures, what it writes; the measurement itself needs a GPU (benchmarks/gpu)."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

import run
from commands import bench
from commands.bench_subject import Subject, built, from_plan
from commands.console import Console
from engine.buffers import IOTensor
from engine.inspection import EngineLayer, EngineTensor, join
from engine.profiling import Profile
from engine.tensorrt_api import gpu_count
from spec.errors import PlanError, UsageError
from tests.memory_device import MemoryDevice, MemoryRunner
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import load_text, write_small

without_gpu = pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")


def parsed(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


@without_gpu
@pytest.mark.parametrize("source", [("--config", "model1"), ("--plan", "nowhere.plan")])
def test_without_a_gpu_there_is_one_sentence(source, capsys):
    assert run.main(["bench", *source]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "error: run.py bench: no GPU answers here, and only a GPU can be measured; run it where an NVIDIA driver is, "
        "for example on the device with --plan"
    ]
    assert out.startswith("FAILED | ") and len(out.splitlines()) == 1


def test_trtexecs_names_are_ours():
    ours = parsed("--plan", "p", "--warm-up", "50", "--no-transfers", "--profile", "--layers", "--export-profile", "f",
                  "--export-layers", "g", "--workspace", "64")  # fmt: skip
    theirs = parsed("--loadEngine=p", "--warmUp=50", "--noDataTransfers", "--dumpProfile", "--dumpLayerInfo",
                    "--exportProfile=f", "--exportLayerInfo=g", "--useCudaGraph", "--workspace=64")  # fmt: skip
    assert ours == theirs and ours.graph and not ours.transfers


def test_options_become_those_of_the_measurement():
    options = parsed("--plan", "p", "--warm-up", "50", "--duration", "1.5", "--iterations", "7", "--no-graph",
                     "--in-flight", "1", "--loads", "1")  # fmt: skip
    assert bench._latency_options(options) == (0.05, 1.5, 7, False, True, 1)
    assert bench._latency_options(parsed("--plan", "p")) == (0.2, 1.0, 10, True, True, 2)  # 3 s over 3 loads


@pytest.mark.parametrize(
    "words, says",
    [
        ([], "one of the arguments --config --plan/--loadEngine is required"),
        (["--config", "a", "--plan", "b"], "not allowed with argument"),
        (["--plan", "p", "--batch", "0"], "wanted a whole number from 1 on, found '0'"),
        (["--plan", "p", "--iterations", "-1"], "wanted a whole number from 1 on, found '-1'"),
        (["--plan", "p", "--duration", "nan"], "wanted a number from 0 on, found 'nan'"),
        (["--plan", "p", "--warm-up", "-5"], "wanted a number from 0 on, found '-5'"),
        (["--plan", "p", "--in-flight", "two"], "wanted a whole number from 1 on, found 'two'"),
        (["--plan", "p", "--warm-up", "soon"], "wanted a number from 0 on, found 'soon'"),
    ],
)
def test_options_that_make_no_sense_are_refused(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_two_reports_in_one_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)
    words = ["--json", str(tmp_path / "x.json"), "--export-profile", f"{tmp_path}/./x.json"]
    with pytest.raises(UsageError, match="^--json and --export-profile: both write .*x.json; name another file"):
        bench._check(parsed("--config", "model1", *words))


@pytest.mark.parametrize("word", ["--sample", "--ledger"])
def test_what_is_about_a_checkpoint_is_refused_beside_a_plan(word, monkeypatch):
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)
    with pytest.raises(UsageError, match=f"^{word}: the plan is built already, and no checkpoint is read$"):
        bench._check(parsed("--plan", "p", word))


def image(first, most):
    return IOTensor("image", True, "uint8", (first, 2, 3), (min(2, most), 2, 3), (most, 2, 3))


@pytest.mark.parametrize("first, most, batch", [(-1, 8, 8), (-1, 8, 1), (4, 4, 4)])
def test_a_batch_that_the_plan_takes(first, most, batch):
    subject().check_batch(batch, image(first, most))


@pytest.mark.parametrize(
    "first, most, batch, says",
    [
        (-1, 8, 9, "^--batch 9: the plan takes 2 to 8; with --config and another dynamic batch"),
        (-1, 8, 1, "^--batch 1: the plan takes 2 to 8; "),
        (4, 4, 2, "^--batch 2: the plan takes batch 4 only; with --config a plan is built for the batch given$"),
    ],
)
def test_a_batch_that_it_does_not_take(first, most, batch, says):
    with pytest.raises(UsageError, match=says):
        subject()._replace(least_batch=2).check_batch(batch, image(first, most))


class Fed:
    """What `_inputs` asks of a runner."""

    def __init__(self, *tensors):
        self.inputs = list(tensors)


def subject(graph=None, precision="fp32"):
    return Subject(argparse.Namespace(title="TensorRT 8.5.3.1"), b"plan", graph, precision, "here")


def test_fewer_images_than_the_batch_are_repeated(tmp_path):
    images = np.random.default_rng(1).standard_normal((1, 2, 7, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    _, graph = load_text(tmp_path)
    fed = Fed(IOTensor("image", True, "float32", (5, 2, 7, 9), (5, 2, 7, 9), (5, 2, 7, 9)))
    arrays, title = bench._inputs(parsed("--plan", "p", "--input", str(tmp_path / "x.npy")), subject(graph), fed)
    assert arrays["image"].shape == (5, 2, 7, 9) and (arrays["image"] == images).all()
    assert title == str(tmp_path / "x.npy")


def test_a_plan_alone_is_fed_with_what_its_tensors_take():
    arrays, title = bench._inputs(parsed("--plan", "p", "--batch", "3"), subject(), Fed(image(-1, 8)))
    assert arrays["image"].shape == (3, 2, 3) and arrays["image"].dtype == np.uint8 and title == "random whole numbers"
    with pytest.raises(UsageError, match="--input x.npy: the plan's config is not here"):
        bench._inputs(parsed("--plan", "p", "--input", "x.npy"), subject(), Fed(image(-1, 8)))


@pytest.mark.parametrize(
    "precision, words, tf32",
    [
        ("fp32", "fp32, TF32 off", False),
        ("tf32", "tf32, TF32 on", True),
        ({"default": "fp16", "fp32": ["prob"]}, "fp16 and fp32, TF32 off", False),
        ({"fp16": ["conv"]}, "fp32 and fp16, TF32 off", False),
        (None, "precision unknown", None),
    ],
)
def test_precision_and_tf32_are_said(precision, words, tf32):
    found = subject(precision=precision)
    assert ", ".join(found.conditions()) == f"TensorRT 8.5.3.1, {words}" and found.tf32 is tf32


# what is built, and what is there


@pytest.fixture
def options(tmp_path):
    """`options("--batch", "4")` for the small config; TensorRT-RTX builds it here."""
    pytest.importorskip("tensorrt_rtx")
    config = write_small(tmp_path)
    return lambda *words: parsed("--config", str(config), "--backend", "tensorrt_rtx", *words)


def test_a_config_is_built_for_the_batch_that_is_measured(options, capsys):
    found = built(options("--batch", "4", "--fp16", "--layers"), Console())
    assert "image float32 4x2x7x9" in capsys.readouterr().out.replace(" x ", "x")
    assert memoryview(found.plan).nbytes > 1000 and found.precision == "fp16"
    assert found.layer_names == ["conv", "bn", "relu", "flat", "fc"] and found.graph.tensors["image"].shape[0] == 1
    assert found.as_json()["plan"]["bytes"] == memoryview(found.plan).nbytes and found.as_json()["tf32"] is False


def test_a_dynamic_batch_stays_as_it_is(options, capsys):
    found = built(options("--batch", "4", "--set", "batch={min: 1, opt: 2, max: 8}"), Console())
    assert found.graph.batch.max == 8 and "image float32 N x 2 x 7 x 9" in capsys.readouterr().out


@pytest.mark.parametrize("batch, wider", [("1", "min: 1, opt: 4, max: 8"), ("9", "min: 2, opt: 4, max: 9")])
def test_a_batch_beyond_the_dynamic_one_is_refused_before_the_build(options, monkeypatch, batch, wider):
    monkeypatch.setattr("engine.plan.build_plan", lambda *arguments: pytest.fail("built"))
    with pytest.raises(UsageError) as refused:
        built(options("--batch", batch, "--set", "batch={min: 2, opt: 4, max: 8}"), Console())
    said = f"--batch {batch}: the config's batch is 2 to 8; widen it with --set 'batch={{{wider}}}'"
    assert str(refused.value) == said
    monkeypatch.undo()
    assert built(options("--batch", batch, "--set", f"batch={{{wider}}}"), Console()).plan  # the cure


@pytest.mark.parametrize(
    "manifest, least", [({"batch": {"min": 2}}, 2), ({"batch": None}, 1), ({}, 1), ({"batch": 3}, 1)]
)
def test_the_least_batch_of_a_plan_is_its_manifests(plan, manifest, least):
    path = plan.with_name(f"{plan.name}.json")
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**{key: each for key, each in written.items() if key != "batch"}, **manifest}))
    assert from_plan(parsed("--plan", str(plan)), Console(), None).least_batch == least


@pytest.fixture
def plan(tmp_path, capsys):
    """A plan as the main job writes it."""
    pytest.importorskip("tensorrt_rtx")
    words = ["--config", str(write_small(tmp_path)), "--output", str(tmp_path / "out"), "--backend", "tensorrt_rtx"]
    assert run.main([*words, "--set", "batch={min: 1, opt: 2, max: 4}"]) == 0
    capsys.readouterr()
    return tmp_path / "out" / "small.plan"


def test_a_plan_brings_its_layers_from_its_config(plan, tmp_path, capsys):
    found = from_plan(parsed("--plan", str(plan)), Console(), None)
    assert bytes(found.plan) == plan.read_bytes() and found.tensorrt.is_rtx and found.precision == "fp32"
    assert found.layer_names == ["conv", "bn", "relu", "flat", "fc"] and found.graph.batch.max == 4
    assert f"layers as in {tmp_path}/small.yaml" in capsys.readouterr().out


@pytest.mark.parametrize("change, says", [("move", "is not here"), ("edit", "has changed since")])
def test_a_plan_without_its_config_keeps_the_engines_names(plan, tmp_path, capsys, change, says):
    config = tmp_path / "small.yaml"
    if change == "move":
        config.unlink()
    else:
        config.write_text(config.read_text() + "# changed\n")
    found = from_plan(parsed("--plan", str(plan)), Console(), None)
    assert found.graph is None and found.layer_names == []
    assert f"its config {config} {says}, so the engine's layers keep their own names" in capsys.readouterr().out


def test_a_damaged_plan_is_refused(plan):
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(PlanError, match="it was cut off"):
        from_plan(parsed("--plan", str(plan)), Console(), None)


def test_a_plan_without_its_weights_is_refused(plan):
    manifest = plan.with_name(f"{plan.name}.json")
    written = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**written, "options": {"strip_weights": True}}))
    with pytest.raises(UsageError, match="was built with --strip-weights; put weights in with `run.py refit` first"):
        from_plan(parsed("--plan", str(plan)), Console(), None)
    manifest.write_text(json.dumps({**written, "options": {"strip_weights": True}, "refitted": {}}))
    assert from_plan(parsed("--plan", str(plan)), Console(), None).plan


# what is printed and written


LAYERS = [
    EngineLayer("conv + bn + relu", "CaskConvolution", "sm80_xmma_" + "x" * 60,
                outputs=(EngineTensor("relu", (1, 3, 3, 4), "fp16", "kHWC8"),)),
    EngineLayer("Reformatting CopyNode for Input Tensor 0 to fc", "Reformat"),
    EngineLayer("fc", "CaskConvolution", "tactic"),
    EngineLayer("[HostToDeviceCopy 0]"),
]  # fmt: skip
TIMES = {"conv + bn + relu": [0.5, 0.7], "Reformatting CopyNode for Input Tensor 0 to fc": [0.1, 0.1], "fc": [0.2, 0.4],
         "[HostToDeviceCopy 0]": [0.0, 0.0]}  # fmt: skip
INSIDE = bench.Inside(
    Profile({name: np.array(times) for name, times in TIMES.items()}, 2),
    {"Layers": [{"Name": layer.name} for layer in LAYERS], "Bindings": ["image", "fc"]},
    LAYERS,
    join(LAYERS, ["conv", "bn", "relu", "flat", "fc"]),
)


def test_the_profile_is_a_table_the_slowest_first():
    rows = bench._profile_rows(INSIDE)
    assert rows[0] == ["0.6000", "0.6000", "60.0", "conv + bn + relu", "conv, bn, relu"]
    assert [row[2] for row in rows] == ["60.0", "30.0", "10.0", "0.0"]
    assert [row[4] for row in rows[1:]] == ["fc", "fc", ""]


def test_the_layers_are_a_table_in_the_engines_order():
    rows = bench._layer_rows(INSIDE)
    assert rows[0] == ["conv + bn + relu", "CaskConvolution", f"sm80_xmma_{'x' * 27}...", "fp16", "conv, bn, relu"]
    assert [row[0] for row in rows] == [layer.name for layer in LAYERS]


def test_what_does_not_fit_is_counted(capsys):
    many = [EngineLayer(f"fc{k} + relu{k}") for k in range(30)]
    names = [f"{kind}{k}" for k in range(30) for kind in ("fc", "relu")]
    inside = bench.Inside(None, {"Layers": []}, many, join(many, names))
    bench._print_inside(parsed("--plan", "p", "--layers"), Console(), inside)
    out = capsys.readouterr().out
    assert out.startswith("the engine's 30 layers; 10 more with --all\n") and len(out.splitlines()) == 22
    bench._print_inside(parsed("--plan", "p", "--layers", "--all"), Console(), inside)
    assert len(capsys.readouterr().out.splitlines()) == 32
    whole = EngineLayer("{ForeignNode[fc0...relu2]}")
    assert bench._layer_rows(bench.Inside(None, {}, [whole], join([whole], names)))[0][-1] == (
        "fc0, relu0, fc1, relu1 and 2 more"
    )


def test_layers_of_ours_that_are_gone_are_printed(capsys):
    bench._print_inside(parsed("--plan", "p", "--profile", "--layers"), Console(), INSIDE)
    out = capsys.readouterr().out
    assert "profile of 2 inferences, 1 ms in 4 layers" in out
    assert out.splitlines()[-1] == "vanished  folded away or without work: flat"


def test_the_files_are_ours_and_trtexecs(tmp_path):
    files = {name: tmp_path / f"{name}.json" for name in ("json", "export-profile", "export-layers")}
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    bench._write(parsed("--plan", "p", *words), INSIDE, {"qps": 50.0})
    written = {name: json.loads(path.read_text()) for name, path in files.items()}
    assert written["export-profile"] == INSIDE.profile.as_json() and written["export-layers"] == INSIDE.document
    assert written["json"]["qps"] == 50.0 and written["json"]["vanished"] == ["flat"]
    first = written["json"]["layers"][0]
    assert first["our_layers"] == ["conv", "bn", "relu"] and first["outputs"][0]["dtype"] == "fp16"
    assert written["json"]["profile"] == written["export-profile"]


def test_without_profile_and_layers_there_is_nothing_of_them(tmp_path, capsys):
    nothing = bench.Inside(None, None, [], join([], ["conv"]))
    options = parsed("--plan", "p", "--json", str(tmp_path / "x.json"))
    bench._print_inside(options, Console(), nothing)
    bench._write(options, nothing, {})
    written = json.loads((tmp_path / "x.json").read_text())
    assert written == {"profile": None, "layers": None, "vanished": None} and capsys.readouterr().out == ""


# the whole command on a device in memory: what it does in which order, not how long it takes


DOCUMENT = json.dumps({"Layers": [{"Name": "conv + bn + relu", "LayerType": "fusion"}, {"Name": "fc"}], "Bindings": []})


@pytest.fixture
def bench_here(monkeypatch):
    """`bench_here(4, *words)`: run.py bench as where a GPU is, of an engine for batch 4; gives code, device, runner."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)

    def go(batch, *words):
        device, made = MemoryDevice(), []

        def runner(tensorrt, plan, on, dla_core=None):
            shape = (batch, 2, 7, 9)
            times = {"conv + bn + relu": 0.3, "fc": 0.1}
            tensor = IOTensor("image", True, "float32", shape, shape, shape)
            made.append(MemoryRunner(on, [tensor], times, DOCUMENT, tensorrt))
            return made[-1]

        monkeypatch.setattr("engine.devices.open_device", lambda binding: device)
        monkeypatch.setattr("engine.runner.Runner", runner)
        short = ["--warm-up", "0", "--duration", "0", "--iterations", "3"]
        return run.main(["bench", *words, *short]), device, made

    return go


def test_the_whole_command_on_a_config(bench_here, options, tmp_path, capsys):
    config = str(tmp_path / "small.yaml")
    options()  # writes it
    report = tmp_path / "report.json"
    words = ["--config", config, "--backend", "tensorrt_rtx", "--batch", "4", "--profile", "--layers"]
    code, device, (*_, runner) = bench_here(4, *words, "--json", str(report))
    out = capsys.readouterr().out
    assert code == 0 and device.held == 0 and runner.fed["image"].shape == (4, 2, 7, 9)
    measured = next(line for line in out.splitlines() if line.startswith("measured"))
    assert "TensorRT-RTX" in measured and measured.endswith(
        "fp32, TF32 off, memory, batch 4, CUDA graph, copies in and out from pinned memory, 2 in flight"
    )
    assert "loads     the middle one of 3: medians " in out
    assert "bench     Throughput: " in out and "images/s at batch 4" in out
    assert "profile of 3 inferences, 0.4 ms in 2 layers" in out and "the engine's 2 layers" in out
    assert runner.context.profiler is None
    written = json.loads(report.read_text())
    medians = written["medians_of_loads"]
    assert len(medians) == 3 and sorted(medians)[1] == written["latency"]["median"]
    assert written["batch"] == 4 and written["count"] == 3 and written["gpu"]["name"] == "memory"
    assert written["input"] == "random numbers of seed 0" and written["precision"] == "fp32"
    assert [row["our_layers"] for row in written["layers"]] == [["conv", "bn", "relu"], ["fc"]]
    assert written["profile"][1]["percentage"] == 75.0 and written["vanished"] == ["flat"]


def test_an_engine_without_its_weights_is_not_built(bench_here, options, tmp_path, capsys):
    options()  # writes the config
    code, device, made = bench_here(4, "--config", str(tmp_path / "small.yaml"), "--strip-weights")
    assert code == 2 and not made
    assert "--strip-weights: an engine without its weights cannot be run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, option",
    [
        (["--fp16"], "--precision"),
        (["--tactic-sources=-CUBLAS", "--avg-timing", "4"], "--avg-timing, --tactic-sources"),
        (["--target", "ada"], "--target"),
        (["--pools", "workspace:64"], "--pools"),
        (["--strip-weights"], "--strip-weights"),
        (["--sample"], "--sample"),
    ],
)
def test_what_a_plan_would_ignore_is_refused(bench_here, plan, capsys, words, option):
    code, _, made = bench_here(4, "--plan", str(plan), *words)
    assert code == 2 and not made
    assert capsys.readouterr().err.startswith(f"error: {option}: the plan is built already")


def test_the_whole_command_on_a_plan(bench_here, plan, capsys):
    code, device, _ = bench_here(4, "--plan", str(plan), "--no-graph", "--no-transfers", "--loads", "1")
    lines = capsys.readouterr().out.splitlines()
    assert code == 0 and device.held == 0 and device.calls == ["in", "run"] + ["run"] * 4
    assert [line.split()[0] for line in lines] == ["gpu", "plan", "measured"] + ["bench"] * 8
    assert "no CUDA graph, no copies, 2 in flight" in lines[2]


def test_a_batch_that_does_not_fit_gives_all_back(bench_here, plan, capsys):
    code, device, _ = bench_here(4, "--plan", str(plan), "--batch", "5")
    assert code == 2 and device.held == 0 and "--batch 5: the plan takes" in capsys.readouterr().err

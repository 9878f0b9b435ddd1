"""run.py dla and --target: the DLA plans of the four configs, their JSON, and plans for several PCs at once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

import run
from tests.memory_device import MemoryDevice
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small


@pytest.fixture
def planned(tmp_path, capsys):
    """`planned("model4", "--target", "orin")` is (the JSON of the plan, what was printed)."""

    def go(config: str, *options: str) -> Any:
        path = tmp_path / "dla.json"
        code = run.main(["dla", "--config", config, "--json", str(path), *options])
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return json.loads(path.read_text()), printed.out

    return go


# config, options: (layers on the GPU, tensors that cross, subnetworks), by hand from the config and the rules
PLANS = [
    ("model1", "orin@5.1",
     ["to_float", "image/nchw", "flatten", "fc1", "relu5", "fc2", "prob"], ["image/nchw", "pool4"], 1),
    ("model1", "orin@6.2", ["to_float", "flatten", "fc1", "relu5", "fc2", "prob"], ["to_float", "pool4"], 1),
    ("model1", "xavier",
     ["to_float", "image/nchw", "pool4", "flatten", "fc1", "relu5", "fc2", "prob"], ["image/nchw", "relu4"], 1),
    ("model2", "orin@5.1",
     ["image/nchw", "conv1_pad", "pool1_pad", "avg_pool", "predictions", "predictions/softmax"],
     ["conv1_pad", "conv1_relu", "pool1_pad", "conv5_block3_out"], 2),
    ("model3", "orin@5.1", ["image/cast", "image/nchw", "global_pool", "logits", "prob"],
     ["image/nchw", "stage4/unit3/relu"], 1),
    ("model4", "orin@5.1", ["flatten", "fc"], ["avgpool"], 1),
    ("model4", "xavier-nx", ["avgpool", "flatten", "fc"], ["layer4.2.relu"], 1),
]  # fmt: skip


@pytest.mark.parametrize("config, target, on_gpu, crossing, subnetworks", PLANS)
def test_the_plan_of_a_config_in_fp16(planned, config, target, on_gpu, crossing, subnetworks):
    plan, printed = planned(config, "--target", target)
    assert [row["name"] for row in plan["layers"] if row["device"] == "GPU"] == on_gpu
    assert [hop["tensor"] for hop in plan["hops"]] == crossing and plan["subnetworks"] == subnetworks
    assert (plan["precision"], plan["asked"]) == ("fp16", False) and {row["by"] for row in plan["layers"]} == {"rule"}
    assert all(bool(row["reason"]) == (row["device"] == "GPU") for row in plan["layers"])
    assert f"{len(crossing)} hop" in printed and "a DLA does nothing in the fp32 of the config" in printed


def test_int8_leaves_what_quantizes_on_the_gpu(planned):
    plan, printed = planned("model4", "--precision", "int8")
    on_gpu = [row["type"] for row in plan["layers"] if row["device"] == "GPU"]
    assert on_gpu.count("convolution") == 53 and on_gpu.count("elementwise") == 16 and len(on_gpu) == 72
    assert plan["subnetworks"] > 16 and "a core loads 16 subnetworks at once" in printed
    assert "in fp16 it runs" in printed.lower() and "hops, the first 12 of 138" in printed


def test_sizes_are_those_of_fp16(planned):
    plan, _ = planned("model4")
    assert plan["hops"] == [{"tensor": "avgpool", "source": "DLA", "target": "GPU", "shape": [1, 2048, 1, 1],
                             "bytes": 4096}]  # fmt: skip


def test_every_layer_is_shown_on_demand(planned):
    _, printed = planned("model1", "--all")
    assert sum(line.endswith(" rule") for line in printed.splitlines()) == 22


@pytest.mark.parametrize(
    "target, words",
    [
        ("thor", "Jetson AGX Thor has no DLA; these have: agx-xavier"),
        ("ada", "GeForce RTX 40, Ada has no DLA"),
        ("orni", "no target 'orni'; did you mean 'orin'?"),
    ],
)
def test_a_target_without_a_dla_is_refused(capsys, target, words):
    assert run.main(["dla", "--config", "model1", "--target", target]) == 2
    assert words in capsys.readouterr().err


# --target of the main job


def built(tmp_path, capsys, *options: str) -> Any:
    write_small(tmp_path)
    arguments = ["--config", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "out"), *options]
    return run.main(arguments), capsys.readouterr()


def test_one_plan_for_several_pcs(tmp_path, capsys):
    code, _ = built(tmp_path, capsys, "--target", "rtx", "--pools", "workspace:0.5G")
    manifest = json.loads((tmp_path / "out" / "small.plan.json").read_text())
    assert code == 0 and manifest["compute_capabilities"] == ["sm75", "sm86", "sm89", "sm120"]
    assert manifest["options"] == {"targets": manifest["compute_capabilities"], "workspace": 1 << 29}


@pytest.mark.parametrize("cores, words", [(0, "small.plan: was built for DLA core 1; this machine has none"),
                                          (2, "--dla-core 1: this machine has no such DLA")])  # fmt: skip
def test_a_plan_for_a_dla_is_measured_on_that_one(tmp_path, capsys, monkeypatch, cores, words):
    """Where the check finds two DLAs, the runner is what asks TensorRT for the second, which is not here."""
    assert built(tmp_path, capsys)[0] == 0
    plan, manifest = tmp_path / "out" / "small.plan", tmp_path / "out" / "small.plan.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "options": {"dla_core": 1}}))
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)
    monkeypatch.setattr("engine.devices.open_device", lambda binding: MemoryDevice())
    if cores:
        monkeypatch.setattr("engine.plan_check.new_runtime", lambda tensorrt: SimpleNamespace(num_DLA_cores=cores))
    assert run.main(["bench", "--plan", str(plan)]) == 2
    assert words in capsys.readouterr().err


def test_a_config_is_measured_on_the_dla_it_is_built_for(tmp_path, capsys, monkeypatch):
    """The build is left out, since there is no DLA to build for: it is the runner that refuses."""
    write_small(tmp_path)
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)
    monkeypatch.setattr("engine.devices.open_device", lambda binding: MemoryDevice())
    monkeypatch.setattr("engine.plan.build_plan", lambda definition, options, progress: b"plan")
    config = ["--config", str(tmp_path / "small.yaml"), "--backend", "tensorrt_rtx"]
    assert run.main(["bench", *config, "--dla-core", "1", "--gpu-fallback"]) == 2
    assert "--dla-core 1: this machine has no such DLA" in capsys.readouterr().err


def test_a_plan_for_a_jetson_is_refused_before_it_is_built(tmp_path, capsys):
    code, printed = built(tmp_path, capsys, "--target", "orin", "--builder-optimization-level", "2")
    assert code == 2 and "pack what it needs with `run.py bundle`" in printed.err
    assert "JetPack 5.1 has TensorRT 8.5.2: no optimization level" in printed.err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())

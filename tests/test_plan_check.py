"""A plan is refused before TensorRT sees it: damaged, swapped, or built for another TensorRT, GPU or precision."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any, Dict

import pytest

import run
from engine.atomic_file import json_bytes
from engine.build_options import PlanOptions, describe_options
from engine.devices.device import DeviceFacts
from engine.manifest import write_plan
from engine.plan_check import (
    built_by,
    check_plan,
    gpu_entry,
    is_version_compatible,
    lacks_weights,
    read_manifest,
)
from engine.tensorrt_api import load
from spec.errors import PlanError, TransplantFailure, UsageError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small

H200 = {"name": "NVIDIA H200", "compute_capability": "9.0"}
FROM = {"config": {"file": "configs/m.yaml"}, "precision": "fp16"}


class Installed:
    """As much of engine.tensorrt_api.TensorRT as a check asks: this machine has one of all the versions below."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version
        self.title = f"{'TensorRT-RTX' if name == 'tensorrt_rtx' else 'TensorRT'} {version}"


def gpu(name: str, *capability: int) -> DeviceFacts:
    known = {"name": name, "compute_capability": capability}
    return DeviceFacts(**{field: known.get(field, 0) for field in DeviceFacts._fields})


TRT85, TRT103 = Installed("tensorrt", "8.5.3.1"), Installed("tensorrt", "10.3.0")
ORIN, H200_HERE, H100 = gpu("Orin", 8, 7), gpu("NVIDIA H200", 9, 0), gpu("NVIDIA H100", 9, 0)


def plan_of(directory: Path, content: bytes = b"the plan", **manifest: Any) -> Path:
    path = directory / "m.plan"
    write_plan(path, content, {"tensorrt": {"name": "tensorrt", "version": "8.5.3.1"}, "gpu": H200, **FROM, **manifest})
    return path


def beside(plan: Path) -> Path:
    """Where its manifest lies."""
    return Path(f"{plan}.json")


def edit(path: Path, change: Any) -> None:
    manifest = json.loads(beside(path).read_text())
    change(manifest)
    beside(path).write_text(json.dumps(manifest))


FITTING: Dict[str, Any] = {
    # name: (of the manifest, TensorRT here, GPU here)
    "the same": ({}, TRT85, H200_HERE),
    "no GPU to compare with": ({}, TRT85, None),
    "a manifest from before the gpu entry": ({"gpu": None}, TRT85, ORIN),
    "another model of the same capability": ({}, TRT85, H100),
    "version compatible": ({"options": {"version_compatible": True}}, TRT103, H200_HERE),
    "hardware compatible": ({"options": {"hardware_compatibility": "ampere_plus"}}, TRT85, gpu("L4", 8, 9)),
    "RTX, any GPU": (
        {"tensorrt": {"name": "tensorrt_rtx", "version": "1.7"}, "compute_capabilities": "default"},
        Installed("tensorrt_rtx", "1.7"),
        ORIN,
    ),
    "RTX, a target": (
        {"tensorrt": {"name": "tensorrt_rtx", "version": "1.7"}, "compute_capabilities": ["sm75", "sm89"]},
        Installed("tensorrt_rtx", "1.7"),
        gpu("RTX 4090", 8, 9),
    ),
}


@pytest.mark.parametrize("manifest, tensorrt, facts", FITTING.values(), ids=FITTING.keys())
def test_a_plan_that_fits_gives_its_manifest(tmp_path, manifest, tensorrt, facts):
    path = plan_of(tmp_path, **manifest)
    assert check_plan(path, tensorrt, facts, "fp16") == json.loads(beside(path).read_text())


FOREIGN: Dict[str, Any] = {
    # name: (of the manifest, TensorRT here, GPU here, how the message goes on after the path)
    "TensorRT and GPU": (
        {}, TRT103, ORIN,
        "was built by TensorRT 8.5.3.1 for NVIDIA H200 (sm90); here is TensorRT 10.3.0 on Orin (sm87): "
        "build it here with `run.py --config configs/m.yaml`",
    ),
    "TensorRT, no GPU": ({"gpu": None}, TRT103, None, "was built by TensorRT 8.5.3.1; here is TensorRT 10.3.0: build"),
    "GPU": ({}, TRT85, ORIN, "was built by TensorRT 8.5.3.1 for NVIDIA H200 (sm90); here is TensorRT 8.5.3.1 on Orin"),
    "version compatible, here is an older one": (
        {"tensorrt": {"name": "tensorrt", "version": "10.3.0"}, "options": {"version_compatible": True}},
        TRT85, None, "was built by TensorRT 10.3.0 for NVIDIA H200 (sm90); here is TensorRT 8.5.3.1: build it",
    ),
    "hardware compatible, here is Turing": (
        {"options": {"hardware_compatibility": "ampere_plus"}}, TRT85, gpu("T4", 7, 5), "was built by TensorRT 8.5.3.1",
    ),
    "RTX": (
        {"tensorrt": {"name": "tensorrt_rtx", "version": "8.5.3.1"}}, TRT85, None,
        "was built by TensorRT-RTX 8.5.3.1; here is TensorRT 8.5.3.1: build it",
    ),
    "RTX, not a target": (
        {"tensorrt": {"name": "tensorrt_rtx", "version": "1.7"}, "compute_capabilities": ["sm75", "sm89"]},
        Installed("tensorrt_rtx", "1.7"), ORIN,
        "was built by TensorRT-RTX 1.7 for sm75, sm89; here is TensorRT-RTX 1.7 on Orin (sm87): build it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("manifest, tensorrt, facts, message", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_plan_for_something_else_is_refused_in_a_sentence(tmp_path, manifest, tensorrt, facts, message):
    path = plan_of(tmp_path, **manifest)
    with pytest.raises(PlanError, match=re.escape(f"{path}: {message}")) as caught:
        check_plan(path, tensorrt, facts, "fp16")
    assert len(caught.value.problems) == 1


def test_another_precision_is_refused_beside_another_tensorrt(tmp_path):
    path = plan_of(tmp_path, precision={"default": "fp16", "fp32": ["prob"]})
    with pytest.raises(PlanError) as caught:
        check_plan(path, TRT103, None, "fp16")
    assert len(caught.value.problems) == 2
    assert caught.value.problems[1].startswith(f"{path}: computes in {{'default': 'fp16', 'fp32': ['prob']}}, asked")
    assert check_plan(path, TRT85, None)["precision"] == {"default": "fp16", "fp32": ["prob"]}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(bytes(content))


def swap(path: Path) -> None:
    """The plan of another build of the same size."""
    path.write_bytes(b"thy plan")


DAMAGES: Dict[str, Any] = {
    # name: (what is done to the pair, its exception, the message)
    "no plan": (lambda path: path.unlink(), UsageError, "m.plan: no such plan; build it with `run.py --config FILE`"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), UsageError, "m.plan: is a folder; name the plan in it"),
    "cut off": (cut, PlanError, "m.plan: has 7 bytes, its manifest says 8: it was cut off"),
    "a bit flipped": (flip, PlanError, "m.plan: its sha256 begins with"),
    "plans swapped": (swap, PlanError, "belong to different builds; copy both files again, or build it again"),
    "no manifest": (lambda path: beside(path).unlink(), PlanError, "m.plan.json: no manifest beside the plan"),
    "no JSON": (lambda path: beside(path).write_text('{"plan": '), PlanError, "m.plan.json: is no JSON: Expecting"),
    "no text": (lambda path: beside(path).write_bytes(b"\xff\xfe"), PlanError, "m.plan.json: is no JSON"),
    "a list": (lambda path: beside(path).write_text("[1]"), PlanError, "lacks plan.bytes, plan.sha256, tensorrt."),
    "no digest": (lambda path: edit(path, lambda m: m["plan"].pop("sha256")), PlanError, "lacks plan.sha256; build"),
    "a size in words": (lambda path: edit(path, lambda m: m["plan"].update(bytes="8")), PlanError, "lacks plan.bytes"),
    "another module": (
        lambda path: edit(path, lambda m: m["tensorrt"].update(name="os")), PlanError,
        "lacks a tensorrt.name of tensorrt or tensorrt_rtx",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage, kind, message", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_before_tensorrt_sees_it(tmp_path, damage, kind, message):
    path = plan_of(tmp_path)
    read_manifest(path)
    damage(path)
    with pytest.raises(kind, match=re.escape(message)):
        check_plan(path, TRT85, H200_HERE)


def test_another_gpu_of_the_same_capability_is_mentioned(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check_plan(plan_of(tmp_path), TRT85, H100)
    assert "was tuned on NVIDIA H200; NVIDIA H100 may run it slower" in caplog.text


@pytest.mark.parametrize(
    "values, named",
    [
        ({"verification": "yes"}, "verification"),
        ({"config": 3, "gpu": "H200", "options": []}, "config, gpu, options"),
        ({"inputs": "image"}, "inputs"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["a", 224]}]}, "inputs"),
        ({"inputs": [1], "outputs": [{"name": "prob", "dtype": "float32", "shape": 5}]}, "inputs, outputs"),
    ],
)
def test_values_of_another_kind_are_damage(tmp_path, values, named):
    with pytest.raises(PlanError, match=re.escape(f"m.plan.json: was damaged: {named}; copy it again, or build")):
        read_manifest(plan_of(tmp_path, **values))


def test_a_manifest_that_says_less_is_read(tmp_path):
    path = plan_of(tmp_path, gpu=None, options=None, config=None, verification=None, inputs=None)
    assert built_by(check_plan(path, TRT85, H200_HERE)) == "TensorRT 8.5.3.1"
    with pytest.raises(PlanError, match="run.py --config FILE"):
        check_plan(path, TRT103, H200_HERE)


def test_a_manifest_names_the_options_as_they_are_looked_for():
    options = describe_options(PlanOptions(version_compatible=True, hardware_compatibility="ampere_plus"))
    assert options == {"version_compatible": True, "hardware_compatibility": "ampere_plus"}
    assert is_version_compatible({"options": options}) and not is_version_compatible({})


def test_the_gpu_of_a_build_is_written_as_people_write_it():
    assert gpu_entry(H200_HERE) == H200 and gpu_entry(None) is None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The plan of the small model, built once."""
    directory = tmp_path_factory.mktemp("built")
    write_small(directory)
    assert run.main(["-q", "--config", str(directory / "small.yaml"), "--output", str(directory / "out")]) == 0
    return directory / "out" / "small.plan"


def test_the_verb_prints_the_manifest_and_its_verdict(built, capsys):
    assert run.main(["check", "--plan", str(built), "--precision", "fp32"]) == 0
    out = capsys.readouterr().out
    assert "image float32 1 x 2 x 7 x 9 -> fc float32 1 x 4" in out
    assert f"built by  {load('auto').title}, in fp32" in out
    assert f"whole, and fits {load('auto').title} on " in out
    assert "not verified against the source model: the config names no `reference`" in out


def test_a_plan_without_its_weights_is_not_whole_and_says_what_to_do(built, tmp_path, capsys):
    """As a build on a GPU with --strip-weights writes it, which needs one; refitted it is whole."""
    for suffix in ("", ".json"):
        (tmp_path / f"small.plan{suffix}").write_bytes(Path(f"{built}{suffix}").read_bytes())
    path = tmp_path / "small.plan"
    edit(path, lambda manifest: manifest["options"].update(strip_weights=True))
    assert lacks_weights(read_manifest(path)) and run.main(["check", "--plan", str(path)]) == 0
    out = capsys.readouterr().out
    command = f"run.py refit --config {built.parents[1] / 'small.yaml'} --precision fp32 --backend {load('auto').name}"
    assert f"weights   left out by --strip-weights; put them in: `{command} --plan {path}`" in out
    assert "whole but for its weights, and fits " in out and "whole, " not in out
    words = ["triton", "--config", str(built.parents[1] / "small.yaml"), "--repository", str(tmp_path / "r")]
    assert run.main([*words, "--plan", str(path), "--rehearse"]) == 2 and not (tmp_path / "r").exists()
    refused = f"error: {path}: was built with --strip-weights; put weights in with `run.py refit` first\n"
    assert capsys.readouterr().err == refused
    edit(path, lambda manifest: manifest.update(refitted={"seconds": 1.0}))
    assert run.main([*words, "--plan", str(path), "--rehearse"]) == 0
    assert run.main(["check", "--plan", str(path)]) == 0 and "whole, " in capsys.readouterr().out


def test_a_number_that_json_has_not_is_a_word_that_can_be_written_again(tmp_path):
    """Older manifests hold Python's Infinity; `triton` and `refit` write what they read."""
    path = plan_of(tmp_path)
    beside(path).write_text(beside(path).read_text().replace('"fp16"', "Infinity"))
    manifest = read_manifest(path)
    assert manifest["precision"] == "Infinity" and json.loads(json_bytes(manifest)) == manifest


def test_the_verb_needs_no_tensorrt_for_the_file_alone(built, tmp_path, capsys):
    path = plan_of(tmp_path, tensorrt={"name": "tensorrt", "version": "7.0"}, inputs=[], outputs=[])
    assert run.main(["check", "--plan", str(path), "--file-only"]) == 0
    assert "the plan is the one that its manifest describes" in capsys.readouterr().out
    assert run.main(["check", "--plan", str(path)]) == 2
    captured = capsys.readouterr()
    assert "was built by TensorRT 7.0 for NVIDIA H200 (sm90); here is TensorRT" in captured.err
    assert captured.out.splitlines()[-1].startswith("FAILED | Runtime")


def test_a_real_plan_cut_off_ends_the_verb_with_a_sentence(built, tmp_path, capsys):
    for suffix in ("", ".json"):
        (tmp_path / f"small.plan{suffix}").write_bytes(Path(f"{built}{suffix}").read_bytes())
    path = tmp_path / "small.plan"
    cut(path)
    assert run.main(["check", "--plan", str(path)]) == 2
    captured = capsys.readouterr()
    assert "it was cut off or is another plan; copy both files again, or build it again" in captured.err
    assert issubclass(PlanError, TransplantFailure) and "Traceback" not in captured.err

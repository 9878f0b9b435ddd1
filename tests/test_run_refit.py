"""run.py refit: what it refuses before an engine is touched, each in a sentence that says what to do.

The plans are TensorRT-RTX's, built on the CPU, where the REFIT flag cannot be set; the table that --refit writes into
a manifest is added by its own function. What comes after the refusals needs a GPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from safetensors.numpy import save_file

import run
from commands.console import Console
from commands.refit import errors_of
from commands.stages import in_precision, prepare, read_config, tensor_names
from engine.refit_table import refit_table, tensor_names_of, unchanged_weights
from engine.tensorrt_api import gpu_count
from spec.errors import VerificationError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, torch_arrays, write_small

pytestmark = pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here: benchmarks/gpu/refit.py runs the whole job")


def table_now(config: Path, *overrides: str) -> Any:
    """The table that a build with --refit writes."""
    options = argparse.Namespace(config=str(config), set=list(overrides), sample=False, backend="auto", ledger=False)
    console = Console(-1)
    prepared = prepare(options, console, *read_config(options, console))
    return refit_table(in_precision(prepared), tensor_names(prepared.weights))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """small.plan with a manifest that says it is refittable; the config and its checkpoint stand one level up."""
    config = write_small(tmp_path)
    assert run.main(["-q", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "small.plan"
    edit(path, refit=table_now(config))
    return path


def edit(plan: Path, without: str = "", **values: Any) -> None:
    beside = Path(f"{plan}.json")
    manifest = {**json.loads(beside.read_text()), **values}
    manifest.pop(without, None)
    beside.write_text(json.dumps(manifest))


def refit(plan: Path, capsys: Any, *options: str) -> str:
    """What is said on standard error; nothing beside the plan may have changed."""
    before = {path: path.read_bytes() for path in plan.parent.iterdir()}
    config = str(plan.parents[1] / "small.yaml")
    code = run.main(["refit", "--config", config, "--plan", str(plan), *options])
    captured = capsys.readouterr()
    assert code == 2 and "Traceback" not in captured.err + captured.out
    assert {path: path.read_bytes() for path in plan.parent.iterdir()} == before
    return captured.err


def test_a_plan_that_fits_is_refused_for_want_of_a_gpu_only(plan, capsys):
    new = plan.with_name("new.safetensors")
    save_file(torch_arrays(1), new)
    said = refit(plan, capsys, "--set", f"weights.path={new}")
    assert said.startswith("error: refit: TensorRT-RTX") and "on a GPU only, and none answers here" in said


def test_a_checkpoint_with_a_prefix_fits_too(plan, capsys):
    """The weights keep the plan's names; `module.` is what PyTorch's DataParallel puts before them."""
    new = plan.with_name("new.safetensors")
    save_file({f"module.{name}": array for name, array in torch_arrays(1).items()}, new)
    options = [f"--set=weights.path={new}", "--set=weights.prefix=module."]
    assert "on a GPU only" in refit(plan, capsys, *options)


def test_the_audit_comes_first(plan, capsys):
    plan.write_bytes(b"changed")
    arrays = torch_arrays(1)
    arrays["fc.weights"] = arrays.pop("fc.weight")
    save_file(arrays, plan.with_name("new.safetensors"))
    said = refit(plan, capsys, "--set", f"weights.path={plan.with_name('new.safetensors')}")
    assert "layer 'fc': kernel: missing" in said and "fc.weights" in said and "sha256" not in said


def test_a_plan_that_is_not_the_manifests_is_refused(plan, capsys):
    content = bytearray(plan.read_bytes())
    content[-1] ^= 1
    plan.write_bytes(bytes(content))
    assert "sha256" in refit(plan, capsys)


def test_a_plan_without_a_manifest_is_refused(plan, capsys):
    Path(f"{plan}.json").unlink()
    assert "no manifest beside the plan" in refit(plan, capsys)


def test_a_plan_that_was_built_without_refit_is_refused(plan, capsys):
    edit(plan, without="refit")
    assert "was built without --refit, so its weights are fixed; build it again with --refit" in refit(plan, capsys)


def test_a_manifest_without_what_a_refit_reads_is_refused(plan, capsys):
    edit(plan, without="inputs", refit={"model": "small"})
    assert "lacks refit.tensors, refit.layers, refit.weights, inputs; copy it again" in refit(plan, capsys)


def test_a_plan_of_another_tensorrt_is_refused(plan, capsys):
    edit(plan, tensorrt={"name": "tensorrt", "version": "8.5.3.1"})
    assert "was built by TensorRT 8.5.3.1" in refit(plan, capsys)


REFUSED: List[Any] = [
    # options; what is said
    (["--set=name=other"], "is a plan of 'small', the config is of 'other'; give the plan's own config"),
    (["--precision=fp16"], "computes in fp32, asked for is fp16"),
    (["--set=inputs.image.shape=[2, 2, 7, 9]"], "its inputs: image float32 1x2x7x9; the config says image float32 2x2"),
    (["--set=batch={min: 1, opt: 2, max: 8}"], "its batch: fixed; the config says 1/2/8; refit with the config and"),
    (["--set=outputs=[fc, relu]"], "its outputs: fc float32 1x4; the config says fc float32 1x4, relu float32 1x3x3x4"),
    (["--set=layers.1.batch_norm.epsilon=0.5"], "1 layers differ: bn; refit with the config and --set of its build"),
]


@pytest.mark.parametrize("options, words", REFUSED, ids=[row[0][0] for row in REFUSED])
def test_a_config_that_is_not_the_plans_is_refused(plan, capsys, options, words):
    assert words in refit(plan, capsys, *options)


def test_a_weight_of_another_shape_is_named(plan, capsys):
    config = plan.parents[1] / "small.yaml"
    config.write_text(SMALL.replace("units: 4, bias: true", "units: 4, bias: false"))
    arrays = torch_arrays()
    del arrays["fc.bias"]
    save_file(arrays, config.with_name("small.safetensors"))
    said = refit(plan, capsys)
    assert said.count("error: ") == 2 and "1 layers differ: fc; refit with" in said  # all mismatches come at once
    assert "1 weights differ: fc.bias (float32 4 in the plan, absent here); refit with" in said


def test_old_ranges_are_mentioned_and_new_ones_are_not(plan, capsys):
    """int8: the ranges are of the old weights unless they are calibrated again; kernel scales follow by themselves."""
    config, out = plan.parents[1] / "small.yaml", str(plan.parent)
    words = ["--config", str(config), "--set=precision=int8"]
    for count, name in ((1, "old.json"), (2, "new.json")):
        images = ["--images", f"random:{count}", "--output", str(config.with_name(name))]
        assert run.main(["calibrate", "--config", str(config), *images]) == 0
    assert run.main(["-q", *words, "--set=ranges=old.json", "--output", out]) == 0
    edit(plan, refit=table_now(config, "precision=int8", "ranges=old.json"))
    for name, mentioned in (("old.json", True), ("new.json", False)):
        capsys.readouterr()
        assert run.main(["refit", *words, f"--set=ranges={name}", "--plan", str(plan)]) == 2
        captured = capsys.readouterr()
        assert "on a GPU only" in captured.err
        assert ("are those of the old weights: calibrate on the new checkpoint" in captured.out) is mentioned


@pytest.mark.parametrize("found, words", [(np.float32([1, np.nan]), "NaN"), (np.zeros(3, np.float32), "shape")])
def test_an_engine_that_gives_nonsense_is_refused(found, words):
    assert errors_of({"fc": np.float32([1, 2])}, {"fc": np.float32([1, 4])}) == {"fc": 0.5}
    with pytest.raises(VerificationError, match=f"the refitted engine: .*{words}.*; nothing is written: build again"):
        errors_of({"fc": found}, {"fc": np.float32([1, 2])})


def test_the_table_names_each_tensor_layer_and_weight(tmp_path):
    table = json.loads(json.dumps(table_now(write_small(tmp_path))))
    assert tensor_names_of(table)["bn", "gamma"] == "bn.weight" and len(table["tensors"]) == 8
    assert list(table["layers"]) == ["conv", "bn", "relu", "flat", "fc"]
    kinds = {name: row.rpartition(" ")[0] for name, row in table["weights"].items()}
    assert kinds == {
        "conv.weight": "float32 3x2x3x3", "conv.bias": "float32 3", "bn/scale": "float32 3", "bn/shift": "float32 3",
        "fc.weight": "float32 4x36", "fc.bias": "float32 4",
    }  # fmt: skip


def test_the_table_tells_new_numbers_from_old(tmp_path):
    config = write_small(tmp_path)
    before = table_now(config)
    arrays = torch_arrays()
    arrays["bn.running_mean"] = arrays["bn.running_mean"] + np.float32(1)
    save_file(arrays, tmp_path / "small.safetensors")
    unchanged = unchanged_weights(before, table_now(config))
    assert unchanged == ["conv.weight", "conv.bias", "bn/scale", "fc.weight", "fc.bias"]


def test_the_precision_of_a_layer_shows_in_the_table(tmp_path):
    table = table_now(write_small(tmp_path), "precision={default: fp16, fp32: [fc]}")
    assert {name: row.split()[0] for name, row in table["weights"].items()} == {
        "conv.weight/float16": "float16", "conv.bias/float16": "float16", "bn/scale": "float16",
        "bn/shift": "float16", "fc.weight": "float32", "fc.bias": "float32",
    }  # fmt: skip


def test_a_build_with_refit_is_refused_before_the_proof(tmp_path, capsys):
    words = ["--config", str(write_small(tmp_path)), "--output", str(tmp_path / "out"), "--refit"]
    assert run.main(words) == 2
    assert "error: --refit: TensorRT-RTX" in capsys.readouterr().err

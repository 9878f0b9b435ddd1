"""run.py refit: what it refuses before an engine is touched, each in a sentence that says what to do.

The plans are TensorRT-RTX's, built without the REFIT flag, which cannot be set without a GPU; the table that --refit
writes into a manifest is added by its own function. What comes after the refusals needs a GPU.
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
from engine.refit_table import refit_command, refit_table, tensor_names_of, unchanged_weights
from engine.tensorrt_api import gpu_count
from spec.errors import VerificationError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, torch_arrays, write_small

pytest.importorskip("tensorrt_rtx")
RTX = "--backend=tensorrt_rtx"

ends_without_a_gpu = pytest.mark.skipif(
    gpu_count() > 0, reason="a GPU is here, where this would go on: benchmarks/gpu/refit.py runs the whole job"
)


def table_now(config: Path, *overrides: str) -> Any:
    """The table that a build with --refit writes."""
    options = argparse.Namespace(config=str(config), set=list(overrides), sample=False, backend="tensorrt_rtx",
                                 ledger=False)  # fmt: skip
    console = Console(-1)
    prepared = prepare(options, console, *read_config(options, console))
    return refit_table(in_precision(prepared), tensor_names(prepared.weights))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """small.plan with a manifest that says it is refittable; the config and its checkpoint stand one level up."""
    config = write_small(tmp_path)
    assert run.main(["-q", "--config", str(config), "--output", str(tmp_path / "out"), RTX]) == 0
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
    code = run.main(["refit", "--config", config, "--plan", str(plan), RTX, *options])
    captured = capsys.readouterr()
    assert code == 2 and "Traceback" not in captured.err + captured.out
    assert {path: path.read_bytes() for path in plan.parent.iterdir()} == before
    return captured.err


def new_weights(plan: Path) -> str:
    """The option that names a checkpoint of other numbers, written beside the plan."""
    save_file(torch_arrays(1), plan.with_name("new.safetensors"))
    return f"--set=weights.path={plan.with_name('new.safetensors')}"


@ends_without_a_gpu
def test_a_plan_that_fits_is_refused_for_want_of_a_gpu_only(plan, capsys):
    said = refit(plan, capsys, new_weights(plan))
    assert said.startswith("error: refit: TensorRT-RTX") and "on a GPU only, and none answers here" in said


@ends_without_a_gpu
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


@pytest.mark.parametrize("words", [["--rtol", "1"], ["--input", "random:1"], ["--report", "r"]])
def test_a_comparison_that_is_left_out_takes_no_options(plan, capsys, words):
    assert f"{words[0]}: nothing is compared with --no-verify" in refit(plan, capsys, "--no-verify", *words)


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
    assert "was damaged: refit.tensors, refit.layers, refit.weights, inputs; copy it again" in refit(plan, capsys)


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("refit", [1], "refit.model, refit.tensors, refit.layers, refit.weights"),
        ("tensors", [1], "refit.tensors"),
        ("layers", None, "refit.layers"),
        ("weights", {"conv.weight": 1}, "refit.weights"),
        ("inputs", None, "inputs"),
        ("batch", 4, "batch"),
        ("ranges", ["r.json"], "ranges"),
        ("build_seconds", "3", "build_seconds"),
    ],
)
def test_a_damaged_manifest_is_refused(plan, capsys, key, value, named):
    table = json.loads(Path(f"{plan}.json").read_text())["refit"]
    edit(plan, **({"refit": {**table, key: value}} if key in table else {key: value}))
    assert f"{plan}.json: was damaged: {named}; copy it again, or build the plan again" in refit(plan, capsys)


def test_a_batch_without_its_bounds_is_another(plan, capsys):
    edit(plan, batch={"min": 1})
    assert "its batch: 1/None/None; the config says fixed" in refit(plan, capsys)


def test_a_plan_of_another_tensorrt_is_refused(plan, capsys):
    edit(plan, tensorrt={"name": "tensorrt", "version": "8.5.3.1"})
    assert "was built by TensorRT 8.5.3.1" in refit(plan, capsys)


def test_what_is_refused_says_with_what_to_refit(plan, capsys):
    said = refit(plan, capsys, "--set=outputs=[fc, relu]")
    config = plan.parents[1] / "small.yaml"
    assert f"`run.py refit --config {config} --precision fp32 --backend tensorrt_rtx --plan {plan}`" in said


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


@ends_without_a_gpu
def test_old_ranges_are_mentioned_and_new_ones_are_not(plan, capsys):
    """int8: the ranges are of the old weights unless they are calibrated again; kernel scales follow by themselves."""
    config, out = plan.parents[1] / "small.yaml", str(plan.parent)
    words = ["--config", str(config), RTX, "--set=precision=int8"]
    old, new = config.with_name("old.json"), config.with_name("new.json")
    for count, path in ((1, old), (2, new)):
        images = ["--images", f"random:{count}", "--output", str(path)]
        assert run.main(["calibrate", "--config", str(config), RTX, *images]) == 0
    assert run.main(["-q", *words, f"--set=ranges={old}", "--output", out]) == 0
    edit(plan, refit=table_now(config, "precision=int8", f"ranges={old}"))
    for path, mentioned in ((old, True), (new, False)):
        capsys.readouterr()
        assert run.main(["refit", *words, f"--set=ranges={path}", "--plan", str(plan)]) == 2
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


@ends_without_a_gpu
@pytest.mark.parametrize("option", ["--refit", "--strip-weights"])
def test_a_build_with_refit_is_refused_before_the_proof(tmp_path, capsys, option):
    words = ["--config", str(write_small(tmp_path)), "--output", str(tmp_path / "out"), RTX, option]
    assert run.main(words) == 2
    assert f"error: {option}: TensorRT-RTX" in capsys.readouterr().err


STRIPPED = {"strip_weights": True}
ALONE = "was built with --strip-weights alone and takes only the weights of its build, but 6 have other numbers: "


def test_a_stripped_plan_that_takes_only_its_own_weights_gets_no_others(plan, capsys):
    """TensorRT calls what would follow unpredictable behavior (REFIT_IDENTICAL)."""
    edit(plan, options=STRIPPED)
    said = refit(plan, capsys, new_weights(plan))
    assert ALONE + "conv.weight, conv.bias, bn/scale, bn/shift, fc.weight and 1 more; build it with" in said
    edit(plan, refitted={"seconds": 1.0})  # filled, it is still of that kind
    assert "build it with --refit --strip-weights" in refit(plan, capsys, new_weights(plan))


@ends_without_a_gpu
def test_a_stripped_plan_takes_its_own_weights_and_with_refit_any(plan, capsys):
    edit(plan, options=STRIPPED)
    assert "on a GPU only" in refit(plan, capsys)
    edit(plan, options={**STRIPPED, "refit": True})
    assert "on a GPU only" in refit(plan, capsys, new_weights(plan))


def test_the_command_of_a_refit_names_all_that_the_build_was_given():
    tensorrt, config = {"name": "tensorrt", "version": "10.3"}, {"file": "my net.yaml", "set": ["batch={min: 1}"]}
    manifest = {"tensorrt": tensorrt, "config": config, "precision": "fp16"}
    given = "--config 'my net.yaml' '--set=batch={min: 1}' --precision fp16 --backend tensorrt"
    wanted = f"run.py refit {given} --plan a.plan"
    assert refit_command(Path("a.plan"), manifest) == wanted
    mixed = {**manifest, "precision": {"default": "fp16", "fp32": ["fc"]}}  # as the config has it, or its --set
    assert "--precision" not in refit_command(Path("a.plan"), mixed)
    bundle = {**manifest, "config": {"file": "folder"}, "bundle": {"made_from": {"config": config}}}
    assert refit_command(Path("a.plan"), bundle) == wanted

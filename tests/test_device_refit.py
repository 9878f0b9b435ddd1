"""Plans of bundles whose weights can be exchanged: what their manifests must hold for a refit, and what is refused."""

from __future__ import annotations

import pytest
from safetensors.numpy import save_file

from engine import build_options, tensorrt_api
from engine.plan_check import read_manifest
from engine.tensorrt_api import gpu_count
from run import main
from tests.bundles import write_small_bundle
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import torch_arrays

pytest.importorskip("tensorrt_rtx")
RTX = "--backend=tensorrt_rtx"


def leave_flags_out(monkeypatch):
    """Plans of exchangeable weights need a GPU; the rest of the way does not, so their flags alone are left out."""
    monkeypatch.setattr(tensorrt_api, "require_gpu", lambda tensorrt, wanted_by: None)
    for field in ("refit", "strip_weights"):
        row = build_options.SETTINGS[field]._replace(apply=lambda tensorrt, config, value: None)
        monkeypatch.setitem(build_options.SETTINGS, field, row)


@pytest.fixture
def without_flags(monkeypatch):
    leave_flags_out(monkeypatch)


def refit_from(folder, capsys, *words):
    """What the refit of a bundle's plan says, with the config and the checkpoint that the bundle was made from."""
    config, plan = folder.parent / "small.yaml", folder / "out" / "small.plan"
    assert main(["refit", "--config", str(config), "--plan", str(plan), RTX, *words]) == 2
    return capsys.readouterr().err


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here, where the refit would go on with a plan that takes none")
@pytest.mark.parametrize("words", [[], ["--fp16"], ["--int8"]], ids=["fp32", "fp16", "int8"])
def test_a_plan_of_a_bundle_is_refitted_from_the_config_it_was_made_from(tmp_path, monkeypatch, capsys, words):
    folder, ranges = write_small_bundle(tmp_path), tmp_path / "small.ranges.json"
    config = ["--config", str(tmp_path / "small.yaml")]
    assert main(["calibrate", *config, "--output", str(ranges), "-q"]) == 0
    given = ["--set", f"ranges={ranges}", *(["--precision", "int8"] if words == ["--int8"] else [])]
    assert main(["bundle", *config, "--output", str(folder), "-q", *given]) == 0
    with monkeypatch.context() as flags:
        leave_flags_out(flags)
        assert main(["--config", str(folder), RTX, "-q", "--refit", *words]) == 0
    manifest = read_manifest(folder / "out" / "small.plan")
    assert set(manifest["refit"]["layers"]) == {"conv", "bn", "relu", "flat", "fc"}
    save_file(torch_arrays(1), tmp_path / "new.safetensors")
    precision = ["--precision", manifest["precision"], *given[:2]]
    said = refit_from(folder, capsys, *precision, f"--set=weights.path={tmp_path / 'new.safetensors'}")
    assert said.startswith("error: refit: TensorRT-RTX") and "on a GPU only" in said  # all else fits
    said = refit_from(folder, capsys, *precision, "--set=layers.1.batch_norm.epsilon=0.5")
    assert "1 layers differ: bn; refit with the config and --set of its build, `run.py refit --config small.yam" in said


def test_a_stripped_plan_of_a_bundle_says_how_it_is_filled(bundle_copy, without_flags, capsys):
    assert main(["--config", str(bundle_copy), RTX, "--strip-weights"]) == 0
    command = "run.py refit --config small.yaml --precision fp32 --backend tensorrt_rtx --plan"
    path = bundle_copy / "out" / "small.plan"
    assert f"next      put in the weights, which the plan lacks: `{command} {path}`" in capsys.readouterr().out
    assert read_manifest(path)["refit"]["weights"]["conv:kernel"].startswith("float32 3x2x3x3 ")


def test_a_stripped_plan_says_so_on_the_workstation_too(bundle, tmp_path, without_flags, capsys):
    config = bundle.parent / "small.yaml"
    assert main(["--config", str(config), RTX, "--strip-weights", "--output", str(tmp_path)]) == 0
    assert f"put in the weights, which the plan lacks: `run.py refit --config {config}" in capsys.readouterr().out
    assert main(["--config", str(config), RTX, "--output", str(tmp_path)]) == 0
    assert "run.py refit" not in capsys.readouterr().out


def test_a_plan_that_no_checkpoint_could_fill_is_refused(tmp_path, without_flags, capsys):
    folder = write_small_bundle(tmp_path, "--half")
    assert main(["--config", str(folder), RTX, "--strip-weights"]) == 2
    assert f"error: {folder}: its weights are float16, and --strip-weights alone takes no" in capsys.readouterr().err
    assert main(["--config", str(folder), RTX, "--strip-weights", "--refit", "-q"]) == 0


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
@pytest.mark.parametrize("option", ["--refit", "--strip-weights"])
def test_without_a_gpu_exchangeable_weights_are_refused_before_the_proof(bundle, tmp_path, capsys, option):
    assert main(["--config", str(bundle), RTX, option, "--output", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert f"error: {option}: TensorRT-RTX" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines()] == ["bundle", "machine", "FAILED"]

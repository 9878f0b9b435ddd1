"""run.py: the main job on a small model, its options, its verbs, and what each leaves on the disk and the console."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np
import pytest

import run
from spec.layers import LAYERS
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, torch_arrays, write_small

DYNAMIC = "batch={min: 1, opt: 2, max: 8}"


class Outcome(NamedTuple):
    """What a command ended with and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]


@pytest.fixture
def job(tmp_path, capsys):
    """`job("--dry-run")` runs the small model with these options; its output goes to tmp_path/out."""

    def go(*options: str) -> Outcome:
        write_small(tmp_path)
        code = run.main(["--config", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "out"), *options])
        return Outcome(code, *capsys.readouterr())

    return go


def names_in(directory: Path) -> List[str]:
    return sorted(path.name for path in directory.iterdir())


def manifest_of(directory: Path) -> Any:
    return json.loads((directory / "small.plan.json").read_text())


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_job_ends_in_a_plan_a_manifest_and_a_ledger(tmp_path, job):
    outcome = job()
    assert outcome.code == 0 and outcome.err == ""
    assert names_in(tmp_path / "out") == ["ledger.json", "small.plan", "small.plan.json"]
    stages = [line.split()[0] for line in outcome.out.splitlines()]
    assert stages == ["config", "weights", "define", "build", "write", "verify", "BUILT,"]
    assert "8 of 8 tensors, 217 parameters" in outcome.out and "5 layers" in outcome.out
    assert outcome.last.startswith("BUILT, NOT COMPARED | Runtime: ")
    assert outcome.last.endswith(f"Command: run.py --config {tmp_path}/small.yaml --output {tmp_path}/out")


def test_the_manifest_says_from_what_with_what_and_for_what(tmp_path, job):
    job("--target", "sm89,sm75", "--set", DYNAMIC, "--workspace", "64")
    manifest = manifest_of(tmp_path / "out")
    plan = tmp_path / "out" / "small.plan"
    assert manifest["plan"] == {"file": "small.plan", "bytes": plan.stat().st_size, "sha256": digest_of(plan)}
    assert manifest["config"]["sha256"] == digest_of(tmp_path / "small.yaml") and manifest["config"]["set"] == [DYNAMIC]
    assert manifest["checkpoint"]["format"] == "safetensors"
    assert manifest["checkpoint"]["sha256"] == {"small.safetensors": digest_of(tmp_path / "small.safetensors")}
    assert manifest["tensorrt"]["name"] == "tensorrt_rtx" and manifest["compute_capabilities"] == ["sm89", "sm75"]
    assert manifest["precision"] == "fp32" and manifest["batch"] == {"min": 1, "opt": 2, "max": 8}
    image = {"name": "image", "shape": [-1, 2, 7, 9], "dtype": "float32", "layout": "NCHW"}
    assert manifest["inputs"] == [image]
    assert manifest["outputs"] == [{"name": "fc", "shape": [-1, 4], "dtype": "float32", "layout": None}]
    assert manifest["build_seconds"] > 0 and "--set 'batch={min: 1, opt: 2, max: 8}'" in manifest["command"]


def test_the_ledger_has_a_row_for_every_parameter(tmp_path, job):
    job()
    rows = json.loads((tmp_path / "out" / "ledger.json").read_text())
    arrays = torch_arrays()
    assert [row["tensor"] for row in rows] == list(arrays)
    for row in rows:
        assert row["sha256"] == hashlib.sha256(arrays[row["tensor"]].tobytes()).hexdigest()
    assert rows[0] == {
        "layer": "conv", "role": "kernel", "tensor": "conv.weight", "rule": "o i h w -> o i h w",
        "source_shape": [3, 2, 3, 3], "shape": [3, 2, 3, 3], "dtype": "float32", "sha256": rows[0]["sha256"],
    }  # fmt: skip


def test_the_same_job_gives_the_same_plan(tmp_path, job):
    job()
    before = manifest_of(tmp_path / "out")["plan"]
    job()
    assert manifest_of(tmp_path / "out")["plan"] == before
    job("--set", DYNAMIC)
    assert manifest_of(tmp_path / "out")["plan"] != before


def test_a_dry_run_prints_every_layer_and_builds_nothing(tmp_path, job):
    outcome = job("--dry-run")
    assert outcome.code == 0 and not (tmp_path / "out").exists()
    lines = outcome.out.splitlines()
    start = lines.index("small: 5 layers, 217 parameters")
    assert [line.split() for line in lines[start + 1 : start + 7]] == [
        ["layer", "type", "output", "dtype", "parameters"],
        ["conv", "convolution", "1", "x", "3", "x", "3", "x", "4", "float32", "57"],
        ["bn", "batch_norm", "1", "x", "3", "x", "3", "x", "4", "float32", "12"],
        ["relu", "activation", "1", "x", "3", "x", "3", "x", "4", "float32", "0"],
        ["flat", "flatten", "1", "x", "36", "float32", "0"],
        ["fc", "dense", "1", "x", "4", "float32", "148"],
    ]
    assert outcome.last.startswith("DEFINED, NOT COMPARED | ")


def test_the_ledger_can_be_printed(job):
    outcome = job("--dry-run", "--ledger")
    row = next(line for line in outcome.out.splitlines() if line.startswith("bn ") and "variance" in line)
    digest = hashlib.sha256(torch_arrays()["bn.running_var"].tobytes()).hexdigest()
    assert row.split() == ["bn", "variance", "bn.running_var", "c", "->", "c", "float32", digest[:12]]


def test_json_tells_what_was_done_and_how_long(tmp_path, job):
    job("--json", str(tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"] == "small" and report["plan"] == manifest_of(tmp_path / "out")["plan"]
    assert set(report["seconds"]) == {"config", "weights", "define", "build", "write"}
    assert all(seconds >= 0 for seconds in report["seconds"].values())
    job("--dry-run", "--json", str(tmp_path / "report.json"))
    assert set(json.loads((tmp_path / "report.json").read_text())["seconds"]) == {"config", "weights", "define"}


def test_set_overrides_a_key_deep_in_a_list(tmp_path, job):
    outcome = job("--dry-run", "--set", "layers.0.convolution.padding=same", "--set", "layers.4.dense.units=4",
                  "--set", "inputs.image.shape=[1, 2, 5, 7]")  # fmt: skip
    assert outcome.code == 0 and "1 x 3 x 3 x 4" in outcome.out


@pytest.mark.parametrize("option", ["-q", "-qq", "-qqq"])
def test_quiet_leaves_the_verdict(job, option):
    outcome = job(option)
    assert outcome.code == 0 and outcome.err == ""
    assert len(outcome.out.splitlines()) == 1 and outcome.last.startswith("BUILT, NOT COMPARED | ")


def test_verbose_adds_what_tensorrt_says(job):
    plain, said, everything = job("--dry-run"), job("-v"), job("-vv")
    assert plain.err == "" and "tensorrt: " not in plain.out
    levels = [{line.split()[0] for line in each.err.splitlines()} for each in (said, everything)]
    assert "INFO" in levels[0] and "DEBUG" not in levels[0] and "DEBUG" in levels[1]
    assert len(everything.err) > len(said.err)
    assert "cudaError" not in said.err


def test_tensorflows_checkpoint_gives_pytorchs_plan(tmp_path, job):
    """The same numbers under other names and in other axis orders are the same plan."""
    tf = pytest.importorskip("tensorflow").compat.v1
    from tests.small_models import tensorflow_arrays

    with tf.Graph().as_default(), tf.Session() as session:
        made = [tf.get_variable(name, initializer=array) for name, array in tensorflow_arrays().items()]
        session.run([each.initializer for each in made])
        tf.train.Saver().save(session, str(tmp_path / "small.ckpt"))
    job()
    digest = manifest_of(tmp_path / "out")["plan"]["sha256"]
    outcome = job("--set", f"weights.path={tmp_path}/small.ckpt")
    assert outcome.code == 0 and "V2 checkpoint" in outcome.out
    assert manifest_of(tmp_path / "out")["plan"]["sha256"] == digest
    assert sorted(manifest_of(tmp_path / "out")["checkpoint"]["sha256"]) == [
        "small.ckpt.data-00000-of-00001",
        "small.ckpt.index",
    ]


def test_a_nested_pytorch_checkpoint_gives_the_plain_ones_plan(tmp_path, job):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{name}": torch.from_numpy(array) for name, array in torch_arrays().items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "small.pth")
    job()
    digest = manifest_of(tmp_path / "out")["plan"]["sha256"]
    outcome = job("--set", f"weights.path={tmp_path}/small.pth", "--set", "weights.prefix=module.")
    assert outcome.code == 0
    assert manifest_of(tmp_path / "out")["plan"]["sha256"] == digest


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double_precision_checkpoints_give_plans(tmp_path, capsys, dtype):
    config = write_small(tmp_path, arrays={name: array.astype(dtype) for name, array in torch_arrays().items()})
    assert run.main(["--config", str(config), "--output", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert {row["dtype"] for row in rows} == {np.dtype(dtype).name}


@pytest.mark.parametrize("spelling", ["model1", "model1.yaml"])
def test_a_config_is_found_by_its_name(tmp_path, monkeypatch, spelling, capsys):
    """From any directory; here it fails at the checkpoint, which proves that the config was read."""
    monkeypatch.chdir(tmp_path)
    code = run.main(["--config", spelling, "--output", "out", "--set", f"weights.path={tmp_path}/none.ckpt"])
    captured = capsys.readouterr()
    assert code == 2 and "plain, 22 layers" in captured.out and "no such file" in captured.err


def test_the_default_output_is_named_like_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--config", str(write_small(tmp_path)), "--no-verify"]) == 0
    assert names_in(tmp_path / "out" / "small") == ["ledger.json", "small.plan", "small.plan.json"]


def test_an_input_with_preprocessing_becomes_layers(tmp_path, capsys):
    text = SMALL.replace("[1, 2, 7, 9], dtype: float32, layout: NCHW",
                         "[1, 7, 9, 2], dtype: uint8, layout: NHWC, preprocessing: {scale: 1/255}")  # fmt: skip
    code = run.main(["--config", str(write_small(tmp_path, text)), "--output", str(tmp_path / "out")])
    assert code == 0 and "8 layers; image uint8 1 x 7 x 9 x 2" in capsys.readouterr().out
    assert manifest_of(tmp_path / "out")["inputs"][0]["layout"] == "NHWC"


# The verbs


def test_inspect_lists_every_tensor(tmp_path, capsys):
    write_small(tmp_path)
    code = run.main(["inspect", str(tmp_path / "small.safetensors"), "--json", str(tmp_path / "list.json")])
    out = capsys.readouterr().out
    assert code == 0 and out.startswith("format    safetensors") and "8 tensors, 217 numbers" in out
    assert ["conv.weight", "3x2x3x3", "float32"] in [line.split() for line in out.splitlines()]
    listing = json.loads((tmp_path / "list.json").read_text())
    assert listing["tensors"]["fc.weight"] == {"shape": [4, 36], "dtype": "float32"}
    assert list(listing["tensors"]) == sorted(torch_arrays()) or list(listing["tensors"]) == list(torch_arrays())


def test_inspect_says_what_a_file_is_that_it_cannot_read(tmp_path, capsys):
    (tmp_path / "page.pth").write_text("<!doctype html><p>sign in</p>")
    assert run.main(["inspect", str(tmp_path / "page.pth")]) == 2
    captured = capsys.readouterr()
    assert "an HTML page" in captured.err and captured.out.startswith("FAILED")


def test_schema_is_a_json_schema_of_every_layer(tmp_path, capsys):
    assert run.main(["schema"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["$schema"].startswith("https://json-schema.org/")
    assert all(f'"{word}"' in text for word in LAYERS)
    assert run.main(["schema", "--output", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text() == text


def test_sample_writes_where_it_is_told(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    assert run.main(["sample", "model1", "--output", str(tmp_path / "model1"), "--seed", "3"]) == 0
    assert "model1 by tensorflow" in capsys.readouterr().out
    assert "model.pb" in names_in(tmp_path / "model1")


def test_sample_writes_a_missing_checkpoint_for_the_job(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    weights = tmp_path / "new" / "model.ckpt"
    options = ["--config", "model1", "--output", str(tmp_path / "out"), "--set", f"weights.path={weights}", "--dry-run"]
    assert run.main([*options, "--sample"]) == 0
    stamp = weights.with_suffix(".ckpt.index").stat().st_mtime_ns
    assert run.main([*options, "--sample"]) == 0
    assert weights.with_suffix(".ckpt.index").stat().st_mtime_ns == stamp


def test_a_sample_is_written_over_nothing(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    (tmp_path / "checkpoint").write_text("mine")
    assert run.main(["sample", "model1", "--output", str(tmp_path)]) == 2
    assert "has other files named checkpoint; nothing was written" in capsys.readouterr().err
    assert names_in(tmp_path) == ["checkpoint"] and (tmp_path / "checkpoint").read_text() == "mine"
    weights = tmp_path / "new" / "mynet.ckpt"
    assert run.main(["--config", "model1", "--sample", "--set", f"weights.path={weights}"]) == 2
    assert "mynet.ckpt: no such file, and sample 'model1' does not write it but" in capsys.readouterr().err
    assert names_in(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"], ["sample", "--help"], ["schema", "--help"]])
def test_help_ends_well(capsys, words):
    with pytest.raises(SystemExit) as end:
        run.main(words)
    out = capsys.readouterr().out
    assert end.value.code == 0 and out.startswith(f"usage: run.py {words[0] if len(words) > 1 else ''}".rstrip())
    assert len(words) > 1 or all(verb in out for verb in ("inspect", "sample", "schema"))

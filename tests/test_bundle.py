"""run.py bundle: the same graph and the same bytes every time, small enough, and every damage refused by name."""

from __future__ import annotations

import ast
import io
import json
import lzma
import os
import signal
import subprocess
import zipfile

import numpy as np
import pytest

from builders import expand
from commands.bundle import Reference, Stored, _facts, _files, _rounding
from commands.configs import load_graph
from commands.stages import Prepared
from deploy.bundle import MOST, stored_weights, write_bundle, write_zip
from deploy.bundle_code import BARE, DATA, ROOT, device_modules, without_comments
from deploy.bundle_manifest import MANIFEST, sealed, verified
from deploy.bundle_model import description, model_yaml
from deploy.bundle_samples import COUNTS, KIND, positions, sums_of
from engine.interpreter import Interpreter
from engine.network import define
from run import main
from spec.errors import AuditError, CheckpointError, UsageError, VerificationError
from tests.backends import rtx
from tests.bundles import SAMPLES, WEIGHTS, files_of, resealed, write_config, write_small_bundle
from tests.full_disk import size_limit
from tests.own_logging import own_logging  # noqa: F401
from tests.sample_models import overrides_of
from tests.small_models import SMALL, load_text, write_small
from verify.inputs import make_inputs
from verify.verification import Activations
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

MODELS = ("model1", "model2", "model3", "model4")
FILES = ["README.txt", "build.sh", "code.zip.xz", MANIFEST, "model.yaml", "run.py", SAMPLES, WEIGHTS]


def again(tmp_path, model, layers):
    """The graph of model.yaml, read as the device reads it."""
    from commands.device_stages import load_plain

    path = tmp_path / "model.yaml"
    path.write_text(model_yaml(model, layers, uses_ranges=False))
    return load_plain(path)[1]


@pytest.mark.parametrize("name", MODELS)
def test_model_yaml_is_the_same_graph(tmp_path, name):
    model, graph = load_graph(name, [])
    written = again(tmp_path, model, expand(model))
    assert description(written) == description(graph)
    assert len(written.layers) > 20


ODD = """\
name: odd
architecture: plain
description: 'a: b # c'
inputs:
  "1e5": {shape: [-1, 5, 6, 3], dtype: uint8, layout: NHWC, preprocessing: {scale: 1/255, mean: [.1, .2, .3]}}
batch: {min: 1, opt: 2, max: 4}
weights: {path: x, ignore: ["*"]}
precision: {default: fp16, fp32: [y*]}
layers:
  - convolution: {name: 2020-01-01, filters: 4, kernel: [3, 1], padding: [[1, 0], [2, 1]], bias: false, scope: s}
  - activation: {name: "yes", function: leaky_relu, alpha: 1.0e-20}
  - pooling: {name: "null", function: average, window: global}
  - elementwise: {name: "y: {", function: sum, input: ["null", "yes"]}
  - constant: {name: c, shape: [1, 4, 1, 1], value: [1, 2.5, 1e-7, 3]}
  - elementwise: {name: total, function: product, input: ["y: {", c]}
outputs: [total]
"""


def test_names_and_numbers_that_yaml_misreads_come_back(tmp_path):
    model, graph = load_text(tmp_path, ODD)
    assert description(again(tmp_path, model, expand(model))) == description(graph)


def test_another_graph_is_told_apart(tmp_path):
    one, other = (load_text(tmp_path, text)[1] for text in (SMALL, SMALL.replace("stride: 2", "stride: 1")))
    assert description(one) != description(other)


def test_a_bundle_holds_what_it_says(bundle):
    manifest = verified(bundle)
    assert files_of(bundle) == sorted(FILES)
    assert sorted(manifest["files"]) == sorted(set(FILES) - {MANIFEST})
    parameters = 3 * 2 * 9 + 3 + 4 * 3 + 4 * 36 + 4
    assert manifest["weights"] == {"dtype": "float32", "parameters": parameters, "rounding": None}
    assert manifest["recorded"]["layers"] == 5 and manifest["recorded"]["reference"].startswith("PyTorch ")
    assert manifest["tensorrt"]["needs"] == ["tensors by name"]
    assert manifest["made_from"]["command"] == f"run.py bundle --config {bundle.parent / 'small.yaml'} -q"


def test_weights_are_in_our_axis_orders_by_layer_and_role(bundle):
    from safetensors.numpy import load_file

    stored = load_file(bundle / WEIGHTS)
    assert {name: array.shape for name, array in stored.items()} == {
        "conv:kernel": (3, 2, 3, 3), "conv:bias": (3,), "bn:gamma": (3,), "bn:beta": (3,), "bn:mean": (3,),
        "bn:variance": (3,), "fc:kernel": (4, 36), "fc:bias": (4,),
    }  # fmt: skip


def test_two_writes_give_the_same_bytes(bundle, tmp_path):
    twin = write_small_bundle(tmp_path, "--zip")
    ours, theirs = (json.loads((folder / MANIFEST).read_bytes()) for folder in (bundle, twin))
    assert ours["files"] == theirs["files"]
    before = {name: (twin / name).read_bytes() for name in files_of(twin)}
    zipped = twin.with_name("bundle.zip").read_bytes()
    write_small_bundle(tmp_path, "--zip")
    assert {name: (twin / name).read_bytes() for name in files_of(twin)} == before
    assert twin.with_name("bundle.zip").read_bytes() == zipped
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_zip_unpacks_to_the_bundle(tmp_path):
    folder = write_small_bundle(tmp_path, "--zip")
    zipfile.ZipFile(tmp_path / "bundle.zip").extractall(tmp_path / "device")
    assert verified(tmp_path / "device" / "bundle") == verified(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_a_flipped_bit_is_refused_by_name(bundle_copy, name, where):
    path = bundle_copy / name
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path}: damaged") as failure:
        verified(bundle_copy)
    assert len(failure.value.problems) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_refused_by_name(bundle_copy, name):
    path = bundle_copy / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"^{path}: (has|damaged).* copy the bundle again$"):
        verified(bundle_copy)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"^{path}: (is missing|cannot be read)"):
        verified(bundle_copy)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "sub/file", "manifest.json.bak"])
def test_a_file_too_many_is_refused_by_name(bundle_copy, name):
    (bundle_copy / name).parent.mkdir(exist_ok=True)
    (bundle_copy / name).write_text("x")
    with pytest.raises(CheckpointError, match=f"^{bundle_copy / name.partition('/')[0]}: is no file of this bundle"):
        verified(bundle_copy)


def test_results_are_no_part_of_a_bundle(bundle_copy):
    (bundle_copy / "out").mkdir()
    (bundle_copy / "out" / "small.plan").write_bytes(b"x")
    assert verified(bundle_copy)["model"] == "small"


def test_another_kind_of_manifest_is_refused(bundle_copy):
    """Whole, but of a later program."""
    (bundle_copy / MANIFEST).write_bytes(sealed({"kind": "trt-transplant bundle 2"}, {}))
    with pytest.raises(CheckpointError, match="is 'trt-transplant bundle 2', wanted 'trt-transplant bundle 1'; use"):
        verified(bundle_copy)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 255, 256, 257, 4095, 4096, 4097, 100_003, 3_211_264])
@pytest.mark.parametrize("count", COUNTS)
def test_positions_are_different_and_spread(size, count):
    found = positions(size, count)
    assert found.tolist() == sorted(set(found.tolist()), key=found.tolist().index)
    assert len(found) == min(size, count) and 0 <= found.min() and found.max() < size
    if size > 10 * count:
        gaps = np.diff(np.sort(found))
        assert gaps.max() < 4 * size / count


def test_sums_are_over_all_elements():
    assert sums_of(np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)) == (4.0, 5.0, -0.25)
    with pytest.raises(VerificationError, match="holds 2 values that are NaN or infinite"):
        sums_of(np.array([np.nan, np.inf, 1.0]))


@pytest.mark.parametrize("name, half", [*((name, False) for name in MODELS), ("model4", True)])
def test_a_bundle_is_hardly_larger_than_its_weights(sample_directory, name, half):
    """Only sizes are judged, so the interpreter's activations stand for the source framework's."""
    files, facts = bundled(name, sample_directory(name), half)
    total = sum(map(len, files.values())) + len(sealed(facts, files))
    assert total <= MOST * len(files[WEIGHTS])
    header = json.loads(files[SAMPLES][8 : 8 + int.from_bytes(files[SAMPLES][:8], "little")])
    counts = [row["shape"][0] for key, row in header.items() if key.startswith("layer:")]
    assert KIND in header["__metadata__"] and min(max(counts), 256) == 256


def bundled(name, directory, half):
    """(files, facts) of a model's bundle."""
    import argparse

    tensorrt = rtx()
    model, graph = load_graph(name, overrides_of(name, directory))
    checkpoint = open_checkpoint(model.weights_path)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint))
    definition = define(graph, weights.arrays, tensorrt)
    inputs, title = make_inputs(graph, "random:0")
    names = [each for layer in graph.layers for each in layer.tensor_names]
    arrays = Interpreter(definition.network, tensorrt.module).run(inputs, names)
    activations = Activations(arrays, {each: f"{each}:0" for each in names}, inputs, "the interpreter", title)
    prepared = Prepared(model, graph, checkpoint, weights, definition)
    stored = Stored(stored_weights(weights.arrays, half), half, {})
    options = argparse.Namespace(set=[], command="run.py bundle")
    reference = Reference(activations, "")
    return _files(prepared, stored, reference), _facts(options, prepared, stored, reference)


def test_float16_weights_that_overflow_are_named():
    arrays = {("conv", "kernel"): np.array([1.0, 1e5], np.float32), ("fc", "bias"): np.ones(1, np.float32)}
    assert stored_weights(arrays, half=False)["conv", "kernel"].dtype == np.float32
    with pytest.raises(AuditError, match="^layer 'conv': kernel holds 1e\\+05, float16 ends at 65504; leave --half"):
        stored_weights(arrays, half=True)


def test_half_says_what_it_changes(tmp_path, capsys):
    config = write_config(tmp_path)
    assert main(["bundle", "--config", str(config), "--output", str(tmp_path / "half"), "--half"]) == 0
    manifest = verified(tmp_path / "half")
    assert manifest["weights"]["dtype"] == "float16"
    assert 1e-5 < manifest["weights"]["rounding"]["error"] < 5e-3
    assert f"float16 weights change {manifest['weights']['rounding']['layer']} by " in capsys.readouterr().out


@pytest.mark.parametrize(
    "reference, candidate, words",
    [
        ([1.0, 2.0], [1.0, np.inf], "conv: holds 1 values that are NaN or infinite with float16 weights"),
        ([0.0, 0.0], [0.0, 1e-3], "conv: is zero, and is not with float16 weights"),
    ],
)
def test_what_float16_weights_break_is_named(reference, candidate, words):
    """A relative error says nothing there, and would allow everything on the device."""
    with pytest.raises(VerificationError, match=f"^{words}; leave --half out$"):
        _rounding("conv", np.array(candidate, np.float32), np.array(reference, np.float32))


def test_an_index_that_float16_weights_change_is_named():
    with pytest.raises(VerificationError, match="^best: 1 whole number changed by float16 weights; leave --half out$"):
        _rounding("best", np.array([3, 995]), np.array([3, 999]))


def test_a_network_that_differs_is_not_bundled(tmp_path, capsys):
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("epsilon: 1.0e-3", "epsilon: 1.0e-2"))
    assert main(["bundle", "--config", str(config), "--output", str(tmp_path / "bundle")]) == 1
    assert "FIRST BAD LAYER: bn" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_an_input_beside_no_comparison_is_refused(tmp_path, capsys):
    words = ["--config", str(write_config(tmp_path)), "--output", str(tmp_path / "bundle"), "--input", "random:1"]
    assert main(["bundle", *words, "--no-verify"]) == 2 and not (tmp_path / "bundle").exists()
    assert "--input: nothing is compared with --no-verify; leave out one or the other" in capsys.readouterr().err


def test_nothing_recorded_is_said_plainly(tmp_path, capsys):
    folder = write_small_bundle(tmp_path, "--no-verify", "-v")
    assert verified(folder)["recorded"] == {"nothing": "--no-verify"}
    assert "the bundle records nothing, so the device cannot compare: --no-verify" in capsys.readouterr().out
    assert SAMPLES not in files_of(folder)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: path.write_text("x"), "is a file; name a folder"),
        (lambda path: (path / "mine").mkdir(parents=True), "holds something else than a whole bundle"),
        (lambda path: write_files(path, {MANIFEST: "{}", "mine": "x"}), "holds something else than a whole bundle"),
        (lambda path: os.chdir(write_files(path, {})), "is the folder this runs in"),
        (lambda path: path.with_name("target.zip").mkdir(), "target.zip: is a folder, where --zip is to write"),
    ],
)
def test_what_is_no_bundle_is_not_replaced(tmp_path, capsys, monkeypatch, make, words):
    config = write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "target")
    before = sorted(tmp_path.rglob("*"))
    assert main(["bundle", "--config", str(config), "--output", str(tmp_path / "target"), "--zip"]) == 2
    assert words in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def write_files(folder, texts):
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def test_a_name_too_long_is_refused_before_the_work(tmp_path, capsys):
    config = write_config(tmp_path)
    assert main(["bundle", "--config", str(config), "--output", str(tmp_path / ("x" * 250))]) == 2
    captured = capsys.readouterr()
    assert "cannot be written: File name too long" in captured.err and "compare" not in captured.out


def test_a_full_disk_leaves_the_old_bundle(tmp_path, bundle_copy):
    before = verified(bundle_copy)
    with size_limit(40_000), pytest.raises(UsageError, match=f"^{bundle_copy}: cannot be written: File too large$"):
        write_bundle(bundle_copy, {"large": bytes(50_000)}, {})
    assert verified(bundle_copy) == before and list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("renames", [1, 2])
def test_ctrl_c_while_a_bundle_is_replaced_leaves_a_whole_one(tmp_path, bundle_copy, monkeypatch, renames):
    rename, sources = os.rename, []

    def interrupted(source, target):
        sources.append(source)
        if len(sources) == renames:
            os.kill(os.getpid(), signal.SIGINT)
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle_copy, {"new": b"x"}, {"kind": "x"})
    assert files_of(bundle_copy) == [MANIFEST, "new"] and list(tmp_path.glob(".*")) == []


def test_whatever_ends_the_replacement_of_a_bundle_puts_it_back(tmp_path, bundle_copy, monkeypatch):
    before, rename = verified(bundle_copy), os.rename

    def full(source, target):
        if target == bundle_copy and not str(source).endswith(".old"):
            raise MemoryError
        rename(source, target)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(MemoryError):
        write_bundle(bundle_copy, {"new": b"x"}, {})
    assert verified(bundle_copy) == before and list(tmp_path.glob(".*")) == []


def test_a_bundle_that_is_still_zipped_is_named(tmp_path, bundle_copy, capsys):
    write_zip(tmp_path / "a b.zip", bundle_copy)
    assert main(["--config", str(tmp_path / "a b.zip")]) == 2
    command = f"python3 -m zipfile -e '{tmp_path}/a b.zip' ."
    assert f"is a zip; unpack it with `{command}` and name the bundle's folder" in capsys.readouterr().err


def test_a_config_that_is_no_name_of_a_file_is_no_bundle(capsys):
    assert main(["--config", "x" * 300]) == 2
    assert "no such file" in capsys.readouterr().err


def test_results_in_a_bundle_are_not_thrown_away(bundle_copy, tmp_path):
    from deploy.bundle import check_target

    (bundle_copy / "out").mkdir()  # a build that failed leaves that
    check_target(bundle_copy)
    (bundle_copy / "out" / "small.plan").touch()
    with pytest.raises(UsageError, match="out: was built from the bundle there; move it away"):
        check_target(bundle_copy)


def archive(bundle):
    """The sources of a bundle by name."""
    content = zipfile.ZipFile(io.BytesIO(lzma.decompress((bundle / "code.zip.xz").read_bytes())))
    return {name: content.read(name) for name in content.namelist()}


def test_the_code_is_all_that_the_device_needs_and_no_more(bundle):
    modules = device_modules()
    foreign = ("verify", "samples", "weights.tf", "weights.keras", "weights.torch", "builders.res", "commands.bundle")
    assert [name for name in modules if name.startswith(foreign)] == []
    assert {"engine.runner", "engine.interpreter.evaluators", "engine.devices.pycuda_device"} < set(modules)
    assert len(archive(bundle)) == len(modules) + len(DATA)
    assert set(BARE) < set(modules)


def test_the_code_on_the_device_is_python_3_8s_and_imports_no_framework(bundle):
    banned = {"tensorflow", "keras", "torch", "h5py", "google", "safetensors", "tf_keras"}
    imported = set()
    for name, source in archive(bundle).items():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(source, name, feature_version=(3, 8))):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                imported.update(each.partition(".")[0] for each in names)
    assert "numpy" in imported and imported & banned == set()


def test_lines_keep_their_numbers_without_comments():
    for name in device_modules():
        path = ROOT.joinpath(*name.split("."))
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        bare = without_comments(source)
        defined = [
            [(node.name, node.lineno) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
            for text in (source, bare)
        ]
        assert defined[0] == defined[1] and len(bare) <= len(source), name


def test_the_shell_script_is_clean(bundle):
    assert subprocess.run(["sh", "-n", bundle / "build.sh"]).returncode == 0
    assert len((bundle / "README.txt").read_text().splitlines()) == 10


def test_resealing_is_what_makes_a_changed_bundle_whole(bundle_copy):
    resealed(bundle_copy, "README.txt", lambda content: content + b"more")
    assert verified(bundle_copy)["files"]["README.txt"]["bytes"] == (bundle_copy / "README.txt").stat().st_size


def test_trtexecs_word_for_int8_is_known(tmp_path, capsys):
    output = tmp_path / "new" / "bundle"
    words = ["bundle", "--config", str(write_small(tmp_path)), "--output", str(output), "--no-verify"]
    assert main([*words, "--int8"]) == 2
    assert "int8 needs the ranges of" in capsys.readouterr().err and not output.parent.exists()
    assert main([*words, "--fp16"]) == 0 and (output / "build.sh").is_file()

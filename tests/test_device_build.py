"""A bundle built as a device builds it: without frameworks, proven layer by layer, refused where it cannot be."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from commands import console, heartbeat
from commands.device_stages import cure_of, run_in_parts
from deploy.bundle_samples import Recording, positions, record_layer, thinned
from deploy.device_checks import check_disk, check_needs, needs_of
from deploy.device_memory import Memory, check_memory, memory_words, read_memory
from deploy.device_proof import check, layer_rows, output_rows
from engine.interpreter import Interpreter
from engine.network import define
from engine.plan_check import read_manifest
from run import main
from spec.errors import PlanError, TensorRTError, UsageError, VerificationError
from tests.backends import rtx
from tests.bundles import SAMPLES, WEIGHTS, resealed, with_tensor, write_small_bundle
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import load_text, random_arrays

FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "torch", "h5py", "google.protobuf", "safetensors", "rich")
MB = 1 << 20


def test_a_clone_builds_and_proves_a_bundle(bundle, tmp_path, capsys):
    words = ["--config", str(bundle), "--output", str(tmp_path), "--json", str(tmp_path / "summary.json")]
    assert main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    stages = ["bundle", "machine", "network", "memory", "disk", "layers", "outputs", "build", "write"]
    assert [line.split()[0] for line in shown] == [*stages, "PASSED"]
    manifest = read_manifest(tmp_path / "small.plan")
    assert manifest["verification"]["layers"] == 5 and manifest["verification"]["worst_error"] <= 1e-5
    assert manifest["verification"]["outputs"]["worst_output"] == "fc"
    assert manifest["bundle"]["sha256"] == json.loads((bundle / "manifest.json").read_bytes())["seal"]
    assert json.loads((tmp_path / "summary.json").read_bytes()) == manifest


def test_the_plan_is_the_workstations(bundle, tmp_path):
    """The same network with the same weights: bit by bit the same plan."""
    for config, where in ((bundle, "device"), (bundle.parent / "small.yaml", "workstation")):
        words = ["-q", "--workspace", "512", "--config", str(config), "--output", str(tmp_path / where)]
        assert main(words) == 0
    plans = [(tmp_path / where / "small.plan").read_bytes() for where in ("device", "workstation")]
    assert plans[0] == plans[1]


BLOCKED = f"""
import runpy, sys
for name in {FRAMEWORKS}: sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_bundles_own_launcher_needs_no_framework(bundle_copy, tmp_path):
    command = [sys.executable, "-c", BLOCKED, str(bundle_copy / "run.py"), "--fp16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASSED | Runtime: ") and done.stderr == ""
    assert read_manifest(bundle_copy / "out" / "small.plan")["precision"] == "fp16"
    assert sorted(path.name for path in bundle_copy.iterdir() if path.is_dir()) == ["out"]


INTERPRETERS = [path for path in os.environ.get("TRT_TRANSPLANT_PYTHONS", "").split(os.pathsep) if path]


@pytest.mark.skipif(not INTERPRETERS, reason="TRT_TRANSPLANT_PYTHONS names no other interpreters")
@pytest.mark.parametrize("python", INTERPRETERS or ["none"])
def test_other_pythons_build_it_too(bundle_copy, python):
    """Where one has no TensorRT, all up to its import."""
    has = subprocess.run([python, "-c", "import tensorrt_rtx"], capture_output=True).returncode == 0
    done = subprocess.run([python, bundle_copy / "run.py"], capture_output=True, text=True)
    assert done.stdout.startswith("bundle ")
    if has:
        assert done.returncode == 0 and read_manifest(bundle_copy / "out" / "small.plan")
    else:
        assert done.returncode == 2 and "cannot be imported" in done.stderr and "Traceback" not in done.stderr


def scaled(factor):
    return lambda array: (array * factor).astype(array.dtype)


@pytest.mark.parametrize(
    "file, tensor, change, layer",
    [
        (WEIGHTS, "conv:kernel", lambda array: np.swapaxes(array, 2, 3), "conv"),
        (WEIGHTS, "conv:bias", scaled(1.001), "conv"),
        (WEIGHTS, "bn:variance", scaled(1.01), "bn"),
        (WEIGHTS, "fc:kernel", lambda array: array[:, ::-1], "fc"),
        (SAMPLES, "input:image", scaled(1.001), "conv"),
        (SAMPLES, "layer:relu", scaled(0.999), "relu"),
        (SAMPLES, "output:fc", scaled(1.0001), "fc"),
    ],
)
def test_another_number_anywhere_is_found_and_gets_no_plan(bundle_copy, capsys, file, tensor, change, layer):
    resealed(bundle_copy, file, with_tensor(tensor, change))
    assert main(["--config", str(bundle_copy)]) == 1
    what = "OUTPUT" if tensor.startswith("output") else "LAYER"
    captured = capsys.readouterr()
    assert f"FIRST BAD {what}: {layer}: element " in captured.err and "allowed 1e-05" in captured.err
    assert captured.out.splitlines()[-1].startswith("FAILED") and not (bundle_copy / "out").exists()


def test_a_damaged_bundle_is_refused_before_anything_is_built(bundle_copy, capsys):
    content = bytearray((bundle_copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (bundle_copy / WEIGHTS).write_bytes(content)
    assert main(["--config", str(bundle_copy)]) == 2
    assert f"{bundle_copy / WEIGHTS}: damaged" in capsys.readouterr().err
    assert not (bundle_copy / "out").exists()


def test_weights_of_another_network_are_refused(bundle_copy, capsys):
    resealed(bundle_copy, "model.yaml", lambda text: text.replace(b"units: 4", b"units: 5"))
    assert main(["--config", str(bundle_copy)]) == 2
    assert "'fc:bias' has shape [4], wanted [5]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--set", "name=x"], ["--dry-run"], ["--input", "random:1"], ["--ledger"]])
def test_what_is_for_configs_is_refused_for_bundles(bundle, capsys, words):
    assert main(["--config", str(bundle), *words]) == 2
    assert f"is built as it was made; leave out {words[0]}" in capsys.readouterr().err


def test_a_tolerance_beside_no_comparison_is_refused(bundle, capsys):
    assert main(["--config", str(bundle), "--no-verify", "--rtol", "1e-4"]) == 2
    assert "--rtol: nothing is compared with --no-verify; leave out one or the other" in capsys.readouterr().err


def test_int8_without_ranges_names_the_bundle(bundle, tmp_path, capsys):
    assert main(["--config", str(bundle), "--int8", "--output", str(tmp_path)]) == 2
    wanted = f"error: {bundle}: has no activation ranges, which int8 needs; make it by `bundle --precision int8`\n"
    assert capsys.readouterr().err == wanted


def test_a_plan_among_the_bundles_files_is_refused(bundle_copy, tmp_path, capsys):
    """The next build would find a file too many."""
    for place in (bundle_copy, bundle_copy / "plans"):
        assert main(["--config", str(bundle_copy), "--output", str(place)]) == 2
        assert f"--output {place}: is in the bundle, whose files stay as they are; name" in capsys.readouterr().err
    assert not (bundle_copy / "plans").exists()
    assert main(["--config", str(bundle_copy), "--output", str(bundle_copy / "out" / "a"), "-q"]) == 0


def test_a_summary_that_cannot_be_written_is_refused_before_the_build(bundle, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--config", str(bundle), "--output", str(tmp_path), "--json", str(tmp_path / "file/x.json")]) == 2
    captured = capsys.readouterr()
    assert f"{tmp_path / 'file'}: cannot be written: " in captured.err and "machine" not in captured.out


def test_a_bundle_without_a_recording_is_built_and_says_so(tmp_path, capsys):
    folder = write_small_bundle(tmp_path, "--no-verify")
    assert main(["--config", str(folder)]) == 0
    assert "not compared with the source framework: this bundle records nothing" in capsys.readouterr().out
    assert "not_verified" in read_manifest(folder / "out" / "small.plan")["verification"]


def test_float16_weights_pass_within_what_they_were_measured_to_change(tmp_path):
    folder = write_small_bundle(tmp_path, "--half")
    assert main(["--config", str(folder), "-q"]) == 0
    resealed(folder, WEIGHTS, with_tensor("fc:kernel", scaled(1.02)))
    assert main(["--config", str(folder), "-q"]) == 1


def test_a_dynamic_batch_is_recorded_and_proven(tmp_path):
    folder = write_small_bundle(tmp_path, batch=3)
    assert main(["--config", str(folder), "-q"]) == 0
    manifest = read_manifest(folder / "out" / "small.plan")
    assert manifest["batch"] == {"min": 1, "opt": 2, "max": 4} and manifest["verification"]["layers"] == 5


def test_int8_takes_the_ranges_along(tmp_path):
    folder = write_small_bundle(tmp_path)
    ranges = tmp_path / "small.ranges.json"
    assert main(["calibrate", "--config", str(tmp_path / "small.yaml"), "--output", str(ranges), "-q"]) == 0
    words = ["--set", f"ranges={ranges}", "--precision", "int8"]
    assert main(["bundle", "--config", str(tmp_path / "small.yaml"), "--output", str(folder), "-q", *words]) == 0
    assert json.loads((folder / "manifest.json").read_bytes())["tensorrt"]["needs"][-1] == "quantize layers"
    assert main(["--config", str(folder), "-q"]) == 0
    assert read_manifest(folder / "out" / "small.plan")["precision"] == "int8"


MEMINFO = "MemTotal:        8000000 kB\nMemFree:  100 kB\nMemAvailable:    5000000 kB\n"
GPU = SimpleNamespace(total_bytes=16000 * MB, free_bytes=15000 * MB)


@pytest.mark.parametrize(
    "gpu, board, wanted",
    [
        (None, None, Memory(8000000 << 10, 5000000 << 10)),
        (GPU, None, Memory(8000000 << 10, 5000000 << 10, False, 16000 * MB, 15000 * MB)),
        (GPU, b"nvidia,p3768\0nvidia,tegra234\0", Memory(8000000 << 10, 5000000 << 10, shared=True)),
    ],
)
def test_memory_is_read_and_a_tegra_shares_it(tmp_path, gpu, board, wanted):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if board:
        (tmp_path / "compatible").write_bytes(board)
    assert read_memory(gpu, tmp_path / "meminfo", tmp_path / "compatible", tmp_path) == wanted


@pytest.mark.parametrize(
    "files, total, free",
    [
        ({"memory.max": "max", "memory.current": "5", "memory.stat": ""}, 8192, 5222),
        ({"memory.max": str(2048 * MB), "memory.current": str(600 * MB),
          "memory.stat": f"anon 1\ninactive_file {100 * MB}"}, 2048, 1548),
        ({"memory/memory.limit_in_bytes": str(1024 * MB), "memory/memory.usage_in_bytes": str(1100 * MB),
          "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {50 * MB}"}, 1024, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1",
          "memory/memory.stat": ""}, 8192, 5222),
    ],
)  # fmt: skip
def test_a_containers_limit_counts(tmp_path, files, total, free):
    (tmp_path / "meminfo").write_text(f"MemTotal: {8192 * 1024} kB\nMemAvailable: {5222 * 1024} kB\n")
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = read_memory(None, tmp_path / "meminfo", tmp_path / "none", tmp_path)
    assert found == Memory(total * MB, free * MB)


def test_a_system_that_does_not_tell_its_memory_stops_nothing(tmp_path):
    assert read_memory(None, tmp_path / "none") is None
    assert memory_words(None, 1, 1) == "not known on this system"
    check_memory(None, 10**15, 10**15)


def test_the_memory_line_says_what_there_is_and_what_it_takes():
    words = memory_words(Memory(8192 * MB, 5222 * MB, shared=True), 98 * MB, 512 * MB)
    assert words == "8.0 GB, 5.1 GB free; weights 98 MB; workspace 512 MB; the build needs about 1.1 GB"


@pytest.mark.parametrize(
    "memory, problems",
    [
        (Memory(8192 * MB, 1200 * MB, shared=True), []),
        (Memory(8192 * MB, 1100 * MB, shared=True), ["memory: 1.1 GB free, the build needs about 1.1 GB"]),
        (Memory(8192 * MB, 700 * MB), []),
        (Memory(8192 * MB, 600 * MB), ["memory: 600 MB free, the build needs about 648 MB"]),
        (Memory(8192 * MB, 800 * MB, False, 8192 * MB, 100 * MB), ["GPU memory: 100 MB free, the build needs about"]),
    ],
)
def test_too_little_memory_is_refused(memory, problems):
    if not problems:
        check_memory(memory, 98 * MB, 512 * MB)
        return
    with pytest.raises(UsageError) as failure:
        check_memory(memory, 98 * MB, 512 * MB)
    assert len(failure.value.problems) == len(problems)
    for found, wanted in zip(failure.value.problems, problems):
        assert found.startswith(wanted) and found.endswith("or try it with --force-memory")


def test_a_build_that_memory_would_not_fit_is_forced(bundle_copy, capsys):
    facts = json.loads((bundle_copy / "manifest.json").read_bytes())
    huge = json.dumps(facts["weights"]["parameters"])
    text = (bundle_copy / "manifest.json").read_bytes().replace(huge.encode(), b"1000000000000", 1)
    (bundle_copy / "manifest.json").write_bytes(text)
    resealed(bundle_copy, "README.txt", lambda content: content)
    assert main(["--config", str(bundle_copy)]) == 2
    assert "memory: " in capsys.readouterr().err
    assert main(["--config", str(bundle_copy), "--force-memory"]) == 2  # the disk is asked all the same
    assert "choose another --output" in capsys.readouterr().err


def test_too_little_disk_is_refused(tmp_path):
    assert check_disk(tmp_path, 100 * MB, free=300 * MB) == f"300 MB free in {tmp_path}"
    with pytest.raises(UsageError, match="100 MB free, the plan may need 200 MB - choose another --output"):
        check_disk(tmp_path, 100 * MB, free=100 * MB)


def test_a_tensorrt_that_lacks_something_is_refused():
    module = SimpleNamespace(ICudaEngine=SimpleNamespace(num_io_tensors=1))
    check_needs(["tensors by name"], module, "TensorRT 8.4")
    with pytest.raises(TensorRTError) as failure:
        check_needs(["uint8 inputs", "quantize layers", "magic"], module, "TensorRT 8.4")
    assert failure.value.problems == (
        "the bundle needs magic, which this program does not know: use the bundle's own run.py",
        "the bundle needs uint8 inputs: TensorRT 8.4 has none; that takes TensorRT 8.5 and newer or TensorRT-RTX",
        "the bundle needs quantize layers: TensorRT 8.4 has none; that takes TensorRT 8.0 and newer or TensorRT-RTX",
    )


def test_the_tensorrt_here_has_all_that_any_bundle_needs(tmp_path):
    graph = load_text(tmp_path)[1]
    check_needs([*needs_of(graph, ("int8",)), "uint8 inputs"], rtx().module, "here")


def test_layers_in_parts_are_the_layers_at_once(tmp_path):
    graph = load_text(tmp_path)[1]
    tensorrt = rtx()
    definition = define(graph, random_arrays(graph), tensorrt)
    image = {"image": np.random.default_rng(0).standard_normal((1, 2, 7, 9), dtype=np.float32)}
    interpreter = Interpreter(definition.network, tensorrt.module)
    wanted = interpreter.run(image, [layer.name for layer in graph.layers])
    for size in (1, 2, 99):
        found = dict(run_in_parts(interpreter, graph, image, size))
        assert list(found) == list(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def recording_of(array, count=64):
    whole = Recording("PyTorch", "an image", (record_layer("x", "x", array, 0.0),), {}, {"x": array})
    return thinned(whole, count)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda a: a + 2e-5 * np.abs(a).max(), "element "),
        (lambda a: a[:, :, :, ::-1], "element "),
        (lambda a: a[:, :-1], "is 1 x 63 x 9 x 11, recorded was 1 x 64 x 9 x 11"),
        (lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, np.nan, a), "holds 1 values that are NaN"),
    ],
)
def test_a_difference_is_found_in_samples(change, words):
    array = np.random.default_rng(0).standard_normal((1, 64, 9, 11)).astype(np.float32)
    check(layer_rows(recording_of(array), [("x", array)], 1e-5), "layer")
    with pytest.raises(VerificationError) as failure:
        check(layer_rows(recording_of(array), [("x", change(array))], 1e-5), "layer")
    assert words in str(failure.value)


@pytest.mark.parametrize("factor, name", [(100.0, "max|c|"), (0.0, "||c||")])
def test_elements_that_were_not_recorded_are_in_the_sums(factor, name):
    array = np.random.default_rng(0).standard_normal((1, 64, 9, 11)).astype(np.float32)
    other = array.reshape(-1).copy()
    free = np.setdiff1d(np.arange(array.size), positions(array.size, 64))
    other[free[:50]] *= factor
    with pytest.raises(VerificationError, match="of all elements: off by") as failure:
        check(layer_rows(recording_of(array), [("x", other.reshape(array.shape))], 1e-5), "layer")
    assert name in str(failure.value)


def test_a_layer_that_was_not_computed_fails_and_nothing_compared_too():
    array = np.ones((1, 4), np.float32)
    with pytest.raises(VerificationError, match="FIRST BAD LAYER: x: was not computed"):
        check(layer_rows(recording_of(array), [("y", array)], 1e-5), "layer")
    with pytest.raises(VerificationError, match="nothing was compared"):
        check([], "layer")


@pytest.mark.parametrize(
    "words, passes, fails", [(["fp32"], 9e-6, 1.1e-5), (["fp32", "fp16"], 4e-3, 6e-3), (["int8"], 0.09, 0.11)]
)
def test_outputs_have_the_tolerance_of_their_precision(words, passes, fails):
    array = np.array([[1.0, -2.0, 0.5]], np.float64)
    for error, good in ((passes, True), (fails, False)):
        rows = output_rows(recording_of(array), {"x": array + [[0.0, 2.0 * error, 0.0]]}, words)
        assert bool(rows[0].problem) != good


@pytest.mark.parametrize("words", [["fp32"], ["fp16"], ["int8"]])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_whole_numbers_are_equal_or_wrong_in_every_precision(words, dtype):
    array = np.array([[0, 1, 249, 0]]).astype(dtype)
    other = array.copy()
    other[0, 2] = dtype(248 * (dtype is not np.bool_))
    recording = recording_of(array)
    generous = recording._replace(layers=tuple(layer._replace(rounding=1.0) for layer in recording.layers))
    for found, good in ((array, True), (other, False)):
        rows = [*output_rows(generous, {"x": found}, words), *layer_rows(generous, [("x", found)], 1e-5)]
        assert len(rows) == 2 and [not row.problem for row in rows] == [good, good]
    assert "element 2 is " in rows[0].problem and "1 of 4 compared whole numbers differ" in rows[0].problem
    assert "make the scores an output too" in rows[0].problem


def test_whole_numbers_that_were_not_recorded_are_in_the_sums():
    array = np.arange(9999, dtype=np.int32).reshape(1, -1) * 33
    free = np.setdiff1d(np.arange(array.size), positions(array.size, 4096))
    other = array.copy()
    other[0, free[-1]] += 1
    assert not layer_rows(recording_of(array), [("x", array)], 1e-5)[0].problem
    assert "of all elements: off by" in layer_rows(recording_of(array), [("x", other)], 1e-5)[0].problem


def test_the_heart_beats_where_tensorrt_is_silent(capsys):
    speaker = console.Console()
    for has in (True, False):
        tensorrt = SimpleNamespace(has=lambda word, has=has: has, title="TensorRT 8.5.3.1")
        with heartbeat.heartbeat(speaker, tensorrt, seconds=0.02):
            time.sleep(0.15)
        lines = capsys.readouterr().out.splitlines()
        assert bool(lines) != has
    assert lines[0] == "build     TensorRT 8.5.3.1 tells no progress; 0 s so far"


def whole_or_old(path, old):
    """Whether a plan is the old one, or a new one that is whole, with or without its manifest in place yet."""
    if path.read_bytes() == old:
        return "old"
    try:
        return "new" if read_manifest(path) else ""
    except PlanError:
        return "new, before its manifest"


@pytest.mark.parametrize(
    "line, seconds", [("network", 0.0), ("outputs", 0.0), ("outputs", 0.02), ("build", 0.0), ("build", 0.001)]
)
def test_a_kill_at_any_moment_leaves_the_old_plan_or_the_new(bundle, tmp_path, line, seconds):
    assert main(["--config", str(bundle), "--output", str(tmp_path / "fp32"), "-q"]) == 0
    new = (tmp_path / "fp32" / "small.plan").read_bytes()
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "small.plan"
    path.write_bytes(b"old")
    command = [sys.executable, bundle / "run.py", "--output", str(tmp_path / "out")]
    place = {**os.environ, "TMPDIR": str(tmp_path)}  # where a killed run leaves its unpacked code
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=place)
    assert any(text.startswith(line) for text in process.stdout)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.read_bytes() in (b"old", new)


WRITING = """
import pathlib, sys
from engine.manifest import write_plan
facts = {"tensorrt": {"name": "tensorrt", "version": "8.5.3.1"}}
print("on", flush=True)
for number in range(100000):
    write_plan(pathlib.Path(sys.argv[1]), bytes([number % 251]) * 3_000_000, facts)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_while_writing_leaves_a_whole_plan(tmp_path, seed):
    root, path = Path(__file__).resolve().parents[1], tmp_path / "small.plan"
    path.write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(path)], cwd=root, stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(0.05 + 0.2 * random.Random(seed).random())
    process.kill()
    process.communicate()
    content = path.read_bytes()
    assert content == b"old" or len(content) == 3_000_000 and len(set(content)) == 1
    assert whole_or_old(path, b"old") in ("old", "new", "new, before its manifest")


def test_options_of_the_launcher_are_a_parsers(bundle, capsys):
    from commands.device_build import main as launched

    with pytest.raises(SystemExit) as end:
        launched(bundle, ["--help"])
    assert end.value.code == 0 and "--force-memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, title, said",
    [
        (("fp32",), "random numbers of seed 0", ""),
        (("fp16",), "structured images of seed 0", ""),
        (("fp32", "fp16"), "random numbers of seed 0", "make the bundle with `run.py bundle --precision fp16`"),
    ],
)
def test_coarse_numbers_on_a_recording_made_for_fp32_say_how_to_record(words, title, said):
    model = SimpleNamespace(precision=SimpleNamespace(words=words))
    found = cure_of(SimpleNamespace(model=model, recording=SimpleNamespace(input_title=title)))
    assert said in found and bool(said) == bool(found)

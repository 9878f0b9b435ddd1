"""run.py on bad input: an exit code, one clear message for each problem, no traceback, and no half plan."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

import run
from commands import VERBS
from tests.full_disk import size_limit, small_disk, unprivileged
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, torch_arrays, write_small

Prepare = Callable[[Path], List[str]]


class Failed:
    """A failed command's messages; the checks that hold for every one are made here."""

    def __init__(self, words: List[str], capsys: Any, code: int = 2) -> None:
        found = run.main(words)
        captured = capsys.readouterr()
        self.messages = captured.err.splitlines()
        assert found == code
        assert self.messages and all(line.startswith("error: ") for line in self.messages)
        assert "Traceback" not in captured.err + captured.out
        assert captured.out.splitlines()[-1].startswith("FAILED | Runtime: ")

    def lacks(self, *words: str) -> List[str]:
        """Those of these words that are not in the one message."""
        [message] = self.messages
        return [each for each in words if each not in message]


@pytest.fixture
def failed(tmp_path, capsys):
    """`failed("--dry-run")`: the small model, prepared by the test, run with these options."""

    def go(*options: str, code: int = 2, output: Any = None) -> Failed:
        words = ["--config", str(tmp_path / "small.yaml"), "--output", str(output or tmp_path / "out"), *options]
        return Failed(words, capsys, code)

    return go


# The command line


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "required: --config"),
        (["--config"], "expected one argument"),
        (["--config", "x", "--backend", "cuda"], "invalid choice: 'cuda'"),
        (["--config", "x", "--bakend", "auto"], "unrecognized arguments: --bakend auto; did you mean '--backend'?"),
        (["--config", "x", "--dryrun=1"], "unrecognized arguments: --dryrun=1; did you mean '--dry-run'?"),
        (["zip", "--config", "x"], "no verb 'zip'; verbs are diff, record"),
        (["bundel", "--config", "x"], "no verb 'bundel'; did you mean 'bundle'?"),
        (["mine.yaml"], "a config is given with --config mine.yaml"),
        (["--config", "x", "--workspace", "lots"], "--workspace"),
        (["--config", "x", "--workspace", "-1"], "--workspace"),
        (["--config", "x", "--workspace", "nan"], "--workspace"),
        (["--config", "x", "--workspace", "1e30"], "--workspace"),
        (["inspect"], "required: checkpoint"),
        (["sample"], "required: name"),
        (["sample", "model1", "--seed", "one"], "--seed: invalid int value"),
    ],
)
def test_a_wrong_command_line_is_answered_in_two_lines(capsys, words, message):
    with pytest.raises(SystemExit) as end:
        run.main(words)
    err = capsys.readouterr().err
    said, where = err.splitlines()
    assert end.value.code == 2 and said.startswith("error: ") and message in said
    assert where == f"       run.py {words[0] + ' ' if words and words[0] in VERBS else ''}--help lists every option"


@pytest.mark.parametrize(
    "config, words",
    [
        ("model33.yaml", "did you mean 'model3.yaml'?"),
        ("nothing", "in configs/: model1.yaml, model2.yaml, model3.yaml, model4.yaml"),
        ("", "--config : no such file"),
        ("n" * 5000, "no such file"),
        (".", "is a folder"),
    ],
)
def test_a_config_that_is_not_there(capsys, config, words):
    assert Failed(["--config", config], capsys).lacks(words) == []


def test_an_unknown_sample_is_named_with_the_nearest(capsys):
    assert Failed(["sample", "modle1"], capsys).lacks("no sample 'modle1'", "did you mean 'model1'?") == []


def test_a_model_without_a_sample_cannot_write_one(tmp_path, failed):
    write_small(tmp_path)
    assert failed("--sample").lacks("small.yaml: names no sample that could write", "small.safetensors") == []


@pytest.mark.parametrize(
    "without, option, value",
    [
        ("--no-verify", "--report", "r"),
        ("--no-verify", "--rtol", "1e-3"),
        ("--no-verify", "--atol", "1e-3"),
        ("--no-verify", "--input", "random:1"),
        ("--dry-run", "--report", "r"),
    ],
)
def test_options_of_a_comparison_that_does_not_take_place(tmp_path, failed, without, option, value):
    write_small(tmp_path)
    said = f"error: {option}: nothing is compared with {without}; leave out one or the other"
    assert failed(without, option, value).messages == [said] and not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed here")
def test_a_backend_that_is_not_installed(tmp_path, failed):
    write_small(tmp_path)
    words = "tensorrt cannot be imported; pip install tensorrt (needs a GPU to build)"
    assert failed("--backend", "tensorrt").lacks(words) == []


@pytest.mark.parametrize(
    "target, words", [("sm88", "knows no 'sm88'"), ("SM89,sm100", "knows no 'sm100'"), ("sm89,sm89", "stands twice")]
)
def test_an_unknown_target(tmp_path, failed, target, words):
    write_small(tmp_path)
    assert failed("--target", target).lacks("--target: ", words) == []
    assert not (tmp_path / "out" / "small.plan").exists()


# The config

CONFIGS: Dict[str, Any] = {
    # what is wrong: a text of SMALL, what stands there instead, and the message
    "unknown key": ("stride: 2", "strides: 2", ":7: layer 'conv': unknown key 'strides'; did you mean 'stride'?"),
    "missing key": (", epsilon: 1.0e-3", "", ":8: layer 'bn': needs key 'epsilon'"),
    "wrong type": ("units: 4", "units: four", ":11: layer 'fc': units: found 'four', wanted a whole number"),
    "unknown layer": ("- dense", "- dens", ":11: no layer type 'dens'; did you mean 'dense'?"),
    "unknown input": ("order: NCHW", "input: rleu, order: NCHW", "no tensor 'rleu' to read; did you mean 'relu'?"),
    "unknown output": ("outputs: [fc]", "outputs: [flta]", ":12: outputs: no layer 'flta'; did you mean 'flat'?"),
    "name taken": ("name: bn", "name: conv", ":8: layer 'conv': 'conv' is taken at"),
    "no flatten": ("  - flatten: {name: flat, order: NCHW}\n", "", "layer 'fc': takes n i, its input is 1 x 3 x 3 x 4"),
    "window too large": ("kernel: 3", "kernel: 9", "'conv': a window of 9 does not fit into 0 + 7 + 0 = 7 pixels"),
    "no YAML": ("outputs: [fc]", "outputs: [fc", ":13: not valid YAML"),
    "a tab": ("  - dense", "\t- dense", ":11: not valid YAML"),
    "no batch bounds": ("[1, 2, 7, 9]", "[-1, 2, 7, 9]", ":4: input 'image': its batch is -1; say batch"),
}


@pytest.mark.parametrize("fault", CONFIGS)
def test_a_wrong_config(tmp_path, failed, fault):
    old, new, message = CONFIGS[fault]
    write_small(tmp_path, SMALL.replace(old, new))
    assert old in SMALL
    assert failed().lacks(f"{tmp_path}/small.yaml:", message) == []
    assert not (tmp_path / "out").exists()


def test_all_faults_of_a_config_come_at_once(tmp_path, failed):
    text = SMALL.replace("stride: 2", "strides: 2").replace("units: 4", "units: 0").replace("name: small", "nam: small")
    write_small(tmp_path, text)
    assert len(failed().messages) == 4


@pytest.mark.parametrize(
    "override, words",
    [
        ("layers", "wanted key=value"),
        ("weights.pth=x", "--set weights.pth: weights: unknown key 'pth'; did you mean 'path'?"),
        ("layers.0.convolution.filters=x", "--set layers.0.convolution.filters: layer 'conv': filters: found 'x'"),
        ("name.of=x", "--set name.of: "),
        ("batch={min: 3, opt: 2, max: 1}", "needs min <= opt <= max, has 3, 2, 1"),
    ],
)
def test_a_wrong_override(tmp_path, failed, override, words):
    write_small(tmp_path)
    assert failed("--set", override).lacks(words) == []


def test_a_checkpoint_is_no_config(tmp_path, capsys):
    """PyTorch's is a zip, as a bundle is before it is unpacked."""
    saved(tmp_path, tensors())
    path = tmp_path / "small.pth"
    words = f"is a zip without a bundle; wanted a YAML file; it names a checkpoint: weights: {{path: {path}}}"
    assert Failed(["--config", str(path)], capsys).lacks(words) == []


def test_an_average_that_the_checkpoint_has_not(tmp_path, failed):
    write_small(tmp_path)
    words = "has an average NAME/EMA, nor any other; remove `average: EMA`"
    assert failed("--set", "weights.average=EMA").lacks(words) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe\x00", os.urandom(300), b"a: " + b"x" * 2_000_000])
def test_a_file_that_is_no_config(tmp_path, failed, content):
    (tmp_path / "small.yaml").write_bytes(content)
    assert failed().lacks("small.yaml") == []


# The checkpoint


def saved(directory: Path, content: Any, legacy: bool = False) -> None:
    """small.pth, by PyTorch."""
    torch = pytest.importorskip("torch")
    torch.save(content, directory / "small.pth", _use_new_zipfile_serialization=not legacy)


def tensors() -> Dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {name: torch.from_numpy(array) for name, array in torch_arrays().items()}


def pth(directory: Path, *options: str) -> List[str]:
    """The config names small.pth."""
    write_small(directory, SMALL.replace("small.safetensors", "small.pth"))
    return [*options]


def missing(directory: Path) -> List[str]:
    write_small(directory, SMALL.replace("small.safetensors", "smal.safetensors"))
    return []


def empty(directory: Path) -> List[str]:
    write_small(directory)
    (directory / "small.safetensors").write_bytes(b"")
    return []


def cut_safetensors(directory: Path) -> List[str]:
    write_small(directory)
    path = directory / "small.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return []


def cut_zip(directory: Path) -> List[str]:
    saved(directory, tensors())
    content = (directory / "small.pth").read_bytes()
    (directory / "small.pth").write_bytes(content[: len(content) // 2])
    return pth(directory)


def cut_legacy(directory: Path) -> List[str]:
    saved(directory, tensors(), legacy=True)
    content = (directory / "small.pth").read_bytes()
    (directory / "small.pth").write_bytes(content[:-50])
    return pth(directory)


def html_page(directory: Path) -> List[str]:
    (directory / "small.pth").write_text("<!DOCTYPE html><html>sign in</html>")
    return pth(directory)


def picture(directory: Path) -> List[str]:
    (directory / "small.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return pth(directory)


def noise(directory: Path) -> List[str]:
    (directory / "small.pth").write_bytes(b"\x07" + os.urandom(1000))
    return pth(directory)


def a_directory(directory: Path) -> List[str]:
    (directory / "small.pth").mkdir()
    return pth(directory)


def pickled_module(directory: Path) -> List[str]:
    torch = pytest.importorskip("torch")
    saved(directory, torch.nn.Sequential(torch.nn.Linear(2, 3)))
    return pth(directory)


def several_models(directory: Path) -> List[str]:
    saved(directory, {"generator": tensors(), "critic": tensors()})
    return pth(directory)


def wrong_key(directory: Path) -> List[str]:
    saved(directory, {"generator": tensors(), "critic": tensors()})
    return pth(directory, "--set", "weights.key=generatr")


def a_key_too_many(directory: Path) -> List[str]:
    write_small(directory)
    return ["--set", "weights.key=state_dict"]


CHECKPOINTS: Dict[str, Any] = {
    # how the checkpoint is spoilt: words of the message
    "missing": (missing, ["smal.safetensors: no such file", "did you mean 'small.safetensors'?"]),
    "empty": (empty, ["an empty file"]),
    "cut safetensors": (cut_safetensors, ["small.safetensors"]),
    "cut zip": (cut_zip, ["small.pth"]),
    "cut legacy": (cut_legacy, ["small.pth"]),
    "HTML page": (html_page, ["an HTML page", "download the file itself"]),
    "picture": (picture, ["an image", "Supported: "]),
    "noise": (noise, ["unknown: it starts with 07"]),
    "directory": (a_directory, ["a directory"]),
    "pickled module": (pickled_module, ["small.pth", "state_dict"]),
    "several models": (several_models, ["'generator'", "'critic'"]),
    "wrong key": (wrong_key, ["generatr"]),
    "a key too many": (a_key_too_many, ["`key` 'state_dict'", "holds one model"]),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_bad_checkpoint(tmp_path, failed, fault):
    prepare, words = CHECKPOINTS[fault]
    assert failed(*prepare(tmp_path)).lacks("small.yaml:5: ", *words) == []
    assert not (tmp_path / "out" / "small.plan").exists()


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "raw"])
def test_a_malicious_pickle_does_not_run(tmp_path, failed, kind):
    marker = tmp_path / "ran"
    content = dict(torch_arrays(), **{"conv.weight": Malicious(marker)})
    if kind == "raw":
        (tmp_path / "small.pth").write_bytes(pickle.dumps(content))
    else:
        saved(tmp_path, {"conv.weight": Malicious(marker)}, legacy=kind == "legacy")
    assert failed(*pth(tmp_path)).lacks("small.pth") == []
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # the pickle was a dangerous one


# What the audit finds


def test_missing_unused_and_misshapen_tensors_come_at_once(tmp_path, failed):
    arrays = torch_arrays()
    arrays["fc.weigth"] = arrays.pop("fc.weight")
    arrays["conv.weight"] = np.ascontiguousarray(arrays["conv.weight"].transpose(2, 3, 1, 0))
    write_small(tmp_path, arrays=arrays)
    shape, absent, unused = failed().messages
    assert "layer 'conv': kernel <- 'conv.weight': has shape 3x3x2x3, wanted 3x2x3x3 (o i h w)" in shape
    assert "small.yaml:11: layer 'fc': kernel: missing in" in absent and "nearest: fc.weigth" in absent
    assert '1 tensor that no layer uses: fc.weigth 4x36' in unused and 'ignore: ["fc.weigth"]' in unused
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number(tmp_path, failed, value):
    arrays = torch_arrays()
    arrays["bn.running_var"][1] = value
    write_small(tmp_path, arrays=arrays)
    assert failed().lacks("tensor 'bn.running_var' (variance of layer 'bn')", "NaN or infinite, the first at [1]") == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [-1e-3, -1.0])
def test_a_negative_variance_is_no_variance(tmp_path, failed, value):
    """sqrt(variance + epsilon) would be NaN, or not what anybody trained: mean and variance are swapped."""
    arrays = torch_arrays()
    arrays["bn.running_var"][1] = value
    write_small(tmp_path, arrays=arrays)
    assert failed().lacks("tensor 'bn.running_var' (variance of layer 'bn')", "negative", "[1]") == []


# What TensorRT finds, and the disk


def test_a_network_that_tensorrt_cannot_build(tmp_path, failed):
    keys = "{name: fc, input: relu, filters: 2, kernel: 3, stride: 2, dilation: 2, padding: valid, bias: true}"
    head, tail = SMALL.split("  - flatten")[0], "outputs: [fc]\n"
    arrays = dict(torch_arrays(), **{"fc.weight": np.ones((3, 2, 3, 3), np.float32), "fc.bias": np.ones(2, np.float32)})
    write_small(tmp_path, f"{head}  - deconvolution: {keys}\n{tail}", arrays)
    assert failed(code=1).lacks("could not build 'small'", "Strided & Dilated Deconv are currently not supported") == []
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(tmp_path, failed):
    write_small(tmp_path)
    (tmp_path / "out").write_text("x")
    assert failed().lacks(f"{tmp_path}/out: cannot be written: ", "choose another directory") == []


def test_an_output_without_permission(tmp_path, capsys, monkeypatch):
    write_small(tmp_path)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    Path("locked").mkdir(mode=0o555)
    with unprivileged():
        found = Failed(["--config", "small.yaml", "--output", "locked/out"], capsys)
    assert found.lacks("locked/out: cannot be written: Permission denied; choose another directory") == []


def with_old_plan(directory: Path) -> Dict[str, bytes]:
    directory.mkdir(exist_ok=True)
    old = {"small.plan": b"old plan", "small.plan.json": b"old manifest"}
    for name, content in old.items():
        (directory / name).write_bytes(content)
    return old


def files_of(directory: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name.startswith((".", "small."))}


def test_a_plan_above_the_limit_leaves_the_old_one(tmp_path, failed):
    write_small(tmp_path)
    old = with_old_plan(tmp_path / "out")
    with size_limit(100_000):
        words = "small.plan: cannot be written: File too large; what stood there before still stands"
        assert failed().lacks(words) == []
    assert files_of(tmp_path / "out") == old


def test_a_disk_that_fills_up_leaves_the_old_plan(tmp_path, failed):
    write_small(tmp_path)
    with small_disk(tmp_path / "disk") as disk:
        old = with_old_plan(disk)
        (disk / "other").write_bytes(bytes(900_000))
        words = "small.plan: cannot be written: No space left on device; what stood there before"
        assert failed(output=disk).lacks(words) == []
        assert files_of(disk) == old


@pytest.mark.parametrize("name", ["none/below/report.json", "small.yaml/report.json"])
def test_a_report_that_cannot_be_written_is_known_before_the_work(tmp_path, failed, name):
    write_small(tmp_path)
    if name.startswith("none"):
        (tmp_path / "none").write_text("a file")
    assert failed("--json", str(tmp_path / name)).lacks("cannot be written") == []
    assert not (tmp_path / "out" / "small.plan").exists()


def test_a_sample_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert Failed(["sample", "model1", "--output", str(tmp_path / "file")], capsys).lacks("cannot be written") == []

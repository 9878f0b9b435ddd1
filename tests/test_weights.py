"""open_checkpoint on files of no format, what importing the readers costs, and the completeness of the tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import FORMATS, open_checkpoint
from weights.sources import CONVENTIONS, KERAS, TENSORFLOW, TORCH

ROLES = {
    "convolution": ("kernel", "bias"),
    "depthwise_convolution": ("kernel", "bias"),
    "deconvolution": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_norm": ("gamma", "beta", "mean", "variance"),
    "scale": ("scale", "shift"),
    "prelu": ("alpha",),
    "constant": ("value",),
}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "an empty file - copy it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a git-LFS pointer.*run: git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "an HTML page, probably of a download that asked to sign in"),
        (b"<html>", "an HTML page"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model - name the checkpoint it was exported from"),
        (b"\x08\x07\x3a\xff\x01", "an ONNX model"),
        (b"\x80\x04\x95\x00", "a bare Python pickle, not read because it can run code"),
        (b"PK\x03\x04" + bytes(60), "a zip archive of neither PyTorch nor Keras"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"\x1f\x8b\x08", "a gzip archive - unpack it first"),
        (bytes(257) + b"ustar", "a tar archive, also PyTorch's format before 0.2"),
        (b"\x93NUMPY\x01", "a NumPy array"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (b"ftrt\x00", "a TensorRT engine"),
        (b"layers:\n  - conv: 3\n", "a text file"),
        (b'{"a": 1}', "a text file"),
        (b"\xde\xad\xbe\xef", "unknown: it starts with de ad be ef"),
        (b"\x08", "unknown: it starts with 08"),
        (bytes(3), "unknown"),
        (bytes(100_000), "unknown"),
    ],
)
def test_files_of_no_format(tmp_path, content, message):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"model.pth: {message}.*Supported: TensorFlow V2.*frozen graph"):
        open_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_of_every_start(tmp_path, seed):
    """No reader may end in a traceback, whatever follows its own magic."""
    random, starts = (
        np.random.default_rng(seed),
        (b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x0a\x10\x0a\x04", b"\x40" + bytes(7) + b"{"),
    )
    (tmp_path / "file").write_bytes(starts[seed % 4] + random.bytes(500))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        open_checkpoint(tmp_path / "file")


def test_missing_files(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="modle.pth: no such file; did you mean 'model.pth'?"):
        open_checkpoint(tmp_path / "modle.pth")
    with pytest.raises(CheckpointError, match="there is no directory"):
        open_checkpoint(tmp_path / "no" / "model.pth")
    with pytest.raises(CheckpointError, match="a directory with neither a `checkpoint` file"):
        open_checkpoint(tmp_path)


def test_key_is_for_pytorch_only(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="`key` 'ema' given, but a safetensors holds one model - remove `key`"):
        open_checkpoint(tmp_path / "m", key="ema")


def test_importing_the_readers_imports_no_format_library():
    heavy = (
        "h5py",
        "google.protobuf",
        "ml_dtypes",
        "google_crc32c",
        "tensorflow",
        "keras",
        "tf_keras",
        "torch",
        "safetensors",
    )
    code = f"import sys, weights; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).resolve().parents[1]
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("package", ["h5py", "google.protobuf", "google_crc32c"])
def test_missing_packages_are_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    from weights.packages import PACKAGES, import_package

    with pytest.raises(CheckpointError, match=f"run: pip install {PACKAGES[package][0]}"):
        import_package(package)


@pytest.mark.parametrize("sources", [TENSORFLOW, KERAS, TORCH], ids=["tensorflow", "keras", "torch"])
def test_every_role_has_a_source(sources):
    assert set(sources) == {(layer, role) for layer, roles in ROLES.items() for role in roles}
    for source in sources.values():
        assert source.names and len(set(source.names)) == len(source.names)


@pytest.mark.parametrize("sources", [TENSORFLOW, KERAS, TORCH], ids=["tensorflow", "keras", "torch"])
def test_rules_only_transpose(sources):
    """Both sides of a rule hold the same axes; only the literal 1 and a group may differ."""
    for source in sources.values():
        if source.rule != "...":
            stored, target = (sorted(re.sub("[()1]", "", side).split()) for side in source.rule.split("->"))
            assert stored == target, source.rule


def test_every_format_is_complete():
    for format in FORMATS.values():
        assert format.title and format.convention in CONVENTIONS
        assert callable(format.recognise) and callable(format.read)

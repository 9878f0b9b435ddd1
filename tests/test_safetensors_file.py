"""safetensors files written by the official library, and headers that break the format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint


def written(header: object, data: bytes, path: Path) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_every_tensor_equals_the_official_reader(tmp_path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    names = "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64".split()
    tensors = {name: (torch.randn(3, 5) * 3).abs().to(getattr(torch, name)) for name in names}
    tensors.update(scalar=torch.tensor(3.0), empty=torch.zeros(0, 3), **{"conv.weight": torch.randn(4, 3, 2, 3)})
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.format == "safetensors" and set(checkpoint) == set(tensors) and "format" in checkpoint.detail
    with safe_open(tmp_path / "m.safetensors", "pt") as official:
        for name in tensors:
            wanted, found = official.get_tensor(name), checkpoint[name]
            assert str(wanted.dtype) == f"torch.{found.dtype.name}"
            wanted = wanted.view(torch.int16) if name == "bfloat16" else wanted
            found = found.view("int16") if name == "bfloat16" else found
            np.testing.assert_array_equal(found, wanted.numpy(), err_msg=name, strict=True)
    assert not checkpoint["conv.weight"].flags.owndata


def test_the_extension_does_not_matter(tmp_path):
    path = written({"w": entry([2], 0, 8)}, np.float32([1, 2]).tobytes(), tmp_path / "model.bin")
    assert open_checkpoint(path)["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "header, size, message",
    [
        ({"w": entry([2], 0, 8)}, 4, "cut short: its tensors take 8 bytes, the file holds 4"),
        ({"w": entry([2], 0, 8)}, 9, "damaged: bytes behind the last tensor: .* 8 bytes, the file holds 9"),
        ({"w": entry([3], 0, 8)}, 8, r"tensor 'w': damaged: 8 bytes, but F32 of shape \[3\] takes 12"),
        ({"w": entry([1 << 62, 4], 0, 8)}, 8, "tensor 'w': damaged: 8 bytes, but F32"),
        ({"w": entry([-2], 0, 8)}, 8, r"tensor 'w': damaged: shape \[-2\]"),
        ({"w": entry([2], 8, 0)}, 8, "tensor 'w': damaged: -8 bytes"),
        ({"w": entry([2.0], 0, 8)}, 8, "tensor 'w': damaged: shape"),
        ({"v": entry([2], 0, 8), "w": entry([2], 4, 12)}, 12, "tensor 'w': damaged: it overlaps the one before"),
        ({"v": entry([2], 0, 8), "w": entry([2], 12, 20)}, 20, "tensor 'w': damaged: it leaves a hole before it"),
        (
            {"w": entry([8], 0, 8, "F8_E4M3")},
            8,
            "tensor 'w': dtype F8_E4M3 - wanted one of BOOL, .*; convert it",
        ),
        ({"w": {"dtype": "F32", "shape": [2]}}, 8, "tensor 'w': damaged: its entry lacks"),
        ({"w": [1, 2]}, 8, "tensor 'w': damaged: its entry lacks"),
        (b'{"w": 1, "w": 2}', 8, "the same name stands in it twice"),
        (b'{"w": ', 8, "its header is no JSON"),
        (b"{" * 30, 8, "its header is no JSON"),
    ],
)
def test_headers_that_break_the_format(tmp_path, header, size, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(written(header, bytes(size), tmp_path / "m.safetensors"))


def test_a_cut_header(tmp_path):
    path = written({"w": entry([2], 0, 8)}, bytes(8), tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="cut short: its header ends at byte .* of 20 - copy the file again"):
        open_checkpoint(path)

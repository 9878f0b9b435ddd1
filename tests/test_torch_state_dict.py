"""Files written by torch.save here, zip and legacy, every tensor compared with torch's; damaged and malicious files."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint

ZIP_AND_LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def tensors():
    """A state_dict with every dtype, layout and wrapper a checkpoint may hold."""
    import torch

    torch.manual_seed(0)
    values = torch.randn(4, 6)
    dtypes = (
        "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 complex128"
    )
    return {
        **{f"dtype.{name}": (values * 3).abs().to(getattr(torch, name)) for name in dtypes.split()},
        "module.conv.weight": torch.nn.Parameter(torch.randn(5, 3, 2, 3)),
        "transposed": values.t(),
        "window": values[1:3, ::2],
        "window16": values.to(torch.uint16)[1:3, ::2],
        "expanded": torch.randn(3, 1).expand(3, 4),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "tied": values,
        "tied_too": values,
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "buffer": torch.nn.Buffer(torch.randn(2)),
    }


def save(value, path: Path, zipped: bool = True) -> Path:
    import torch

    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(found: np.ndarray, wanted, name: str) -> None:
    import torch

    assert found.dtype.name == str(wanted.dtype).split(".")[-1], name
    if wanted.dtype == torch.bfloat16:
        found, wanted = found.astype("float32"), wanted.float()
    np.testing.assert_array_equal(found, wanted.detach().numpy(), err_msg=name, strict=True)


@ZIP_AND_LEGACY
def test_every_tensor(tmp_path, zipped):
    state_dict = tensors()
    checkpoint = open_checkpoint(save(OrderedDict(state_dict), tmp_path / "m.pth", zipped))
    assert checkpoint.format == "torch_state_dict" and list(checkpoint) == list(state_dict)
    for name, wanted in state_dict.items():
        assert checkpoint.tensors[name] == (tuple(wanted.shape), checkpoint[name].dtype.name)
        assert_same(checkpoint[name], wanted, name)


@ZIP_AND_LEGACY
def test_tensors_keep_their_strides(tmp_path, zipped):
    checkpoint = open_checkpoint(save(tensors(), tmp_path / "m.pth", zipped))
    assert checkpoint["channels_last"].strides == (240, 4, 60, 12)
    assert checkpoint["expanded"].strides == (4, 0)


def test_tensors_of_a_zip_are_views_of_the_file(tmp_path):
    checkpoint = open_checkpoint(save(tensors(), tmp_path / "m.pth"))
    assert not any(checkpoint[name].flags.owndata or checkpoint[name].flags.writeable for name in ("tied", "window"))
    assert np.shares_memory(checkpoint["tied"], checkpoint["tied_too"])


@ZIP_AND_LEGACY
def test_module_and_optimizer_of_a_training_checkpoint(tmp_path, zipped):
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(1, 3, 5, 7)).sum().backward()
    optimizer.step()
    counts = defaultdict(int)
    counts["seen"] = 3
    training = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.75),
        "history": np.arange(3.0),
        "counts": counts,
        "loss": torch.tensor(0.5),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "tags": {"a", "b"},
        "state_dict": torch.nn.DataParallel(model).state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    checkpoint = open_checkpoint(save(training, tmp_path / "m.tar", zipped))
    wanted = {f"module.{name}": value for name, value in model.state_dict().items()}
    assert "state_dict under 'state_dict'" in checkpoint.detail and list(checkpoint) == list(wanted)
    for name, value in wanted.items():
        assert_same(checkpoint[name], value, name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, protocol):
    import torch

    torch.save({"args": argparse.Namespace(a={1, 2}), "model": tensors()}, tmp_path / "m.pt", pickle_protocol=protocol)
    assert_same(open_checkpoint(tmp_path / "m.pt")["tied"], tensors()["tied"], "tied")


@pytest.mark.parametrize(
    "content, key, found",
    [
        (lambda t: {"model": {"a": t}}, None, ["a"]),
        (lambda t: {"model": {"state_dict": {"a": t}}}, None, ["a"]),
        (lambda t: {"a": t, "extra": {"b": t}}, None, ["a"]),
        (lambda t: {"whatever": {"a": t}}, None, ["a"]),
        (lambda t: {"model": {"a": t}, "ema": {"b": t}}, "ema", ["b"]),
        (lambda t: {"nets": {"g.one": {"a": t}, "d": {"b": t}}}, "nets.g.one", ["a"]),
        (lambda t: {"state_dict": {"a": t, "steps": 3}}, None, ["a"]),
    ],
)
def test_where_the_state_dict_is(tmp_path, content, key, found):
    import torch

    assert list(open_checkpoint(save(content(torch.ones(2)), tmp_path / "m.pt"), key)) == found


@pytest.mark.parametrize(
    "content, key, message",
    [
        (
            lambda t: {"model": {"a": t}, "ema": {"b": t, "c": t}},
            None,
            r"several state_dicts in one file - found 'model' \(1 tensor\), 'ema' \(2 tensors\); choose one with",
        ),
        (lambda t: {"one": {"a": t}, "two": {"b": t}}, None, r"found 'one' \(1 tensor\), 'two' \(1 tensor\)"),
        (lambda t: {"model": {"a": t}}, "modl", "no tensors under the key 'modl'; did you mean 'model'?"),
        (lambda t: {"epoch": 3, "lr": 0.1}, None, "no tensors in it: a dict with the keys 'epoch', 'lr'"),
        (lambda t: [t], None, "no tensors in it: a list instead of a dict"),
        (lambda t: t, None, "no tensors in it: one tensor without a name"),
        (lambda t: {"w": t.to_sparse()}, None, "tensor 'w': a sparse tensor - convert it to float32 before torch.save"),
        (lambda t: {"w": t.to(_torch().float8_e4m3fn)}, None, "tensor 'w': a float8_e4m3fn tensor"),
        (lambda t: {"w": _quantized(t)}, None, "tensor 'w': a quantized tensor"),
        (lambda t: {"w": t.to("meta")}, None, r"tensor 'w': a meta \(without data\) tensor"),
    ],
)
def test_contents_that_are_refused(tmp_path, content, key, message):
    import torch

    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(save(content(torch.ones(2)), tmp_path / "m.pt"), key)


def _torch():
    import torch

    return torch


def _quantized(tensor):
    return _torch().quantize_per_tensor(tensor, 0.1, 0, _torch().qint8)


@ZIP_AND_LEGACY
def test_pickled_modules_are_refused_with_the_way_out(tmp_path, zipped):
    import torch

    with pytest.raises(CheckpointError, match=r"class 'torch.nn.modules.linear.Linear'.*torch.save\(model.state_dict"):
        open_checkpoint(save({"model": torch.nn.Linear(2, 3)}, tmp_path / "m.pt", zipped))


class Call:
    """Pickles as a call of any function, like an attack does."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy", "raw"])
@pytest.mark.parametrize(
    "attack, name",
    [
        (lambda marker: Call(os.system, f"touch {marker}"), "posix.system"),
        (lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        (lambda marker: Call(open, str(marker), "w"), "open"),
        (lambda marker: Call(exec, f"__import__('pathlib').Path({str(marker)!r}).touch()"), "exec"),
    ],
)
def test_malicious_pickles_do_not_run(tmp_path, form, attack, name):
    import torch

    marker, path = tmp_path / "marker", tmp_path / "m.pth"
    content = {"w": torch.ones(2), "x": attack(marker)}
    if form == "raw":
        path.write_bytes(pickle.dumps({"x": attack(marker)}))
    else:
        save(content, path, form == "zip")
    message = "bare Python pickle" if form == "raw" else f"unsafe: .*{name}.*nothing was run"
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)
    assert not marker.exists()
    # The attack works: a plain unpickler runs it.
    pickle.loads(pickle.dumps(attack(marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    "opcodes, message",
    [
        # BUILD on our own function: would change what later tensors call.
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "tries to change a function"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "its pickle cannot be read"),
        (b"\x80\x02cargparse\nNamespace\n)R}X\x08\x00\x00\x00__dict__K\x01sb.", "no tensors in it: a Namespace"),
        (b"\x80\x02cargparse\nNamespace\n}X\x08\x00\x00\x00__dict__K\x01sb.", "its pickle cannot be read"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s", "its pickle cannot be read"),
        (b"\x80\x02X\x02\x00\x00\x00hiQ.", "a reference to something that is no storage"),
        (b"\x80\x02ctorch\nload\n.", "class 'torch.load'"),
        (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93.", "unsafe: .*'os.system'"),
        (b"\xff\xfe", "its pickle cannot be read"),
    ],
)
def test_hand_made_pickles(tmp_path, opcodes, message):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("m/data.pkl", opcodes)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "m.pth")


def test_a_window_behind_the_end_of_its_storage(tmp_path):
    save({"w": _torch().ones(4)}, tmp_path / "m.pth")
    rewrite(tmp_path / "m.pth", "data.pkl", lambda data: data.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(CheckpointError, match="tensor 'w': damaged: it needs element 4 of a storage of 4"):
        open_checkpoint(tmp_path / "m.pth")["w"]


def rewrite(path: Path, record: str, change) -> None:
    """Change one record of an archive, its checksum with it; `None` drops the record."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            changed = change(data) if name.endswith(record) else data
            if changed is not None:
                archive.writestr(name, changed)


@pytest.mark.parametrize(
    "record, change, message",
    [
        ("data/0", lambda data: None, "the record '.*/data/0' is missing from the archive"),
        ("byteorder", lambda data: b"big", "written on a big-endian machine, not supported"),
        ("data.pkl", lambda data: data[:-20], "its pickle cannot be read"),
    ],
)
def test_records_of_an_archive(tmp_path, record, change, message):
    save({"w": _torch().ones(4)}, tmp_path / "m.pth")
    rewrite(tmp_path / "m.pth", record, change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize(
    "zipped, change, message",
    [
        (True, lambda data: data[: len(data) // 2], "cut short or damaged: a zip archive of .* cannot be read"),
        (False, lambda data: data[:-9], "cut short: its tensors need"),
        (False, lambda data: data[:200], "its pickle cannot be read"),
        (False, lambda data: data[:20], "its pickle cannot be read"),
    ],
)
def test_cut_files(tmp_path, zipped, change, message):
    path = save({"w": _torch().ones(300)}, tmp_path / "m.pth", zipped)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


def test_a_flipped_bit_names_the_record_and_spares_the_others(tmp_path):
    path = save({"w": _torch().ones(300), "v": _torch().zeros(2)}, tmp_path / "m.pth")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f" * 300) + 2] ^= 1
    path.write_bytes(data)
    checkpoint = open_checkpoint(path)
    with pytest.raises(CheckpointError, match="the CRC-32 of the record 'm/data/0' differs - copy the file again"):
        checkpoint["w"]
    assert checkpoint["v"].tolist() == [0, 0]


def test_archives_written_without_checksums(tmp_path):
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        checkpoint = open_checkpoint(save(tensors(), tmp_path / "m.pth"))
    finally:
        torch.serialization.set_crc32_options(True)
    assert "without checksums" in checkpoint.detail
    assert_same(checkpoint["tied"], tensors()["tied"], "tied")


def test_archive_that_someone_compressed(tmp_path):
    save(tensors(), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(
        tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED
    ) as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    assert_same(open_checkpoint(tmp_path / "b.pth")["window"], tensors()["window"], "window")


def test_torchscript_is_refused(tmp_path):
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "m.pt")
    with pytest.raises(
        CheckpointError, match="a TorchScript archive, code and weights in one - load it with torch.jit.load"
    ):
        open_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("seed", range(60))
@ZIP_AND_LEGACY
def test_random_damage_never_ends_in_a_traceback(tmp_path, zipped, seed):
    """Four random bytes anywhere in a small file: read or CheckpointError."""
    random = np.random.default_rng(seed)
    path = save({"state_dict": tensors(), "args": argparse.Namespace(a=1)}, tmp_path / "m.pth", zipped)
    data = bytearray(path.read_bytes())
    for place in random.integers(0, len(data) if zipped else 3500, 4):
        data[place] = random.integers(0, 256)
    path.write_bytes(data)
    try:
        checkpoint = open_checkpoint(path)
        outcome = [checkpoint[name].shape == checkpoint.tensors[name].shape for name in checkpoint]
    except CheckpointError as error:
        outcome = [str(tmp_path) in str(error)]
    assert outcome and all(outcome)

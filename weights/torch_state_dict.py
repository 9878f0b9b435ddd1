"""PyTorch state_dicts as torch.save writes them, read without PyTorch.

    zip     <name>/data.pkl: tensors as windows of storages | <name>/data/<key>: one storage, raw | <name>/byteorder
    legacy  pickles: magic, protocol, machine, the object, list of keys | per key: element count (int64), raw numbers

Source: torch/serialization.py; the zip form is the default since PyTorch 1.6.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import Checkpoint, TensorInfo
from .mapped_file import Buffer, array_view, map_file, numpy_dtype
from .torch_containers import find_state_dict
from .torch_pickle import RefusedTensor, Storage, StoredTensor, load_pickle
from .zip_records import MAGIC as ZIP_MAGIC
from .zip_records import ZipRecords, record_names

_PICKLE = "data.pkl"
_SCRIPT = "constants.pkl"  # only TorchScript archives have one
_LEGACY_NUMBER = 0x1950A86A20F9469CFC6C
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a" + _LEGACY_NUMBER.to_bytes(10, "little")
_COUNT_SIZE = 8


class _File(NamedTuple):
    """The object of a file, and the function that gives the bytes of one of its storages."""

    kind: str
    root: Any
    storage: Callable[[Storage], Buffer]


def recognise(path: Path) -> bool:
    """Whether the file is a zip archive with a record <name>/data.pkl, or starts with the legacy magic."""
    if not path.is_file():
        return False
    if map_file(path)[: len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
        return True
    return any(name.split("/")[-1] == _PICKLE for name in record_names(path))


def read(path: Path, key: Optional[str] = None) -> Checkpoint:
    """Open a state_dict; tensors are strided views of the mapped file, under their stored names.

    Args:
        path: the file.
        key: dotted path of the state_dict in a training checkpoint; needed only when several fit.

    Raises:
        CheckpointError: the file is damaged or unsafe, holds a pickled module or TorchScript, several state_dicts, or
            a tensor that is no array of plain numbers (sparse, quantized, float8).
    """
    file = _open_zip(path) if map_file(path)[:4] == ZIP_MAGIC else _open_legacy(path)
    where, state_dict = find_state_dict(file.root, key, str(path))
    stored = {name: value for name, value in dict.items(state_dict) if isinstance(value, (StoredTensor, RefusedTensor))}
    refused = [_refusal(path, name, value) for name, value in stored.items() if isinstance(value, RefusedTensor)]
    if refused:
        raise CheckpointError(refused)
    tensors = {name: TensorInfo(tensor.shape, tensor.dtype) for name, tensor in stored.items()}
    detail = file.kind + (f", state_dict under '{where}'" if where else "")
    skipped = len(state_dict) - len(stored)
    detail += f"; {skipped} entries that are no tensors" if skipped else ""
    return Checkpoint(path, "torch_state_dict", detail, (path,), tensors, partial(_load, path, file, stored))


def _open_zip(path: Path) -> _File:
    records = ZipRecords(path)
    pickles = [name for name in records.names if name.split("/")[-1] == _PICKLE and name.count("/") <= 1]
    if not pickles:
        raise CheckpointError(f"{path}: damaged: a PyTorch archive without its record '{_PICKLE}'")
    folder = pickles[0][: -len(_PICKLE)]
    if folder + _SCRIPT in records:
        cure = "load it with torch.jit.load and run torch.save(module.state_dict(), path)"
        raise CheckpointError(f"{path}: a TorchScript archive, code and weights in one - {cure}")
    order = f"{folder}byteorder"
    if order in records and bytes(records[order]) != b"little":
        raise CheckpointError(_big_endian(path))
    root, storages = load_pickle(io.BytesIO(records[pickles[0]]), str(path))
    missing = [key for key in storages if f"{folder}data/{key}" not in records]
    if missing:
        names = ", ".join(f"'{folder}data/{key}'" for key in missing[:5])
        raise CheckpointError(f"{path}: damaged: the record {names} is missing from the archive")
    kind = "zip archive" if records.has_checksums else "zip archive without checksums"
    return _File(kind, root, lambda storage: records[f"{folder}data/{storage.key}"])


def _open_legacy(path: Path) -> _File:
    data = map_file(path)
    with open(path, "rb") as file:
        for _ in ("magic", "protocol"):
            load_pickle(file, str(path))
        machine, _ = load_pickle(file, str(path))
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise CheckpointError(_big_endian(path))
        root, storages = load_pickle(file, str(path))
        keys, _ = load_pickle(file, str(path))
        if not isinstance(keys, list):
            raise CheckpointError(f"{path}: damaged: no list of storages behind its object")
        places = _legacy_places(path, len(data), data, file.tell(), [storages.get(str(key)) for key in keys])
    return _File("legacy file", root, lambda storage: data[slice(*places[storage.key])])


def _legacy_places(path: Path, size: int, data: memoryview, position: int, storages: Any) -> Dict[str, Tuple[int, int]]:
    places = {}
    for storage in storages:
        if storage is None:
            raise CheckpointError(f"{path}: damaged: it lists a storage that no tensor has")
        count = int.from_bytes(data[position : position + _COUNT_SIZE], "little", signed=True)
        start = position + _COUNT_SIZE
        position = start + count * numpy_dtype(storage.dtype).itemsize
        if count < 0 or position > size:
            found = f"its tensors need {position} bytes of {size}"
            raise CheckpointError(f"{path}: cut short: {found} - copy the file again")
        places[storage.key] = (start, position)
    return places


def _load(path: Path, file: _File, stored: Dict[str, StoredTensor], name: str) -> np.ndarray:
    tensor = stored[name]
    data, dtype = memoryview(file.storage(tensor.storage)), numpy_dtype(tensor.dtype)
    count = len(data) // dtype.itemsize
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype)
    if last >= count:
        found = f"it needs element {last} of a storage of {count}"
        raise CheckpointError(f"{path}: tensor '{name}': damaged: {found}")
    flat = array_view(data, 0, (count,), dtype)[tensor.offset :]
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)


def _big_endian(path: Path) -> str:
    return f"{path}: written on a big-endian machine, not supported - save it again on x86 or Arm"


def _refusal(path: Path, name: str, tensor: RefusedTensor) -> str:
    return f"{path}: tensor '{name}': a {tensor.kind} tensor - convert it to float32 before torch.save"

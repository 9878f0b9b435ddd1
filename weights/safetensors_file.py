"""safetensors files: names, shapes and offsets in a JSON header, then the raw tensors without gaps.

    header size (8 bytes) | {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..} | data

Format and checks: github.com/huggingface/safetensors, README.md and safetensors/src/tensor.rs (validate).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import Checkpoint, TensorInfo
from .mapped_file import array_view, byte_count, map_file, numpy_dtype

_SIZE = 8
_LARGEST_HEADER = 100_000_000  # the limit of the official reader
_METADATA = "__metadata__"
DTYPES: Dict[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
}


def recognise(path: Path) -> bool:
    """Whether the file starts with a plausible header size and an opening brace."""
    if not path.is_file():
        return False
    head = bytes(map_file(path)[: _SIZE + 1])
    return head[_SIZE:] == b"{" and 2 <= int.from_bytes(head[:_SIZE], "little") <= _LARGEST_HEADER


def read(path: Path) -> Checkpoint:
    """Open a safetensors file; tensors are views of the mapped file.

    Raises:
        CheckpointError: cut short, or its header breaks the format.
    """
    data = map_file(path)
    start = _SIZE + int.from_bytes(data[:_SIZE], "little")
    header = _header(path, data, start)
    metadata = header.pop(_METADATA, None)
    entries = {name: _entry(path, name, entry) for name, entry in header.items()}
    _check_coverage(path, entries, len(data) - start)
    tensors = {name: info for name, (info, _, _) in entries.items()}
    detail = "safetensors" + (f", metadata {', '.join(sorted(metadata))}" if metadata else "")
    places = {name: start + begin for name, (_, begin, _) in entries.items()}
    return Checkpoint(path, "safetensors", detail, (path,), tensors, partial(_load, data, tensors, places))


def _load(data: memoryview, tensors: Dict[str, TensorInfo], places: Dict[str, int], name: str) -> np.ndarray:
    shape, dtype = tensors[name]
    return array_view(data, places[name], shape, numpy_dtype(dtype))


def _header(path: Path, data: memoryview, end: int) -> Dict[str, Any]:
    if end > len(data):
        raise CheckpointError(f"{path}: cut short: its header ends at byte {end} of {len(data)} - copy the file again")
    try:
        header = json.loads(bytes(data[_SIZE:end]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: damaged: its header is no table of tensors")
    return header


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("the same name stands in it twice")
    return table


def _entry(path: Path, name: str, entry: Any) -> Tuple[TensorInfo, int, int]:
    place = f"{path}: tensor '{name}'"
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{place}: damaged: its entry lacks dtype, shape or data_offsets") from error
    if code not in DTYPES:
        raise CheckpointError(f"{place}: dtype {code} - wanted one of {', '.join(DTYPES)}; convert it to F32")
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end)):
        raise CheckpointError(f"{place}: damaged: shape {list(shape)}, offsets {begin} to {end}")
    info = TensorInfo(shape, DTYPES[code])
    wanted = byte_count(shape, numpy_dtype(info.dtype))
    if end - begin != wanted:
        found = f"{end - begin} bytes, but {code} of shape {list(shape)} takes {wanted}"
        raise CheckpointError(f"{place}: damaged: {found}")
    return info, begin, end


def _check_coverage(path: Path, entries: Dict[str, Tuple[TensorInfo, int, int]], size: int) -> None:
    position = 0
    for name, (_, begin, end) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if begin != position:
            fault = "overlaps the one before" if begin < position else "leaves a hole before it"
            raise CheckpointError(f"{path}: tensor '{name}': damaged: it {fault}, at byte {begin} of the data")
        position = end
    if position != size:
        fault = "cut short" if position > size else "damaged: bytes behind the last tensor"
        raise CheckpointError(f"{path}: {fault}: its tensors take {position} bytes, the file holds {size}")

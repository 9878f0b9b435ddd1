"""TensorFlow V1 checkpoints: one sorted string table that holds descriptions and tensors.

    "" -> SavedTensorSlices{meta: name, shape, dtype, slices}    OrderedCode(0, name, slice) -> SavedTensorSlices{data}

Source: tensorflow/core/util/tensor_slice_writer.cc, tensorflow/core/util/saved_tensor_slice.proto.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import Checkpoint, TensorInfo
from .mapped_file import map_file, numpy_dtype
from .sstable import MAGIC, Table
from .tf_paths import checkpoint_prefix
from .tf_protos import DTYPES, parse, shape_of
from .tf_slices import merge, slice_key
from .tf_tensor import tensor_value

_META_FIELD = b"\x0a"  # field 1, a message; the header of a V2 index starts with a number instead


def recognise(path: Path) -> bool:
    """Whether `path` is, or is the .meta file beside, a sorted string table that starts with tensor descriptions."""
    file = checkpoint_prefix(path)
    if not file.is_file() or map_file(file)[-len(MAGIC) :] != MAGIC:
        return False
    key, value = next(iter(Table(file)), (b"", b""))
    return key == b"" and value[:1] == _META_FIELD


def read(path: Path) -> Checkpoint:
    """Open a V1 checkpoint; each tensor is decoded, and the checksum of its block checked, when it is read.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = checkpoint_prefix(path)
    table = Table(file)
    meta = parse("SavedTensorSlices", table[b""], str(file)).meta
    slices = {saved.name: saved for saved in meta.tensor if saved.type in DTYPES}
    tensors = {name: TensorInfo(shape_of(saved.shape), DTYPES[saved.type]) for name, saved in slices.items()}
    other = len(meta.tensor) - len(slices)
    detail = "V1 checkpoint, one file" + (f"; {other} tensors are not numeric" if other else "")
    return Checkpoint(path, "tf_v1", detail, (file,), tensors, partial(_load, table, slices))


def _load(table: Table, slices: Dict[str, Any], name: str) -> np.ndarray:
    saved = slices[name]
    place = f"{table.path}: tensor '{name}'"

    def load(part: Any, shape: Tuple[int, ...]) -> np.ndarray:
        return _slice(table, saved, part, shape, place)

    if len(saved.slice) == 1:
        return load(saved.slice[0], shape_of(saved.shape))
    return merge(saved.slice, shape_of(saved.shape), numpy_dtype(DTYPES[saved.type]), load, place)


def _slice(table: Table, saved: Any, part: Any, shape: Tuple[int, ...], place: str) -> np.ndarray:
    try:
        value = table[slice_key(saved.name, part)]
    except KeyError as error:
        raise CheckpointError(f"{place}: damaged: described, but its numbers are not in the file") from error
    data = parse("SavedTensorSlices", value, place).data.data
    # The writer leaves out dtype and shape here: they stand in the description.
    data.dtype = saved.type
    return tensor_value(data, place, shape)

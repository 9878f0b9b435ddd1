"""TensorFlow V2 checkpoints: Saver files, TensorFlow 2 object checkpoints, and `variables/` of a SavedModel.

    P.index  sorted string table: "" -> BundleHeaderProto; key -> BundleEntryProto{dtype, shape, shard, offset, crc}
    P.data-00000-of-0000n  raw little-endian tensors, one behind the other

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import glob
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import Checkpoint, TensorInfo
from .mapped_file import array_view, byte_count, map_file, numpy_dtype
from .sstable import MAGIC, Table, crc32c, mask, masked_crc32c, read_varint
from .tf_names import OBJECT_GRAPH, export_copies, full_names, variable_names
from .tf_paths import checkpoint_prefix, data_file, index_file
from .tf_protos import DTYPES, UNREADABLE_DTYPES, parse, shape_of
from .tf_slices import merge, slice_key

_BIG_ENDIAN = 1


class _Bundle(NamedTuple):
    """An open bundle: its entries by key (bytes), and the mapped data files by shard."""

    prefix: Path
    entries: Dict[bytes, Any]
    files: Tuple[Path, ...]
    data: Tuple[memoryview, ...]


def recognise(path: Path) -> bool:
    """Whether `path` names a V2 checkpoint: its index is a sorted string table, or has data files beside it."""
    index = index_file(checkpoint_prefix(path))
    if not index.is_file():
        return False
    beside = index.parent.glob(f"{glob.escape(index.stem)}.data-*-of-*")
    return map_file(index)[-len(MAGIC) :] == MAGIC or any(beside)


def read(path: Path) -> Checkpoint:
    """Open a V2 checkpoint; tensors are views of the mapped data files, their crc32c checked when they are read.

    Raises:
        CheckpointError: a file is missing, damaged or big-endian.
    """
    bundle = _open(checkpoint_prefix(path))
    named = _named_entries(bundle)
    tensors = {
        name: TensorInfo(shape_of(entry.shape), DTYPES[entry.dtype])
        for name, (_, entry) in named.items()
        if entry.dtype in DTYPES
    }
    detail = _detail(bundle, named)
    files = (index_file(bundle.prefix), *bundle.files)
    return Checkpoint(path, "tf_bundle", detail, files, tensors, partial(_load, bundle, named))


def _open(prefix: Path) -> _Bundle:
    index = index_file(prefix)
    pairs = dict(Table(index))
    header = parse("BundleHeaderProto", pairs.pop(b"", b""), str(index))
    if header.endianness == _BIG_ENDIAN:
        raise CheckpointError(f"{index}: written on a big-endian machine, not supported - save it again on x86 or Arm")
    entries = {key: parse("BundleEntryProto", value, str(index)) for key, value in pairs.items()}
    files = tuple(data_file(prefix, shard, header.num_shards) for shard in range(header.num_shards))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{index}: its data file {', '.join(missing)} is missing - copy it beside the index")
    return _Bundle(prefix, entries, files, tuple(map_file(file) for file in files))


def _named_entries(bundle: _Bundle) -> Dict[str, Tuple[bytes, Any]]:
    """Key and entry by the name shown to people, in the order of the index."""
    slice_keys = {slice_key(_text(key), part) for key, entry in bundle.entries.items() for part in entry.slices}
    slice_keys.add(OBJECT_GRAPH.encode())
    entries = {_text(key): key for key in bundle.entries if key not in slice_keys}
    known = full_names(_object_graph(bundle))
    copies = export_copies({key: bundle.entries[stored].crc32c for key, stored in entries.items()}, known)
    keys = [key for key in entries if key not in copies]
    names = variable_names(keys, known)
    return {name: (entries[key], bundle.entries[entries[key]]) for name, key in zip(names, keys)}


def _detail(bundle: _Bundle, named: Dict[str, Tuple[bytes, Any]]) -> str:
    kind = "object checkpoint" if OBJECT_GRAPH.encode() in bundle.entries else "V2 checkpoint"
    partitioned = sum(1 for _, entry in named.values() if entry.slices)
    notes = [f"{kind}, {len(bundle.files)} data file{'s' if len(bundle.files) > 1 else ''}"]
    notes += [f"{partitioned} partitioned variables merged"] if partitioned else []
    notes += [
        f"not a numeric tensor: {name} ({UNREADABLE_DTYPES.get(entry.dtype, f'dtype {entry.dtype}')})"
        for name, (_, entry) in named.items()
        if entry.dtype not in DTYPES
    ]
    return "; ".join(notes)


def _load(bundle: _Bundle, named: Dict[str, Tuple[bytes, Any]], name: str) -> np.ndarray:
    key, entry = named[name]
    place = f"{index_file(bundle.prefix)}: tensor '{name}'"
    if not entry.slices:
        return _array(bundle, entry, shape_of(entry.shape), name)

    def load(part: Any, shape: Tuple[int, ...]) -> np.ndarray:
        stored = bundle.entries.get(slice_key(_text(key), part))
        if stored is None:
            raise CheckpointError(f"{place}: damaged: one of its slices is missing")
        return _array(bundle, stored, shape, name)

    return merge(entry.slices, shape_of(entry.shape), numpy_dtype(DTYPES[entry.dtype]), load, place)


def _array(bundle: _Bundle, entry: Any, shape: Tuple[int, ...], name: str) -> np.ndarray:
    dtype = numpy_dtype(DTYPES[entry.dtype])
    data, place = _entry_bytes(bundle, entry, name)
    if len(data) != byte_count(shape, dtype) or min(shape, default=0) < 0:
        wanted = f"a {dtype} tensor of shape {shape} takes {byte_count(shape, dtype)}"
        raise CheckpointError(f"{place}: damaged: the index says {len(data)} bytes, {wanted}")
    if masked_crc32c(data) != entry.crc32c:
        raise CheckpointError(f"{place}: damaged: its checksum differs from the one in the index - copy the file again")
    return array_view(data, 0, shape, dtype)


def _entry_bytes(bundle: _Bundle, entry: Any, name: str) -> Tuple[memoryview, str]:
    if not 0 <= entry.shard_id < len(bundle.files):
        raise CheckpointError(f"{index_file(bundle.prefix)}: tensor '{name}': damaged: no shard {entry.shard_id}")
    file, data = bundle.files[entry.shard_id], bundle.data[entry.shard_id]
    place, end = f"{file}: tensor '{name}'", entry.offset + entry.size
    if not 0 <= entry.offset <= end <= len(data):
        found = f"it needs bytes {entry.offset} to {end} of a file of {len(data)}"
        raise CheckpointError(f"{place}: cut short: {found} - copy the file again")
    return data[entry.offset : end], place


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _object_graph(bundle: _Bundle) -> List[Any]:
    """The nodes of the TrackableObjectGraph of a TensorFlow 2 checkpoint; none in a Saver's checkpoint."""
    entry = bundle.entries.get(OBJECT_GRAPH.encode())
    if entry is None:
        return []
    data, place = _entry_bytes(bundle, entry, OBJECT_GRAPH)
    return list(parse("TrackableObjectGraph", _string_scalar(data, entry.crc32c, place), place).nodes)


def _string_scalar(data: memoryview, stored: int, place: str) -> memoryview:
    # A string tensor is: lengths as varints, masked crc32c of the lengths as fixed32, the bytes. The checksum of the
    # entry runs over the lengths as fixed32, that checksum, and the bytes (tensor_bundle.cc, WriteStringTensor).
    try:
        size, position = read_varint(data, 0)
    except IndexError as error:
        raise CheckpointError(f"{place}: damaged: no string tensor") from error
    lengths = crc32c(size.to_bytes(4 if size < 1 << 32 else 8, "little"))
    checksum, text = bytes(data[position : position + 4]), data[position + 4 :]
    if len(text) != size or checksum != mask(lengths).to_bytes(4, "little"):
        raise CheckpointError(f"{place}: damaged: the length of the string differs from its checksum")
    if masked_crc32c(text, crc32c(checksum, lengths)) != stored:
        raise CheckpointError(f"{place}: damaged: its checksum differs from the one in the index")
    return text

"""Keras weights: .h5 of Keras 1 to 3, `.weights.h5` and sharded `.weights.json` of Keras 3, `.keras` archives.

    content                                   layout      names
    HDF5 with `model_weights`/`layer_names`   Keras 2     conv1/kernel
    HDF5 with `layers`, `vars`                Keras 3     conv1/0, conv1/1: variables are known by number only
    JSON with `weight_map`                    Keras 3     the same, in several HDF5 files
    zip with model.weights.h5, config.json    Keras 3     the same; the configuration tells the layer names

The extension says nothing: tf.keras 1.15 writes the Keras-2 layout into `x.weights.h5` and `x.keras` as well.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from spec.errors import CheckpointError

from . import keras2_layout, keras3_layout
from .checkpoint import Checkpoint
from .hdf5_file import MAGIC, Hdf5File
from .mapped_file import map_file
from .zip_records import MAGIC as ZIP_MAGIC
from .zip_records import ZipRecords, record_names

_WEIGHTS, _CONFIG, _METADATA, _SHARDS = "model.weights.h5", "config.json", "metadata.json", "model.weights.json"
_WEIGHT_MAP = "weight_map"

# Where a tensor is: its file and its dataset.
_Places = Dict[str, Tuple[Hdf5File, Any]]


def recognise(path: Path) -> bool:
    """Whether the file is HDF5, a zip archive with Keras' records, or Keras' JSON of weight shards."""
    if not path.is_file():
        return False
    head = bytes(map_file(path)[:64])
    if head.startswith(MAGIC):
        return True
    if head.startswith(ZIP_MAGIC):
        return not {_WEIGHTS, _METADATA, _SHARDS}.isdisjoint(record_names(path))
    return head.lstrip().startswith(b"{") and _shard_names(map_file(path)) != ()


def read(path: Path) -> Checkpoint:
    """Open Keras weights; optimizer and metric variables are not listed.

    Raises:
        CheckpointError: the file is damaged, hostile (links into other files) or holds no Keras weights.
    """
    data = map_file(path)
    if data[:4] == ZIP_MAGIC:
        return _read_archive(path)
    if data[: len(MAGIC)] == MAGIC:
        return _read_hdf5(path, (path,), [Hdf5File(data, str(path))], None, "HDF5")
    files = tuple(path.with_name(name) for name in _shard_names(data))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{path}: its shard {', '.join(missing)} is missing - copy it beside this file")
    shards = [Hdf5File(map_file(file), str(file)) for file in files]
    return _read_hdf5(path, (path, *files), shards, None, f"{len(files)} HDF5 shards")


def _read_archive(path: Path) -> Checkpoint:
    records = ZipRecords(path)
    config = _json(records[_CONFIG], f"{path}: {_CONFIG}") if _CONFIG in records else None
    if _SHARDS in records:
        shards = _shard_names(memoryview(records[_SHARDS]))
    else:
        shards = (_WEIGHTS,)
    files = [Hdf5File(records[name], f"{path}: {name}") for name in shards]
    version = _json(records[_METADATA], f"{path}: {_METADATA}").get("keras_version") if _METADATA in records else None
    return _read_hdf5(path, (path,), files, config, f".keras archive, Keras {version or 'of unknown version'}")


def _read_hdf5(path: Path, files: Tuple[Path, ...], shards: List[Hdf5File], config: Any, container: str) -> Checkpoint:
    first = shards[0]
    if keras2_layout.recognise(first):
        places, detail = keras2_layout.named_datasets(first)
    else:
        config = config or keras3_layout.stored_config(first)
        places, detail = keras3_layout.named_datasets(shards, config)
    if not places:
        raise CheckpointError(f"{path}: {container} without Keras weights - {detail}")
    tensors = {name: file.info(dataset) for name, (file, dataset) in places.items()}
    positional = not keras2_layout.recognise(first)
    return Checkpoint(path, "keras_hdf5", f"{container}, {detail}", files, tensors, partial(_load, places), positional)


def _load(places: _Places, name: str) -> np.ndarray:
    file, dataset = places[name]
    return file.array(dataset)


def _shard_names(data: memoryview) -> Tuple[str, ...]:
    """The files a JSON of weight shards names, in order; none when it is something else."""
    try:
        weight_map = json.loads(bytes(data)).get(_WEIGHT_MAP, {})
        names = [name for value in weight_map.values() for name in ([value] if isinstance(value, str) else value)]
        # A shard lies beside its JSON: a path that leads elsewhere is none of Keras'.
        return tuple(dict.fromkeys(name for name in names if name.endswith(".h5") and Path(name).name == name))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ()


def _json(data: Any, place: str) -> Any:
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{place}: damaged: no JSON ({error})") from error

"""Where the numbers come from: every checkpoint format this program reads, and the one way to open any of them.

    path ──recognise, by content, in the order of FORMATS──> read ──> Checkpoint

No framework is imported, and h5py, protobuf, ml_dtypes and google-crc32c only when a file needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional

from spec.errors import CheckpointError

from . import keras_hdf5, safetensors_file, tf_bundle, tf_graph, tf_v1, torch_state_dict
from .checkpoint import Checkpoint, Source, TensorInfo
from .describe import describe
from .sources import CONVENTIONS, Convention

__all__ = ["FORMATS", "Checkpoint", "Format", "Source", "TensorInfo", "convention_of", "open_checkpoint"]


class Format(NamedTuple):
    """A checkpoint format: its title, whose names and axis orders it has, and its reader.

    `keyed` is True where `read` takes a `key`, because one file may hold several models.
    """

    title: str
    convention: str
    recognise: Callable[[Path], bool]
    read: Callable[..., Checkpoint]
    keyed: bool = False


# In the order of trial: a frozen graph has no magic, so it comes last.
FORMATS: Dict[str, Format] = {
    "tf_bundle": Format("TensorFlow V2 checkpoint or SavedModel", "tensorflow", tf_bundle.recognise, tf_bundle.read),
    "tf_v1": Format("TensorFlow V1 checkpoint", "tensorflow", tf_v1.recognise, tf_v1.read),
    "keras_hdf5": Format("Keras .h5, .weights.h5 or .keras", "keras", keras_hdf5.recognise, keras_hdf5.read),
    "torch_state_dict": Format(
        "PyTorch state_dict", "torch", torch_state_dict.recognise, torch_state_dict.read, keyed=True
    ),
    "safetensors": Format("safetensors", "torch", safetensors_file.recognise, safetensors_file.read),
    "tf_graph": Format("TensorFlow frozen graph", "tensorflow", tf_graph.recognise, tf_graph.read),
}


def open_checkpoint(path: Path, key: Optional[str] = None) -> Checkpoint:
    """Open a checkpoint of any format.

    Args:
        path: a file, a TensorFlow prefix, or the directory of a TensorFlow checkpoint or SavedModel.
        key: which state_dict of a PyTorch training checkpoint to take, when it holds several.

    Raises:
        CheckpointError: nothing is there, no format fits, or the file is damaged or unsafe.
    """
    path = Path(path)
    for format in FORMATS.values():
        if format.recognise(path):
            return _read(format, path, key)
    if not path.exists():
        raise CheckpointError(f"{path}: {describe(path)}")
    supported = "; ".join(format.title for format in FORMATS.values())
    raise CheckpointError(f"{path}: {describe(path)}. Supported: {supported}")


def convention_of(checkpoint: Checkpoint, asked: Optional[str] = None) -> Convention:
    """The convention asked for by name, or the one of the checkpoint's format."""
    return CONVENTIONS[asked or FORMATS[checkpoint.format].convention]


def _read(format: Format, path: Path, key: Optional[str]) -> Checkpoint:
    if key is None:
        return format.read(path)
    if not format.keyed:
        raise CheckpointError(f"{path}: `key` '{key}' given, but a {format.title} holds one model - remove `key`")
    return format.read(path, key)

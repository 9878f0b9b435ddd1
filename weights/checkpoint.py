"""Checkpoint: the tensor names of a source file, their shapes and dtypes, and one array on demand.

    open file(s) --read()--> Checkpoint --checkpoint[name]--> array (a view of the mapped file wherever possible)
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Tuple

import numpy as np

from spec.errors import CheckpointError, did_you_mean


class TensorInfo(NamedTuple):
    """Shape and NumPy dtype name (`float32`, `bfloat16`, ...) of one tensor, known without reading it."""

    shape: Tuple[int, ...]
    dtype: str


class Source(NamedTuple):
    """Where a convention keeps one role of one layer type.

    `names` are the spellings tried behind `scope + separator`; `rule` takes the stored axes to ours,
    for example `h w i o -> o i h w`.
    """

    names: Tuple[str, ...]
    rule: str


class Checkpoint(Mapping[str, np.ndarray]):
    """Named tensors of one checkpoint; indexing reads one tensor, in the shape and dtype it was stored with.

    Args:
        path: what the user named.
        format: the recognised format, a key of `weights.FORMATS`.
        detail: what exactly was recognised, for people (`zip archive, prefix 'module.'`).
        files: every file the tensors come from, for the manifest's sha256.
        tensors: shape and dtype by tensor name, in stored order.
        load: reads one tensor by name; raises CheckpointError when its bytes are damaged.
        positional: True where variables are known by number only (Keras 3), in the order of a layer's roles.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        detail: str,
        files: Tuple[Path, ...],
        tensors: Dict[str, TensorInfo],
        load: Callable[[str], np.ndarray],
        positional: bool = False,
    ) -> None:
        self.path, self.format, self.detail, self.files = path, format, detail, files
        self.tensors, self._load, self.positional = tensors, load, positional

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: no tensor '{name}'{did_you_mean(name, self.tensors)}")
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

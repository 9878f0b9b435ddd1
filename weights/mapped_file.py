"""Files mapped read-only into memory, and arrays that are views of the mapping.

    file ──map_file──> memoryview ──array_view(offset, shape, dtype)──> array

Pages are read from disk when they are touched, and belong to the operating system's cache, not to this process.
"""

from __future__ import annotations

import io
import math
import mmap
from pathlib import Path
from typing import Tuple, Union

import numpy as np

from spec.errors import CheckpointError

from .packages import import_package

Buffer = Union[bytes, memoryview]


def map_file(path: Path) -> memoryview:
    """The bytes of a file, mapped: nothing is read yet. The mapping lives as long as a view of it.

    Raises:
        CheckpointError: the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            # mmap refuses an empty file.
            empty = file.seek(0, io.SEEK_END) == 0
            return memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of this name, little-endian; `bfloat16` comes from ml_dtypes, because NumPy has none."""
    if name == "bfloat16":
        return np.dtype(import_package("ml_dtypes").bfloat16)
    return np.dtype(np.dtype(name).newbyteorder("<").str)  # spelled anew: the native order is then marked as native


def byte_count(shape: Tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of a dense array; Python integers, so that a hostile shape cannot overflow."""
    return math.prod(shape) * dtype.itemsize


def array_view(data: Buffer, offset: int, shape: Tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The dense row-major array at `offset`: a view, or a copy where its bytes are not aligned to its dtype.

    The caller has checked that the bytes are there.
    """
    count = math.prod(shape)
    if count == 0:
        return np.empty(shape, dtype)
    array = np.frombuffer(data, dtype, count, offset).reshape(shape)
    return array if array.flags.aligned else array.copy()


class MappedReader(io.RawIOBase):
    """A binary file object over mapped bytes, for libraries that want one; reads copy only what is asked."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer) -> int:
        chunk = self._data[self._position : self._position + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

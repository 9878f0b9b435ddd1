"""HDF5 files that may come from anywhere: only data stored inside the file itself are read.

    external link, soft link, external storage, virtual dataset ──> refused: they read other files silently
    shape larger than what is stored                            ──> refused: it would be read as zeros
    contiguous dataset                                          ──> a view of the mapped file; h5py reads the others

Format: HDF5 File Format Specification 3.0, IV.A.2.i (data layout message).
"""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Set, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import TensorInfo
from .mapped_file import Buffer, MappedReader, array_view, byte_count, numpy_dtype
from .packages import import_package

MAGIC = b"\x89HDF\r\n\x1a\n"
# What h5py raises on damaged files (HDF5 1.14): its errors have no class of their own.
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)


class Hdf5File:
    """An open HDF5 file.

    Args:
        data: the bytes of the file: a mapping, or a part of one.
        place: how to name it to people.

    Raises:
        CheckpointError: cut short or damaged.
    """

    def __init__(self, data: Buffer, place: str) -> None:
        self.data, self.place = memoryview(data), place
        h5py = import_package("h5py")
        with self._reading("/"):
            self.root = h5py.File(MappedReader(self.data), "r")

    def child(self, group: Any, path: str) -> Optional[Any]:
        """The group or dataset at `path` under `group`, None when there is none.

        Raises:
            CheckpointError: a link on the way leads out of the file, or is damaged.
        """
        for part in filter(None, path.split("/")):
            group = self._member(group, part) if hasattr(group, "keys") else None
            if group is None:
                return None
        return group

    def children(self, group: Any) -> Iterator[Tuple[str, Any]]:
        """Name and object of every member of a group.

        Raises:
            CheckpointError: as for `child`.
        """
        with self._reading(group.name):
            names = list(group.keys())
        for name in names:
            yield name, self._member(group, name)

    def walk(self, group: Any, path: str = "", seen: Optional[Set[int]] = None) -> Iterator[Tuple[str, Any]]:
        """Path and object of everything below a group, each group visited once: hard links may form a cycle."""
        seen = set() if seen is None else seen
        with self._reading(group.name):
            address = import_package("h5py").h5o.get_info(group.id).addr
        if address in seen:
            return
        seen.add(address)
        for name, member in self.children(group):
            yield f"{path}{name}", member
            if hasattr(member, "keys"):
                yield from self.walk(member, f"{path}{name}/", seen)

    def attribute(self, node: Any, name: str) -> Any:
        """An attribute, bytes decoded; None when there is none."""
        with self._reading(name):
            value = node.attrs.get(name)
        return _text(value) if isinstance(value, bytes) else value

    def names(self, node: Any, name: str) -> List[str]:
        """An attribute that is a list of names.

        Keras splits a list above 64512 bytes, which no HDF5 object header holds, into name0, name1, ...
        """
        whole = self.attribute(node, name)
        if whole is not None:
            return [_text(item) for item in np.atleast_1d(whole)]
        names: List[str] = []
        for number in itertools.count():
            chunk = self.attribute(node, f"{name}{number}")
            if chunk is None:
                return names
            names += [_text(item) for item in np.atleast_1d(chunk)]

    def info(self, dataset: Any) -> TensorInfo:
        """Shape and dtype of a dataset.

        Raises:
            CheckpointError: its data are in another file or not stored, or it holds no numbers.
        """
        with self._reading(dataset.name):
            place = f"{self.place}: dataset '{dataset.name}'"
            if dataset.is_virtual or dataset.external:
                raise CheckpointError(f"{place}: its data are in another file, not followed - save them into one file")
            dtype = self._dtype(dataset, place)
            if dataset.shape is None or not _is_stored(dataset):
                raise CheckpointError(f"{place}: shape {dataset.shape} {dtype.name}, but its data are not in the file")
            return TensorInfo(tuple(dataset.shape), dtype.name)

    def array(self, dataset: Any) -> np.ndarray:
        """The numbers of a dataset that `info` accepted: a view of the mapped file where its layout allows.

        Raises:
            CheckpointError: the data are damaged.
        """
        with self._reading(dataset.name):
            dtype, offset = self._dtype(dataset, self.place), dataset.id.get_offset()
            if offset is None or dataset.dtype.byteorder == ">":
                return _native(np.asarray(dataset[()]), dtype)
            if offset + byte_count(dataset.shape, dtype) > len(self.data):
                raise CheckpointError(
                    f"{self.place}: dataset '{dataset.name}': its data reach behind the end of the file"
                )
            return array_view(self.data, offset, tuple(dataset.shape), dtype)

    def _member(self, group: Any, name: str) -> Optional[Any]:
        h5py = import_package("h5py")
        with self._reading(f"{group.name}/{name}"):
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.HardLink):
                return group[name]
        if link is None:
            return None
        target = f"{getattr(link, 'filename', '')}:{link.path}".lstrip(":")
        found = f"'{group.name.rstrip('/')}/{name}' is a link to '{target}'"
        raise CheckpointError(f"{self.place}: {found}, not followed - save the weights into one file")

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise CheckpointError(f"{self.place}: cut short or damaged at '{name}': {error} - copy it again") from error

    def _dtype(self, dataset: Any, place: str) -> np.dtype:
        # NumPy has no bfloat16: Keras 3 stores two opaque bytes and says so in an attribute.
        stored = dataset.dtype
        if stored.kind == "V" and stored.itemsize == 2 and self.attribute(dataset, "dtype") == "bfloat16":
            return numpy_dtype("bfloat16")
        if stored.kind == "V" and stored.itemsize == 2:
            found = "holds opaque numbers of two bytes, as Keras 3 writes bfloat16 into a .h5, where nothing says so"
            raise CheckpointError(f"{place}: {found} - save the model as .keras, or its weights as .weights.h5")
        if stored.kind not in "fiubc" or stored.subdtype:
            raise CheckpointError(f"{place}: holds {stored}, wanted numbers")
        return numpy_dtype(stored.name)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _native(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # Opaque bytes are bfloat16 under another name; numbers may be big-endian.
    return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)


def _is_stored(dataset: Any) -> bool:
    if dataset.chunks:
        wanted = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks))
        return dataset.id.get_num_chunks() >= wanted
    return dataset.id.get_storage_size() >= math.prod(dataset.shape) * dataset.dtype.itemsize

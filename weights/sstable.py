"""Sorted string tables, the key-value files of LevelDB in which TensorFlow keeps checkpoints, checksums verified.

    data block ... | index block: last key of a block -> its offset and size | footer (48 bytes): index's place, magic

Format: github.com/google/leveldb doc/table_format.md; tensorflow/core/lib/io/table.cc reads the same.
"""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Iterator, List, Tuple

from spec.errors import CheckpointError

from .mapped_file import Buffer, map_file
from .packages import import_package

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5  # compression (1 byte), masked crc32c (4 bytes)
_RESTART_SIZE = 4
_COMPRESSIONS = {1: "Snappy", 2: "Zstandard"}


def masked_crc32c(data: Buffer, crc: int = 0) -> int:
    """The checksum LevelDB stores: crc32c rotated and shifted, so that data holding checksums still sum well."""
    return mask(crc32c(data, crc))


def crc32c(data: Buffer, crc: int = 0) -> int:
    """Castagnoli's CRC-32 of `data`, continuing from `crc`."""
    # The C extension takes only bytes; pieces bound the copy of a large tensor.
    extend, view = import_package("google_crc32c").extend, memoryview(data)
    for start in range(0, len(view), 1 << 20):
        crc = extend(crc, bytes(view[start : start + (1 << 20)]))
    return crc


def mask(crc: int) -> int:
    """LevelDB's masking of a crc32c (leveldb/util/crc32c.h)."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_varint(data: Buffer, position: int) -> Tuple[int, int]:
    """The base-128 integer at `position`, and the position behind it.

    Raises:
        IndexError: the data end inside it.
    """
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


class Table:
    """One table file: iterate it for all pairs, or look one key up; values are views of the mapped file.

    Raises:
        CheckpointError: not a table, cut short, compressed, or a checksum differs.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._data = path, map_file(path)
        if len(self._data) < _FOOTER_SIZE or self._data[-8:] != MAGIC:
            raise CheckpointError(f"{path}: damaged: it does not end as a sorted string table - copy the file again")
        # The footer starts with the place of the meta-index, which TensorFlow leaves empty, then that of the index.
        _, position = self._handle(self._data, len(self._data) - _FOOTER_SIZE)
        index, _ = self._handle(self._data, position)
        pairs = list(self._block(*index))
        self._last_keys: List[bytes] = [key for key, _ in pairs]
        self._blocks = [self._handle(value, 0)[0] for _, value in pairs]

    def __iter__(self) -> Iterator[Tuple[bytes, memoryview]]:
        for handle in self._blocks:
            yield from self._block(*handle)

    def __getitem__(self, key: bytes) -> memoryview:
        block = bisect.bisect_left(self._last_keys, key)
        for candidate, value in self._block(*self._blocks[block]) if block < len(self._blocks) else ():
            if candidate == key:
                return value
        raise KeyError(key)

    def _handle(self, data: Buffer, position: int) -> Tuple[Tuple[int, int], int]:
        try:
            offset, position = read_varint(data, position)
            size, position = read_varint(data, position)
        except IndexError as error:
            raise CheckpointError(f"{self.path}: damaged: the place of a block is cut short") from error
        return (offset, size), position

    def _block(self, offset: int, size: int) -> Iterator[Tuple[bytes, memoryview]]:
        end = offset + size
        if end + _TRAILER_SIZE > len(self._data):
            raise CheckpointError(f"{self.path}: damaged: a block ends at byte {end} of {len(self._data)}")
        stored = int.from_bytes(self._data[end + 1 : end + _TRAILER_SIZE], "little")
        if masked_crc32c(self._data[offset : end + 1]) != stored:
            raise CheckpointError(f"{self.path}: damaged: the checksum of the block at byte {offset} differs")
        compression = self._data[end]
        if compression:
            name = _COMPRESSIONS.get(compression, f"method {compression}")
            raise CheckpointError(f"{self.path}: compressed with {name}, which TensorFlow's savers never do")
        return self._entries(self._data[offset:end])

    def _entries(self, block: memoryview) -> Iterator[Tuple[bytes, memoryview]]:
        # A block ends with restart points, for binary search, and their count; reading through needs neither.
        restarts = int.from_bytes(block[-_RESTART_SIZE:], "little")
        end, position, key = len(block) - _RESTART_SIZE * (restarts + 1), 0, b""
        try:
            while position < end:
                shared, position = read_varint(block, position)
                unshared, position = read_varint(block, position)
                size, position = read_varint(block, position)
                key = key[:shared] + bytes(block[position : position + unshared])
                position += unshared + size
                yield key, block[position - size : position]
        except IndexError as error:
            raise CheckpointError(f"{self.path}: damaged: an entry of a block is cut short") from error

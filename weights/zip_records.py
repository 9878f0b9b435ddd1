"""Records of a zip archive as views of the mapped file, their CRC-32 checked when they are first read.

    local header (30 bytes + name + extra) | record, stored as it is | ... | central directory: names, places, CRCs

PyTorch and Keras both write uncompressed archives; a record that someone compressed later is unpacked into memory.
Format: PKWARE APPNOTE.TXT, sections 4.3.7 and 4.5.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Dict, Set, Tuple

from spec.errors import CheckpointError

from .mapped_file import Buffer, MappedReader, map_file

MAGIC = b"PK\x03\x04"
_LOCAL_HEADER_SIZE = 30


def record_names(path: Path) -> Tuple[str, ...]:
    """Names of all records of a zip archive, of its first one if the archive is cut short, none of another file."""
    data = map_file(path)
    if data[: len(MAGIC)] != MAGIC:
        return ()
    try:
        return ZipRecords(path).names
    except CheckpointError:
        name = data[_LOCAL_HEADER_SIZE : _LOCAL_HEADER_SIZE + int.from_bytes(data[26:28], "little")]
        return (bytes(name).decode("utf-8", "replace"),)


class ZipRecords:
    """An open archive.

    Raises:
        CheckpointError: it has no central directory, which stands at its end.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, map_file(path)
        try:
            with zipfile.ZipFile(MappedReader(self.data)) as archive:
                self._infos: Dict[str, zipfile.ZipInfo] = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            found = f"a zip archive of {len(self.data)} bytes whose directory, at its end, cannot be read ({error})"
            raise CheckpointError(f"{path}: cut short or damaged: {found} - copy the file again") from error
        self._checked: Set[str] = set()
        # torch.serialization.set_crc32_options(False) writes zero for every checksum.
        self.has_checksums = any(info.CRC for info in self._infos.values())

    @property
    def names(self) -> Tuple[str, ...]:
        """Names of all records, in the order of the directory."""
        return tuple(self._infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def __getitem__(self, name: str) -> Buffer:
        """The bytes of a record.

        Raises:
            CheckpointError: there is no such record, or its CRC-32 differs.
        """
        if name not in self._infos:
            raise CheckpointError(f"{self.path}: damaged: the record '{name}' is missing from the archive")
        info = self._infos[name]
        record = self._stored(info) if info.compress_type == zipfile.ZIP_STORED else self._unpacked(info)
        if self.has_checksums and name not in self._checked and zlib.crc32(record) != info.CRC:
            found = f"the CRC-32 of the record '{name}' differs"
            raise CheckpointError(f"{self.path}: damaged: {found} - copy the file again")
        self._checked.add(name)
        return record

    def _stored(self, info: zipfile.ZipInfo) -> memoryview:
        # The extra field of the local header (PyTorch pads with it) may be longer than the one in the directory.
        header = self.data[info.header_offset : info.header_offset + _LOCAL_HEADER_SIZE]
        sizes = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + _LOCAL_HEADER_SIZE + sizes
        if bytes(header[:4]) != MAGIC or start + info.file_size > len(self.data):
            raise CheckpointError(f"{self.path}: damaged: the record '{info.filename}' is not where the directory says")
        return self.data[start : start + info.file_size]

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes:
        try:
            with zipfile.ZipFile(MappedReader(self.data)) as archive:
                return archive.read(info)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise CheckpointError(f"{self.path}: record '{info.filename}' cannot be unpacked: {error}") from error

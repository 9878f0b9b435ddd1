"""Sorted string tables made by hand: blocks, shared prefixes, checksums, damage."""

from __future__ import annotations

import pytest

from spec.errors import CheckpointError
from weights.sstable import MAGIC, Table, crc32c, masked_crc32c


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def block(pairs, compression=0) -> bytes:
    """A block with its trailer; keys share prefixes with the one before."""
    data, before = b"", b""
    for key, value in pairs:
        shared = next((n for n, (a, b) in enumerate(zip(before, key)) if a != b), min(len(before), len(key)))
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    data += (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([compression])
    return data + masked_crc32c(data).to_bytes(4, "little")


def table(blocks, compression=0) -> bytes:
    data, index = b"", []
    for pairs in blocks:
        added = block(pairs, compression)
        index.append((pairs[-1][0], varint(len(data)) + varint(len(added) - 5)))
        data += added
    added = block(index)
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(added) - 5)
    return data + added + footer.ljust(40, b"\0") + MAGIC


PAIRS = [[(b"", b"head"), (b"conv1/bias", b"1"), (b"conv1/kernel", b"2" * 300)], [(b"conv2", b""), (b"fc", b"end")]]


def test_known_checksums():
    # RFC 3720, B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"cd", crc32c(b"ab")) == crc32c(b"abcd")


def test_iterate_and_look_up(tmp_path):
    (tmp_path / "t").write_bytes(table(PAIRS))
    read = Table(tmp_path / "t")
    assert [(key, bytes(value)) for key, value in read] == PAIRS[0] + PAIRS[1]
    for key, value in PAIRS[0] + PAIRS[1]:
        assert read[key] == value
    for key in (b"a", b"conv1/kernel2", b"zzz"):
        with pytest.raises(KeyError):
            read[key]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data[:-1], "does not end as a sorted string table"),
        (lambda data: b"", "does not end as a sorted string table"),
        (lambda data: b"X" + data[1:], "the checksum of the block at byte 0 differs"),
        (lambda data: data[:-48] + b"\x00\x00\xff\xff\x7f\x05".ljust(40, b"\0") + MAGIC, "a block ends at byte"),
        (lambda data: data[:-48] + b"\xff" * 40 + MAGIC, "damaged"),
    ],
)
def test_damage(tmp_path, change, message):
    (tmp_path / "t").write_bytes(change(table(PAIRS)))
    with pytest.raises(CheckpointError, match=f"t: damaged: .*{message}|{message}"):
        dict(Table(tmp_path / "t"))


def test_compressed_blocks_are_refused(tmp_path):
    (tmp_path / "t").write_bytes(table(PAIRS, compression=1))
    with pytest.raises(CheckpointError, match="compressed with Snappy"):
        dict(Table(tmp_path / "t"))

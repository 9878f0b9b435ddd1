"""engine.atomic_file: a file is written whole or not at all, whatever goes wrong, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from commands.verification import Proof
from engine.atomic_file import check_file, check_writable, json_bytes, json_number, staged, write, write_whole
from spec.errors import UsageError
from tests.full_disk import size_limit, small_disk, unprivileged
from verify.compare import Comparison, LayerRow, Tolerance, difference

ROOT = Path(__file__).resolve().parents[1]


def names_in(directory: Path) -> list:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [b"", b"text", os.urandom(3_000_000)], ids=["nothing", "text", "3 MB"])
def test_a_file_is_written_whole(tmp_path, content):
    write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == content
    assert names_in(tmp_path) == ["file"]


def test_a_file_can_be_read_by_others(tmp_path):
    write_whole(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_any_buffer_is_written_as_its_bytes(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    with staged(tmp_path / "file") as target:
        write(target, array)
        write(target, b"end")
    assert (tmp_path / "file").read_bytes() == array.tobytes() + b"end"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with staged(path) as target:
        write(target, b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error):
        with staged(path) as target:
            write(target, b"half")
            raise error
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_no_file_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    write_whole(tmp_path / "file", b"x")
    with pytest.raises(UsageError):
        write_whole(tmp_path, b"x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_above_the_limit_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with size_limit(100_000), pytest.raises(UsageError) as failure:
        write_whole(path, bytes(200_000))
    assert str(failure.value) == f"{path}: cannot be written: File too large; what stood there before still stands"
    assert failure.value.exit_code == 2
    assert path.read_bytes() == b"old" and names_in(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "file").write_bytes(b"old")
        with pytest.raises(UsageError, match="No space left on device; what stood there before still stands"):
            write_whole(disk / "file", bytes(2_000_000))
        assert (disk / "file").read_bytes() == b"old"
        assert names_in(disk) == ["file"]


def test_a_directory_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    Path("locked").mkdir()
    Path("locked").chmod(0o555)
    with unprivileged():
        with pytest.raises(UsageError, match="^locked/file: cannot be written: Permission denied$"):
            write_whole(Path("locked/file"), b"x")
        for directory in ("locked", "locked/below"):
            with pytest.raises(UsageError, match=f"^{directory}: cannot be written: Permission denied; choose another"):
                check_writable(Path(directory))
    assert names_in(tmp_path / "locked") == []


@pytest.mark.parametrize(
    "name, words",
    [("file/below", "Not a directory"), ("file/below/it", "Not a directory"), ("n" * 300, "File name too long")],
)
def test_a_place_that_is_none_is_named(tmp_path, name, words):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError) as failure:
        write_whole(tmp_path / name, b"y")
    assert str(failure.value) == f"{tmp_path / name}: cannot be written: {words}"


def test_a_directory_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "plan").mkdir()
    with pytest.raises(UsageError, match="plan: cannot be written: Is a directory; what stood there before"):
        write_whole(tmp_path / "plan", b"x")
    assert names_in(tmp_path) == ["plan"]


def test_a_missing_directory_is_made_for_a_file_and_not_for_a_question(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names_in(tmp_path) == []
    write_whole(tmp_path / "a" / "b" / "file", b"x")
    check_writable(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == ["file"]


def test_a_directory_is_no_file_to_write_and_that_is_known_before_the_work(tmp_path):
    check_file(tmp_path / "a" / "file")
    assert names_in(tmp_path) == []
    with pytest.raises(UsageError, match="cannot be written: it is a folder; name a file in it"):
        check_file(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError, match="file: cannot be written: .*; choose another directory"):
        check_file(tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="nnn: cannot be written: File name too long"):
        check_file(tmp_path / ("n" * 300))
    assert names_in(tmp_path) == ["file"]


def test_a_file_is_no_directory_to_write_to(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError, match="cannot be written: .*; choose another directory"):
        check_writable(tmp_path / "file")


KILLED = """
import pathlib, sys, time
from engine.atomic_file import staged, write
with staged(pathlib.Path(sys.argv[1])) as target:
    write(target, bytes(1_000_000))
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_readers_see_the_old_or_the_new_file_and_never_half(tmp_path):
    """Another process reads as fast as it can while the file is replaced twenty times."""
    path, contents = tmp_path / "file", [bytes([number]) * 500_000 for number in range(20)]
    write_whole(path, contents[0])
    code = (
        "import sys, time; end = time.monotonic() + 0.5; seen = set()\n"
        "while time.monotonic() < end: seen.add(open(sys.argv[1], 'rb').read())\n"
        "print(all(len(s) == 500_000 and len(set(s)) == 1 for s in seen), len(seen))"
    )
    reader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    while reader.poll() is None:
        for content in contents:
            write_whole(path, content)
            time.sleep(0.001)
    verdict, count = reader.stdout.read().split()
    assert verdict == "True" and int(count) > 1


def test_json_is_readable_by_people_and_ends_in_a_newline():
    assert json.loads(json_bytes({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
    assert json_bytes({"a": 1}) == b'{\n  "a": 1\n}\n'


@pytest.mark.parametrize("value, word", [(float("inf"), "inf"), (float("-inf"), "-inf"), (np.float64("nan"), "nan")])
def test_what_json_has_no_number_for_is_a_word(value, word):
    """Python's Infinity and NaN are refused by other readers of JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"a": value})
    assert json.loads(json_bytes({"a": json_number(value), "b": json_number(0.5)})) == {"a": word, "b": 0.5}


def test_the_proof_in_a_manifest_may_be_infinitely_wrong_relative_to_nothing():
    """Where the reference is all zeros, --atol may let pass what has no relative error."""
    tolerance = Tolerance(atol=1e-6)
    found = difference(np.full(3, 1e-9), np.zeros(3), tolerance)
    row = LayerRow("a", "activation", (3,), "a", found, found)
    comparison = Comparison("m", "ours", "theirs", "zeros", tolerance, (row,))
    summary = Proof("", comparison).summary()
    assert comparison.passed and json.loads(json_bytes(summary))["worst_error"] == "inf"

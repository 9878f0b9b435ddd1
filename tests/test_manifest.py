"""engine.manifest: what stands beside a plan, its digests recomputed, and that plan and manifest come together."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest

from engine.manifest import check_place, describe_tensors, sha256_of_file, sha256_of_files, write_plan
from spec.errors import UsageError
from tests.full_disk import NOBODY, size_limit, small_disk, unprivileged
from tests.small_models import graph_of

ROOT = Path(__file__).resolve().parents[1]
OLD = {"net.plan": b"old plan", "net.plan.json": b"old manifest"}


def with_old_files(directory: Path) -> Path:
    for name, content in OLD.items():
        (directory / name).write_bytes(content)
    return directory / "net.plan"


def contents_of(directory: Path) -> dict:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_plan_and_manifest_are_written_and_agree(tmp_path, size):
    plan = os.urandom(size)
    returned = write_plan(with_old_files(tmp_path), memoryview(plan), {"precision": "fp32"}, b"[1]")
    assert contents_of(tmp_path)["net.plan"] == plan
    manifest = json.loads((tmp_path / "net.plan.json").read_text())
    assert manifest == returned == {
        "plan": {"file": "net.plan", "bytes": size, "sha256": hashlib.sha256(plan).hexdigest()},
        "precision": "fp32",
        "ledger": {"file": "ledger.json", "sha256": hashlib.sha256(b"[1]").hexdigest()},
    }
    assert contents_of(tmp_path)["ledger.json"] == b"[1]"
    assert sorted(contents_of(tmp_path)) == sorted([*OLD, "ledger.json"])


def test_a_plan_above_the_limit_leaves_both_old_files(tmp_path):
    path = with_old_files(tmp_path)
    with size_limit(50_000), pytest.raises(UsageError, match="net.plan: cannot be written: File too large; what stood"):
        write_plan(path, bytes(100_000), {})
    assert contents_of(tmp_path) == OLD


@pytest.mark.parametrize("plan, note", [(2_000_000, 10), (1_020_000, 50_000)], ids=["the plan", "the manifest"])
def test_a_disk_that_fills_up_leaves_both_old_files(tmp_path, plan, note):
    with small_disk(tmp_path / "disk") as disk:
        path = with_old_files(disk)
        with pytest.raises(UsageError, match="cannot be written: No space left on device; what stood there before"):
            write_plan(path, bytes(plan), {"note": "n" * note})
        assert contents_of(disk) == OLD


def test_a_manifest_that_is_no_json_leaves_both_old_files(tmp_path):
    path = with_old_files(tmp_path)
    with pytest.raises(TypeError):
        write_plan(path, b"new", {"precision": object()})
    assert contents_of(tmp_path) == OLD


KILLED = """
import json, pathlib, os, signal, sys
from engine import manifest
class Fatal(dict):
    def items(self):
        os.kill(os.getpid(), signal.SIGKILL)
manifest.write_plan(pathlib.Path(sys.argv[1]), bytes(1_000_000), {"fatal": Fatal(a=1)})
"""


def test_a_kill_between_plan_and_manifest_leaves_both_old_files(tmp_path):
    """The manifest is written last, so a process that dies in it has written all of the plan, and replaced nothing."""
    path = with_old_files(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    found = contents_of(tmp_path)
    assert {name: found[name] for name in OLD} == OLD
    assert len([name for name in found if len(found[name]) == 1_000_000]) == 1
    write_plan(path, b"new", {})
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("old", [OLD, {}], ids=["replaced", "new"])
@pytest.mark.parametrize("folder", ["net.plan", "net.plan.json", "ledger.json"])
def test_where_one_cannot_be_replaced_all_stand_as_they_stood(tmp_path, folder, old):
    before = {**old, "ledger.json": b"old ledger"} if old else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / folder).unlink() if folder in before else None
    (tmp_path / folder).mkdir()
    with pytest.raises(UsageError) as failure:
        write_plan(tmp_path / "net.plan", b"new plan", {}, b"new ledger")
    place, words = tmp_path / folder, "cannot be written: Is a directory; what stood there before still stands"
    assert str(failure.value) == f"{place}: {words}"
    place.rmdir()
    assert contents_of(tmp_path) == {name: content for name, content in before.items() if name != folder}


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user may go into, which the folders of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("manifest_is_a_folder", [False, True])
def test_files_of_somebody_else_are_replaced_or_put_back(open_to_all, manifest_is_a_folder):
    """Linux refuses another user's file a second name (fs.protected_hardlinks); the folder's owner may rename it."""
    folder = open_to_all / "out"
    folder.mkdir(mode=0o755)
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    os.chown(folder, NOBODY, NOBODY) if os.geteuid() == 0 else None
    if manifest_is_a_folder:
        (folder / "net.plan.json").unlink()
        (folder / "net.plan.json").mkdir()
    with unprivileged():
        if manifest_is_a_folder:
            with pytest.raises(UsageError, match="net.plan.json: cannot be written: Is a directory"):
                write_plan(folder / "net.plan", b"new", {})
        else:
            write_plan(folder / "net.plan", b"new", {})
    assert (folder / "net.plan").read_bytes() == (b"old plan" if manifest_is_a_folder else b"new")
    assert sorted(path.name for path in folder.iterdir()) == sorted(OLD)


@pytest.mark.parametrize("name", ["net.plan", "net.plan.json", "ledger.json"])
def test_a_folder_in_the_way_is_known_before_the_work(tmp_path, name):
    check_place(tmp_path / "out" / "net.plan")
    assert contents_of(tmp_path) == {}
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=f"{name}: is a folder, where a file is to be written; move it away, or"):
        check_place(tmp_path / "net.plan")


def test_a_name_too_long_for_the_manifest_is_known_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="json: cannot be written: File name too long"):
        check_place(tmp_path / "out" / ("n" * 251))
    assert contents_of(tmp_path) == {}


def agreeing(path: Path) -> bool:
    """Whether plan and ledger are those that the manifest describes."""
    manifest = json.loads(Path(f"{path}.json").read_text())
    found = sha256_of_files([path, path.with_name("ledger.json")])
    return list(found.values()) == [manifest[part]["sha256"] for part in ("plan", "ledger")]


@pytest.mark.parametrize("replacement", [1, 2, 3])
def test_an_interrupt_waits_until_all_are_replaced(tmp_path, monkeypatch, replacement):
    path, replace, sources = tmp_path / "net.plan", os.replace, []  # type: Path, Any, List[Any]

    def interrupted(source: Any, target: Any) -> None:
        sources.append(source)
        if len(sources) == replacement:
            os.kill(os.getpid(), signal.SIGINT)
        replace(source, target)

    write_plan(path, b"old", {}, b"old ledger")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_plan(path, b"new", {}, b"new ledger")
    assert agreeing(path) and path.read_bytes() == b"new"
    assert sorted(contents_of(tmp_path)) == ["ledger.json", *OLD]


def test_two_writers_at_once_leave_the_files_of_one(tmp_path):
    path = tmp_path / "net.plan"
    for _ in range(20):
        barrier = threading.Barrier(2)

        def wrote(number: int, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            write_plan(path, bytes([number]) * 1_000_000, {}, bytes([number]))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(wrote, (1, 2)))
        assert agreeing(path)
    assert sorted(contents_of(tmp_path)) == ["ledger.json", *OLD]


def test_a_writer_waits_while_another_process_replaces(tmp_path):
    path = with_old_files(tmp_path)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    writer = threading.Thread(target=write_plan, args=(path, b"new", {}))
    writer.start()
    writer.join(0.3)
    assert writer.is_alive() and {name: contents_of(tmp_path)[name] for name in OLD} == OLD
    os.close(handle)
    writer.join(30)
    assert path.read_bytes() == b"new"


def test_digests_are_of_the_bytes_of_files(tmp_path):
    contents = {"a": b"", "b": b"text", "c": os.urandom(3 << 20)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert sha256_of_file(tmp_path / name) == hashlib.sha256(content).hexdigest()
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert sha256_of_files([tmp_path / name for name in contents]) == wanted


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(UsageError, match="gone: cannot be read: No such file or directory"):
        sha256_of_file(tmp_path / "gone")


def test_tensors_are_described_with_their_layout():
    layers = [
        ("convolution", {"name": "conv", "inputs": ["image"], "filters": 3, "kernel": 1, "padding": 0, "bias": False}),
        ("flatten", {"name": "flat", "inputs": ["conv"], "order": "NCHW"}),
    ]
    graph = graph_of(layers, {"image": (1, 4, 7, 9)}, ["flat", "conv"], batch={"min": 1, "opt": 2, "max": 4})
    assert describe_tensors(graph, ["image", "flat", "conv"]) == [
        {"name": "image", "shape": [-1, 4, 7, 9], "dtype": "float32", "layout": "NCHW"},
        {"name": "flat", "shape": [-1, 189], "dtype": "float32", "layout": None},
        {"name": "conv", "shape": [-1, 3, 7, 9], "dtype": "float32", "layout": "NCHW"},
    ]

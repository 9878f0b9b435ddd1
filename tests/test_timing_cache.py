"""engine.timing_cache: measurements reach the next build; what is damaged or foreign neither ends nor spoils one."""

from __future__ import annotations

import logging
from typing import Any, List, Optional

import pytest

from engine import timing_cache
from engine.network import create_builder
from engine.tensorrt_api import TensorRT, gpu_count, load
from spec.errors import UsageError

TENSORRT = load("tensorrt" if gpu_count() else "tensorrt_rtx")


def configuration() -> Any:
    return create_builder(TENSORRT).create_builder_config()


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX:DeprecationWarning")
@pytest.mark.parametrize("content", [None, b"", b"no cache at all" * 20, b"\0" * 172])
def test_a_build_begins_and_ends_with_whatever_the_file_holds(tmp_path, content):
    path = tmp_path / "deep" / "timing.cache"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    for _ in range(2):  # the second reads what the first wrote
        config = configuration()
        timing_cache.attach(TENSORRT, config, path)
        timing_cache.save(TENSORRT, config, path)
        assert path.read_bytes() and path.read_bytes() != content
        assert TENSORRT.log.take() == "it gave no reason"


class Cache:
    """An ITimingCache of one machine, in words."""

    def __init__(self, machine: str) -> None:
        self.machine = machine

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        return other.machine in ("", self.machine)

    def serialize(self) -> bytes:
        return self.machine.encode()


class Config:
    """An IBuilderConfig on the machine `here` that makes nothing at all of what is damaged, as trtexec expects."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.taken: List[str] = []

    def create_timing_cache(self, content: bytes) -> Optional[Cache]:
        if content == b"damaged":
            self.log.add(logging.ERROR, "Magic tag does not match")
            return None
        return Cache(content.decode())

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if cache.machine not in ("", "here"):
            self.log.add(logging.ERROR, "Cache is of another device")
            return False
        self.taken.append(cache.machine)
        return True

    def get_timing_cache(self) -> Cache:
        return Cache("here")


@pytest.mark.parametrize(
    "content, taken, warns", [(b"here", "here", False), (b"elsewhere", "", True), (b"damaged", "", True)]
)
def test_what_is_of_no_use_is_replaced_and_said_once(tmp_path, caplog, content, taken, warns):
    path = tmp_path / "timing.cache"
    path.write_bytes(content)
    tensorrt = TensorRT(TENSORRT.module)
    config = Config(tensorrt.log)
    with caplog.at_level(logging.WARNING):
        timing_cache.attach(tensorrt, config, path)
        assert config.taken == [taken] and tensorrt.log.take() == "it gave no reason"
        timing_cache.save(tensorrt, config, path)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert path.read_bytes() == b"here" and len(said) == warns
    assert all(words.startswith(f"--timing-cache {path}: replaced, ") for words in said)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--timing-cache .*: cannot be read: Is a directory"):
        timing_cache.attach(TENSORRT, configuration(), tmp_path)


def test_there_is_a_file_for_each_version_and_gpu():
    name = timing_cache.default_path(TENSORRT, "NVIDIA H200 / (PCIe)").name
    assert name == f"timing-{TENSORRT.version}-nvidia-h200-pcie-.cache"

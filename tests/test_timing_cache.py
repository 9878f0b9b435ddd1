"""engine.timing_cache: measurements reach the next build; what is damaged or foreign neither ends nor spoils one."""

from __future__ import annotations

import argparse
import logging
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from commands import build_arguments, device_stages
from commands.console import Console
from engine import build_options, timing_cache  # noqa: F401, a user without rights may not be able to import it
from engine.network import create_builder
from engine.tensorrt_api import TensorRT
from spec.errors import DeviceError, UsageError
from tests.backends import of_this_machine, rtx
from tests.full_disk import unprivileged
from tests.memory_device import MemoryDevice
from tests.own_logging import own_logging  # noqa: F401

TENSORRT = of_this_machine()


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


@pytest.mark.parametrize("meanwhile, warns", [(b"here", False), (b"here, too", True)])
def test_what_the_build_began_with_needs_no_merging(tmp_path, caplog, monkeypatch, meanwhile, warns):
    """Nor can TensorRT 8.5.3.1 merge it where Myelin has its part in it."""
    monkeypatch.setattr(Cache, "combine", lambda self, other, ignore_mismatch: False)
    path, tensorrt = tmp_path / "timing.cache", TensorRT(TENSORRT.module)
    path.write_bytes(b"here")
    config = Config(tensorrt.log)
    with caplog.at_level(logging.WARNING):
        timing_cache.attach(tensorrt, config, path)
        path.write_bytes(meanwhile)
        timing_cache.save(tensorrt, config, path)
    assert path.read_bytes() == b"here" and len(caplog.records) == warns


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--timing-cache .*: cannot be read: Is a directory"):
        timing_cache.attach(TENSORRT, configuration(), tmp_path)


def test_there_is_a_file_for_each_version_and_gpu():
    name = timing_cache.default_path(TENSORRT, "NVIDIA H200 / (PCIe)").name
    assert name == f"timing-{TENSORRT.version}-nvidia-h200-pcie-.cache"


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that its user may not write to, as `docker run -u 1000` has."""
    tmp_path.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the password file does not know, without HOME."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_cache_that_was_asked_for_names_its_option(closed):
    path = closed / "deep" / "t.cache"
    with unprivileged(), pytest.raises(UsageError, match=f"^--timing-cache {path}: {path.parent}: cannot be written: "):
        timing_cache.attach(TENSORRT, configuration(), path)


def test_a_user_without_a_home_is_told_to_name_a_file(homeless):
    with pytest.raises(UsageError, match="^--timing-cache: this user has no home directory .*; name a FILE$"):
        timing_cache.default_path(TENSORRT, "H200")


@pytest.fixture
def as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX keeps no cache and is refused one; its bindings take one as TensorRT's do."""
    monkeypatch.setattr(TensorRT, "is_rtx", False)


def options_of(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    return parser.parse_args(words, argparse.Namespace(backend=TENSORRT.name))


def machine_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The machine of a bundle's build, as where a GPU answers."""
    monkeypatch.setattr(device_stages, "_gpu", lambda tensorrt: SimpleNamespace(name="NVIDIA H200"))
    return device_stages.open_machine(options_of(*words), Console(), [])


def test_a_default_that_cannot_be_kept_ends_no_build(closed, monkeypatch, capsys):
    with unprivileged():
        assert machine_of(monkeypatch).options.timing_cache is None
    [said] = capsys.readouterr().err.splitlines()
    path = f"--timing-cache {closed}/.cache/trt-transplant/timing-"
    assert said.startswith(f"WARNING engine.timing_cache: built without a timing cache: {path}")


def test_a_default_without_a_home_ends_no_build(homeless, monkeypatch, capsys):
    assert machine_of(monkeypatch).options.timing_cache is None
    [said] = capsys.readouterr().err.splitlines()
    assert "built without a timing cache: --timing-cache: this user has no home directory" in said


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX:DeprecationWarning")
def test_a_default_that_can_be_kept_is(as_tensorrt, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine_of(monkeypatch).options.timing_cache == timing_cache.default_path(TENSORRT, "NVIDIA H200")
    asked = tmp_path / "t.cache"
    assert machine_of(monkeypatch, "--timing-cache", str(asked)).options.timing_cache == asked


def test_tensorrt_rtx_on_a_device_has_no_default_and_says_nothing_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("engine.tensorrt_api.gpu_count", lambda: 1)
    backend = argparse.Namespace(**{**vars(options_of()), "backend": rtx().name})
    assert device_stages.open_machine(backend, Console(), []).options.timing_cache is None
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())


def test_a_device_that_tells_nothing_is_given_back(as_tensorrt, monkeypatch):
    class Silent(MemoryDevice):
        def facts(self) -> Any:
            raise DeviceError("CUDA: it says nothing")

    device = Silent()
    device.stream()
    monkeypatch.setattr("engine.devices.open_device", lambda: device)
    with pytest.raises(DeviceError, match="it says nothing"):
        build_arguments.plan_options(options_of("--timing-cache", "auto"), TENSORRT)
    assert device.held == 0

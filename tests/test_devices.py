"""Devices: what they hand out is given back, whoever forgets it; bindings that are missing are told apart."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack

import numpy as np
import pytest

from engine.devices import BINDINGS, open_device
from engine.devices.device import DeviceFacts
from engine.tensorrt_api import gpu_count
from spec.errors import DeviceError, UsageError
from tests.memory_device import MemoryDevice

MAKE = {
    "block": lambda device: device.allocate(16),
    "pinned": lambda device: device.pinned(16),
    "stream": lambda device: device.stream(),
    "event": lambda device: device.event(),
    "graph": lambda device: device.capture(1, device.do("work")),
}


@pytest.mark.parametrize("kind", MAKE)
def test_release_gives_one_thing_back(kind):
    device = MemoryDevice()
    handles = [MAKE[kind](device) for _ in range(3)]
    assert device.held == 3
    device.release(handles[1])
    assert device.held == 2
    device.release(handles[2], handles[0])
    assert device.held == 0 and device.memory() == (device.total, device.total)
    with pytest.raises(KeyError):
        device.release(handles[1])


def test_close_gives_everything_back_that_is_still_held():
    with MemoryDevice() as device:
        for make in MAKE.values():
            make(device)
        device.release(device.allocate(100))
        assert device.held == 5 and device.memory()[0] == device.total - 16
    assert device.held == 0 and device.blocks == {} and device.graphs == {}


def test_one_that_fails_does_not_keep_the_others():
    device = MemoryDevice()
    block = device.allocate(16)

    def fails():
        raise DeviceError("CUDA: cudaErrorIllegalAddress")

    device._hold("broken", fails)
    device.allocate(16)
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
        device.close()
    assert device.held == 0 and block not in device.blocks and device.blocks == {}


def test_what_a_stack_keeps_goes_with_it():
    device = MemoryDevice()
    elsewhere = device.allocate(8)
    with ExitStack() as stack:
        device.kept(device.allocate(8), stack)
        device.kept(device.pinned(8), stack)
        assert device.held == 3
    assert device.held == 1 and list(device.blocks) == [elsewhere]


def test_a_capture_records_and_a_launch_does():
    device = MemoryDevice()
    graph = device.capture(1, device.do("work"))
    assert device.calls == [] and not device.capturing
    device.launch(graph, 1)
    device.launch(graph, 1)
    assert device.calls == ["work", "work"]


@pytest.mark.parametrize("error", [DeviceError("the inference failed"), KeyboardInterrupt(), ValueError("a bug")])
def test_a_capture_ends_when_its_work_fails(error):
    device = MemoryDevice()

    def work():
        raise error

    with pytest.raises(type(error)):
        device.capture(1, work)
    assert not device.capturing and device.held == 0
    device.synchronize(1)  # which a stream in capture refuses


def test_out_of_memory_says_how_much_was_wanted_and_is_free():
    device = MemoryDevice(total=3 << 20)
    device.allocate(1 << 20)
    with pytest.raises(DeviceError) as failed:
        device.allocate(5 << 19)
    words = "GPU out of memory: 2.5 MiB wanted, 2.0 of 3.0 MiB free; take a smaller batch"
    assert str(failed.value).startswith(words) and device.held == 1


def test_no_page_locked_memory_says_how_much_was_wanted():
    with pytest.raises(DeviceError, match=r"no 2\.0 MiB of page-locked memory to give; take a smaller batch"):
        MemoryDevice().pinned(2 << 20)


@pytest.mark.parametrize(
    "clocks, end",
    [((1980, 3201), "MiB free, SM clock up to 1980 MHz, memory clock up to 3201 MHz"), ((None, None), "MiB free")],
)
def test_facts_in_a_line(clocks, end):
    facts = DeviceFacts("NVIDIA H200", (9, 0), 13000, 100 << 30, 140 << 30, *clocks)
    start = "NVIDIA H200, compute capability 9.0, driver for CUDA 13.0, 102,400 of 143,360 "
    assert facts.line() == start + end
    assert DeviceFacts("Orin", (8, 7), 11040, 1 << 30, 8 << 30).line().split(", ")[2] == "driver for CUDA 11.4"


def test_no_binding_is_told_with_what_each_lacks(monkeypatch):
    monkeypatch.setitem(BINDINGS, "cuda-python", "engine.devices.is_not_there")
    monkeypatch.setitem(BINDINGS, "pycuda", "engine.devices.nor_this")
    with pytest.raises(UsageError) as failed:
        open_device()
    assert str(failed.value).startswith("running a plan needs cuda-python or pycuda: cuda-python: No module named ")
    assert "; pycuda: No module named " in str(failed.value) and failed.value.exit_code == 2


def test_the_binding_named_is_the_only_one_tried(monkeypatch):
    monkeypatch.setitem(BINDINGS, "cuda-python", "engine.devices.is_not_there")
    with pytest.raises(UsageError, match="^running a plan needs cuda-python: cuda-python: No module named "):
        open_device("cuda-python")


def test_each_binding_has_a_module():
    assert list(BINDINGS) == ["cuda-python", "pycuda"]
    for module in BINDINGS.values():
        assert importlib.util.find_spec(module) is not None


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed")
@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_without_a_driver_cuda_says_so_itself():
    with pytest.raises(DeviceError, match="^CUDA: cudaErrorInsufficientDriver: "):
        open_device("cuda-python")


@pytest.mark.skipif(gpu_count() == 0, reason="no GPU here")
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_real_device_moves_bytes(binding):
    try:
        device = open_device(binding)
    except UsageError as error:
        pytest.skip(str(error))
    with device:
        stream, address = device.stream(), device.allocate(400)
        pinned, back = device.pinned(400), device.pinned(400)
        pinned[...] = np.arange(400) % 251
        device.copy_in(address, pinned, stream)
        device.copy_out(back, address, stream)
        device.synchronize(stream)
        assert np.array_equal(pinned, back)
        with pytest.raises(DeviceError, match="GPU out of memory"):
            device.allocate(device.memory()[1] * 2)
    assert device.held == 0
